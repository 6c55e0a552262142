"""Recordings side by side: the document's table, who disagrees with it and why, and maps of numbers and marks."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from calico_lab.overview import Claim, Entry, Overview, claims
from calico_lab.predict import predict
from calico_lab.recording import Recording
from calico_lab.scenario import Scenario, names

NAMES = ("single-vxlan", "single-vxlan-private", "cross-vxlan-noalias")


@pytest.fixture
def overview(recordings: Callable[[str], Recording], tmp_path: Path) -> Overview:
    """Three recordings, and a scenario that could not be measured."""
    for name in NAMES:
        (tmp_path / name).mkdir()
        (tmp_path / name / "recording").symlink_to(recordings(name).folder)
    entries = [Entry(Scenario.load(name), 12.0) for name in NAMES]
    return Overview([*entries, Entry(Scenario.load("cross-bgp"), None, "its process died")], tmp_path, "en")


def test_every_claim_is_of_a_scenario_and_of_a_source(overview: Overview) -> None:
    assert set(claims()) <= set(names())
    assert {claim.source for said in claims().values() for claim in said} == {"document", "pr-133"}
    assert overview.sources["source"].tolist() == ["review document", "comment on PR 133"]


def test_the_document_speaks_of_eight_rows() -> None:
    assert len([name for name, said in claims().items() if said[0].source == "document"]) == 8


def test_the_documents_claims_are_what_its_scenarios_expect() -> None:
    for name, (document, *_) in claims().items():
        expected = Scenario.load(name).expected
        assert expected is not None
        assert (document.installed, document.ping) == (expected.installed, expected.ping), name


def test_the_result_has_prediction_measurement_and_document_side_by_side(overview: Overview) -> None:
    shown = overview.page.table(overview.result).data["text/markdown"].splitlines()
    assert shown[0] == (
        "| Scenario | CSP | Routing | IPv4Address | Predicted | Installed | `ping` | Documented | As expected | "
        "Cause | Note | Time taken (s) |"
    )
    assert shown[2:] == [
        "| single-vxlan | Single-CSP | VXLAN | public-ip | O/X | O | X | O/X | O | "
        "the outer source is not an address that the cloud gave | calico-node 1/1 Running | 12 |",
        "| single-vxlan-private | Single-CSP | VXLAN | private-ip | O/O | O | O | O/O | O | . | "
        "calico-node 1/1 Running | 12 |",
        "| cross-vxlan-noalias | Cross-CSP | VXLAN | public-ip | O/X | O | X | O/X | O | "
        "the tunnel device is missing | calico-node 1/1 Running | 12 |",
        "| cross-bgp | Cross-CSP | BGP | public-ip | X/. | . | . | X/. | . | . | not measured: its process died | . |",
    ]


def test_a_prediction_that_failed_is_marked_and_named(overview: Overview, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = replace(predict(Scenario.load("single-vxlan")), ping=True, cause=None)
    monkeypatch.setattr("calico_lab.overview.predict", lambda scenario: wrong)
    row = overview.result.iloc[0]
    assert row["predicted"] == "O/O ≠"
    assert row["note"].splitlines() == [
        "calico-node 1/1 Running",
        "Not as predicted: predicted O/O (none) · "
        "measured O/X (the outer source is not an address that the cloud gave)",
    ]
    assert overview.result["predicted"].tolist() == ["O/O ≠", "O/O", "O/O ≠", "O/O"]
    assert "3 measured · 1 as predicted" in overview.heading().data["text/markdown"]


def test_a_latency_that_was_left_out_is_said_above_the_map(overview: Overview) -> None:
    for name, review in overview.reviews.items():
        review.recording.manifest["facts"]["latency_left_out"] = name == "cross-vxlan-noalias"
    shown = overview.latency_heading().data["text/markdown"]
    assert "the kernel had no netem: `cross-vxlan-noalias`." in shown
    overview.reviews["cross-vxlan-noalias"].recording.manifest["facts"]["latency_left_out"] = False
    assert "netem" not in overview.latency_heading().data["text/markdown"]


def test_the_heading_counts(overview: Overview) -> None:
    assert "4 scenarios · 3 measured · 3 as predicted · 3 as expected" in overview.heading().data["text/markdown"]


def test_those_who_agree_need_no_note(overview: Overview) -> None:
    assert [overview.disagreement(name) for name in NAMES] == [None, None, None]


def test_a_disagreement_says_who_says_what_and_why_it_was_measured_so(
    overview: Overview, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = (Claim("document", True, False), Claim("pr-133", installed=True, ping=True, remark="calico-node 0/1"))
    monkeypatch.setattr("calico_lab.overview.claims", lambda: {"single-vxlan": said})
    assert overview.disagreement("single-vxlan") == (
        "They differ: review document O/X · comment on PR 133 O/O (calico-node 0/1) · measured O/X\n"
        "Why it was measured so: c-1-h43jk: The outer source is the public IP 54.64.9.64. AWS knows this NIC by its "
        "private address 192.168.10.28 only, and maps only that one 1:1, so its source check drops what leaves with "
        "this source. No SNAT rule rewrites it. "
        "(`captures/c-1-h43jk/ip-link.txt:11`, `captures/c-1-h43jk/tcpdump.txt:1`)"
    )


def test_no_reply_is_a_mark_and_no_number(overview: Overview) -> None:
    cells = list(overview._latencies())
    assert [(row, value is None) for row, _, value, _ in cells] == [
        *[("single-vxlan", True)] * 2,
        *[("single-vxlan-private", False)] * 2,
        *[("cross-vxlan-noalias", True)] * 2,
    ]
    assert {mark for _, _, value, mark in cells if value is None} <= {"✘ no reply", "✘ could not send"}


def test_the_mtu_is_each_tunnel_devices(overview: Overview) -> None:
    assert [(row, value, mark) for row, _, value, mark in overview._mtus()] == [
        *[("single-vxlan", 8951.0, "8951")] * 2,
        *[("single-vxlan-private", 8951.0, "8951")] * 2,
        *[("cross-vxlan-noalias", None, "✘ no device")] * 2,
    ]


def test_figures_say_in_words_what_they_show(overview: Overview) -> None:
    shown = overview.mtu_figure()
    assert shown.data["text/plain"].startswith("MTU of each node's tunnel device: single-vxlan c-1-h43jk 8951, ")
    assert "image/png" in overview.latency_figure().data


def test_an_entry_passes_through_plain_data() -> None:
    entry = Entry(Scenario.load("cross-bgp"), 1.5, "its process died")
    assert Entry.of(entry.plain()) == entry
