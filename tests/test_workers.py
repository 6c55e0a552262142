"""Many tasks, a few at a time: one that fails, dies or hangs costs its own result, and Ctrl-C leaves nothing."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from calico_lab.errors import ClusterError, LabError, ParseError
from calico_lab.workers import dask, each

ROOT = Path(__file__).parents[1]
LONG_S = 60.0


def answer(value: int) -> int:
    return value


def process_id() -> int:
    time.sleep(0.2)  # as long as a task takes that leaves the next one to another process
    return os.getpid()


def trouble(kind: str, value: int) -> int:
    match kind:
        case "fails":
            raise ValueError("no such thing")
        case "cannot-read":
            raise ParseError("unknown line", line=3, text="?")
        case "dies":
            os.kill(os.getpid(), signal.SIGKILL)
        case "hangs":
            time.sleep(LONG_S)
    return value


def wait_until_stopped(folder: str) -> None:
    """A task that says when it begins, and when it has unwound."""
    try:
        Path(folder, f"began-{os.getpid()}").touch()
        time.sleep(LONG_S)
    finally:
        Path(folder, f"unwound-{os.getpid()}").touch()


def said(results: dict[str, object]) -> dict[str, object]:
    return {key: str(result) if isinstance(result, LabError) else result for key, result in results.items()}


def test_results_are_in_the_order_of_the_tasks() -> None:
    tasks = {str(value): {"value": value} for value in (3, 1, 2)}
    assert list(each(answer, tasks, timeout_s=LONG_S).items()) == [("3", 3), ("1", 1), ("2", 2)]


def test_no_task_is_no_result() -> None:
    assert each(answer, {}, timeout_s=LONG_S) == {}


def test_trouble_stays_where_it_is() -> None:
    kinds = ("fails", "cannot-read", "dies", "hangs", "works")
    results = each(trouble, {kind: {"kind": kind, "value": 1} for kind in kinds}, at_once=2, timeout_s=8)
    assert said(results) == {
        "fails": "ValueError: no such thing",
        "cannot-read": "line 3: unknown line; seen: ?",
        "dies": "its process died",
        "hangs": "no end within 8 s",
        "works": 1,
    }


def test_each_task_is_told_of_when_it_starts_and_ends() -> None:
    heard: list[str] = []
    each(
        answer,
        {"a": {"value": 1}, "b": {"value": 2}},
        at_once=1,
        timeout_s=LONG_S,
        started=lambda key: heard.append(f"{key} started"),
        ended=lambda key: heard.append(f"{key} ended"),
    )
    assert heard == ["a started", "a ended", "b started", "b ended"]


def test_another_executor_is_given_no_more_than_it_may_run() -> None:
    with ThreadPoolExecutor(4) as threads:
        results = each(
            trouble,
            {"fails": {"kind": "fails", "value": 1}, "works": {"kind": "works", "value": 2}},
            executor=threads,
            at_once=1,
            timeout_s=LONG_S,
        )
    assert said(results) == {"fails": "ValueError: no such thing", "works": 2}


def test_a_task_that_hangs_on_another_executor_is_given_up() -> None:
    with ThreadPoolExecutor(1) as threads:
        results = each(process_id, {"hangs": {}}, executor=threads, timeout_s=0.05)
    assert said(results) == {"hangs": "no end within 0.05 s"}


@pytest.mark.parametrize("everyone", [True, False], ids=["terminal", "process"])
def test_ctrl_c_lets_tasks_unwind_and_leaves_no_process(tmp_path: Path, everyone: bool) -> None:
    script = (
        "from calico_lab.workers import each\nfrom tests.test_workers import wait_until_stopped\n"
        "if __name__ == '__main__':\n"
        f"    tasks = {{key: {{'folder': {str(tmp_path)!r}}} for key in 'abc'}}\n"
        "    each(wait_until_stopped, tasks, at_once=2, timeout_s=60)\n"
    )
    path = tmp_path / "script.py"
    path.write_text(script)
    command = subprocess.Popen(
        [sys.executable, str(path)],
        cwd=ROOT,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    deadline = time.monotonic() + LONG_S
    while len(list(tmp_path.glob("began-*"))) < 2:
        assert command.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.05)
    (os.killpg if everyone else os.kill)(command.pid, signal.SIGINT)
    _, errors = command.communicate(timeout=LONG_S)
    assert errors.splitlines()[-1] == "KeyboardInterrupt"
    pids = sorted(path.name.partition("-")[2] for path in tmp_path.glob("began-*"))
    assert sorted(path.name.partition("-")[2] for path in tmp_path.glob("unwound-*")) == pids
    assert [pid for pid in pids if Path("/proc", pid).exists()] == []


# ---------------------------------------------------------------------- Dask


@pytest.fixture(scope="module")
def scheduler() -> Iterator[str]:
    """A Dask scheduler and two worker processes on loopback."""
    from distributed import LocalCluster

    with LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None, host="127.0.0.1") as cluster:
        yield cluster.scheduler_address


def test_dask_runs_the_tasks_in_its_workers(scheduler: str) -> None:
    with dask(scheduler) as (executor, at_once):
        results = each(
            process_id, {str(number): {} for number in range(4)}, executor=executor, at_once=at_once, timeout_s=LONG_S
        )
    assert at_once == 2
    assert len(set(results.values())) == 2
    assert os.getpid() not in results.values()


def test_dask_hands_errors_back(scheduler: str) -> None:
    tasks = {kind: {"kind": kind, "value": 1} for kind in ("cannot-read", "hangs", "works")}
    with dask(scheduler) as (executor, at_once):
        results = each(trouble, tasks, executor=executor, at_once=at_once, timeout_s=2)
    assert said(results) == {
        "cannot-read": "line 3: unknown line; seen: ?",
        "hangs": "no end within 2 s",
        "works": 1,
    }


def test_no_scheduler_is_an_error_of_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("calico_lab.workers._DASK_CONNECT_S", 0.2)
    with pytest.raises(ClusterError) as error, dask("tcp://127.0.0.1:1"):
        pass
    assert str(error.value) == (
        "DASK: no Dask scheduler answers there; seen: tcp://127.0.0.1:1; write for example tcp://127.0.0.1:8786"
    )
