"""What shows a cause: packets at both ends, and what the fabric between them dropped."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator

import pandas as pd

from ..tables import Tables, evidence, rows
from .findings import Finding, rule
from .shared import file_of, pass_or_fail, skip, tunnel_pairs

__all__ = ["dropped_probes"]


@rule("public-source")
def public_source(tables: Tables) -> Iterator[Finding]:
    """A ping between nodes that leaves with the tunnel's source, beside one that leaves with the NIC's own."""
    for probe in tables.where("pings", via="public-source"):
        plain = tables.where("pings", source=probe.source, target=probe.target, via="public")
        values = {
            "target": probe.target,
            "detail": probe.detail,
            "received": probe.received,
            "transmitted": probe.transmitted,
        }
        places = (probe.file if pd.isna(probe.line) else evidence(probe), *map(evidence, plain))
        if probe.outcome == "failed":
            yield Finding(probe.source, "cannot-send", values, places)
        elif probe.outcome == "replies":
            yield Finding(probe.source, "pass", values, places)
        else:
            outcomes = {ping.outcome for ping in plain}
            case = "fail" if "replies" in outcomes else "fail-both" if "no_replies" in outcomes else "fail-alone"
            yield Finding(probe.source, case, values, places)


@rule("wire")
def wire(tables: Tables) -> Iterator[Finding]:
    """What left one NIC for a peer, and what of it came in at the peer's."""
    for node, peer, device in tunnel_pairs(tables):
        if isinstance(device, Finding):
            continue
        unread = [place for place in (node.name, peer.name) if tables.unread(place, "tcpdump")]
        if unread:
            yield skip(node.name, tables, "tcpdump", at=unread[0])
            continue
        outgoing = [
            packet
            for address in (peer.public_ip, peer.private_ip)
            for packet in tables.where("packets", node=node.name, direction="Out", dst_ip=address)
        ]
        # BGP's own packets stand in for the tunnel's only as long as it has sent none.
        protos = {packet.proto for packet in outgoing}
        protos -= {"tcp"} if len(protos) > 1 else set()
        outgoing = [packet for packet in outgoing if packet.proto in protos]
        incoming = [
            packet
            for address in (node.public_ip, node.private_ip)
            for packet in tables.where("packets", node=peer.name, direction="In", src_ip=address)
            if packet.proto in protos
        ]
        values = {
            "peer": peer.name,
            "out": len(outgoing),
            "in": len(incoming),
            "sources": ", ".join(sorted({packet.src_ip for packet in outgoing})),
        }
        places = tuple(map(evidence, [*outgoing[:1], *incoming[:1]]))
        if not outgoing:
            yield Finding(node.name, "silent", values, (file_of(tables, node.name, "tcpdump"),))
        else:
            arrived = bool(incoming)
            missing = () if arrived else (file_of(tables, peer.name, "tcpdump"),)
            command = "" if arrived else f"tcpdump -ni {peer.nic} host {node.public_ip}  # on {peer.name}"
            yield Finding(node.name, pass_or_fail(arrived), values, (*places, *missing), command)


@rule("fabric-drops")
def fabric_drops(tables: Tables) -> Iterator[Finding]:
    """What the lab's fabric says that it dropped. A real cloud does not tell.

    Probes that were sent to be dropped (from the public source, or to a private address) are taken off first.
    """
    rules = tables.fabric_iptables
    for drop in rows(rules[rules["comment"].notna() & (rules["target"] == "DROP") & (rules["packets"] > 0)]):
        name, _, node = drop.comment.partition(" ")
        own = dropped_probes(tables, name, node, drop.dst)
        values = {
            "packets": int(drop.packets),
            "probes": own,
            "router": drop.node,
            "subject": node or (drop.dst if isinstance(drop.dst, str) else drop.node),
            "protocol": drop.proto,
        }
        case = f"fail-{name}" if drop.packets > own else "pass-only-probes"
        yield Finding(node or drop.node, case, values, (evidence(drop),))


def dropped_probes(tables: Tables, drop: str, node: str, network: str) -> int:
    """How many packets of a drop are pings that were sent to be dropped."""
    lost = tables.pings[tables.pings["outcome"] == "no_replies"]
    if drop == "blocked-protocol":
        return 0  # no ping is of a protocol that a cloud blocks
    if drop == "no-mapping":
        return 0  # only a source that no check stopped: no probe is sent to see that
    if drop == "source-check":
        ours = (lost["via"] == "public-source") & (lost["source"] == node)
    else:
        ours = (lost["via"] == "private") & lost["address"].map(
            lambda address: ipaddress.ip_address(address) in ipaddress.ip_network(network)
        ).astype(bool)
    return int(lost.loc[ours, "transmitted"].sum())
