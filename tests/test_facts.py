"""Facts: the same whoever recorded them and when; each change of a node is a fact that differs, with its evidence."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pandas as pd
import pytest

from calico_lab.capture import record
from calico_lab.cluster.lab import LabCluster
from calico_lab.facts import KINDS, STATUSES, differences, facts
from calico_lab.imports import from_folder
from calico_lab.lab.host import Host
from calico_lab.recording import Recording
from calico_lab.run import BUNDLED
from calico_lab.scenario import Scenario
from calico_lab.tables import Tables

A, B = "c-1-h43jk", "w-1-36384"
CALICO = Tables(Recording(BUNDLED / "cross-vxlan" / "recording"))
CANAL = Tables(Recording(BUNDLED / "cross-vxlan" / "comparison"))
DOCUMENT = Tables(Recording(BUNDLED / "review-2022" / "recording"))


def told(frame: pd.DataFrame, *statuses: str) -> dict[tuple[str, str], tuple[str, str]]:
    """Subject and fact to both values, of the facts of these statuses."""
    rows = frame[frame["status"].isin(statuses)].fillna("").itertuples()
    return {(row.subject, row.fact): (row.a, row.b) for row in rows}


def changed(before: Tables, after: Recording) -> dict[tuple[str, str], tuple[str, str]]:
    """The state that differs in an edited recording; what rules say of it is another test's matter."""
    found = differences(before, Tables(after))
    return told(found[found["kind"] == "state"], *set(STATUSES) - {"same"})


# ---------------------------------------------------------------------- what a fact is


@pytest.mark.parametrize("tables", [CALICO, CANAL, DOCUMENT], ids=["calico", "canal", "document"])
class TestFacts:
    def test_each_has_a_name_of_its_own_and_is_text(self, tables: Tables) -> None:
        found = facts(tables)
        assert found[found.duplicated(["kind", "subject", "fact"])].empty
        assert set(found.dtypes.map(str)) == {"str"}
        assert set(found["kind"]) <= set(KINDS)
        assert not found.isna().any(axis=None)

    def test_a_recording_says_what_it_says(self, tables: Tables) -> None:
        assert set(differences(tables, tables)["status"]) == {"same"}

    def test_evidence_is_a_file_of_the_recording_and_a_line_of_it(self, tables: Tables) -> None:
        for places in facts(tables)["evidence"]:
            for place in filter(None, places.split(", ")):
                path, _, line = place.partition(":")
                lines = (tables.recording.folder / path).read_text(encoding="utf-8").splitlines()
                assert not line or lines[int(line) - 1].strip(), place


def test_numbers_that_vary_are_no_facts() -> None:
    known = facts(CALICO).set_index(["subject", "fact"])["value"]
    assert known[f"{A} → {B}", "ping public"] == "replies"
    assert known[A, "tunnel packets Out"] == "54.64.9.64 > 35.189.140.156"
    assert known["verdict", "cause"] == "outer-source"
    assert not {"fabric-drops", "recording"} & set(facts(CALICO)["fact"])


# ---------------------------------------------------------------------- two recordings of the same


@pytest.mark.lab
def test_how_commands_reach_the_nodes_and_when_changes_no_fact(
    recordings: Callable[[str], Recording], tmp_path: Path
) -> None:
    """Without root tcpdump may not listen: that is not known then, and not another fact."""
    scenario = Scenario.load("single-vxlan", {"internet.latency_ms": 0, "probes.ping_count": 2})
    with closing(LabCluster(scenario, host=Host(rootless=True))) as cluster:
        again = record(cluster, scenario, tmp_path / "recording")
    first, second = recordings("single-vxlan"), again
    assert (first.manifest["facts"]["transport"], second.manifest["facts"]["transport"]) == ("ssh", "direct")
    found = differences(Tables(first), Tables(second))
    heard = {(node, fact) for node in (A, B) for fact in ("tunnel packets Out", "tunnel packets In", "wire")}
    assert told(found, "differs", "only-a", "only-b") == {}
    assert set(told(found, "unknown")) == heard
    assert (found["status"] == "same").sum() > 150


def test_measured_numbers_may_differ(edited: Callable[..., Recording]) -> None:
    other = edited(
        CALICO.recording,
        [
            (A, f"ping-public-{B}", r"time=[0-9.]+", "time=99.9"),
            (A, f"ping-public-{B}", r"rtt .*", "rtt min/avg/max/mdev = 99.9/99.9/99.9/0.0 ms"),
            (A, "iptables-save", r"^\[\d+:\d+\] -A cali-INPUT", "[77:7777] -A cali-INPUT"),
            (A, "snmp", r"^Ip: \d+ \d+ \d+", "Ip: 1 64 99999"),
        ],
    )
    found = differences(CALICO, Tables(other))
    assert told(found, "differs", "only-a", "only-b", "unknown") == {}


# ---------------------------------------------------------------------- what differs


@pytest.mark.parametrize(
    ("edits", "expected"),
    [
        pytest.param(
            [(A, "ip-link", r"(vxlan\.calico: .* )mtu 8951", r"\1mtu 1410")],
            {(A, "tunnel MTU"): ("8951", "1410")},
            id="mtu",
        ),
        pytest.param(
            [(A, "ip-link", "local 54.64.9.64", "local 192.168.10.28")],
            {(A, "tunnel local"): ("54.64.9.64", "192.168.10.28")},
            id="local",
        ),
        pytest.param(
            [(A, "bridge-fdb", "dst 35.189.140.156", "dst 192.168.29.28")],
            {(f"{A} → {B}", "FDB"): ("35.189.140.156", "192.168.29.28")},
            id="fdb",
        ),
        pytest.param(
            [(A, "ip-neigh", r"^10\.244\.124\.0 .*\n", "")],
            {(f"{A} → {B}", "ARP"): ("10.244.124.0", "")},
            id="arp",
        ),
        pytest.param(
            [(A, "ip-route", r"^(10\.244\.124\.0/24 via \S+ dev) vxlan.calico", r"\1 eth0")],
            {
                (f"{A} → {B}", "route"): (
                    "via 10.244.124.0 dev vxlan.calico",
                    "via 10.244.124.0 dev eth0",
                )
            },
            id="route-to-a-block",
        ),
        pytest.param(
            [(B, "ipset-list", r"^54\.64\.9\.64$", "192.168.10.28")],
            {(B, "ipset cali40all-vxlan-net"): ("54.64.9.64", "192.168.10.28")},
            id="allow-list",
        ),
        pytest.param(
            [(A, "iptables-save", r"^:POSTROUTING (.*)", r":POSTROUTING \1\n-A POSTROUTING -p udp -j MASQUERADE")],
            {(A, "nat POSTROUTING"): ("", "-p udp -j MASQUERADE")},
            id="nat-rule",
        ),
        pytest.param(
            [(A, "sysctl", r"(vxlan/calico\.rp_filter) = \d", r"\1 = 2")],
            {(A, "net.ipv4.conf.tunnel.rp_filter"): ("1", "2")},
            id="sysctl",
        ),
        pytest.param([(A, "readiness", "200", "503")], {(A, "readiness"): ("200", "503")}, id="readiness"),
    ],
)
def test_a_change_is_the_one_fact_that_differs(
    edited: Callable[..., Recording],
    edits: list[tuple[str, str, str, str]],
    expected: dict[tuple[str, str], tuple[str, str]],
) -> None:
    assert changed(CALICO, edited(CALICO.recording, edits)) == expected


def test_what_differs_says_where_in_both(edited: Callable[..., Recording]) -> None:
    other = Tables(edited(CALICO.recording, [(A, "ip-link", "local 54.64.9.64", "local 192.168.10.28")]))
    found = differences(CALICO, other).set_index(["subject", "fact"]).loc[(A, "tunnel local")]
    for tables, place in ((CALICO, found["evidence_a"]), (other, found["evidence_b"])):
        path, _, line = place.partition(":")
        assert "vxlan id 4096 local" in (tables.recording.folder / path).read_text().splitlines()[int(line) - 1]


def test_two_plugins_tunnels_are_compared_by_their_role() -> None:
    found = told(differences(CALICO, CANAL), "differs")
    assert found[A, "tunnel device"] == ("vxlan.calico", "flannel.1")
    assert found[A, "tunnel local"] == ("54.64.9.64", "192.168.10.28")
    assert found[f"{A} → {B}", "ping pod"] == ("no_replies", "replies")
    assert (f"{A} → {B}", "FDB") not in found


def test_a_rule_that_is_not_for_the_other_mode_is_in_one_only() -> None:
    assert told(differences(CALICO, CANAL), "only-a")[A, "stale-device"] == ("pass", "")


# ---------------------------------------------------------------------- what one of them cannot tell


@pytest.mark.parametrize("how", ["missing", "failed", "timeout"])
def test_what_was_not_captured_is_unknown_and_not_gone(edited: Callable[..., Recording], how: str) -> None:
    without = {(A, "ipset-list")} if how == "missing" else set()
    outcomes = {"failed": {"exit_code": 1}, "timeout": {"outcome": "timeout", "exit_code": None}}
    other = edited(CALICO.recording, without=without, outcomes={(A, "ipset-list"): outcomes.get(how, {})})
    found = differences(CALICO, Tables(other))
    assert told(found, "differs", "only-a", "only-b") == {}
    assert told(found, "unknown") == {
        (A, "ipset cali40all-vxlan-net"): ("35.189.140.156", ""),
        (A, "ipset cali40all-ipam-pools"): ("10.244.0.0/16", ""),
        (A, "ipset cali40masq-ipam-pools"): ("10.244.0.0/16", ""),
        (B, "allow-list"): ("pass", "no-data"),
    }


def test_the_documents_outputs_contradict_the_lab_in_the_tunnels_mac_alone() -> None:
    """What it printed of one device says nothing of others; its `route` tells of routes to blocks."""
    found = differences(DOCUMENT, CALICO)
    assert set(told(found, "differs", "only-a", "only-b")) == {(A, "tunnel MAC"), (B, "tunnel MAC")}
    same = told(found, "same")
    assert same[f"{A} → {B}", "route"][0] == "via 10.244.124.0 dev vxlan.calico"
    assert same[A, "tunnel MTU"] == ("8951", "8951")
    assert told(found, "unknown")[A, "eth0 MTU"] == ("", "9001")
    assert told(found, "unknown")["verdict", "ping"] == ("unknown", "false")


def test_a_node_that_only_one_has_is_in_one_only(tmp_path: Path) -> None:
    renamed = Scenario.load("review-2022").parameters()
    renamed["nodes"][1]["name"] = "w-2"
    shutil.copytree(DOCUMENT.recording.folder / "captures", tmp_path / "outputs")
    (tmp_path / "outputs" / B).rename(tmp_path / "outputs" / "w-2")
    other = from_folder(Scenario.of(renamed), tmp_path / "outputs", tmp_path / "recording")
    found = differences(DOCUMENT, Tables(other))
    subjects = found[found["kind"] == "state"].groupby("subject")["status"].agg(set)
    assert (subjects[A], subjects[B], subjects["w-2"]) == ({"same"}, {"only-a"}, {"only-b"})
