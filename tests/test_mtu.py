"""What real paths carry in each direction, and the `veth_mtu` that follows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from calico_lab.calico import fitting_mtu
from calico_lab.capture import record
from calico_lab.checks import Finding, check, verdict
from calico_lab.cluster.lab import LabCluster
from calico_lab.mtu import advise
from calico_lab.page import LANGUAGES, Language
from calico_lab.recording import Recording
from calico_lab.review import Review
from calico_lab.scenario import Scenario
from calico_lab.tables import Tables, rows

A, G = "c-1-h43jk", "w-1-36384"
"""On AWS, whose NICs have 9001 bytes, and on GCP, whose have 1460."""

FEW = {"internet.latency_ms": 0, "internet.exact_latency": False, "probes.ping_count": 2, "probes.ping_timeout_s": 0.3}
CANAL = Scenario.load("cross-canal", FEW)
SINGLE = Scenario.load("single-vxlan-private", FEW)


def sweeps(tables: Tables, layer: str) -> dict[str, tuple[Any, ...]]:
    """What each source's sweep came to: passes, fails, limit, told, silent."""
    shown = ("passes_bytes", "fails_bytes", "limit", "told_bytes", "silent_bytes")
    frame = tables.mtu_sweeps[tables.mtu_sweeps["layer"] == layer].astype(object)
    frame = frame.where(frame.notna(), None)
    return {row.source: tuple(getattr(row, name) for name in shown) for row in rows(frame)}


def whole_packets(found: list[Finding]) -> dict[str, str]:
    return {finding.node: finding.case for finding in found if finding.id == "path-mtu"}


# ---------------------------------------------------------------------- paths that answer


def test_unequal_nics_limit_both_directions_and_each_sender_learns_it_in_its_own_way(
    recordings: Callable[[str | Scenario], Recording],
) -> None:
    tables = Tables(recordings(CANAL))
    assert sweeps(tables, "underlay") == {
        A: (1460, 1461, "frag_needed", 1460, None),
        G: (1460, 1461, "refused_local", 1460, None),
    }


def test_a_large_packet_to_a_pod_is_fragmented_on_the_way_and_refused_at_its_end(
    recordings: Callable[[str | Scenario], Recording],
) -> None:
    tables = Tables(recordings(CANAL))
    assert sweeps(tables, "overlay") == {
        A: (1410, 1411, "frag_needed", 1410, None),
        G: (1410, 1411, "refused_local", 1410, None),
    }
    (there,) = rows(tables.mtu_sweeps[(tables.mtu_sweeps["source"] == A) & (tables.mtu_sweeps["layer"] == "overlay")])
    assert (there.told_by, there.frag_creates, there.reasm_oks, there.reasm_fails) == (CANAL.node(G).tunnel_ip, 0, 1, 0)


def test_equal_nics_leave_the_own_kernels_limit(recordings: Callable[[str | Scenario], Recording]) -> None:
    tables = Tables(recordings(SINGLE))
    assert set(sweeps(tables, "underlay").values()) == {(9001, 9002, "refused_local", 9001, None)}
    assert set(sweeps(tables, "overlay").values()) == {(8951, 8952, "refused_local", 8951, None)}


def test_nothing_is_said_of_an_overlay_that_carries_nothing(recordings: Callable[[str], Recording]) -> None:
    tables = Tables(recordings("cross-vxlan"))
    assert sweeps(tables, "overlay") == {A: (None, 68, "silent", None, None), G: (None, 68, "silent", None, None)}
    assert sweeps(tables, "underlay")[A] == (1460, 1461, "frag_needed", 1460, None)


def test_an_overlay_without_a_device_is_no_sweep(recordings: Callable[[str], Recording]) -> None:
    found = check(Tables(recordings("cross-vxlan-noalias")))
    assert whole_packets(found) == {A: "no-small", G: "no-small"}


# ---------------------------------------------------------------------- a path that drops fragments


@pytest.fixture(scope="module")
def dropping(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tables]:
    """The same nodes, and an internet that carries no fragments."""
    with closing(LabCluster(CANAL)) as cluster:
        cluster.host.do("fabric.internet", ["iptables", "-I", "FORWARD", "-f", "-j", "DROP"])
        yield Tables(record(cluster, CANAL, tmp_path_factory.mktemp("mtu") / "recording"))


@pytest.mark.lab
def test_large_packets_vanish_where_fragments_are_dropped_and_small_ones_pass(dropping: Tables) -> None:
    passes, _, limit, told, silent = sweeps(dropping, "overlay")[A]
    assert (passes, limit, told) == (1410, "frag_needed", 1410)
    assert silent > 1450  # up to here the outer packet is 1500 bytes and crosses the internet whole
    (there,) = rows(dropping.mtu_sweeps[dropping.mtu_sweeps["silent_bytes"].notna()])
    said = (dropping.recording.folder / there.file).read_text(encoding="utf-8").splitlines()[there.line - 1]
    assert said.startswith("3 packets transmitted, 0 received, 100% packet loss")
    found = check(dropping)
    assert whole_packets(found) == {A: "fail", G: "pass"}
    assert (verdict(found, dropping).ping, verdict(found, dropping).cause) == (True, "path-mtu")


@pytest.mark.lab
def test_only_what_is_fragmented_behind_the_drop_is_put_together(dropping: Tables) -> None:
    advice = advise(dropping)
    assert advice is not None
    assert (advice.mtu_bytes, dict(advice.fragmented)) == (1410, {G: 1})


# ---------------------------------------------------------------------- the advice


@pytest.mark.parametrize("scenario", ["cross-vxlan", "cross-vxlan-private", "single-vxlan", "single-vxlan-private"])
def test_in_the_lab_it_is_what_follows_from_the_scenario(recordings: Callable[[str], Recording], scenario: str) -> None:
    advice = advise(Tables(recordings(scenario)))
    assert advice is not None
    assert advice.mtu_bytes == advice.configured_bytes == fitting_mtu(Scenario.load(scenario))


def test_it_names_the_directions_and_the_hop_that_limit(recordings: Callable[[str | Scenario], Recording]) -> None:
    advice = advise(Tables(recordings(CANAL)))
    assert advice is not None
    assert [(sweep.source, sweep.target) for sweep in advice.narrowest] == [(A, G), (G, A)]
    assert (advice.mtu_bytes, advice.overhead_bytes, advice.hop) == (1410, 50, f"ens4 ({G})")
    assert dict(advice.devices) == {A: 8951, G: 1410}
    assert dict(advice.fragmented) == {G: 1}


def test_there_is_none_without_a_sweep_and_the_recording_can_be_read(
    recordings: Callable[[str], Recording], edited: Callable[..., Recording]
) -> None:
    recording = recordings("cross-canal")
    swept = {(each.node, each.command) for each in recording.captures if each.kind == "mtu_sweep"}
    old = edited(recording, without=swept)
    tables = Tables(old)
    assert (advise(tables), tables.mtu_sweeps.empty, whole_packets(check(tables))) == (None, True, {})
    assert Review(old, "en").mtu_advice().data["text/markdown"] == (
        "* No `veth_mtu` can be recommended: the largest packet that the underlay carries was not measured."
    )
    assert "image/png" in Review(old, "en").mtu_figure().data


def test_a_limit_in_the_middle_that_nobody_tells_differs_from_the_scenario(
    recordings: Callable[[str | Scenario], Recording], edited: Callable[..., Recording]
) -> None:
    silent = (Path(__file__).parent / "parsers/fixtures/mtu_sweep/lab-silent.txt").read_text(encoding="utf-8")
    lost = edited(recordings(SINGLE), [(A, f"mtu-underlay-{G}", r"(?s)\A.*\Z", silent.replace("\\", ""))])
    assert Review(lost, "en").mtu_advice().data["text/markdown"].splitlines() == [
        f"* Recommended `veth_mtu`: **1354**. The narrowest direction of the underlay ({A} → {G}) carries 1404 bytes, "
        "and the tunnel's headers take 50.",
        "* None of the recorded interfaces limits it to 1404 bytes: it is something in the middle of the path.",
        "* Nobody tells of this limit: packets of 1405 bytes were lost without a word.",
        "* From the scenario's MTUs of NICs and internet 8951 would follow; the measurement differs, and counts.",
        f"* The tunnel devices' MTUs are {A} 8951, {G} 8951, on some node more than that: large packets from there are "
        "fragmented on the way, or lost.",
    ]


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_report_has_a_row_a_direction_and_layer(
    recordings: Callable[[str | Scenario], Recording], language: Language
) -> None:
    shown = Review(recordings(CANAL), language).mtu_sweeps
    told = {"ko": f"경로에서 통지 (MTU 1410, {CANAL.node(G).tunnel_ip})"}.get(
        language, f"told by the path (MTU 1410, {CANAL.node(G).tunnel_ip})"
    )
    assert shown[["src", "dst", "passes_bytes"]].values.tolist() == [
        [A, G, 1460],
        [A, G, 1410],
        [G, A, 1460],
        [G, A, 1410],
    ]
    assert shown.iloc[1][["limit", "fragments"]].tolist() == [told, "0/1/0"]
    assert shown["fragments"].isna().tolist() == [True, False, True, False]
