"""Waiting for a slow request: the answer, what is seen, and how long without either."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from calico_lab.cluster.mcks.http import RefusedError, UnansweredError
from calico_lab.cluster.mcks.waiting import Patience, Seen, see_through
from calico_lab.errors import ClusterError

ABSENT, GOING, DONE = Seen("absent", "asked for"), Seen("going", "under way"), Seen("done", "there")


def wait_for(
    ask: Callable[[], object] | None, look: Callable[[], Seen], *, again: bool = False, **limits: float
) -> list[str]:
    """What is told while waiting."""
    told: list[str] = []
    patience = Patience(**{"poll_s": 0.01, "whole_s": 10, "silent_s": 10, "settle_s": 0.05, **limits})
    see_through(ask, look, again=again, patience=patience, progress=told.append, where="here")
    return told


def lose() -> None:
    raise UnansweredError("no answer")


def silent() -> Seen:
    raise UnansweredError("no answer")


def test_what_is_told_is_what_changes() -> None:
    seen = iter([ABSENT, GOING, GOING, DONE])
    assert wait_for(None, lambda: next(seen)) == ["asked for", "under way", "there"]


def test_an_answer_ends_the_wait() -> None:
    assert wait_for(lambda: None, lambda: ABSENT) == []


def test_a_refusal_that_comes_during_a_look_is_one() -> None:
    looking = threading.Event()
    asking: list[threading.Thread] = []

    def refuse() -> None:
        asking.append(threading.current_thread())
        assert looking.wait(10)
        raise RefusedError(500, "in trouble")

    def look() -> Seen:
        looking.set()
        asking[0].join(10)
        return GOING

    with pytest.raises(RefusedError) as error:
        wait_for(refuse, look)
    assert str(error.value) == "in trouble"


@pytest.mark.parametrize(("again", "times"), [(False, 1), (True, 2)], ids=["once", "twice"])
def test_what_never_shows_is_asked_for_as_often_as_it_may(again: bool, times: int) -> None:
    asked = []

    def ask() -> None:
        asked.append(1)
        lose()

    with pytest.raises(ClusterError) as error:
        wait_for(ask, lambda: ABSENT, again=again)
    assert str(error.value) == (
        "here: the connection broke before MCKS took the request; nothing was done; run it again"
    )
    assert len(asked) == times


@pytest.mark.parametrize(
    ("look", "limit", "seen"),
    [(silent, {"silent_s": 0.05}, "MCKS does not say: no answer"), (lambda: GOING, {"whole_s": 0.05}, "under way")],
    ids=["silence", "patience"],
)
def test_waiting_ends(look: Callable[[], Seen], limit: dict[str, float], seen: str) -> None:
    with pytest.raises(ClusterError) as error:
        wait_for(lose, look, **limit)
    assert str(error.value) == (
        f'here: waited long enough; MCKS may still go on; seen: {seen}; look again later: make cluster DO="list"'
    )
