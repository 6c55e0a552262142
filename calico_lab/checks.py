"""Rules over the tables of one recording: rows of findings, each with its evidence and the next command to run.

A rule is a function from `Tables` to findings, with an id. It says pass, fail or skip for each node or pair of nodes;
no data is a skip, never a pass. Rules marked as *cause* explain why pods cannot reach each other; they stand in the
order in which a packet meets what they look at, so that the first one that fails is the cause and the later ones may be
its consequences. A verdict reads findings and nothing else; the scenario's expectation is compared with it afterwards.

What a finding says in words stands in the catalogue, under ``finding.<id>.<case>``.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import pandas as pd

from .calico import BIRD_SOCKET, mode, same_subnet, tunnel
from .clouds import CLOUDS
from .tables import Tables, evidence, rows

__all__ = ["CAUSES", "RULES", "Finding", "Verdict", "check", "findings_table", "verdict"]

_CASES_OF_ANY_RULE = {"no-data", "no-device", "no-peer-device", "no-entry"}

Result = Literal["pass", "fail", "skip", "error"]
Words = Callable[..., str]
Rule = Callable[[Tables], Iterator["Finding"]]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that a rule found.

    Attributes
    ----------
    id : str
        The rule's.
    result : "pass", "fail", "skip" or "error"
        error: the recording itself is at fault.
    node : str
        The node that it is about.
    case : str
        Which of the rule's sentences applies: the end of the catalogue key.
    values : dict
        What fills that sentence's placeholders.
    evidence : tuple of str
        ``file:line`` in the recording.
    next : str
        A command that looks at it on the node; empty where nothing is left to ask.
    """

    id: str
    result: Result
    node: str
    case: str
    values: dict[str, Any] = field(default_factory=dict)
    evidence: tuple[str, ...] = ()
    next: str = ""

    def reason(self, words: Words) -> str:
        rule = "any" if self.case in _CASES_OF_ANY_RULE else self.id
        return words(f"finding.{rule}.{self.case}", **self.values).rstrip()


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the findings amount to.

    Attributes
    ----------
    installed : bool or None
        Every node's CNI daemon is ready; None where some could not be asked.
    ready : dict of str to str
        For each node, as ``kubectl get pods`` shows it: ready containers of all.
    ping : bool or None
        Every probe between pods, and from a node to a pod of another, got an answer; None where the CNI is not
        installed or nothing was probed.
    cause : str or None
        Id of the first cause rule that failed, where the CNI is not installed or pods cannot reach each other.
    """

    installed: bool | None
    ready: dict[str, str]
    ping: bool | None
    cause: str | None


RULES: dict[str, Rule] = {}
CAUSES: list[str] = []
"""Ids of the cause rules, in the order in which a packet meets them."""

_MODES = frozenset({"vxlan", "canal", "bird"})
_VXLAN = frozenset({"vxlan", "canal"})
_BIRD = frozenset({"bird"})
_IPIP = 4
"""IP-in-IP's protocol number (IANA)."""

_modes_of: dict[str, frozenset[str]] = {}


def _rule(rule_id: str, *, cause: bool = False, modes: frozenset[str] = _MODES) -> Callable[[Rule], Rule]:
    def register(rule: Rule) -> Rule:
        RULES[rule_id], _modes_of[rule_id] = rule, modes
        if cause:
            CAUSES.append(rule_id)
        return rule

    return register


def check(tables: Tables) -> list[Finding]:
    """All findings, rule by rule, of the rules that apply to the install mode."""
    own = mode(tables.scenario.cni)
    return [finding for name, rule in RULES.items() if own in _modes_of[name] for finding in rule(tables)]


def verdict(findings: list[Finding], tables: Tables) -> Verdict:
    """Sum the findings up."""
    containers = tunnel(tables.scenario.cni).containers
    readiness = {finding.node: finding.result for finding in findings if finding.id == "ready"}
    ready = {
        # Felix's container is the only one with a readiness probe that can fail.
        node: f"{containers if result == 'pass' else containers - 1}/{containers}"
        for node, result in readiness.items()
        if result != "skip"
    }
    installed = _all_of(list(readiness.values()))
    ping = _all_of([finding.result for finding in findings if finding.id == "pod-ping"]) if installed else None
    failed = {finding.id for finding in findings if finding.result == "fail"}
    cause = next((rule for rule in CAUSES if rule in failed), None) if False in (installed, ping) else None
    return Verdict(installed, ready, ping, cause)


def findings_table(findings: list[Finding], words: Words) -> pd.DataFrame:
    """Findings as a DataFrame with columns id, result, node, reason, evidence, next, all text."""
    return pd.DataFrame(
        [
            {
                "id": finding.id,
                "result": finding.result,
                "node": finding.node,
                "reason": finding.reason(words),
                "evidence": ", ".join(f"`{place}`" for place in finding.evidence),
                "next": f"`{finding.next}`" if finding.next else None,
            }
            for finding in findings
        ],
        columns=["id", "result", "node", "reason", "evidence", "next"],
    )


def _all_of(results: list[Result]) -> bool | None:
    if "fail" in results:
        return False
    return True if results and set(results) == {"pass"} else None


# ---------------------------------------------------------------------- the recording, and what the document asks first


@_rule("recording")
def recording(tables: Tables) -> Iterator[Finding]:
    """Every capture could be read."""
    for capture in rows(tables.captures):
        # A ping that could not be sent is a measurement of its own; the rules that need it look at it.
        if capture.status in ("read", "empty") or (capture.kind == "ping" and capture.status == "failed"):
            continue
        values = {"command": capture.command, "detail": capture.detail if isinstance(capture.detail, str) else ""}
        yield Finding(
            "recording", "error", capture.node, capture.status, values, (capture.file,), next=str(capture.run)
        )


@_rule("ready")
def ready(tables: Tables) -> Iterator[Finding]:
    """The CNI daemon's own readiness: what decides between 1/1 and 0/1 Running."""
    next_command = f"kubectl -n kube-system get pods -l k8s-app={tunnel(tables.scenario.cni).workload} -o wide"
    for node in _nodes(tables):
        row = next((row for row in tables.where("readiness", node=node.name) if not pd.isna(row.http_code)), None)
        if row is None:
            yield _skip("ready", node.name, tables, "readiness")
            continue
        result: Result = "pass" if row.http_code in (200, 204) else "fail"
        finding = Finding("ready", result, node.name, result, {"code": row.http_code}, (evidence(row),), next_command)
        if result == "pass" and tables.scenario.cni.backend == "bird":
            finding = _bird_ready(tables, node, finding)
        yield finding


def _bird_ready(tables: Tables, node: Any, felix: Finding) -> Finding:
    """Calico's `-bird-ready` once 30 s have passed since the start: one Established session is enough (bird.go)."""
    if tables.unread(node.name, "bird-protocols"):
        return _skip("ready", node.name, tables, "bird-protocols")
    sessions = tables.where("bgp", node=node.name, proto="BGP")
    established = [session for session in sessions if _established(session)]
    places = (*felix.evidence, *map(evidence, sessions))
    if established or not sessions:
        return replace(felix, evidence=places)
    peers = ",".join(session.peer_ip for session in sessions)
    return replace(felix, result="fail", case="fail-bird", values={"peers": peers}, evidence=places)


@_rule("pod-ping")
def pod_ping(tables: Tables) -> Iterator[Finding]:
    """The review document's ping: from a node, and from a pod, to a pod of another node."""
    probes = tables.pings[tables.pings["via"].isin(["node", "pod"])]
    for ping in rows(probes):
        result: Result = "pass" if ping.outcome == "replies" else "fail" if ping.outcome == "no_replies" else "skip"
        values = {
            "target": ping.target,
            "address": ping.address,
            "via": ping.via,
            "received": ping.received,
            "transmitted": ping.transmitted,
            "detail": ping.detail,
        }
        place = (evidence(ping),) if result != "skip" else (ping.file,)
        yield Finding("pod-ping", result, ping.source, result, values, place, f"ping -c 3 {ping.address}")


# ---------------------------------------------------------------------- causes, in the order a packet meets them


@_rule("bgp-source", cause=True, modes=_BIRD)
def bgp_source(tables: Tables) -> Iterator[Finding]:
    """The address that BIRD binds its sessions to is on the node, and one that the cloud lets out.

    Calico writes ``source address <node IP>`` for every peer (confd, bird.cfg.template).
    """
    for node in _nodes(tables):
        own, cloud = _bare(node), CLOUDS[node.cloud]
        values = {"own": own, "private": node.private_ip, "cloud": cloud.title}
        if own == node.private_ip:
            yield Finding(
                "bgp-source", "pass", node.name, "pass", values, (_file(tables, node.name, "bird-protocols"),)
            )
            continue
        if tables.unread(node.name, "ip-addr"):
            yield _skip("bgp-source", node.name, tables, "ip-addr")
            continue
        if tables.unread(node.name, "iptables-save"):
            yield _skip("bgp-source", node.name, tables, "iptables-save")
            continue
        owners = tables.where("addresses", node=node.name, address=own)
        snat = _source_rewritten(tables, node, own, "tcp", 179)
        command = f"tcpdump -ni {node.nic} tcp port 179"
        if not owners:
            places = (_file(tables, node.name, "ip-addr"), *_said(tables, node.name, "bind"))
            yield Finding("bgp-source", "fail", node.name, "fail-absent", values, places, f"ip addr show to {own}")
        elif snat is not None:
            yield Finding("bgp-source", "pass", node.name, "pass-snat", values, (evidence(owners[0]), evidence(snat)))
        elif cloud.nat and cloud.source_check:
            places = (evidence(owners[0]), *_seen_from(tables, node, own))
            yield Finding("bgp-source", "fail", node.name, "fail", values, places, command)
        else:
            yield Finding("bgp-source", "pass", node.name, "pass-unchecked", values, (evidence(owners[0]),))


@_rule("bgp-reachable", cause=True, modes=_BIRD)
def bgp_reachable(tables: Tables) -> Iterator[Finding]:
    """The peers' BGP addresses answer a ping from this node's own private address."""
    for node in _nodes(tables):
        for peer in _nodes(tables):
            if peer.name != node.name:
                yield _reachable("bgp-reachable", tables, node, peer, _bare(peer), ())


@_rule("bgp-session", cause=True, modes=_BIRD)
def bgp_session(tables: Tables) -> Iterator[Finding]:
    """Every session of the mesh is Established."""
    for node in _nodes(tables):
        if tables.unread(node.name, "bird-protocols"):
            yield _skip("bgp-session", node.name, tables, "bird-protocols")
        for session in tables.where("bgp", node=node.name, proto="BGP"):
            result = _result(_established(session))
            values = {"peer": session.peer_ip, "state": session.info or session.state}
            command = f"birdcl -s {BIRD_SOCKET} show protocols all {session.name}"
            yield Finding("bgp-session", result, node.name, result, values, (evidence(session),), command)


@_rule("device-present", cause=True)
def device_present(tables: Tables) -> Iterator[Finding]:
    """The tunnel device exists. Felix makes none if no interface has the node's address, and stays ready."""
    device = tunnel(tables.scenario.cni).device
    for node in _nodes(tables):
        if tables.unread(node.name, "ip-link"):
            yield _skip("device-present", node.name, tables, "ip-link")
            continue
        link = _device(tables, node.name)
        if link is not None:
            yield Finding("device-present", "pass", node.name, "pass", {"device": device}, (evidence(link),))
            continue
        log = [line for line in tables.where("log", node=node.name) if "parent interface" in line.message]
        places = [_file(tables, node.name, "ip-link"), *map(evidence, log[:1])]
        case = "fail-no-parent" if log else "fail"
        values = {"device": device, "address": _bare(node)}
        command = f"kubectl -n kube-system logs {tunnel(tables.scenario.cni).workload}-… -c calico-node | grep -i vxlan"
        yield Finding("device-present", "fail", node.name, case, values, tuple(places), command)


@_rule("route-to-block", cause=True)
def route_to_block(tables: Tables) -> Iterator[Finding]:
    """Every peer's block is routed into the tunnel device, or by CrossSubnet straight to a peer in the same subnet."""
    for node, peer, device in _tunnel_pairs(tables, "route-to-block"):
        if isinstance(device, Finding):
            yield device
            continue
        if tables.unread(node.name, "ip-route"):
            yield _skip("route-to-block", node.name, tables, "ip-route")
            continue
        routes = tables.where("routes", node=node.name, destination=peer.block)
        direct = _direct_routes(tables, node, peer)
        good = direct or [route for route in routes if route.dev == device.name and route.type == "unicast"]
        values = {"block": peer.block, "peer": peer.name, "device": device.name}
        command = f"ip route get {_first_pod(tables, peer.name)}"
        if not good:
            places = tuple(map(evidence, routes)) or (_file(tables, node.name, "ip-route"),)
            yield Finding("route-to-block", "fail", node.name, "fail", values, places, command)
        else:
            case = "pass-direct" if direct else "pass"
            yield Finding("route-to-block", "pass", node.name, case, values, (evidence(good[0]),))


@_rule("pod-source", cause=True)
def pod_source(tables: Tables) -> Iterator[Finding]:
    """What CrossSubnet sends to a peer in the same subnet has pods' addresses, which no cloud gave a NIC.

    Calico's documentation wants source/destination checks off for that (reference/public-cloud/aws).
    """
    for node in _nodes(tables):
        for peer in _nodes(tables):
            cloud = CLOUDS[node.cloud]
            values = {"peer": peer.name, "block": peer.block, "nic": node.nic, "cloud": cloud.title}
            for route in _direct_routes(tables, node, peer)[:1]:
                result = _result(not cloud.source_check)
                command = f"tcpdump -ni {node.nic} net {peer.block}"
                yield Finding("pod-source", result, node.name, result, values, (evidence(route),), command)


@_rule("outer-protocol", cause=True, modes=_BIRD)
def outer_protocol(tables: Tables) -> Iterator[Finding]:
    """The networks at both ends carry the tunnel's IP protocol; what arrived decides where documents say otherwise."""
    for node, peer, device in _tunnel_pairs(tables, "outer-protocol"):
        if isinstance(device, Finding):
            yield device
            continue
        if tables.unread(node.name, "ip-route"):
            yield _skip("outer-protocol", node.name, tables, "ip-route")
            continue
        into_tunnel = tables.where("routes", node=node.name, destination=peer.block, dev=device.name)
        if not into_tunnel:
            continue
        blocking = [end for end in (node, peer) if _IPIP in tables.scenario.blocked_protocols(end.site)]
        values = {"peer": peer.name, "protocol": _IPIP, "cloud": CLOUDS[(blocking or [node])[0].cloud].title}
        if not blocking:
            yield Finding("outer-protocol", "pass", node.name, "pass", values, (evidence(into_tunnel[0]),))
            continue
        unread = [place for place in (node.name, peer.name) if tables.unread(place, "tcpdump")]
        if unread:
            yield _skip("outer-protocol", node.name, tables, "tcpdump", at=unread[0])
            continue
        outgoing = tables.where("packets", node=node.name, direction="Out", proto="ipip", dst_ip=_bare(peer))
        incoming = tables.where("packets", node=peer.name, direction="In", proto="ipip", src_ip=_bare(node))
        values |= {"out": len(outgoing), "in": len(incoming)}
        places = tuple(map(evidence, [*outgoing[:1], *incoming[:1]]))
        if incoming:
            yield Finding("outer-protocol", "pass", node.name, "pass-arrived", values, places)
        elif outgoing:
            places = (*places, _file(tables, peer.name, "tcpdump"))
            command = f"tcpdump -ni {peer.nic} ip proto {_IPIP}  # on {peer.name}"
            yield Finding("outer-protocol", "fail", node.name, "fail", values, places, command)
        else:
            places = (_file(tables, node.name, "tcpdump"),)
            yield Finding("outer-protocol", "skip", node.name, "silent", values, places)


@_rule("mac-agreement", cause=True, modes=_VXLAN)
def mac_agreement(tables: Tables) -> Iterator[Finding]:
    """The document's cross-check: the peer's MAC is the same in ARP, in the FDB and on the peer's own device."""
    for node, peer, device in _tunnel_pairs(tables, "mac-agreement"):
        if isinstance(device, Finding):
            yield device
            continue
        theirs = _device(tables, peer.name)
        if theirs is None:
            yield _no_peer_device("mac-agreement", node, peer, device, tables)
            continue
        unread = [
            (place, command)
            for place, command in ((node.name, "ip-neigh"), (node.name, "bridge-fdb"), (peer.name, "ip-addr"))
            if tables.unread(place, command)
        ]
        if unread:
            place, command = unread[0]
            yield _skip("mac-agreement", node.name, tables, command, at=place)
            continue
        tunnel_ip = _tunnel_ip(tables, peer.name, device.name)
        arp = tables.where("neighbours", node=node.name, dst=tunnel_ip)
        known = dict.fromkeys([theirs.mac, *(entry.mac for entry in arp)])
        fdb = [entry for mac in known for entry in tables.where("fdb", node=node.name, dev=device.name, mac=mac)]
        values = {
            "peer": peer.name,
            "link": theirs.mac,
            "neigh": ", ".join(entry.mac for entry in arp if isinstance(entry.mac, str)) or "–",
            "fdb": ", ".join(entry.mac for entry in fdb) or "–",
        }
        agree = {entry.mac for entry in arp} == {entry.mac for entry in fdb} == {theirs.mac}
        places = (*map(evidence, arp), *map(evidence, fdb), evidence(theirs))
        command = f"ip neigh show dev {device.name}; bridge fdb show dev {device.name}"
        yield Finding(
            "mac-agreement", _result(agree), node.name, _result(agree), values, places, "" if agree else command
        )


@_rule("vni-port", cause=True, modes=_VXLAN)
def vni_port(tables: Tables) -> Iterator[Finding]:
    """Both ends of the tunnel use the same VNI and UDP port."""
    for node, peer, device in _tunnel_pairs(tables, "vni-port"):
        if isinstance(device, Finding):
            yield device
            continue
        theirs = _device(tables, peer.name)
        if theirs is None:
            yield _no_peer_device("vni-port", node, peer, device, tables)
            continue
        agree = (device.vni, device.dstport) == (theirs.vni, theirs.dstport)
        values = {
            "peer": peer.name,
            "own": f"{device.vni}/{device.dstport}",
            "theirs": f"{theirs.vni}/{theirs.dstport}",
        }
        places = (_detail(device), _detail(theirs))
        yield Finding(
            "vni-port",
            _result(agree),
            node.name,
            _result(agree),
            values,
            places,
            "" if agree else f"ip -d link show {device.name}",
        )


@_rule("fdb-destination", cause=True, modes=_VXLAN)
def fdb_destination(tables: Tables) -> Iterator[Finding]:
    """The FDB sends to the peer's node address: what its annotation says."""
    for node, peer, entries in _fdb_pairs(tables, "fdb-destination"):
        if isinstance(entries, Finding):
            yield entries
            continue
        wanted = _bare(peer)
        agree = {entry.dst for entry in entries} == {wanted}
        values = {"peer": peer.name, "dst": ", ".join(entry.dst for entry in entries), "wanted": wanted}
        yield Finding(
            "fdb-destination",
            _result(agree),
            node.name,
            _result(agree),
            values,
            tuple(map(evidence, entries)),
            "" if agree else f"kubectl get node {peer.name} -o yaml | grep IPv4Address",
        )


@_rule("local-address", cause=True, modes=_VXLAN)
def local_address(tables: Tables) -> Iterator[Finding]:
    """The tunnel's own address is on some interface; else the kernel sends nothing and counts carrier errors."""
    for node, device in _tunnels(tables, "local-address"):
        if isinstance(device, Finding):
            yield device
            continue
        if tables.unread(node.name, "ip-addr"):
            yield _skip("local-address", node.name, tables, "ip-addr")
            continue
        owners = tables.where("addresses", node=node.name, address=device.local_ip)
        counted = _counters(tables, node.name, device.name)
        values = {"local": device.local_ip, "device": device.name}
        if not owners:
            values["carrier"] = "–" if counted is None or pd.isna(counted.tx_carrier) else int(counted.tx_carrier)
            places = (_detail(device), _file(tables, node.name, "ip-addr"), *([evidence(counted)] if counted else []))
            yield Finding(
                "local-address", "fail", node.name, "fail", values, places, f"ip addr show to {device.local_ip}"
            )
        else:
            owner = owners[0]
            values["owner"] = owner.label if isinstance(owner.label, str) else owner.ifname
            yield Finding("local-address", "pass", node.name, "pass", values, (_detail(device), evidence(owner)))


@_rule("outer-source", cause=True, modes=_VXLAN)
def outer_source(tables: Tables) -> Iterator[Finding]:
    """The outer source is an address that the cloud gave the NIC, or is rewritten to one before it leaves.

    A cloud with 1:1 NAT and a source check knows a NIC by its private address only (`clouds`).
    """
    for node, device in _tunnels(tables, "outer-source"):
        if isinstance(device, Finding):
            yield device
            continue
        cloud = CLOUDS[node.cloud]
        values = {"local": device.local_ip, "private": node.private_ip, "cloud": cloud.title, "device": device.name}
        if device.local_ip == node.private_ip:
            yield Finding("outer-source", "pass", node.name, "pass", values, (_detail(device),))
            continue
        if not (cloud.nat and cloud.source_check):
            yield Finding("outer-source", "pass", node.name, "pass-unchecked", values, (_detail(device),))
            continue
        if tables.unread(node.name, "iptables-save"):
            yield _skip("outer-source", node.name, tables, "iptables-save")
            continue
        snat = _source_rewritten(tables, node, device.local_ip, "udp", device.dstport)
        if snat is not None:
            yield Finding("outer-source", "pass", node.name, "pass-snat", values, (_detail(device), evidence(snat)))
            continue
        yield Finding(
            "outer-source",
            "fail",
            node.name,
            "fail",
            values,
            (_detail(device), *_seen_from(tables, node, device.local_ip)),
            f"tcpdump -ni {node.nic} udp port {device.dstport}",
        )


@_rule("fdb-reachable", cause=True, modes=_VXLAN)
def fdb_reachable(tables: Tables) -> Iterator[Finding]:
    """The address that the FDB sends to answers a ping from this node's own private address."""
    for node, peer, entries in _fdb_pairs(tables, "fdb-reachable"):
        if isinstance(entries, Finding):
            yield entries
            continue
        yield _reachable("fdb-reachable", tables, node, peer, entries[0].dst, (evidence(entries[0]),))


# ---------------------------------------------------------------------- what shows it: consequences and cross-checks


@_rule("public-source")
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
            yield Finding("public-source", "skip", probe.source, "cannot-send", values, places)
        elif probe.outcome == "replies":
            yield Finding("public-source", "pass", probe.source, "pass", values, places)
        else:
            outcomes = {ping.outcome for ping in plain}
            case = "fail" if "replies" in outcomes else "fail-both" if "no_replies" in outcomes else "fail-alone"
            yield Finding("public-source", "fail", probe.source, case, values, places)


@_rule("wire")
def wire(tables: Tables) -> Iterator[Finding]:
    """What left one NIC for a peer, and what of it came in at the peer's."""
    for node, peer, device in _tunnel_pairs(tables, "wire"):
        if isinstance(device, Finding):
            continue
        unread = [place for place in (node.name, peer.name) if tables.unread(place, "tcpdump")]
        if unread:
            yield _skip("wire", node.name, tables, "tcpdump", at=unread[0])
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
            yield Finding("wire", "skip", node.name, "silent", values, (_file(tables, node.name, "tcpdump"),))
        else:
            arrived = bool(incoming)
            missing = () if arrived else (_file(tables, peer.name, "tcpdump"),)
            yield Finding("wire", _result(arrived), node.name, _result(arrived), values, (*places, *missing))


@_rule("fabric-drops")
def fabric_drops(tables: Tables) -> Iterator[Finding]:
    """What the lab's fabric says that it dropped. A real cloud does not tell.

    Probes that were sent to be dropped (from the public source, or to a private address) are taken off first.
    """
    rules = tables.fabric_iptables
    for rule in rows(rules[rules["comment"].notna() & (rules["target"] == "DROP") & (rules["packets"] > 0)]):
        name, _, node = rule.comment.partition(" ")
        own = _dropped_probes(tables, name, node, rule.dst)
        values = {
            "packets": int(rule.packets),
            "probes": own,
            "router": rule.node,
            "subject": node or rule.dst,
            "protocol": rule.proto,
        }
        result: Result = "fail" if rule.packets > own else "pass"
        case = name if result == "fail" else "only-probes"
        yield Finding("fabric-drops", result, node or rule.node, case, values, (evidence(rule),))


def _dropped_probes(tables: Tables, drop: str, node: str, network: str) -> int:
    lost = tables.pings[tables.pings["outcome"] == "no_replies"]
    if drop == "blocked-protocol":
        return 0  # no ping is of a protocol that a cloud blocks
    if drop == "source-check":
        ours = (lost["via"] == "public-source") & (lost["source"] == node)
    else:
        ours = (lost["via"] == "private") & lost["address"].map(
            lambda address: ipaddress.ip_address(address) in ipaddress.ip_network(network)
        ).astype(bool)
    return int(lost.loc[ours, "transmitted"].sum())


# ---------------------------------------------------------------------- what rules share


def _result(good: bool) -> Literal["pass", "fail"]:
    return "pass" if good else "fail"


def _nodes(tables: Tables) -> Iterator[Any]:
    yield from rows(tables.nodes)


def _file(tables: Tables, node: str, command: str) -> str:
    return f"captures/{node}/{command}.txt"


def _skip(rule: str, node: str, tables: Tables, command: str, *, at: str | None = None) -> Finding:
    """No data: say which capture would decide, and of which node where it is another's."""
    asked = tables.where("captures", command=command)
    values = {"command": command, "status": tables.unread(at or node, command) or "empty"}
    return Finding(rule, "skip", node, "no-data", values, (), asked[0].run if asked else command)


def _no_peer_device(rule: str, node: Any, peer: Any, device: Any, tables: Tables) -> Finding:
    if tables.unread(peer.name, "ip-link"):
        return _skip(rule, node.name, tables, "ip-link", at=peer.name)
    return Finding(rule, "skip", node.name, "no-peer-device", {"peer": peer.name, "device": device.name})


def _device(tables: Tables, node: str) -> Any:
    """The node's tunnel device, or None."""
    name = tunnel(tables.scenario.cni).device
    return next(iter(tables.where("links", node=node, name=name)), None)


def _detail(device: Any) -> str:
    return evidence(device, device.detail_line)


def _tunnels(tables: Tables, rule: str) -> Iterator[tuple[Any, Any]]:
    """Every node with its tunnel device, or with the finding that there is nothing to look at."""
    for node in _nodes(tables):
        device = _device(tables, node.name)
        if tables.unread(node.name, "ip-link"):
            yield node, _skip(rule, node.name, tables, "ip-link")
        elif device is None:
            yield node, Finding(rule, "skip", node.name, "no-device", {"device": tunnel(tables.scenario.cni).device})
        else:
            yield node, device


def _tunnel_pairs(tables: Tables, rule: str) -> Iterator[tuple[Any, Any, Any]]:
    for node, device in _tunnels(tables, rule):
        for peer in _nodes(tables):
            if peer.name != node.name:
                yield node, peer, device


def _fdb_pairs(tables: Tables, rule: str) -> Iterator[tuple[Any, Any, Any]]:
    """Every node and peer with the FDB entries that carry the peer's traffic: those of the peer's own MAC."""
    for node, peer, device in _tunnel_pairs(tables, rule):
        if isinstance(device, Finding):
            yield node, peer, device
            continue
        if tables.unread(node.name, "bridge-fdb"):
            yield node, peer, _skip(rule, node.name, tables, "bridge-fdb")
            continue
        theirs = _device(tables, peer.name)
        if theirs is None:
            yield node, peer, _no_peer_device(rule, node, peer, device, tables)
            continue
        entries = tables.where("fdb", node=node.name, dev=device.name, mac=theirs.mac)
        if entries:
            yield node, peer, entries
        else:
            yield node, peer, Finding(rule, "skip", node.name, "no-entry", {"peer": peer.name, "device": device.name})


def _tunnel_ip(tables: Tables, node: str, device: str) -> str | None:
    found = tables.where("addresses", node=node, ifname=device, family="inet")
    return found[0].address if found else None


def _direct_routes(tables: Tables, node: Any, peer: Any) -> list[Any]:
    """Routes by which CrossSubnet sends to the peer's pods without a tunnel, where both are in one subnet."""
    if not same_subnet(node.node_address, peer.node_address):
        return []
    cni = tables.scenario.cni
    routes = tables.where("routes", node=node.name, destination=peer.block, dev=node.nic, via=_bare(peer))
    return routes if "CrossSubnet" in (cni.vxlan, cni.ipip) else []


def _first_pod(tables: Tables, node: str) -> str:
    return str(tables.where("pods", node=node)[0].address)


def _counters(tables: Tables, node: str, device: str) -> Any:
    return next(iter(tables.where("counters", node=node, dev=device)), None)


def _reachable(rule: str, tables: Tables, node: Any, peer: Any, address: str, places: tuple[str, ...]) -> Finding:
    """Whether an address of the peer answered the ping that left with this node's own private address."""
    sent = [
        ping
        for ping in tables.where("pings", source=node.name, address=address)
        if ping.via in ("public", "private") and ping.outcome != "failed"
    ]
    values = {"peer": peer.name, "dst": address}
    if not sent:
        return Finding(rule, "skip", node.name, "skip", values, places, f"ping -c 3 {address}")
    ping = sent[0]
    answered = ping.outcome == "replies"
    values |= {"received": ping.received, "transmitted": ping.transmitted}
    private = ipaddress.ip_address(address).is_private
    case = "pass" if answered else "fail-private" if private and node.site != peer.site else "fail"
    command = "" if answered else f"ip route get {address}"
    return Finding(rule, _result(answered), node.name, case, values, (*places, evidence(ping)), command)


def _bare(node: Any) -> str:
    """The node's address as its annotation has it, without the mask."""
    return str(node.node_address).split("/")[0]


def _established(session: Any) -> bool:
    return isinstance(session.info, str) and session.info.split(" ")[0] == "Established"


def _said(tables: Tables, node: str, word: str) -> list[str]:
    """Where BIRD's log first has that word."""
    return [evidence(line) for line in tables.where("bird_log", node=node) if word in line.message][:1]


def _source_rewritten(tables: Tables, node: Any, source: str, protocol: str, port: int) -> Any:
    """The SNAT rule that gives what leaves with this source the NIC's own address, or None."""
    local = ipaddress.ip_address(source)
    for rule in tables.where("iptables", node=node.name, table="nat"):
        if rule.target not in ("SNAT", "MASQUERADE"):
            continue
        to_private = rule.target == "MASQUERADE" or rule.to_source == node.private_ip
        source_fits = not isinstance(rule.src, str) or local in ipaddress.ip_network(rule.src)
        leaves_here = not isinstance(rule.out_iface, str) or rule.out_iface == node.nic
        port_fits = not isinstance(rule.dports, str) or str(port) in rule.dports.split(",")
        proto_fits = not isinstance(rule.proto, str) or rule.proto == protocol
        plain = not rule.negated and not isinstance(rule.set_name, str) and not isinstance(rule.src_type, str)
        if to_private and source_fits and leaves_here and port_fits and proto_fits and plain:
            return rule
    return None


def _seen_from(tables: Tables, node: Any, source: str) -> list[str]:
    """Where the outer source shows on the wire."""
    seen = tables.where("packets", node=node.name, direction="Out", src_ip=source)
    return [evidence(packet) for packet in seen[:1]]
