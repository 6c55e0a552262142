"""Routes: whether a packet for a peer's pods goes into the tunnel, and what it looks like where it does not."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from typing import Any

from ..clouds import CLOUDS
from ..forwarding import shown_route
from ..tables import Tables, evidence
from .findings import Finding, rule
from .shared import (
    direct_routes,
    file_of,
    first_pod,
    nodes_of,
    pass_or_fail,
    route_of,
    skip,
    tunnel_ip,
    tunnel_pairs,
)


@rule("route-to-block")
def route_to_block(tables: Tables) -> Iterator[Finding]:
    """Every peer's block is routed into the tunnel device, or by CrossSubnet straight to a peer in the same subnet."""
    for node, peer, device in tunnel_pairs(tables):
        if isinstance(device, Finding):
            yield device
            continue
        if tables.unread(node.name, "ip-route"):
            yield _by_route(tables, node, peer, device)
            continue
        address = first_pod(tables, peer.name)
        route, gateway = route_of(tables, node.name, address), tunnel_ip(tables, peer.name, device.name)
        values = {"block": peer.block, "peer": peer.name, "device": device.name, "route": shown_route(route)}
        if route in direct_routes(tables, node, peer):
            case = "pass-direct"
        elif route is None or route.destination == "default":
            case = "fail"
        elif route.type != "unicast":
            case = "fail-blackhole"
        elif route.dev != device.name:
            case = "fail-elsewhere"
        elif device.kind == "vxlan" and gateway is not None and route.via != gateway:
            case = "fail-gateway"
            values["gateway"] = gateway
        else:
            case = "pass"
        places = (file_of(tables, node.name, "ip-route") if case == "fail" else evidence(route),)
        yield Finding(node.name, case, values, places, "" if case.startswith("pass") else f"ip route get {address}")


def _by_route(tables: Tables, node: Any, peer: Any, device: Any) -> Finding:
    """What the older ``route`` says, which knows neither other tables nor why a route drops packets."""
    network = ipaddress.ip_network(peer.block)
    for entry in tables.where("route", node=node.name, destination=str(network.network_address), iface=device.name):
        if entry.genmask == str(network.netmask):
            values = {"block": peer.block, "peer": peer.name, "device": device.name}
            return Finding(node.name, "pass", values, (evidence(entry),))
    return skip(node.name, tables, "ip-route")


@rule("block-owner", modes=frozenset({"vxlan", "bird"}))
def block_owner(tables: Tables) -> Iterator[Finding]:
    """A node throws away what is for no pod of its own block, and its pods are of that block."""
    for node in nodes_of(tables):
        if tables.unread(node.name, "ip-route"):
            yield skip(node.name, tables, "ip-route")
            continue
        own = [
            route
            for route in tables.where("routes", node=node.name, destination=node.block)
            if route.type == "blackhole"
        ]
        strange = [
            pod.name
            for pod in tables.where("pods", node=node.name)
            if ipaddress.ip_address(pod.address) not in ipaddress.ip_network(node.block)
        ]
        values = {"block": node.block, "pods": ", ".join(strange)}
        case = "fail-pods" if strange else "pass" if own else "fail"
        places = tuple(map(evidence, own[:1])) or (file_of(tables, node.name, "ip-route"),)
        yield Finding(node.name, case, values, places, "calicoctl ipam show --show-blocks" if case != "pass" else "")


@rule("pod-source")
def pod_source(tables: Tables) -> Iterator[Finding]:
    """What CrossSubnet sends to a peer in the same subnet has pods' addresses, which no cloud gave a NIC.

    Calico's documentation wants source/destination checks off for that (reference/public-cloud/aws).
    """
    for node in nodes_of(tables):
        for peer in nodes_of(tables):
            cloud = CLOUDS[node.cloud]
            values = {"peer": peer.name, "block": peer.block, "nic": node.nic, "cloud": cloud.title}
            for route in direct_routes(tables, node, peer)[:1]:
                result = pass_or_fail(not tables.scenario.checks_source(node.site))
                command = f"tcpdump -ni {node.nic} net {peer.block}"
                yield Finding(node.name, result, values, (evidence(route),), command)
