"""Routes: whether a packet for a peer's pods goes into the tunnel, and what it looks like where it does not."""

from __future__ import annotations

from collections.abc import Iterator

from ..clouds import CLOUDS
from ..tables import Tables, evidence
from .findings import Finding, rule
from .shared import direct_routes, file_of, first_pod, nodes_of, pass_or_fail, skip, tunnel_pairs


@rule("route-to-block")
def route_to_block(tables: Tables) -> Iterator[Finding]:
    """Every peer's block is routed into the tunnel device, or by CrossSubnet straight to a peer in the same subnet."""
    for node, peer, device in tunnel_pairs(tables):
        if isinstance(device, Finding):
            yield device
            continue
        if tables.unread(node.name, "ip-route"):
            yield skip(node.name, tables, "ip-route")
            continue
        routes = tables.where("routes", node=node.name, destination=peer.block)
        direct = direct_routes(tables, node, peer)
        good = direct or [route for route in routes if route.dev == device.name and route.type == "unicast"]
        values = {"block": peer.block, "peer": peer.name, "device": device.name}
        command = f"ip route get {first_pod(tables, peer.name)}"
        if not good:
            places = tuple(map(evidence, routes)) or (file_of(tables, node.name, "ip-route"),)
            yield Finding(node.name, "fail", values, places, command)
        else:
            case = "pass-direct" if direct else "pass"
            yield Finding(node.name, case, values, (evidence(good[0]),))


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
                result = pass_or_fail(not cloud.source_check)
                command = f"tcpdump -ni {node.nic} net {peer.block}"
                yield Finding(node.name, result, values, (evidence(route),), command)
