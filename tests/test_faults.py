"""Faults put by hand into running labs whose pods reach each other: the verdict names each by its first cause.

Each pod's probe is followed too: it ends where it was predicted to, but for what no node's settings show.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from calico_lab.calico import TUNNELS, veth_name, vtep_mac
from calico_lab.capture import record
from calico_lab.checks import check, verdict
from calico_lab.cluster.lab import LabCluster
from calico_lab.journey import differs, end, journey
from calico_lab.lab import felix
from calico_lab.lab.settings import Settings
from calico_lab.scenario import Node, Scenario
from calico_lab.tables import Tables

A, G = "c-1-h43jk", "w-1-36384"
FEW = {"internet.latency_ms": 0, "probes.ping_count": 2, "probes.ping_timeout_s": 0.5}
A_POD, G_POD = f"probe-1-{A}", f"probe-1-{G}"
A_VETH, G_VETH = (veth_name("default", pod) for pod in (A_POD, G_POD))
A_MAC, G_MAC = vtep_mac(A), vtep_mac(G)
OTHER_MAC = "66:09:ac:35:3b:2d"
NOBODY = "192.0.2.77"

SINGLE, SNAT, CANAL = "single-vxlan-private", "cross-vxlan", "cross-canal"
_SCENARIOS = {name: Scenario.load(name, FEW) for name in (SINGLE, SNAT, CANAL)}
_NODES = {name: {node.name: node for node in scenario.nodes} for name, scenario in _SCENARIOS.items()}
A_PRIVATE, G_PRIVATE = (_NODES[SINGLE][node].private_ip for node in (A, G))
A_TUNNEL, G_TUNNEL = (_NODES[SINGLE][node].tunnel_ip for node in (A, G))
A_PUBLIC, G_PUBLIC = (_NODES[SNAT][node].public_ip for node in (A, G))
A_BLOCK, G_BLOCK = (_NODES[SINGLE][node].block for node in (A, G))
A_POD_IP, G_POD_IP = (_NODES[SINGLE][node].pods[0].address for node in (A, G))
MIDDLE = f"fabric.{_NODES[SINGLE][A].site}"
ROUTE = f"ip route replace {G_BLOCK} via {G_TUNNEL} dev vxlan.calico onlink"


class Lab:
    """A running cluster whose pods reach each other, to be hurt and healed."""

    def __init__(self, name: str) -> None:
        self.scenario = _SCENARIOS[name]
        self.cluster = LabCluster(self.scenario)
        if name == SNAT:
            # What connection tracking remembers must not outlast the rule that it remembers.
            short = (
                "sysctl -qw net.netfilter.nf_conntrack_udp_timeout=1 net.netfilter.nf_conntrack_udp_timeout_stream=1"
            )
            for node in self.scenario.nodes:
                self.run(node.name, short)
                self.run(node.name, f"iptables -t nat -I POSTROUTING {snat(node)}")

    def run(self, where: str, line: str) -> None:
        done = self.cluster.run(where, line, 10)
        assert done.code == 0, f"{where}: {line}: {done.stderr}"

    def tunnel_again(self, where: str, old: str = "", new: str = "") -> None:
        """Make the node's device again as Felix would, with one word of it changed."""
        node = next(node for node in self.scenario.nodes if node.name == where)
        self.cluster.host.run(where, ["ip", "link", "del", "vxlan.calico"])
        links = json.loads(self.cluster.host.do(where, ["ip", "-json", "addr"]))
        plan = felix.dataplane(node, self.scenario, links).settings
        lines = [line.replace(old, new) if old else line for line in plan.ip if "blackhole" not in line]
        self.cluster.host.apply(where, Settings(ip=lines, bridge=plan.bridge))

    def tables(self, folder: Path) -> Tables:
        """What is recorded now; a new lab's routers have dropped nothing before."""
        for router in self.cluster.fabric:
            self.run(router, "iptables -t raw -Z && iptables -Z")
        return Tables(record(self.cluster, self.scenario, folder))

    def cause(self, folder: Path) -> str | None:
        return cause_of(self.tables(folder))


def cause_of(tables: Tables) -> str | None:
    return verdict(check(tables), tables).cause


@dataclass(frozen=True)
class Fault:
    """What is done to a lab, how it is undone, and the cause that must be found."""

    lab: str
    cause: str
    do: tuple[tuple[str, str], ...]
    undo: tuple[tuple[str, str], ...] = ()
    device: tuple[str, str, str] | None = None


def snat(node: Node) -> str:
    return f"-s {node.public_ip}/32 -p udp --dport 4789 -j SNAT --to-source {node.private_ip}"


def on(where: str, do: str, undo: str) -> dict[str, tuple[tuple[str, str], ...]]:
    return {"do": ((where, do),), "undo": ((where, undo),)}


def rule(where: str, line: str) -> dict[str, tuple[tuple[str, str], ...]]:
    """An iptables rule at the head of its chain."""
    return on(where, f"iptables {line.replace('-X', '-I')}", f"iptables {line.replace('-X', '-D')}")


def fdb(dst: str, mac: str = G_MAC, device: str = "vxlan.calico") -> str:
    return f"bridge fdb replace {mac} dev {device} dst {dst} self permanent"


def neigh(mac: str) -> str:
    return f"ip neigh replace {G_TUNNEL} lladdr {mac} dev vxlan.calico nud permanent"


NOTRACK = "-t raw -X OUTPUT -p udp --dport 4789 -j CT --notrack"
FAULTS = {
    "fdb-dst-of-nobody": Fault(SINGLE, "fdb-destination", **on(A, fdb(NOBODY), fdb(G_PRIVATE))),
    "fdb-mac-swapped": Fault(
        SINGLE,
        "mac-agreement",
        **on(
            A,
            f"bridge fdb del {G_MAC} dev vxlan.calico dst {G_PRIVATE} && {fdb(G_PRIVATE, OTHER_MAC)}",
            f"bridge fdb del {OTHER_MAC} dev vxlan.calico dst {G_PRIVATE} && {fdb(G_PRIVATE)}",
        ),
    ),
    "device-mac-changed": Fault(
        SINGLE,
        "mac-agreement",
        **on(
            G,
            f"ip link set vxlan.calico address {OTHER_MAC}",
            f"ip link set vxlan.calico address {G_MAC}",
        ),
    ),
    "neighbour-mac-swapped": Fault(SINGLE, "mac-agreement", **on(A, neigh(OTHER_MAC), neigh(G_MAC))),
    "neighbour-deleted": Fault(
        SINGLE, "mac-agreement", **on(A, f"ip neigh del {G_TUNNEL} dev vxlan.calico", neigh(G_MAC))
    ),
    "vni-changed": Fault(SINGLE, "vni-port", (), device=(G, "id 4096", "id 4097")),
    "port-changed": Fault(SINGLE, "vni-port", (), device=(G, "dstport 4789", "dstport 8472")),
    "device-with-a-wrong-local": Fault(
        SINGLE, "local-address", (), device=(A, f"local {A_PRIVATE}", f"local {NOBODY}")
    ),
    "device-down": Fault(SINGLE, "device-present", ((A, "ip link set vxlan.calico down"),), device=(A, "", "")),
    "route-removed": Fault(SINGLE, "route-to-block", **on(A, f"ip route del {G_BLOCK}", ROUTE)),
    "route-by-the-nic": Fault(
        SINGLE, "route-to-block", **on(A, f"ip route replace {G_BLOCK} dev {_NODES[SINGLE][A].nic}", ROUTE)
    ),
    "route-shadowed": Fault(
        SINGLE,
        "route-to-block",
        **on(A, f"ip route add blackhole {G_POD_IP}/32", f"ip route del blackhole {G_POD_IP}/32"),
    ),
    "peers-block-thrown-away": Fault(
        SINGLE,
        "route-to-block",
        **on(A, f"ip route del {G_BLOCK} && ip route add blackhole {G_BLOCK}", f"ip route del {G_BLOCK} && {ROUTE}"),
    ),
    "pods-route-removed": Fault(
        SINGLE, "pod-route", **on(G, f"ip route del {G_POD_IP}", f"ip route add {G_POD_IP} dev {G_VETH} scope link")
    ),
    "pods-veth-down": Fault(
        SINGLE,
        "pod-route",
        **on(
            G,
            f"ip link set {G_VETH} down",
            f"ip link set {G_VETH} up && ip route add {G_POD_IP} dev {G_VETH} scope link",
        ),
    ),
    "allow-list-entry-missing": Fault(
        SINGLE,
        "allow-list",
        **on(
            G,
            f"ipset del cali40all-vxlan-net {A_PRIVATE}",
            f"ipset add cali40all-vxlan-net {A_PRIVATE}",
        ),
    ),
    "blocked-at-the-node": Fault(SINGLE, "node-filter", **rule(G, "-X INPUT -p udp --dport 4789 -j DROP")),
    "forwarding-blocked-at-the-node": Fault(SINGLE, "node-filter", **rule(G, f"-X FORWARD -o {G_VETH} -j DROP")),
    "one-direction-blocked-on-the-way": Fault(
        SINGLE, "wire", **rule(MIDDLE, f"-X FORWARD -s {A_PRIVATE} -p udp --dport 4789 -j DROP")
    ),
    "mtu-lowered-on-a-middle-link": Fault(
        SINGLE,
        "path-mtu",
        **on(MIDDLE, "ip link set port1 mtu 1400", f"ip link set port1 mtu {_NODES[SINGLE][A].mtu_bytes}"),
    ),
    "nics-address-twice": Fault(
        SINGLE,
        "duplicate-address",
        **on(
            G,
            f"ip addr add {A_PRIVATE}/32 dev {_NODES[SINGLE][G].nic}",
            f"ip addr del {A_PRIVATE}/32 dev {_NODES[SINGLE][G].nic}",
        ),
    ),
    "tunnel-address-twice": Fault(
        SINGLE,
        "duplicate-address",
        **on(
            A,
            f"ip addr add {G_TUNNEL}/32 dev vxlan.calico",
            f"ip addr del {G_TUNNEL}/32 dev vxlan.calico",
        ),
    ),
    "forwarding-off": Fault(
        SINGLE, "ip-forward", **on(G, "sysctl -qw net.ipv4.ip_forward=0", "sysctl -qw net.ipv4.ip_forward=1")
    ),
    "way-back-by-the-nic": Fault(
        SINGLE,
        "rp-filter",
        **on(G, f"ip route add {A_TUNNEL}/32 dev {_NODES[SINGLE][G].nic}", f"ip route del {A_TUNNEL}/32"),
    ),
    "no-proxy-arp": Fault(
        SINGLE,
        "proxy-arp",
        do=(
            (A, f"sysctl -qw net.ipv4.conf.{A_VETH}.proxy_arp=0"),
            (A, f"ip netns exec {A_POD} ip neigh flush all"),
        ),
        undo=((A, f"sysctl -qw net.ipv4.conf.{A_VETH}.proxy_arp=1"),),
    ),
    "snat-removed": Fault(
        SNAT,
        "outer-source",
        **on(
            A,
            f"iptables -t nat -D POSTROUTING {snat(_NODES[SNAT][A])} && sleep 1.5",
            f"iptables -t nat -I POSTROUTING {snat(_NODES[SNAT][A])}",
        ),
    ),
    "notrack-added": Fault(SNAT, "outer-source", **rule(A, NOTRACK)),
    "alias-removed": Fault(
        SNAT,
        "local-address",
        **on(
            G,
            f"ip addr del {G_PUBLIC}/32 dev {_NODES[SNAT][G].nic}",
            f"ip addr add {G_PUBLIC}/32 dev {_NODES[SNAT][G].nic}",
        ),
    ),
    "allow-list-without-the-public-address": Fault(
        SNAT,
        "allow-list",
        **on(
            G,
            f"ipset del cali40all-vxlan-net {A_PUBLIC}",
            f"ipset add cali40all-vxlan-net {A_PUBLIC}",
        ),
    ),
    "flannel-blocked-at-the-node": Fault(
        CANAL, "node-filter", **rule(G, f"-X INPUT -p udp --dport {TUNNELS['canal'].port} -j DROP")
    ),
    "flannel-blocked-on-the-way": Fault(
        CANAL, "wire", **rule("fabric.internet", f"-X FORWARD -s {A_PUBLIC} -p udp --dport 8472 -j DROP")
    ),
    "flannels-route-removed": Fault(
        CANAL,
        "route-to-block",
        **on(
            A,
            f"ip route del {_NODES[CANAL][G].block}",
            f"ip route add {_NODES[CANAL][G].block} via {_NODES[CANAL][G].tunnel_ip} dev flannel.1 onlink",
        ),
    ),
}


@pytest.fixture(scope="module")
def labs() -> Iterator[Callable[[str], Lab]]:
    """The lab of that name, brought up when first asked for."""
    running: dict[str, Lab] = {}
    with ExitStack() as stack:

        def lab(name: str) -> Lab:
            if name not in running:
                running[name] = Lab(name)
                stack.enter_context(closing(running[name].cluster))
            return running[name]

        yield lab


@pytest.mark.parametrize("name", [SINGLE, SNAT, CANAL])
def test_there_is_no_cause_before_anything_is_broken(labs: Callable[[str], Lab], name: str, tmp_path: Path) -> None:
    assert labs(name).cause(tmp_path / "recording") is None


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_is_named_by_its_first_cause(labs: Callable[[str], Lab], name: str, tmp_path: Path) -> None:
    fault = FAULTS[name]
    lab = labs(fault.lab)
    try:
        if fault.device and fault.device[1]:
            lab.tunnel_again(*fault.device)
        for where, line in fault.do:
            lab.run(where, line)
        tables = lab.tables(tmp_path / "recording")
    finally:
        for where, line in fault.undo:
            lab.run(where, line)
        if fault.device:
            lab.tunnel_again(fault.device[0])
    assert cause_of(tables) == fault.cause
    ways = [journey(tables, *pair) for pair in ((A, G), (G, A))]
    assert [differs(way) for way in ways] == [fault.cause == "wire"] * 2
    lost = [way for way in ways if end(way, "measured") is not None]
    if fault.cause == "wire":
        assert [end(way, "measured").hop for way in lost] == ["peer-nic"] * 2
    elif lost:
        assert fault.cause in {way["cause"].dropna().iloc[0] for way in lost}
    else:
        # What hurts large packets or the nodes' own probes only does not touch this one.
        assert fault.cause in ("path-mtu", "duplicate-address", "rp-filter")


@pytest.mark.parametrize("name", [SINGLE, SNAT, CANAL])
def test_there_is_no_cause_once_all_is_mended(labs: Callable[[str], Lab], name: str, tmp_path: Path) -> None:
    assert labs(name).cause(tmp_path / "recording") is None
