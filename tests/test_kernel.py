"""A kernel that starts early."""

import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from jupyter_client.blocking import BlockingKernelClient

import calico_lab
from calico_lab.kernel import Kernel

ROOT = str(Path(calico_lab.__file__).resolve().parents[1])


@pytest.fixture(scope="module")
def kernel():
    with Kernel() as started:
        yield started


def answers(kernel, code):
    """What the kernel prints."""
    printed = []
    client = BlockingKernelClient(connection_file=kernel.manager.connection_file)
    client.load_connection_file()
    client.start_channels()
    try:
        client.wait_for_ready(timeout=60)
        client.execute_interactive(
            code,
            timeout=60,
            output_hook=lambda message: printed.append(message["content"].get("text", message["content"])),
        )
    finally:
        client.stop_channels()
    return "".join(text for text in printed if isinstance(text, str))


def test_runs_this_interpreter_with_this_package_and_nothing_named(kernel):
    said = answers(
        kernel,
        "import sys; print(sys.executable); 'calico_lab' in globals() or print('calico_lab.plot' in sys.modules)",
    )
    assert said == f"{sys.executable}\nTrue\n"


def test_runs_one_notebook(kernel):
    kernel.take()
    with pytest.raises(RuntimeError, match=r"^a Kernel runs one notebook, start another Kernel for the next$"):
        kernel.take()


def test_ends_with_its_block():
    with Kernel() as kernel:
        ended = os.pidfd_open(kernel.pid)
    assert_ended(ended, within_s=1)


@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT], ids=lambda ending: ending.name)
def test_ends_with_its_parent(ending):
    program = """
import signal
from calico_lab.kernel import Kernel
with Kernel() as kernel:
    print(kernel.pid, flush=True)
    signal.pause()
"""
    with subprocess.Popen(
        [sys.executable, "-c", program],
        env=os.environ | {"PYTHONPATH": ROOT},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    ) as parent:
        ended = os.pidfd_open(int(parent.stdout.readline()))
        parent.send_signal(ending)
    # The kernel looks once a second, as soon as it has started.
    assert_ended(ended, within_s=30)


def assert_ended(pidfd, within_s):
    """A process descriptor becomes readable when its process ends: pidfd_open(2)."""
    try:
        assert select.select([pidfd], [], [], within_s)[0] == [pidfd]
    finally:
        os.close(pidfd)
