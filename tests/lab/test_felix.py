"""What Felix's stand-in programs, against what Felix 3.22.0 does, and on a real kernel against the review document."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from calico_lab.cluster.lab import LabCluster
from calico_lab.lab import felix
from calico_lab.lab.settings import Settings
from calico_lab.scenario import Scenario

DOCUMENT = Path(__file__).resolve().parents[1] / "parsers" / "fixtures" / "ip_link"
HERE = {"internet.latency_ms": 0}
"""Without delay, any kernel with VXLAN can do it."""

PUBLIC = Scenario.load("cross-vxlan", HERE)
PRIVATE = Scenario.load("cross-vxlan-private", HERE)
NO_ALIAS = Scenario.load("cross-vxlan-noalias", HERE)
MASTER, WORKER = PUBLIC.nodes


def link(name: str, mtu: int, *addresses: str) -> dict[str, Any]:
    """A link as `ip -json addr` shows it."""
    return {"ifname": name, "mtu": mtu, "addr_info": [{"family": "inet", "local": address} for address in addresses]}


LO = link("lo", 65536, "127.0.0.1")
NIC = link("eth0", 9001, "192.168.10.28")
ALIASED = link("eth0", 9001, "192.168.10.28", "54.64.9.64")

WHATEVER_THE_ADDRESS = Settings(
    ip=["route add blackhole 10.244.122.0/24 proto 80"],
    ipset=[
        "create cali40all-vxlan-net hash:net",
        "add cali40all-vxlan-net 35.189.140.156",
        "create cali40all-ipam-pools hash:net",
        "add cali40all-ipam-pools 10.244.0.0/16",
        "create cali40masq-ipam-pools hash:net",
        "add cali40masq-ipam-pools 10.244.0.0/16",
    ],
    iptables={
        "raw": [
            ":cali-PREROUTING - [0:0]",
            "-I PREROUTING -j cali-PREROUTING",
            "-A cali-PREROUTING -i cali+ -j MARK --set-xmark 0x40000/0x40000",
            "-A cali-PREROUTING -m mark --mark 0x40000/0x40000 -m rpfilter --validmark --invert -j DROP",
        ],
        "filter": [
            ":cali-INPUT - [0:0]",
            ":cali-OUTPUT - [0:0]",
            "-I INPUT -j cali-INPUT",
            "-I OUTPUT -j cali-OUTPUT",
            "-A cali-INPUT -p udp -m multiport --dports 4789"
            ' -m comment --comment "Allow VXLAN packets from whitelisted hosts"'
            " -m set --match-set cali40all-vxlan-net src -m addrtype --dst-type LOCAL -j ACCEPT",
            "-A cali-INPUT -p udp -m multiport --dports 4789"
            ' -m comment --comment "Drop VXLAN packets from non-whitelisted hosts"'
            " -m addrtype --dst-type LOCAL -j DROP",
            "-A cali-OUTPUT -p udp -m multiport --dports 4789"
            ' -m comment --comment "Allow VXLAN packets to other whitelisted hosts"'
            " -m addrtype --src-type LOCAL -m set --match-set cali40all-vxlan-net dst -j ACCEPT",
        ],
        "nat": [
            ":cali-POSTROUTING - [0:0]",
            ":cali-nat-outgoing - [0:0]",
            "-I POSTROUTING -j cali-POSTROUTING",
            "-A cali-POSTROUTING -j cali-nat-outgoing",
            "-A cali-POSTROUTING -o vxlan.calico -m addrtype ! --src-type LOCAL --limit-iface-out"
            " -m addrtype --src-type LOCAL -j MASQUERADE --random-fully",
            "-A cali-nat-outgoing -m set --match-set cali40masq-ipam-pools src"
            " -m set ! --match-set cali40all-ipam-pools dst -j MASQUERADE --random-fully",
        ],
    },
    sysctl={"net.ipv4.ip_forward": "1"},
)
"""Blackhole, sets and chains: Felix programs them whether or not it finds the parent of its device."""


def tunnel_lines(local: str, parent: str) -> list[str]:
    return [
        "link add vxlan.calico txqueuelen 0 address 66:41:93:12:10:73"
        f" type vxlan id 4096 local {local} dev {parent} dstport 4789 nolearning",
        "link set vxlan.calico mtu 8951",
        "addr add 10.244.122.0/32 dev vxlan.calico",
        "link set vxlan.calico up",
        "neigh replace 10.244.124.0 lladdr 66:ec:be:c5:a8:a3 dev vxlan.calico nud permanent",
        "route add 10.244.124.0/24 via 10.244.124.0 dev vxlan.calico onlink",
    ]


# ---------------------------------------------------------------------- settings


def test_with_a_public_address_on_the_nic_both_jobs_of_the_address_are_done_by_it() -> None:
    plan = felix.dataplane(MASTER, PUBLIC, [LO, ALIASED])
    always = WHATEVER_THE_ADDRESS
    assert plan.settings == replace(
        always,
        ip=[*always.ip, *tunnel_lines("54.64.9.64", "eth0")],
        bridge=["fdb replace 66:ec:be:c5:a8:a3 dev vxlan.calico dst 35.189.140.156 self permanent"],
    )
    assert (plan.log, plan.health) == ((), {"/liveness": 200, "/readiness": 200})


def test_with_the_detected_address_senders_and_destinations_are_private() -> None:
    plan = felix.dataplane(PRIVATE.nodes[0], PRIVATE, [LO, ALIASED])
    always = WHATEVER_THE_ADDRESS
    assert plan.settings == replace(
        always,
        ip=[*always.ip, *tunnel_lines("192.168.10.28", "eth0")],
        ipset=[line.replace("35.189.140.156", "192.168.29.28") for line in always.ipset],
        bridge=["fdb replace 66:ec:be:c5:a8:a3 dev vxlan.calico dst 192.168.29.28 self permanent"],
    )


def test_with_an_address_on_no_interface_there_is_no_device_but_a_warning_and_a_ready_node() -> None:
    plan = felix.dataplane(MASTER, PUBLIC, [LO, NIC])
    assert plan.settings == WHATEVER_THE_ADDRESS
    (line,) = plan.log
    stamp, _, rest = line.partition(" [WARNING]")
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}", stamp)
    assert rest == (
        "[1] felix/vxlan_mgr.go 496: Failed configure VXLAN tunnel device, retrying... "
        "error=Unable to find parent interface with address 54.64.9.64"
    )
    assert plan.health == {"/liveness": 200, "/readiness": 200}


@pytest.mark.parametrize(
    ("links", "parent"),
    [
        pytest.param([link("lo", 65536, "127.0.0.1", "54.64.9.64"), NIC], "lo", id="loopback"),
        pytest.param([LO, NIC, link("ifb0", 1500, "54.64.9.64")], "ifb0", id="any-kind-of-link"),
        pytest.param([link("eth1", 9001, "54.64.9.64"), ALIASED], "eth1", id="the-first-of-several"),
    ],
)
def test_the_parent_is_the_first_link_that_has_the_address(links: list[dict[str, Any]], parent: str) -> None:
    assert tunnel_lines("54.64.9.64", parent)[0] in felix.dataplane(MASTER, PUBLIC, links).settings.ip


@pytest.mark.parametrize(
    ("links", "mtu"),
    [
        pytest.param([LO, ALIASED], 8951, id="one-nic"),
        pytest.param([LO, ALIASED, link("ens5", 1460)], 1410, id="the-smallest-nic"),
        pytest.param([LO, ALIASED, link("docker0", 576), link("cali1", 576)], 8951, id="only-nics"),
    ],
)
def test_the_mtu_is_the_smallest_nic_s_less_what_vxlan_takes(links: list[dict[str, Any]], mtu: int) -> None:
    assert f"link set vxlan.calico mtu {mtu}" in felix.dataplane(MASTER, PUBLIC, links).settings.ip


def test_a_public_address_is_in_nobody_s_subnet_so_every_peer_gets_a_tunnel() -> None:
    single = Scenario.load("single-vxlan")
    plan = felix.dataplane(single.nodes[0], single, [LO, ALIASED])
    assert [line for line in plan.settings.ip if line.startswith("route add 10.")] == [
        "route add 10.244.124.0/24 via 10.244.124.0 dev vxlan.calico onlink"
    ]


# ---------------------------------------------------------------------- on a real kernel

ClusterOf = Callable[[str | Scenario], LabCluster]

NEWER_WORDS = r" allmulti \d+ minmtu \d+ maxmtu \d+| (tso_max_size|tso_max_segs|gro_max_size) \d+"
"""What later versions of ip print besides."""


def words(text: str) -> str:
    """A link in the words of the document's ip: without its number and MAC, and with what it calls ttl 0."""
    one_line = " ".join(text.split())
    without = re.sub(NEWER_WORDS, "", one_line).replace("ttl auto", "ttl inherit")
    return re.sub(r"^\d+: |(?<=link/ether )\S+", "", without)


@pytest.mark.lab
@pytest.mark.parametrize(
    ("node", "fixture"),
    [(MASTER, "document-ip-d-link-node1.txt"), (WORKER, "document-ip-d-link-node2.txt")],
    ids=["aws", "gcp"],
)
def test_the_device_is_the_document_s(cluster_of: ClusterOf, node: Any, fixture: str) -> None:
    shown = cluster_of(PUBLIC).run(node.name, "ip -d link show vxlan.calico", 10).stdout
    assert words(shown) == words((DOCUMENT / fixture).read_text(encoding="utf-8"))


@pytest.mark.lab
@pytest.mark.parametrize(
    ("line", "shown"),
    [
        pytest.param(
            "ip neigh show dev vxlan.calico", "10.244.124.0 lladdr 66:ec:be:c5:a8:a3 PERMANENT", id="neighbour"
        ),
        pytest.param(
            "bridge fdb show dev vxlan.calico", "66:ec:be:c5:a8:a3 dst 35.189.140.156 self permanent", id="fdb"
        ),
        pytest.param(
            "ip route show dev vxlan.calico", "10.244.124.0/24 via 10.244.124.0 onlink", id="route-of-the-peer"
        ),
        pytest.param("ip route show type blackhole", "blackhole 10.244.122.0/24 proto 80", id="own-block"),
        pytest.param("cat /run/log/calico-node.log", "", id="nothing-to-warn-of"),
    ],
)
def test_what_leads_to_the_peer_is_the_document_s(cluster_of: ClusterOf, line: str, shown: str) -> None:
    lines = cluster_of(PUBLIC).run(MASTER.name, line, 10).stdout.splitlines()
    assert " ".join(" ".join(lines).split()) == shown


@pytest.mark.lab
def test_without_an_alias_the_node_is_ready_and_only_its_log_and_the_missing_device_tell(
    cluster_of: ClusterOf,
) -> None:
    def on_node(line: str) -> str:
        result = cluster_of(NO_ALIAS).run(MASTER.name, line, 10)
        return result.stdout + result.stderr

    assert on_node("ip link show vxlan.calico") == 'Device "vxlan.calico" does not exist.\n'
    assert on_node("curl -s -o /dev/null -w '%{http_code}' http://localhost:9099/readiness") == "200"
    assert on_node("grep -c 'Unable to find parent interface with address 54.64.9.64$' /run/log/calico-node.log") == (
        "1\n"
    )
