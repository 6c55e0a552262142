"""What rules share: the pairs that they look at, the findings that many of them have, and what tables say of a node."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from typing import Any, Literal

import pandas as pd

from .. import forwarding
from ..calico import goes_direct, tunnel
from ..commands import by_hand
from ..tables import Tables, evidence, rows
from .findings import Finding

__all__ = [
    "bare",
    "counters_of",
    "destination_rewritten",
    "detail_of",
    "device_of",
    "direct_routes",
    "established",
    "fdb_pairs",
    "file_of",
    "first_pod",
    "line_of",
    "no_peer_device",
    "nodes_of",
    "not_tracked",
    "pass_or_fail",
    "reachable",
    "route_of",
    "said",
    "seen_from",
    "skip",
    "source_rewritten",
    "tunnel_ip",
    "tunnel_pairs",
    "tunnels",
    "without_details",
]


def pass_or_fail(good: bool) -> Literal["pass", "fail"]:
    """The case of a rule that has one sentence for each."""
    return "pass" if good else "fail"


def nodes_of(tables: Tables) -> Iterator[Any]:
    """The scenario's nodes, in its order."""
    yield from rows(tables.nodes)


def file_of(tables: Tables, node: str, command: str) -> str:
    """Where a capture's text lies in the recording."""
    return f"captures/{node}/{command}.txt"


def skip(node: str, tables: Tables, command: str, *, at: str | None = None) -> Finding:
    """No data: say which capture would decide, and of which node where it is another's."""
    values = {"command": command, "status": tables.unread(at or node, command) or "empty"}
    return Finding(node, "no-data", values, (), line_of(tables, command), ((at or node, command),))


def line_of(tables: Tables, command: str) -> str:
    """The line to type for a capture: as it was recorded, else as it would be. Who imports may have asked for less."""
    imported = "imported" in tables.recording.manifest["facts"]
    asked = [] if imported else tables.where("captures", command=command)
    return str(asked[0].run) if asked else by_hand(command, tables.scenario)


def no_peer_device(node: Any, peer: Any, device: Any, tables: Tables) -> Finding:
    """The peer has no tunnel device, or it is not known whether it has."""
    if tables.unread(peer.name, "ip-link"):
        return skip(node.name, tables, "ip-link", at=peer.name)
    return Finding(node.name, "no-peer-device", {"peer": peer.name, "device": device.name})


def device_of(tables: Tables, node: str) -> Any:
    """The node's tunnel device, or None."""
    name = tunnel(tables.scenario.cni).device
    return next(iter(tables.where("links", node=node, name=name)), None)


def detail_of(device: Any) -> str:
    """Where a device's second line (its tunnel's parameters) stands."""
    return evidence(device, device.detail_line)


def without_details(node: str, device: Any, tables: Tables, *, at: str | None = None) -> Finding | None:
    """The finding that a device was shown without ``-d``, so that it is not known what its tunnel is like; or None."""
    if not pd.isna(device.detail_line):
        return None
    wants = ((at or node, "ip-link"),)
    return Finding(node, "no-details", {"device": device.name}, (evidence(device),), line_of(tables, "ip-link"), wants)


def tunnels(tables: Tables, *, details: bool = False) -> Iterator[tuple[Any, Any]]:
    """Every node with its tunnel device, or with the finding that there is nothing to look at.

    Parameters
    ----------
    tables : Tables
    details : bool
        Whether the rule looks at what ``ip -d`` alone shows: a device without it gives `without_details`.
    """
    for node in nodes_of(tables):
        device = device_of(tables, node.name)
        if tables.unread(node.name, "ip-link"):
            yield node, skip(node.name, tables, "ip-link")
        elif device is None:
            yield node, Finding(node.name, "no-device", {"device": tunnel(tables.scenario.cni).device})
        else:
            yield node, (details and without_details(node.name, device, tables)) or device


def tunnel_pairs(tables: Tables, *, details: bool = False) -> Iterator[tuple[Any, Any, Any]]:
    """Every node with its device (as `tunnels` has it) and every peer."""
    for node, device in tunnels(tables, details=details):
        for peer in nodes_of(tables):
            if peer.name != node.name:
                yield node, peer, device


def fdb_pairs(tables: Tables) -> Iterator[tuple[Any, Any, Any]]:
    """Every node and peer with the FDB entries that carry the peer's traffic: those of the peer's own MAC."""
    for node, peer, device in tunnel_pairs(tables):
        if isinstance(device, Finding):
            yield node, peer, device
            continue
        if tables.unread(node.name, "bridge-fdb"):
            yield node, peer, skip(node.name, tables, "bridge-fdb")
            continue
        theirs = device_of(tables, peer.name)
        if theirs is None:
            yield node, peer, no_peer_device(node, peer, device, tables)
            continue
        entries = tables.where("fdb", node=node.name, dev=device.name, mac=theirs.mac)
        if entries:
            yield node, peer, entries
        else:
            yield node, peer, Finding(node.name, "no-entry", {"peer": peer.name, "device": device.name})


def tunnel_ip(tables: Tables, node: str, device: str) -> str | None:
    """The address on a node's tunnel device, or None."""
    found = tables.where("addresses", node=node, ifname=device, family="inet")
    return found[0].address if found else None


def direct_routes(tables: Tables, node: Any, peer: Any) -> list[Any]:
    """Routes by which CrossSubnet sends to the peer's pods without a tunnel, where both are in one subnet."""
    if not goes_direct(tables.scenario.cni, node.node_address, peer.node_address):
        return []
    return tables.where("routes", node=node.name, destination=peer.block, dev=node.nic, via=bare(peer))


def route_of(tables: Tables, node: str, address: str) -> Any:
    """The route of the main table that a packet to this address takes, or None."""
    return forwarding.best_route(tables.where("routes", node=node), address)


def first_pod(tables: Tables, node: str) -> str:
    """Address of the node's first pod; where no pod is known, the one that a first pod of the block would get."""
    pods = tables.where("pods", node=node)
    if pods:
        return str(pods[0].address)
    (own,) = tables.where("nodes", name=node)
    return str(ipaddress.ip_network(own.block)[1])


def counters_of(tables: Tables, node: str, device: str) -> Any:
    """What a device counted during the probes, or None."""
    return next(iter(tables.where("counters", node=node, dev=device)), None)


def reachable(tables: Tables, node: Any, peer: Any, address: str, places: tuple[str, ...]) -> Finding:
    """Whether an address of the peer answered the ping that left with this node's own private address."""
    sent = [
        ping
        for ping in tables.where("pings", source=node.name, address=address)
        if ping.via in ("public", "private") and ping.outcome != "failed"
    ]
    values = {"peer": peer.name, "dst": address}
    if not sent:
        return Finding(node.name, "skip", values, places, f"ping -c 3 {address}")
    ping = sent[0]
    answered = ping.outcome == "replies"
    values |= {"received": ping.received, "transmitted": ping.transmitted}
    private = ipaddress.ip_address(address).is_private
    case = "pass" if answered else "fail-private" if private and node.site != peer.site else "fail"
    command = "" if answered else f"ip route get {address}"
    return Finding(node.name, case, values, (*places, evidence(ping)), command)


def bare(node: Any) -> str:
    """The node's address as its annotation has it, without the mask."""
    return str(node.node_address).split("/")[0]


def established(session: Any) -> bool:
    """Whether a BGP session is up, as birdcl says it."""
    return isinstance(session.info, str) and session.info.split(" ")[0] == "Established"


def said(tables: Tables, node: str, word: str) -> list[str]:
    """Where BIRD's log first has that word."""
    return [evidence(line) for line in tables.where("bird_log", node=node) if word in line.message][:1]


def source_rewritten(tables: Tables, node: Any, source: str, protocol: str, port: int) -> Any:
    """The SNAT rule that gives what leaves with this source the NIC's own address, or None."""
    return forwarding.source_rewritten(tables.where("iptables", node=node.name), node, source, protocol, port)


def destination_rewritten(tables: Tables, node: Any, destination: str, protocol: str, port: int) -> Any:
    """The DNAT rule for what the node itself sends to this address, or None."""
    return forwarding.destination_rewritten(tables.where("iptables", node=node.name), node, destination, protocol, port)


def not_tracked(tables: Tables, node: Any, source: str, protocol: str, port: int) -> Any:
    """The rule that keeps what leaves with this source from connection tracking, and so from any NAT; or None."""
    return forwarding.not_tracked(tables.where("iptables", node=node.name), node, source, protocol, port)


def seen_from(tables: Tables, node: Any, source: str) -> list[str]:
    """Where the outer source shows on the wire."""
    seen = tables.where("packets", node=node.name, direction="Out", src_ip=source)
    return [evidence(packet) for packet in seen[:1]]
