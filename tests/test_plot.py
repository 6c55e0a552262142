"""Figures. Warnings are errors here, so that a glyph that no font has fails its test."""

import io
import os
import subprocess
import sys
from pathlib import Path

import matplotlib as mpl
import pandas as pd
import pytest
from matplotlib.text import Text

from calico_lab import plot
from calico_lab.page import LANGUAGES, Page


@pytest.fixture(params=LANGUAGES)
def words(request):
    return Page(request.param).words


@pytest.fixture
def english():
    return Page("en").words


HOPS = [
    ("pod eth0", "c-1-h43jk", 8951, "overlay"),
    ("vxlan.calico", "c-1-h43jk", 8951, "overlay"),
    ("eth0", "c-1-h43jk", 9001, "underlay"),
    ("internet", "인터넷", 1500, "underlay"),
    ("ens4", "w-1-36384", 1460, "underlay"),
    ("vxlan.calico", "w-1-36384", 1410, "overlay"),
    ("pod eth0", "w-1-36384", 1410, "overlay"),
]


def hops(*paths, of=HOPS):
    records = [(path, position, *hop) for path in paths for position, hop in enumerate(of)]
    frame = pd.DataFrame(records, columns=["path", "position", "hop", "place", "mtu_bytes", "layer"])
    return frame.astype({"mtu_bytes": "Int64"})


def measured(*records, limit="frag_needed"):
    """What sweeps found: path, layer, the largest size that passes, the smallest that vanishes."""
    frame = pd.DataFrame(records, columns=["path", "layer", "passes_bytes", "silent_bytes"]).assign(limit=limit)
    return frame.astype({"passes_bytes": "Int64", "silent_bytes": "Int64"})


def pings(**outcomes):
    """Probes from c-1 to each node named; a number is a reply's time in ms."""
    records = [
        (
            "c-1",
            dst.replace("_", "-"),
            "overlay",
            seq,
            "reply" if isinstance(outcome, float) else outcome,
            outcome if isinstance(outcome, float) else None,
        )
        for dst, probes in outcomes.items()
        for seq, outcome in enumerate(probes, start=1)
    ]
    frame = pd.DataFrame(records, columns=["src", "dst", "layer", "seq", "outcome", "time_ms"])
    return frame.astype({"time_ms": "Float64"})


def drawn(figure):
    """Every text that a reader sees, after drawing it."""
    figure.savefig(io.BytesIO(), format="png")
    return [text.get_text() for text in figure.findobj(Text) if text.get_visible() and text.get_text()]


class TestMtuPath:
    def test_has_a_panel_a_path(self, words):
        figure = plot.mtu_path(hops("c-1 → w-1", "w-1 → c-1"), measured(), words)
        assert [axes.get_title(loc="left") for axes in figure.axes] == ["c-1 → w-1", "w-1 → c-1"]

    def test_every_value_is_written_and_the_smallest_marked(self, english):
        (axes,) = plot.mtu_path(hops("a"), measured(), english).axes
        values = [text.get_text() for text in axes.texts]
        assert values == ["8951", "8951", "9001", "1500", "1460", "1410\nsmallest", "1410\nsmallest"]

    def test_every_hop_is_named_with_its_place(self, english):
        (axes,) = plot.mtu_path(hops("a"), measured(), english).axes
        assert [label.get_text() for label in axes.get_xticklabels()] == [f"{hop}\n{place}" for hop, place, *_ in HOPS]

    def test_hops_stand_in_order_of_position(self, english):
        (axes,) = plot.mtu_path(hops("a").iloc[::-1], measured(), english).axes
        assert axes.get_xticklabels()[0].get_text() == "pod eth0\nc-1-h43jk"

    def test_an_unknown_mtu_is_shown_as_unknown(self, english):
        (axes,) = plot.mtu_path(
            hops("a", of=[*HOPS[:1], ("router", "AWS", None, "underlay")]), measured(), english
        ).axes
        assert [text.get_text() for text in axes.texts] == ["8951\nsmallest", "?\nno value"]

    def test_no_mtu_at_all_is_shown_as_unknown(self, english):
        (axes,) = plot.mtu_path(hops("a", of=[("router", "AWS", None, "underlay")]), measured(), english).axes
        assert [text.get_text() for text in axes.texts] == ["?\nno value"]

    def test_what_was_measured_stands_above_its_path(self, english):
        found = measured(("a", "underlay", 1460, None), ("a", "overlay", 1410, 1455), ("b", "overlay", None, None))
        first, second, third = plot.mtu_path(hops("a", "b", "c"), found, english).axes
        assert first.get_title(loc="right") == (
            "measured: underlay 1460 · overlay 1410 · ✘ 1455 bytes lost without a word"
        )
        assert second.get_title(loc="right") == "measured: overlay ✘ no reply"
        assert third.get_title(loc="right") == ""

    def test_what_could_not_be_measured_is_not_said_to_be_silent(self, english):
        (axes,) = plot.mtu_path(hops("a"), measured(("a", "overlay", None, None), limit="failed"), english).axes
        assert axes.get_title(loc="right") == ""

    def test_what_was_measured_spans_the_hops_of_its_layer(self, english):
        found = measured(("a", "underlay", 1460, None), ("a", "overlay", 1410, None))
        (axes,) = plot.mtu_path(hops("a"), found, english).axes
        spans = [line.get_segments()[0].tolist() for line in axes.collections]
        assert spans == [[[1.7, 1460], [4.3, 1460]], [[-0.3, 1410], [6.3, 1410]]]

    def test_beyond_four_paths_it_says_what_is_left_out(self, english):
        figure = plot.mtu_path(hops("a", "b", "c", "d", "e"), measured(), english)
        assert len(figure.axes) == 4
        assert "the first 4 of 5 paths" in drawn(figure)

    def test_no_paths_say_so(self, english):
        assert "None" in drawn(plot.mtu_path(hops(), measured(), english))


class TestLatency:
    def test_replies_have_a_median(self, english):
        assert "median 2 ms (n=3)" in drawn(plot.latency(pings(w_1=[1.0, 2.0, 9.0]), english))

    def test_a_box_is_the_middle_half_and_every_reply_a_point(self, english):
        (axes,) = plot.latency(pings(w_1=[1.0, 2.0, 3.0, 4.0, 50.0]), english).axes
        (box,) = axes.patches
        assert (box.get_x(), box.get_x() + box.get_width()) == (2.0, 4.0)
        assert list(axes.lines[0].get_xdata()) == [1.0, 2.0, 3.0, 4.0, 50.0]

    def test_no_reply_is_not_slow(self, english):
        texts = drawn(plot.latency(pings(w_1=["no_answer"] * 10), english))
        assert "✘ no reply (0/10)" in texts
        assert not [text for text in texts if "median" in text]

    def test_an_error_is_not_a_missing_reply(self, english):
        assert "✘ could not send (0/3)" in drawn(plot.latency(pings(w_1=["error"] * 3), english))

    def test_lost_replies_are_counted(self, english):
        texts = drawn(plot.latency(pings(w_1=[2.0, "no_answer", 2.0]), english))
        assert {"median 2 ms (n=2)", "✘ lost 1/3"} <= set(texts)

    @pytest.mark.parametrize(
        ("far_ms", "scale"), [pytest.param(9.0, "linear", id="alike"), pytest.param(10.0, "log", id="ten-times")]
    )
    def test_the_axis_is_logarithmic_only_where_that_helps(self, english, far_ms, scale):
        (axes,) = plot.latency(pings(near=[1.0], far=[far_ms]), english).axes
        assert axes.get_xscale() == scale

    def test_beyond_24_rows_it_says_what_is_left_out(self, english):
        figure = plot.latency(pings(**{f"w_{number}": [1.0] for number in range(25)}), english)
        assert len(figure.axes[0].get_yticks()) == 24
        assert "the first 24 of 25 rows" in drawn(figure)

    def test_no_probes_say_so(self, english):
        assert "None" in drawn(plot.latency(pings(), english))


FARES = [
    ("request", "pod", "c-1", "pass", "seen", None),
    ("request", "route", "c-1", "astray", None, None),
    ("request", "nic", "c-1", "unknown", "seen", 10),
    ("request", "source-check", "tokyo", "stop", "dropped", 40),
    ("reply", "pod", "w-1", "unreached", None, None),
    ("reply", "peer-pod", "c-1", "unreached", "unseen", 0),
]


class TestJourney:
    @pytest.fixture
    def way(self):
        frame = pd.DataFrame(FARES, columns=["direction", "hop", "place", "predicted", "measured", "packets"])
        return frame.astype({"measured": "str", "packets": "Int64"})

    def test_each_hop_says_in_a_word_what_was_predicted_and_measured(self, english, way):
        request, reply = plot.journey(way, english).axes
        assert [axes.get_title(loc="left") for axes in (request, reply)] == ["request", "reply"]
        assert [text.get_text() for text in request.texts] == [
            *("passes", "goes astray", "not known", "ends", "Predicted"),
            *("passed", "–", "10 seen", "40 dropped", "Measured"),
        ]
        assert [text.get_text() for text in reply.texts] == [
            *("never comes", "never comes", "Predicted", "–", "not seen", "Measured")
        ]

    def test_hops_are_named_with_their_place_from_the_top(self, english, way):
        request, _ = plot.journey(way, english).axes
        labels = [label.get_text() for label in request.get_yticklabels()]
        assert labels == ["pod  c-1", "route  c-1", "NIC  c-1", "source check  tokyo"]
        assert request.get_ylim()[0] > request.get_ylim()[1]

    def test_marks_differ_where_colours_are_alike(self, english, way):
        request, _ = plot.journey(way, english).axes
        marks = {(line.get_marker(), line.get_fillstyle()) for line in request.lines}
        assert {("o", "full"), ("o", "none"), ("D", "full"), ("X", "full"), ("s", "none"), (".", "full")} == marks

    def test_every_glyph_is_there(self, words, way):
        assert drawn(plot.journey(way, words))


SITES = {"a-1": "aws", "a-2": "aws", "g-1": "gcp"}


def cells(*records):
    return pd.DataFrame(records, columns=["row", "column", "value", "mark"])


class TestHeat:
    def test_nodes_stand_by_site_whatever_came_first(self, english):
        figure = plot.heat(cells(("g-1", "a-2", 3.0, "3"), ("a-1", "g-1", 3.0, "3")), english, "ms", SITES)
        (axes,) = figure.axes
        assert [label.get_text() for label in axes.get_yticklabels()] == ["a-1", "g-1"]
        assert [label.get_text() for label in axes.get_xticklabels()] == ["a-2", "g-1"]

    def test_sites_are_named_and_parted(self, english):
        figure = plot.heat(cells(*((row, "a-1", 3.0, "3") for row in SITES)), english, "ms", SITES)
        assert {"aws", "gcp"} <= set(drawn(figure))
        assert [list(line.get_ydata()) for line in figure.axes[0].lines] == [[1.5, 1.5]]

    def test_no_reply_is_a_mark_without_a_shade(self, english):
        figure = plot.heat(cells(("a-1", "g-1", 3.0, "3"), ("a-2", "g-1", None, "✘ no reply")), english, "ms", SITES)
        assert {"3", "✘ no reply"} <= set(drawn(figure))
        (image,) = figure.axes[0].images
        assert image.get_array().mask.tolist() == [[False], [True]]

    def test_a_large_map_has_a_scale_in_place_of_numbers(self, words):
        rows = [(f"n-{number}", "n-0", 1.5 if number else None, "1.5" if number else "✘") for number in range(25)]
        figure = plot.heat(cells(*rows), words, "ms", {f"n-{number}": "aws" for number in range(25)})
        texts = drawn(figure)
        assert "1.5" not in texts
        assert "✘" in texts
        assert len(figure.axes) == 2

    def test_no_cells_say_so(self, english):
        assert "None" in drawn(plot.heat(cells(), english, "ms"))


@pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda words: plot.mtu_path(hops("c-1 → w-1", "$a$ → $b$"), measured(), words), id="mtu_path"),
        pytest.param(lambda words: plot.latency(pings(near=[1.0], far=[99.0], no=["error"]), words), id="latency"),
    ],
)
class TestBoth:
    def test_the_fonts_have_every_glyph(self, make, words):
        assert drawn(make(words))

    def test_settings_of_the_process_stay(self, make, words):
        before = dict(mpl.rcParams)
        drawn(make(words))
        assert dict(mpl.rcParams) == before

    def test_layers_differ_in_shape(self, make, words):
        (legend,) = make(words).legends
        assert len({handle.get_marker() for handle in legend.legend_handles}) == 2

    def test_nothing_is_cut_off(self, make, words):
        figure = make(words)
        figure.draw_without_rendering()
        box = figure.get_tightbbox()
        width, height = figure.get_size_inches()
        assert (box.x0 >= 0, box.y0 >= 0, box.x1 <= width, box.y1 <= height) == (True, True, True, True)


def test_drawing_says_nothing(tmp_path):
    """In a process of its own: matplotlib complains about a font only once."""
    hops("c-1 → w-1").to_pickle(tmp_path / "hops")
    measured(("c-1 → w-1", "overlay", 1410, 1455)).to_pickle(tmp_path / "measured")
    pings(w_1=[1.0], w_2=["error"]).to_pickle(tmp_path / "pings")
    program = """
import io, sys
import pandas as pd
from calico_lab import plot
from calico_lab.page import Page
words = Page("ko").words
hops, measured, pings = (pd.read_pickle(name) for name in ("hops", "measured", "pings"))
for figure in plot.mtu_path(hops, measured, words), plot.latency(pings, words):
    figure.savefig(io.BytesIO(), format="png")
"""
    root = str(Path(plot.__file__).resolve().parents[1])
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", program],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": root},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
