"""Round trips as distributions: intervals with known bounds, and losses that are never times."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from calico_lab.latency import compared, median_difference, medians, summary, wilson
from calico_lab.recording import Recording
from calico_lab.review import Review
from calico_lab.scenario import Scenario
from calico_lab.tables import Tables

A, G = "c-1-h43jk", "w-1-36384"


@pytest.mark.parametrize(
    ("hits", "trials", "bounds"),
    [
        # Newcombe 1998, Statistics in Medicine 17, 857-872, table I, method 3; the last mirrors none of 29.
        pytest.param(81, 263, (0.2553, 0.3662), id="81-of-263"),
        pytest.param(15, 148, (0.0624, 0.1605), id="15-of-148"),
        pytest.param(0, 20, (0.0, 0.1611), id="none-of-20"),
        pytest.param(1, 29, (0.0061, 0.1718), id="1-of-29"),
        pytest.param(29, 29, (0.8830, 1.0), id="all-of-29"),
    ],
)
def test_wilsons_interval_has_its_published_bounds(hits: int, trials: int, bounds: tuple[float, float]) -> None:
    assert tuple(round(bound, 4) for bound in wilson(hits, trials)) == bounds


class TestMedianDifference:
    def test_equal_samples_of_one_value_differ_by_nothing(self) -> None:
        assert median_difference(np.full(10, 2.0), np.full(10, 2.0)) == (0.0, 0.0, 0.0)

    def test_a_shift_is_found(self) -> None:
        under = np.random.default_rng(7).gamma(4, 0.02, 40)
        difference, low, high = median_difference(under + 0.5, under)
        assert difference == pytest.approx(0.5)
        assert 0.4 < low < 0.5 < high < 0.6

    def test_it_is_the_same_every_time(self) -> None:
        rng = np.random.default_rng(7)
        samples = rng.gamma(4, 0.02, 40), rng.gamma(4, 0.03, 30)
        assert median_difference(*samples) == median_difference(*samples)

    def test_the_interval_holds_the_true_difference_about_as_often_as_it_says(self) -> None:
        rng = np.random.default_rng(7)
        held = [
            low <= 1.0 <= high
            for _ in range(200)
            for _, low, high in [median_difference(rng.normal(6.0, 1.0, 40), rng.normal(5.0, 1.0, 40))]
        ]
        assert 0.90 <= np.mean(held) <= 0.99


# ---------------------------------------------------------------------- of the real lab


def test_a_pair_has_its_underlay_and_its_overlay(recordings: Callable[[str], Recording]) -> None:
    table = summary(Tables(recordings("cross-canal")))
    assert table[["src", "dst", "layer", "sent"]].values.tolist() == [
        [A, G, "underlay", 40],
        [A, G, "overlay", 40],
        [G, A, "underlay", 40],
        [G, A, "overlay", 40],
    ]
    assert (table["min_ms"] <= table["median_ms"]).all()
    assert (table["median_ms"] <= table["p95_ms"]).all()
    overlay = table[table["layer"] == "overlay"]
    assert (overlay["overhead_low_ms"] <= overlay["overhead_ms"]).all()
    assert (overlay["overhead_ms"] <= overlay["overhead_high_ms"]).all()
    assert table.loc[table["layer"] == "underlay", "overhead_ms"].isna().all()


def test_an_overlay_without_replies_has_a_loss_rate_and_no_time_and_no_overhead(
    recordings: Callable[[str], Recording],
) -> None:
    table = summary(Tables(recordings("cross-vxlan")))
    overlay = table[table["layer"] == "overlay"]
    assert overlay[["sent", "lost", "loss_percent"]].values.tolist() == [[40, 40, 100.0]] * 2
    assert overlay["loss_low"].round(1).tolist() == [91.2, 91.2]
    assert overlay[["min_ms", "median_ms", "p95_ms", "overhead_ms", "overhead_low_ms"]].isna().all(axis=None)


def test_what_could_not_be_sent_has_no_loss_rate(
    recordings: Callable[[str], Recording], edited: Callable[..., Recording]
) -> None:
    ping = f"ping-node-probe-1-{G}"
    gone = edited(recordings("cross-canal"), [(A, ping, r"(?s)\A.*\Z", "")], outcomes={(A, ping): {"exit_code": 2}})
    row = summary(Tables(gone)).set_index(["src", "layer"]).loc[(A, "overlay")]
    assert row[["sent", "lost", "loss_percent", "median_ms", "overhead_ms"]].isna().all()
    assert next(medians(Tables(gone))) == (A, G, None, "error")


@pytest.mark.parametrize(
    ("scenario", "via"),
    [
        pytest.param("cross-vxlan", "public", id="across-clouds"),
        pytest.param("cross-vxlan-private", "public", id="across-clouds-with-private-addresses"),
        pytest.param("single-vxlan", "public", id="in-one-cloud-with-public-addresses"),
        pytest.param("single-vxlan-private", "private", id="in-one-cloud"),
    ],
)
def test_the_underlay_is_the_way_that_the_tunnels_packets_take(
    recordings: Callable[[str], Recording], scenario: str, via: str
) -> None:
    replies = compared(Tables(recordings(scenario)))
    assert set(replies.loc[replies["layer"] == "underlay", "via"]) == {via}


class TestMap:
    def test_two_nodes_have_none(self, recordings: Callable[[str], Recording]) -> None:
        assert list(Review(recordings("cross-canal"), "en").latency_map()) == []

    def test_three_nodes_have_one_that_says_who_does_not_answer(self, recordings: Callable[[str], Recording]) -> None:
        (block,) = Review(recordings("single-vxlan-private-crosssubnet"), "en").latency_map()
        assert f"{A} → {G} ✘ no reply" in block.data["text/plain"]
        assert "image/png" in block.data


def test_the_report_has_intervals_in_words(recordings: Callable[[str], Recording]) -> None:
    shown = Review(recordings("cross-vxlan"), "en").round_trips
    assert shown["loss"].tolist() == ["0 [0, 8.8]", "100 [91, 100]"] * 2
    assert shown["overhead"].isna().all()


def test_enough_is_sent_for_a_distribution() -> None:
    assert Scenario.load("cross-vxlan").probes.ping_count >= 30
