"""BGP: what a session needs, and IPIP, which carries packets once there is one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ..calico import BIRD_SOCKET
from ..clouds import CLOUDS
from ..tables import Tables, evidence
from .findings import BIRD, Finding, rule
from .shared import (
    bare,
    established,
    file_of,
    nodes_of,
    reachable,
    said,
    seen_from,
    skip,
    source_rewritten,
    tunnel_pairs,
)

IPIP = 4
"""IP-in-IP's protocol number (IANA)."""


@rule("bgp-source", modes=BIRD)
def bgp_source(tables: Tables) -> Iterator[Finding]:
    """The address that BIRD binds its sessions to is on the node, and one that the cloud lets out.

    Calico writes ``source address <node IP>`` for every peer (confd, bird.cfg.template).
    """
    for node in nodes_of(tables):
        own, cloud = bare(node), CLOUDS[node.cloud]
        values = {"own": own, "private": node.private_ip, "cloud": cloud.title}
        if own == node.private_ip:
            yield Finding(node.name, "pass", values, (file_of(tables, node.name, "bird-protocols"),))
            continue
        if tables.unread(node.name, "ip-addr"):
            yield skip(node.name, tables, "ip-addr")
            continue
        if tables.unread(node.name, "iptables-save"):
            yield skip(node.name, tables, "iptables-save")
            continue
        owners = tables.where("addresses", node=node.name, address=own)
        snat = source_rewritten(tables, node, own, "tcp", 179)
        command = f"tcpdump -ni {node.nic} tcp port 179"
        if not owners:
            places = (file_of(tables, node.name, "ip-addr"), *said(tables, node.name, "bind"))
            yield Finding(node.name, "fail-absent", values, places, f"ip addr show to {own}")
        elif snat is not None:
            yield Finding(node.name, "pass-snat", values, (evidence(owners[0]), evidence(snat)))
        elif cloud.nat and tables.scenario.checks_source(node.site):
            places = (evidence(owners[0]), *seen_from(tables, node, own))
            yield Finding(node.name, "fail", values, places, command)
        else:
            yield Finding(node.name, "pass-unchecked", values, (evidence(owners[0]),))


@rule("bgp-reachable", modes=BIRD)
def bgp_reachable(tables: Tables) -> Iterator[Finding]:
    """The peers' BGP addresses answer a ping from this node's own private address."""
    for node in nodes_of(tables):
        for peer in nodes_of(tables):
            if peer.name != node.name:
                yield reachable(tables, node, peer, bare(peer), ())


@rule("bgp-session", modes=BIRD)
def bgp_session(tables: Tables) -> Iterator[Finding]:
    """Every session of the mesh is Established."""
    for node in nodes_of(tables):
        if tables.unread(node.name, "bird-protocols"):
            yield skip(node.name, tables, "bird-protocols")
        for session in tables.where("bgp", node=node.name, proto="BGP"):
            yield _session(tables, node, session)


def _session(tables: Tables, node: Any, session: Any) -> Finding:
    """One session's finding; where it is down, as BIRD and the peer's BIRD explain it."""
    state = session.info if isinstance(session.info, str) else session.state
    told = [line for line in tables.where("bird_log", node=node.name) if line.name == session.name]
    bind = [line for line in told if "Cannot assign requested address" in line.message]
    lost = [line for line in told if "unreachable" in line.message or "No route to host" in line.message]
    peer = next((peer for peer in nodes_of(tables) if bare(peer) == session.peer_ip), None)
    theirs = tables.where("bgp", node=peer.name, proto="BGP", peer_ip=bare(node)) if peer is not None else []
    waiting = [other for other in theirs if isinstance(other.info, str) and other.info.startswith("Passive")]
    also: list[Any] = []
    if established(session):
        case = "pass"
    elif bind or "Cannot assign requested address" in state:
        case, also = "fail-bind", bind[:1]
    elif lost or "unreachable" in state or "No route to host" in state:
        case, also = "fail-no-route", lost[:1]
    elif state.startswith("Passive") and waiting:
        case, also = "fail-passive", waiting
    else:
        case = "fail"
    values = {"peer": session.peer_ip, "state": state}
    command = f"birdcl -s {BIRD_SOCKET} show protocols all {session.name}"
    return Finding(node.name, case, values, (evidence(session), *map(evidence, also)), command)


@rule("outer-protocol", modes=BIRD)
def outer_protocol(tables: Tables) -> Iterator[Finding]:
    """The networks at both ends carry the tunnel's IP protocol; what arrived decides where documents say otherwise."""
    for node, peer, device in tunnel_pairs(tables):
        if isinstance(device, Finding):
            yield device
            continue
        if tables.unread(node.name, "ip-route"):
            yield skip(node.name, tables, "ip-route")
            continue
        into_tunnel = tables.where("routes", node=node.name, destination=peer.block, dev=device.name)
        if not into_tunnel:
            continue
        blocking = [end for end in (node, peer) if IPIP in tables.scenario.blocked_protocols(end.site)]
        values = {"peer": peer.name, "protocol": IPIP, "cloud": CLOUDS[(blocking or [node])[0].cloud].title}
        if not blocking:
            yield Finding(node.name, "pass", values, (evidence(into_tunnel[0]),))
            continue
        unread = [place for place in (node.name, peer.name) if tables.unread(place, "tcpdump")]
        if unread:
            yield skip(node.name, tables, "tcpdump", at=unread[0])
            continue
        outgoing = tables.where("packets", node=node.name, direction="Out", proto="ipip", dst_ip=bare(peer))
        incoming = tables.where("packets", node=peer.name, direction="In", proto="ipip", src_ip=bare(node))
        values |= {"out": len(outgoing), "in": len(incoming)}
        places = tuple(map(evidence, [*outgoing[:1], *incoming[:1]]))
        if incoming:
            yield Finding(node.name, "pass-arrived", values, places)
        elif outgoing:
            places = (*places, file_of(tables, peer.name, "tcpdump"))
            command = f"tcpdump -ni {peer.nic} ip proto {IPIP}  # on {peer.name}"
            yield Finding(node.name, "fail", values, places, command)
        else:
            places = (file_of(tables, node.name, "tcpdump"),)
            yield Finding(node.name, "silent", values, places)
