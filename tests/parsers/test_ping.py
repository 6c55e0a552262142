"""The statistics of `ping`."""

from __future__ import annotations

from pathlib import Path

import pytest

from calico_lab.errors import ParseError
from calico_lab.parsers import ping

FIXTURES = Path(__file__).parent / "fixtures" / "ping"


def summary(name: str) -> ping.Summary:
    return ping.summary((FIXTURES / f"{name}.txt").read_text())


def test_replies() -> None:
    assert summary("ubuntu1804-replies") == ping.Summary(
        target="10.244.122.1",
        target_ip="10.244.122.1",
        source="10.244.124.0",
        size_bytes=56,
        transmitted=3,
        received=3,
        errors=0,
        loss_percent=0.0,
        time_ms=2002,
        rtt_min_ms=2.138,
        rtt_avg_ms=29.673,
        rtt_max_ms=112.0,
        rtt_mdev_ms=47.54,
        line=8,
    )


def test_all_lost_is_a_measurement_without_round_trips() -> None:
    assert summary("ubuntu1804-all-lost") == ping.Summary(
        target="10.244.122.1",
        target_ip="10.244.122.1",
        source=None,
        size_bytes=56,
        transmitted=4,
        received=0,
        errors=0,
        loss_percent=100.0,
        time_ms=3069,
        rtt_min_ms=None,
        rtt_avg_ms=None,
        rtt_max_ms=None,
        rtt_mdev_ms=None,
        line=4,
    )


@pytest.mark.parametrize(
    ("name", "errors"),
    [("debian12-host-unreachable", 4), ("debian12-too-long-stderr-apart", 2), ("ubuntu1804-mtu", 4)],
)
def test_errors_are_counted_apart_from_loss(name: str, errors: int) -> None:
    assert summary(name).errors == errors


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("debian12-source-address", "10.244.122.0"),
        ("debian12-source-device", "10.0.1.10"),
        ("debian12-overlay", None),
    ],
)
def test_the_source_is_known_where_it_was_asked_for(name: str, source: str | None) -> None:
    assert summary(name).source == source


def test_the_target_by_name_and_by_address() -> None:
    found = summary("ubuntu1804-mtu")
    assert (found.target, found.target_ip, found.size_bytes) == ("w-1", "10.244.122.1", 1472)


def test_a_payload_too_small_for_a_time_has_replies_without_round_trips() -> None:
    found = summary("debian12-too-small-for-times")
    assert (found.received, found.rtt_avg_ms) == (1, None)


def test_an_unfinished_ping_is_not_a_loss_of_all() -> None:
    with pytest.raises(ParseError) as caught:
        summary("truncated-without-statistics.bad")
    assert caught.value.what == "the text ends before the statistics"


def test_nothing_has_no_statistics() -> None:
    with pytest.raises(ParseError) as caught:
        ping.summary("")
    assert str(caught.value) == "line 1: ping printed nothing; seen:"
