"""A recording as DataFrames: every column is explained, and what is unreadable is told apart from what is empty."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from calico_lab.recording import Recording, Writer
from calico_lab.scenario import Scenario
from calico_lab.tables import Tables, describe, evidence, rows

TABLES = sorted(name for name, value in vars(Tables).items() if isinstance(value, cached_property))
DTYPES = {"str": "str", "int": "Int64", "float": "Float64", "bool": "boolean"}

PROBE = {"source": "a", "target": "b", "layer": "overlay", "via": "node", "address": "10.244.1.1"}
ANSWERED = """\
PING 10.244.1.1 (10.244.1.1) 56(84) bytes of data.
64 bytes from 10.244.1.1: icmp_seq=1 ttl=63 time=2.00 ms
no answer yet for icmp_seq=2
64 bytes from 10.244.1.1: icmp_seq=2 ttl=63 time=80.0 ms
no answer yet for icmp_seq=3

--- 10.244.1.1 ping statistics ---
4 packets transmitted, 2 received, 50% packet loss, time 150ms
rtt min/avg/max/mdev = 2.000/41.000/80.000/39.000 ms
"""
LOST = """\
PING 10.244.1.1 (10.244.1.1) 56(84) bytes of data.
no answer yet for icmp_seq=1

--- 10.244.1.1 ping statistics ---
2 packets transmitted, 0 received, 100% packet loss, time 50ms

"""
LINK = """\
2: eth0: <BROADCAST,MULTICAST,UP,LOWER_UP> mtu 9001 qdisc noqueue state UP mode DEFAULT group default qlen 1000
    link/ether 02:00:00:00:00:01 brd ff:ff:ff:ff:ff:ff
    RX:  bytes packets errors dropped  missed   mcast
        {rx} {rx} 0 0 0 0
    TX:  bytes packets errors dropped carrier collsns
        {tx} {tx} {carrier} 0 {carrier} 0
"""


@pytest.fixture
def recorded(tmp_path: Path) -> Callable[..., Tables]:
    """Tables of a recording that is made of these captures of node a."""

    def make(*captures: dict[str, Any]) -> Tables:
        about: dict[str, Any] = {"tool": "", "provider": "lab", "facts": {}, "nodes": [], "pods": [], "fabric": []}
        with Writer(tmp_path / "recording", Scenario.load("cross-vxlan"), **about) as writer:
            for capture in captures:
                common = {"node": "a", "line": capture["command"], "started": "2026-01-01T00:00:00.000+00:00"}
                usual = {"stdout": "", "stderr": "", "outcome": "done", "exit_code": 0, "duration_s": 0.1, "probe": {}}
                writer.add(**common, **usual | capture)
        return Tables(Recording(tmp_path / "recording"))

    return make


def records(frame: pd.DataFrame, *columns: str) -> list[tuple[Any, ...]]:
    """The rows of these columns, with None for NA."""
    chosen = frame[list(columns)].astype(object)
    return list(chosen.where(chosen.notna(), None).itertuples(index=False, name=None))


# ---------------------------------------------------------------------- the column dictionary


@pytest.mark.parametrize("table", TABLES)
class TestColumns:
    def test_each_has_a_type_and_a_meaning(self, recordings: Callable[[str], Recording], table: str) -> None:
        frame = getattr(Tables(recordings("cross-vxlan")), table)
        described = describe(table).set_index("column")
        assert sorted(set(frame.columns) - set(described.index) - {"node", "file"}) == []
        assert sorted(set(described.index) - set(frame.columns)) == []
        assert (described["type"] != "").all()

    def test_each_has_the_dtype_it_says(self, recordings: Callable[[str], Recording], table: str) -> None:
        frame = getattr(Tables(recordings("cross-vxlan")), table)
        said = describe(table).set_index("column")["type"]
        assert {column: str(frame[column].dtype) for column in said.index if said[column].split(" ")[0] in DTYPES} == {
            column: DTYPES[kind.split(" ")[0]] for column, kind in said.items() if kind.split(" ")[0] in DTYPES
        }

    def test_an_empty_table_has_them_too(self, recorded: Callable[..., Tables], table: str) -> None:
        frame = getattr(recorded(), table)
        assert frame.empty
        assert sorted(set(describe(table)["column"]) - set(frame.columns)) == []


# ---------------------------------------------------------------------- what could be read


@pytest.mark.parametrize(
    ("capture", "status", "detail", "unread"),
    [
        pytest.param({"stdout": "1: lo: mtu\n"}, "unreadable", "", "unreadable", id="unreadable"),
        pytest.param({"stdout": ""}, "empty", None, None, id="empty"),
        pytest.param(
            {"exit_code": 127, "stderr": "sh: 1: ip:\nip: not found\n"},
            "failed",
            "ip: not found",
            "failed",
            id="failed",
        ),
        pytest.param({"exit_code": 3}, "failed", "exit code 3", "failed", id="failed-without-a-word"),
        pytest.param({"outcome": "timeout", "exit_code": None}, "timeout", None, "timeout", id="timeout"),
        pytest.param(
            {"outcome": "unreachable", "exit_code": None, "stderr": "no route to host"},
            "unreachable",
            "no route to host",
            "unreachable",
            id="unreachable",
        ),
    ],
)
def test_what_could_not_be_read_is_told_apart(
    recorded: Callable[..., Tables], capture: dict[str, Any], status: str, detail: str | None, unread: str | None
) -> None:
    tables = recorded({"command": "ip-link", "kind": "ip_link", **capture})
    ((found_status, found_detail),) = records(tables.captures, "status", "detail")
    if status == "unreadable":
        assert found_detail.startswith("a, ip-link, line 1: ")
        detail = found_detail
    assert (found_status, found_detail, tables.unread("a", "ip-link")) == (status, detail, unread)
    assert tables.links.empty


def test_what_was_never_asked_is_missing(recorded: Callable[..., Tables]) -> None:
    assert recorded().unread("a", "ip-link") == "missing"


def test_a_ping_without_replies_is_a_measurement(recorded: Callable[..., Tables]) -> None:
    tables = recorded({"command": "ping", "kind": "ping", "stdout": LOST, "exit_code": 1, "probe": PROBE})
    assert records(tables.captures, "status") == [("read",)]
    assert records(tables.pings, "outcome", "transmitted", "received", "loss_percent", "rtt_avg_ms", "line") == [
        ("no_replies", 2, 0, 100.0, None, 5)
    ]


def test_a_ping_that_could_not_be_sent_is_none(recorded: Callable[..., Tables]) -> None:
    stderr = "ping: connect: Network is unreachable\n"
    tables = recorded({"command": "ping", "kind": "ping", "exit_code": 2, "stderr": stderr, "probe": PROBE})
    assert records(tables.pings, "outcome", "transmitted", "detail") == [
        ("failed", None, "ping: connect: Network is unreachable")
    ]
    assert records(tables.replies, "seq", "outcome", "time_ms") == [(1, "error", None)]


# ---------------------------------------------------------------------- measurements


def test_replies_have_a_row_a_request_also_for_those_that_nobody_answered(recorded: Callable[..., Tables]) -> None:
    tables = recorded({"command": "ping", "kind": "ping", "stdout": ANSWERED, "probe": PROBE})
    assert records(tables.replies, "src", "dst", "seq", "outcome", "time_ms", "line") == [
        ("a", "b", 1, "reply", 2.0, 2),
        ("a", "b", 2, "reply", 80.0, 4),
        ("a", "b", 3, "no_answer", None, 5),
        ("a", "b", 4, "no_answer", None, None),
    ]


def test_replies_leave_out_pings_of_a_chosen_size(recorded: Callable[..., Tables]) -> None:
    sized = PROBE | {"via": "size", "size_bytes": 1410}
    tables = recorded({"command": "ping", "kind": "ping", "stdout": ANSWERED, "probe": sized})
    assert tables.replies.empty
    assert records(tables.pings, "via", "size_bytes", "outcome") == [("size", 1410, "replies")]


def test_counters_are_what_grew_while_the_probes_ran(recorded: Callable[..., Tables]) -> None:
    tables = recorded(
        {"command": "ip-link-stats-before", "kind": "ip_link", "stdout": LINK.format(rx=100, tx=50, carrier=1)},
        {"command": "ip-link-stats", "kind": "ip_link", "stdout": LINK.format(rx=107, tx=55, carrier=4)},
    )
    columns = ("dev", "rx_packets", "rx_errors", "tx_packets", "tx_errors", "tx_carrier", "file", "line")
    assert records(tables.counters, *columns) == [("eth0", 7, 0, 5, 3, 3, "captures/a/ip-link-stats.txt", 6)]


def test_counters_without_an_earlier_reading_are_unknown(recorded: Callable[..., Tables]) -> None:
    tables = recorded({"command": "ip-link-stats", "kind": "ip_link", "stdout": LINK.format(rx=107, tx=55, carrier=4)})
    assert records(tables.counters, "dev", "rx_packets", "tx_carrier") == [("eth0", None, None)]


def test_the_stacks_counters_are_what_grew_too(recorded: Callable[..., Tables]) -> None:
    before = "Ip: Forwarding FragCreates\nIp: 1 5\n"
    after = "Ip: Forwarding FragCreates\nIp: 1 9\n"
    tables = recorded(
        {"command": "snmp-before", "kind": "snmp", "stdout": before},
        {"command": "snmp", "kind": "snmp", "stdout": after},
    )
    assert records(tables.snmp, "protocol", "counter", "grown") == [("Ip", "Forwarding", 0), ("Ip", "FragCreates", 4)]


# ---------------------------------------------------------------------- of the real lab


def test_hops_go_from_pod_to_pod_through_both_tunnels_and_the_internet(
    recordings: Callable[[str], Recording],
) -> None:
    hops = Tables(recordings("cross-vxlan")).hops
    there = hops[hops["path"] == "c-1-h43jk → w-1-36384"]
    assert records(there, "position", "hop", "place", "mtu_bytes", "layer") == [
        (1, "caliab50587c633", "c-1-h43jk", 8951, "overlay"),
        (2, "vxlan.calico", "c-1-h43jk", 8951, "overlay"),
        (3, "eth0", "c-1-h43jk", 9001, "underlay"),
        (4, "internet", "fabric.aws-tokyo", 1500, "underlay"),
        (5, "internet", "fabric.gcp-tokyo", 1500, "underlay"),
        (6, "ens4", "w-1-36384", 1460, "underlay"),
        (7, "vxlan.calico", "w-1-36384", 1410, "overlay"),
        (8, next(rows(there[there["position"] == 8])).hop, "w-1-36384", 1410, "overlay"),
    ]


def test_hops_within_a_site_stay_out_of_the_internet(recordings: Callable[[str], Recording]) -> None:
    hops = Tables(recordings("single-vxlan-private")).hops
    assert "internet" not in set(hops["hop"])


def test_a_row_knows_the_line_it_was_read_from(recordings: Callable[[str], Recording]) -> None:
    tables = Tables(recordings("cross-vxlan"))
    entry = next(rows(tables.fdb[tables.fdb["dst"] == "35.189.140.156"]))
    file, _, line = evidence(entry).rpartition(":")
    text = (tables.recording.folder / file).read_text(encoding="utf-8").splitlines()[int(line) - 1]
    assert text == "66:ec:be:c5:a8:a3 dev vxlan.calico dst 35.189.140.156 self permanent"


@pytest.mark.parametrize(
    ("table", "column", "of", "key"),
    [
        pytest.param("fdb", "dev", "links", "name", id="fdb-dev"),
        pytest.param("routes", "dev", "links", "name", id="route-dev"),
        pytest.param("neighbours", "dev", "links", "name", id="neighbour-dev"),
        pytest.param("addresses", "ifname", "links", "name", id="address-interface"),
        pytest.param("counters", "dev", "links", "name", id="counters-dev"),
        pytest.param("pods", "veth", "links", "name", id="pod-veth"),
        pytest.param("pings", "target", "nodes", "name", id="ping-target"),
    ],
)
def test_what_one_table_names_stands_in_another(
    recordings: Callable[[str], Recording], table: str, column: str, of: str, key: str
) -> None:
    tables = Tables(recordings("cross-vxlan"))
    named = set(getattr(tables, table)[column].dropna())
    assert named
    assert named - set(getattr(tables, of)[key]) == set()
