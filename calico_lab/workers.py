"""Many tasks, a few at a time, on processes of this machine or on any executor.

A task that fails, hangs or takes its process down costs its own result only: `each` gives an error in its place and
goes on. Ctrl-C ends what runs, and returns when it has.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import (
    CancelledError,
    Executor,
    Future,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
    as_completed,
    wait,
)
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from queue import SimpleQueue
from types import FrameType
from typing import Any

from .errors import CalicoLabError, ClusterError, HostError, LabError

__all__ = ["cores", "dask", "each"]

_UNWIND_S = 10.0
"""How long a stopped task may take to close its lab and to drop what it was writing."""

_ASK_AGAIN_S = 0.2
_DASK_CONNECT_S = 10


def cores() -> int:
    """How many cores this process may use: the number of tasks at a time that keeps them all busy."""
    return len(os.sched_getaffinity(0))


def each(
    unit: Callable[..., Any],
    tasks: Mapping[str, Mapping[str, Any]],
    *,
    executor: Executor | None = None,
    at_once: int | None = None,
    timeout_s: float,
    started: Callable[[str], None] = lambda key: None,
    ended: Callable[[str], None] = lambda key: None,
) -> dict[str, Any]:
    """Call `unit` once a task.

    Parameters
    ----------
    unit : callable
        A module's function, so that another process can find it.
    tasks : mapping
        Keyword arguments of each call, by a name of the task.
    executor : Executor, optional
        Where the calls run; by default in processes of this machine.
    at_once : int, optional
        How many run at a time; by default one a core. No more are given to `executor`, so that their time can be told.
    timeout_s : float
        For each call. A process of this machine is then killed; what another executor has begun goes on there.
    started, ended : callable, optional
        Called with a task's name.

    Returns
    -------
    dict
        For each task, in their order, what `unit` returned, or a `LabError` that says why it returned nothing.
    """
    count = max(1, min(at_once or cores(), len(tasks)))
    places: list[_Process | _Elsewhere] = [_Elsewhere(executor) if executor else _Process() for _ in range(count)]
    free: SimpleQueue[_Process | _Elsewhere] = SimpleQueue()
    for place in places:
        free.put(place)

    def run(key: str) -> Any:
        place = free.get()
        started(key)
        try:
            return place.run(unit, tasks[key], timeout_s)
        except LabError as error:
            return error
        except Exception as error:  # the executor's own
            return LabError(f"{type(error).__name__}: {error}")
        finally:
            free.put(place)
            ended(key)

    with ThreadPoolExecutor(count) as threads:
        running = {threads.submit(run, key): key for key in tasks}
        try:
            results = {running[future]: future.result() for future in as_completed(running)}
        except BaseException:
            threads.shutdown(wait=False, cancel_futures=True)
            _stop(places, [future for future in running if not future.cancelled()])
            raise
        finally:
            for place in places:
                place.close()
    return {key: results[key] for key in tasks}


def _stop(places: Sequence[_Process | _Elsewhere], running: Sequence[Future[Any]]) -> None:
    """Ask until they have ended: a signal that another thread took does not wake a task that waits."""
    deadline = time.monotonic() + _UNWIND_S
    while running and time.monotonic() < deadline:
        for place in places:
            place.stop()
        running = list(wait(running, _ASK_AGAIN_S).not_done)


class _Elsewhere:
    """A place on an executor that somebody else keeps."""

    def __init__(self, executor: Executor) -> None:
        self._executor = executor
        self._task: Future[Any] | None = None

    def run(self, unit: Callable[..., Any], arguments: Mapping[str, Any], timeout_s: float) -> Any:
        self._task = self._executor.submit(_plainly, unit, arguments)
        return _result(self._task, timeout_s)

    def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()

    def close(self) -> None:
        pass


class _Process:
    """A process of this machine that keeps what it has imported from one task to the next.

    A pool of several would give up all its tasks when one process dies, and cannot end one that hangs.
    """

    def __init__(self) -> None:
        self._pool: ProcessPoolExecutor | None = None
        self._pid = 0
        self._closing = threading.Lock()
        self._task: Future[Any] | None = None

    def run(self, unit: Callable[..., Any], arguments: Mapping[str, Any], timeout_s: float) -> Any:
        if self._pool is None:
            # Not forked: the threads of this process would leave their locks behind in a copy of it.
            context = multiprocessing.get_context("spawn")
            self._pool = ProcessPoolExecutor(1, mp_context=context, initializer=_obey_the_parent)
            self._pid = self._pool.submit(_ready, unit).result()
        self._task = self._pool.submit(_heedful, unit, arguments)
        try:
            return _result(self._task, timeout_s)
        except LabError:
            self.close()
            raise

    def stop(self) -> None:
        """Have the task unwind. It takes one request only: another would come in the middle of that."""
        if self._task is not None and not self._task.done():
            os.kill(self._pid, signal.SIGTERM)

    def close(self) -> None:
        with self._closing:
            if self._pool is not None:
                if self._task is not None and not self._task.done():
                    os.kill(self._pid, signal.SIGKILL)
                self._pool.shutdown()
                self._pool = None


def _result(task: Future[Any], timeout_s: float) -> Any:
    try:
        return task.result(timeout_s)
    except TimeoutError:
        if task.done():
            raise  # the task's own
        task.cancel()
        raise LabError(f"no end within {timeout_s:g} s") from None
    except BrokenProcessPool:
        raise LabError("its process died") from None
    except (CancelledError, KeyboardInterrupt):
        raise LabError("stopped") from None


def _obey_the_parent() -> None:
    """End with the parent, and only when it says so: a terminal sends Ctrl-C to both."""
    signal.signal(signal.SIGINT, _ignore)
    threading.Thread(target=_end_with_the_parent, name="parent", daemon=True).start()


def _ready(unit: Callable[..., Any]) -> int:
    """The process's ID, when it has imported what a task needs: that does not count as the task's time."""
    return os.getpid()


def _heedful(unit: Callable[..., Any], arguments: Mapping[str, Any]) -> Any:
    """Run a task that unwinds when the parent asks for it. Executing a notebook resets both handlers."""
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        return _plainly(unit, arguments)
    finally:
        signal.signal(signal.SIGINT, _ignore)
        signal.signal(signal.SIGTERM, _ignore)


def _plainly(unit: Callable[..., Any], arguments: Mapping[str, Any]) -> Any:
    """Run a task whose errors, also those that cannot be pickled, reach the parent: as text."""
    try:
        return unit(**arguments)
    except CalicoLabError as error:
        raise LabError(str(error)) from None
    except Exception as error:
        raise LabError(f"{type(error).__name__}: {error}") from None


def _ignore(number: int, frame: FrameType | None) -> None:
    """Unlike SIG_IGN, not handed down to the programs that this process starts."""


def _interrupt(number: int, frame: FrameType | None) -> None:
    signal.signal(signal.SIGTERM, _ignore)
    raise KeyboardInterrupt


def _end_with_the_parent() -> None:
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


@contextmanager
def dask(address: str) -> Iterator[tuple[Executor, int]]:
    """An existing Dask cluster as an executor, and how many tasks it runs at a time.

    Its workers need calico_lab and a lab's programs, and the folder of the outputs at the same path.

    Raises
    ------
    HostError
        If Dask is not installed.
    ClusterError
        If there is no scheduler at that address, or it has no worker.
    """
    try:
        from distributed import Client
    except ModuleNotFoundError:
        raise HostError("Dask is not installed", where="DASK", todo="run: pip install distributed") from None
    try:
        client = Client(address, timeout=_DASK_CONNECT_S)
    except (OSError, ValueError) as problem:
        raise ClusterError(
            "no Dask scheduler answers there", where="DASK", seen=address, todo="write for example tcp://127.0.0.1:8786"
        ) from problem
    with client:
        threads = sum(client.nthreads().values())
        if not threads:
            raise ClusterError("that Dask cluster has no worker", where="DASK", seen=address, todo="start dask worker")
        # Not pure: Dask would otherwise hand out an earlier result of the same arguments.
        yield client.get_executor(pure=False), threads
