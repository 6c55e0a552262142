"""User-mode Linux as the lab's kernel: the same requests, and clear ends."""

from __future__ import annotations

import os
import shutil
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path

import pytest

from calico_lab.errors import HostError, LabError
from calico_lab.lab import host as lab_host
from calico_lab.lab.host import TRIALS, Host

pytestmark = [
    pytest.mark.lab,
    pytest.mark.skipif(not shutil.which("linux.uml"), reason="user-mode-linux is not installed"),
]


@pytest.fixture
def uml() -> Iterator[Host]:
    with closing(Host("uml", connections=1)) as host:
        yield host


def kernels_of(host: Host) -> list[int]:
    """The processes of this host's guest kernel."""
    return [
        int(status.parent.name)
        for status in Path("/proc").glob("[0-9]*/status")
        if "linux.uml" in _read(status) and _descends(int(status.parent.name), host.pid)
    ]


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""


def _descends(pid: int, ancestor: int) -> bool:
    while pid > 1:
        if pid == ancestor:
            return True
        status = _read(Path(f"/proc/{pid}/status"))
        parents = [line.split()[1] for line in status.splitlines() if line.startswith("PPid:")]
        pid = int(parents[0]) if parents else 0
    return False


def await_condition(condition: Callable[[], bool], deadline_s: float = 10) -> None:
    end = time.monotonic() + deadline_s
    while not condition():
        assert time.monotonic() < end, "the condition did not come"
        time.sleep(0.02)


def test_it_has_what_a_scenario_may_need_and_takes_long_requests(uml: Host) -> None:
    uml.spaces(sorted(TRIALS), {})
    lacking = [need for need, line in TRIALS.items() if uml.run(need, line.split()).code != 0]
    assert lacking == ["wireguard"]  # Debian builds it without; the others are what it is here for
    # Its serial line takes 4096 bytes at a time.
    assert uml.do("vxlan", ["wc", "-c"], "x" * 50_000).strip() == "50000"


def test_a_connection_goes_over_a_serial_line_once(uml: Host) -> None:
    uml.spaces(["a"], {})
    uml.do("a", ["ip", "link", "set", "lo", "up"])
    uml.health("a", 9099, {"/readiness": 204})
    with uml.connect("a", 9099) as connection:
        connection.sendall(b"GET /readiness HTTP/1.0\r\n\r\n")
        assert connection.recv(100).startswith(b"HTTP/1.1 204 ")
    with pytest.raises(LabError, match=r"^a: no serial line is left for another connection; start the lab again$"):
        uml.connect("a", 9099)


def test_a_crash_of_the_guest_is_one_line_and_leaves_nothing(uml: Host) -> None:
    for pid in kernels_of(uml):
        with suppress(ProcessLookupError):  # the first one takes the others along
            os.kill(pid, signal.SIGKILL)
    with pytest.raises(LabError, match=r"^lab: the lab ended"):
        uml.run("", ["true"])
    await_condition(lambda: not kernels_of(uml))


def test_a_hang_of_the_guest_is_one_line_and_close_still_ends_it(uml: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lab_host, "_ANSWER_S", 0.5)
    monkeypatch.setattr(lab_host, "_END_S", 0.5)
    stopped = kernels_of(uml)
    for pid in stopped:
        os.kill(pid, signal.SIGSTOP)
    with pytest.raises(LabError, match=r"^lab: no answer within 0\.6 s: its kernel hangs; start it again$"):
        uml.run("", ["true"], timeout_s=0.1)
    uml.close()
    await_condition(lambda: not any(Path(f"/proc/{pid}").exists() for pid in stopped))


def test_without_the_package_the_message_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    with pytest.raises(HostError) as refused:
        Host("uml")
    assert str(refused.value) == (
        "this machine: user-mode Linux is not installed, and this machine's own kernel lacks what the lab needs; "
        "run: sudo apt-get install user-mode-linux (PROVIDER=replay works without)"
    )
