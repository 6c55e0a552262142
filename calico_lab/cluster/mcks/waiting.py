"""Waiting for what a server takes minutes to do, when the connection may not last that long.

The request is sent beside looking at what it is to bring about, and what is seen there counts. An answer only shortens
the wait, or is the error; a connection that breaks, or says nothing for ever, changes nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import Future, wait
from dataclasses import dataclass
from threading import Thread
from typing import Literal, NamedTuple

from ...errors import ClusterError
from .http import RefusedError, UnansweredError

__all__ = ["Patience", "Seen", "see_through"]

_FIRST_LOOK_S = 0.5
"""After a request; each later look takes twice as long to come, until `Patience.poll_s`."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How often to look, and how long to wait.

    Attributes
    ----------
    poll_s : float
        Between two looks.
    whole_s : float
        For anything: MCKS tries SSH for minutes a node, and nodes join one by one.
    silent_s : float
        While no look is answered.
    settle_s : float
        After a lost connection, for what was asked for to show.
    """

    poll_s: float = 5.0
    whole_s: float = 3600.0
    silent_s: float = 300.0
    settle_s: float = 30.0


class Seen(NamedTuple):
    """What a look shows of what was asked for, and how to say it."""

    state: Literal["absent", "going", "done", "failed", "unknown"]
    text: str


def see_through(
    ask: Callable[[], object] | None,
    look: Callable[[], Seen],
    *,
    again: bool,
    patience: Patience,
    progress: Callable[[str], None],
    where: str,
) -> None:
    """Send a slow request and look beside it, until it is answered or what was asked for is there.

    Parameters
    ----------
    ask : callable or None
        Sends it; None where it has been sent before.
    look : callable
        May raise `ClusterError` where it can say why what was asked for failed.
    again : bool
        Whether it may be sent once more where the connection broke and looks show nothing of it.
    patience : Patience
    progress : callable
        Called with the text of what is seen, whenever that changes.
    where : str
        For messages.

    Raises
    ------
    RefusedError
        If the answer is an error.
    UnansweredError
        If the connection broke, and looks show that what was asked for did not begin.
    ClusterError
        If what was asked for failed, or patience ended.
    """
    reply = _beside(ask) if ask else None
    start = lost = heard = time.monotonic()
    told, pause = "", min(_FIRST_LOOK_S, patience.poll_s)
    while not _answered(reply, pause):
        pause = min(2 * pause, patience.poll_s)
        now = time.monotonic()
        try:
            seen, heard = look(), now
        except (RefusedError, UnansweredError) as problem:
            seen = Seen("unknown", f"MCKS does not say: {problem.what}")
        if seen.text != told:
            progress(told := seen.text)
        if seen.state == "done":
            return
        if seen.state == "failed":
            if reply is not None and not _is_lost(reply):
                _answered(reply, patience.settle_s)  # it is about to say why
            raise ClusterError(seen.text, where=where)
        if (reply is not None and not _is_lost(reply)) or seen.state != "absent":
            lost = now
        if now - lost > patience.settle_s:
            if not (ask and again):
                raise UnansweredError(
                    "the connection broke before MCKS took the request; nothing was done",
                    where=where,
                    todo="run it again",
                )
            reply, again, lost = _beside(ask), False, now
        if now - heard > patience.silent_s or now - start > patience.whole_s:
            raise ClusterError(
                "waited long enough; MCKS may still go on",
                where=where,
                seen=seen.text,
                todo='look again later: make cluster DO="list"',
            )


def _beside(ask: Callable[[], object]) -> Future[object]:
    """Run it in a thread that does not keep the program from ending."""
    reply: Future[object] = Future()

    def run() -> None:
        try:
            reply.set_result(ask())
        except BaseException as problem:
            reply.set_exception(problem)

    Thread(target=run, daemon=True).start()
    return reply


def _answered(reply: Future[object] | None, limit_s: float) -> bool:
    """Whether the request is answered within that time: False also where no answer will come any more."""
    if reply is None or _is_lost(reply):
        time.sleep(limit_s)
        return False
    wait([reply], limit_s)
    if not reply.done() or _is_lost(reply):
        return False
    reply.result()
    return True


def _is_lost(reply: Future[object]) -> bool:
    return reply.done() and isinstance(reply.exception(), UnansweredError)
