"""Stands in for Felix 3.22: programs a node's kernel as Felix does with backend vxlan or bird.

What Felix does was read in projectcalico/calico v3.22.0 (felix/dataplane/linux/vxlan_mgr.go, felix/routetable,
felix/rules); Felix itself does not run here. Modelled is a node that was annotated before Felix started. Not modelled:
workload policy (pods may send and receive everything) and the resync that puts hand-made changes back within 90 s.

The decision that matters for VXLAN is Felix's own: the tunnel's parent is the first interface that *has the node's
address*, found by looking at the kernel's addresses, not at routes. If none has it there is no device, no tunnel
route, no neighbour and no FDB entry; Felix warns once a second and stays ready.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from ..calico import (
    Tunnel,
    goes_direct,
    node_address,
    node_ip,
    senders,
    tunnel,
    tunnel_rules,
    tunnel_source,
    vtep_mac,
)
from ..scenario import Node, Scenario
from .settings import Settings

__all__ = ["MTU_INTERFACES", "READY", "Dataplane", "dataplane"]

MTU_INTERFACES = re.compile(r"^((en|wl|ww|sl|ib)[opsx].*|(eth|wlan|wwan).*)")
"""Interfaces whose MTU counts (felix/config/config_params.go, MTUIfacePattern)."""

_VXLAN_PROTOCOL = 80  # of Felix's own routes: felix/dataplane/linux/int_dataplane.go, defaultVXLANProto


@dataclass(frozen=True, slots=True)
class Dataplane:
    """What Felix would do on one node: settings for its kernel, lines for its log, statuses of its health endpoint."""

    settings: Settings
    log: tuple[str, ...]
    health: dict[str, int]


def dataplane(node: Node, scenario: Scenario, links: Sequence[dict[str, Any]]) -> Dataplane:
    """Decide as Felix would, from what the node's kernel says.

    Parameters
    ----------
    node : Node
    scenario : Scenario
    links : sequence of dict
        ``ip -json addr`` of the node.
    """
    device = tunnel(scenario.cni)
    settings = Settings(ipset=_ipsets(node, scenario), iptables=_iptables(device), sysctl={"net.ipv4.ip_forward": "1"})
    smallest = min(link["mtu"] for link in links if MTU_INTERFACES.match(link["ifname"]))
    mtu = scenario.cni.veth_mtu or smallest - device.overhead_bytes
    if scenario.cni.backend == "bird":
        _add_ipip(settings, node, links, mtu)
        return Dataplane(settings, (), READY)
    own_ip = tunnel_source(node, scenario.cni)
    settings.ip.append(f"route add blackhole {node.block} proto {_VXLAN_PROTOCOL}")
    parent = next((link["ifname"] for link in links if own_ip in _addresses(link)), None)
    if parent is None:
        warning = (
            "Failed configure VXLAN tunnel device, retrying... "
            f"error=Unable to find parent interface with address {own_ip}"
        )
        return Dataplane(settings, (_log("WARNING", "felix/vxlan_mgr.go 496", warning),), READY)
    _add_vxlan(settings, node, scenario, parent, mtu)
    return Dataplane(settings, (), READY)


def _add_vxlan(settings: Settings, node: Node, scenario: Scenario, parent: str, mtu: int) -> None:
    """The device, and for each peer a route, a neighbour and an FDB entry (vxlan_mgr.go, route_table.go)."""
    device, own_ip = tunnel(scenario.cni), tunnel_source(node, scenario.cni)
    settings.ip += [
        f"link add {device.device} txqueuelen 0 address {vtep_mac(node.name)} "
        f"type vxlan id {device.vni} local {own_ip} dev {parent} dstport {device.port} nolearning",
        *_dressed(device.device, node, mtu),
    ]
    for peer in scenario.peers(node):
        mac, peer_ip = vtep_mac(peer.name), node_ip(peer, scenario.cni)
        settings.ip.append(f"neigh replace {peer.tunnel_ip} lladdr {mac} dev {device.device} nud permanent")
        settings.bridge.append(f"fdb replace {mac} dev {device.device} dst {peer_ip} self permanent")
        if goes_direct(scenario.cni, node_address(node, scenario.cni), peer_ip):
            settings.ip.append(f"route add {peer.block} via {peer_ip} dev {parent} proto {_VXLAN_PROTOCOL}")
        else:
            settings.ip.append(f"route add {peer.block} via {peer.tunnel_ip} dev {device.device} onlink")


def _add_ipip(settings: Settings, node: Node, links: Sequence[dict[str, Any]], mtu: int) -> None:
    """tunl0, without local, remote or parent: routing chooses its outer source (ipip_mgr.go). Routes are BIRD's."""
    if not any(link["ifname"] == "tunl0" for link in links):
        settings.ip.append("link add tunl0 type ipip")
    settings.ip += _dressed("tunl0", node, mtu)


def _dressed(device: str, node: Node, mtu: int) -> list[str]:
    return [
        f"link set {device} mtu {mtu}",
        f"addr add {node.tunnel_ip}/32 dev {device}",
        f"link set {device} up",
    ]


READY = {"/liveness": 200, "/readiness": 200}
"""Felix is ready once it has applied its first state; a missing tunnel device does not change that."""


def _addresses(link: dict[str, Any]) -> set[str]:
    return {address["local"] for address in link["addr_info"] if address["family"] == "inet"}


def _ipsets(node: Node, scenario: Scenario) -> list[str]:
    """Felix's sets: who may send to the tunnel here, and the pools (vxlan_mgr.go, ipip_mgr.go, masq_mgr.go)."""
    allowed, members = senders(node, scenario)
    pool = [str(scenario.cni.ip_pool)]
    return [
        line
        for name, addresses in {allowed: members, "cali40all-ipam-pools": pool, "cali40masq-ipam-pools": pool}.items()
        for line in (f"create {name} hash:net", *(f"add {name} {address}" for address in addresses))
    ]


def _iptables(device: Tunnel) -> dict[str, list[str]]:
    """Felix's static chains as far as they touch the tunnel (felix/rules/static.go, nat.go)."""
    return {
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
            *tunnel_rules(device),
        ],
        "nat": [
            ":cali-POSTROUTING - [0:0]",
            ":cali-nat-outgoing - [0:0]",
            "-I POSTROUTING -j cali-POSTROUTING",
            "-A cali-POSTROUTING -j cali-nat-outgoing",
            f"-A cali-POSTROUTING -o {device.device} -m addrtype ! --src-type LOCAL --limit-iface-out "
            "-m addrtype --src-type LOCAL -j MASQUERADE --random-fully",
            "-A cali-nat-outgoing -m set --match-set cali40masq-ipam-pools src "
            "-m set ! --match-set cali40all-ipam-pools dst -j MASQUERADE --random-fully",
        ],
    }


def _log(level: str, source: str, message: str) -> str:
    """A line as Felix logs it."""
    return f"{datetime.now():%Y-%m-%d %H:%M:%S.%f}"[:-3] + f" [{level}][1] {source}: {message}"
