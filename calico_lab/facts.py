"""What a recording says, as facts by which two recordings can be compared, and not by their text.

A fact is what a recording says of a node, or of one node and another, in one short value: a device's MTU, where an FDB
entry sends, what a rule found. It has the same name and value whoever recorded it, when, and in whatever language it is
shown, so that two recordings say the same if their facts are equal. Behind the waist: this reads recordings.

What is different in any two recordings is no fact, or only a part of it is:

* round-trip times, counters, and how many packets were seen or answered: whether there was an answer is a fact, and so
  is which outer addresses were on the wire;
* times, process ids and log lines, and ARP entries that the kernel learned;
* MAC addresses, but for that of Calico's tunnel, which Felix derives from the node's name; that ARP, FDB and device
  agree is the finding ``mac-agreement``;
* of BGP sessions whether they are established: what state else they are in depends on the moment;
* IPv6 addresses and routes, which come from MAC addresses;
* rules of kube-proxy, which come and go with services;
* what the lab's routers say (``fabric-drops``): no other provider has them.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import pandas as pd

from .calico import mode, tunnel
from .checks import Finding, agrees, check, verdict
from .checks.findings import MODES_OF
from .checks.shared import bare, detail_of, device_of, established, nodes_of
from .tables import Tables, evidence, rows

__all__ = ["KINDS", "STATUSES", "Fact", "Kind", "differences", "facts"]

Kind = Literal["scenario", "state", "probe", "finding", "verdict"]
KINDS: tuple[Kind, ...] = ("scenario", "state", "probe", "finding", "verdict")
"""What a fact is: set up so, found on a node, measured, found by a rule, or the sum of that."""

STATUSES = ("differs", "only-a", "only-b", "unknown", "same")
"""How two recordings stand to a fact. Of one that is unknown, one of them lacks the output that would tell."""

_LINK = {
    "local": "local_ip",
    "remote": "remote_ip",
    "parent": "parent_dev",
    "VNI": "vni",
    "port": "dstport",
    "learning": "learning",
}
_OFFLOAD = "tx-checksum-ip-generic"
_NAT = ("SNAT", "DNAT", "MASQUERADE")
_NOTHING = "–"
_MANIFEST = "manifest.json"
_KEY = ("kind", "subject", "fact")

_UNTOLD = frozenset({"no-data", "no-details", "skip", "suspect", "unknown"})
"""Values of findings and of the verdict that say that the recording lacks what would tell."""

_NO_FACTS = ("fabric-drops", "recording")
"""Findings about the lab's routers, and about the captures themselves."""


@dataclass(frozen=True, slots=True)
class Fact:
    """One thing that a recording says.

    Attributes
    ----------
    kind : "scenario", "state", "probe", "finding" or "verdict"
    subject : str
        A node, ``source → target``, or what else it is about.
    fact : str
        Its name; with `kind` and `subject` the key by which two recordings are compared.
    value : str
    evidence : str
        ``file:line``, several separated by commas; the file alone where it is about all of it.
    node, command : str
        The capture that would tell, also where there is no such fact; empty where it is no single one.
    """

    kind: Kind
    subject: str
    fact: str
    value: str
    evidence: str
    node: str = ""
    command: str = ""


def facts(tables: Tables) -> pd.DataFrame:
    """What a recording says, a row a fact: columns as in `Fact`, all text.

    No two rows have the same kind, subject and fact.

    Raises
    ------
    RecordingError
        If a captured file is missing or was changed.
    """
    found = [
        *_of_the_scenario(tables),
        *(fact for node in nodes_of(tables) for fact in _of_a_node(tables, node)),
        *_of_pairs(tables),
        *_of_probes(tables),
        *_of_findings(tables),
    ]
    return pd.DataFrame(map(asdict, found), columns=list(Fact.__dataclass_fields__)).astype("str")


def differences(a: Tables, b: Tables) -> pd.DataFrame:
    """The facts of two recordings side by side.

    Returns
    -------
    DataFrame
        Columns kind, subject, fact, status (see `STATUSES`), a, b (values), evidence_a, evidence_b; NA where a
        recording has no such fact. Rows as in `facts` of the first, then what only the second has.
    """
    of_a, of_b = ({(row.kind, row.subject, row.fact): row for row in rows(facts(each))} for each in (a, b))
    keys = sorted({**of_a, **of_b}, key=lambda key: KINDS.index(key[0]))
    found = []
    for key in keys:
        ours, theirs = of_a.get(key), of_b.get(key)
        values = {"a": ours and ours.value, "b": theirs and theirs.value}
        places = {"evidence_a": ours and ours.evidence, "evidence_b": theirs and theirs.evidence}
        status = _status(ours, theirs, a, b)
        found.append(dict(zip(_KEY, key, strict=True)) | {"status": status} | values | places)
    return pd.DataFrame(found, columns=[*_KEY, "status", "a", "b", "evidence_a", "evidence_b"], dtype="str")


def _status(ours: Any, theirs: Any, a: Tables, b: Tables) -> str:
    if ours and theirs:
        if ours.value == theirs.value:
            return "same"
        return "unknown" if {ours.value, theirs.value} & _UNTOLD else "differs"
    fact, other = (ours, b) if ours else (theirs, a)
    if fact.node in set(other.nodes["name"]) and not _tells(other, fact):
        return "unknown"
    return "only-a" if ours else "only-b"


def _tells(tables: Tables, fact: Any) -> bool:
    """Whether a recording that lacks this fact would have it, were it so."""
    if fact.kind == "finding":  # the rule looked, and found nothing to look at
        return mode(tables.scenario.cni) not in MODES_OF[fact.fact]
    if fact.command == "ip-link" and not tables.where("links", node=fact.node, name="lo"):
        return False  # every node has lo: it was asked of one device alone
    return tables.unread(fact.node, fact.command) is None


# ---------------------------------------------------------------------- what is set up


def _of_the_scenario(tables: Tables) -> Iterator[Fact]:
    for key, value in tables.scenario.parameters()["cni"].items():
        yield Fact("scenario", "cni", key, str(value), _MANIFEST)
    for node in nodes_of(tables):
        for name in ("cloud", "private_ip", "public_ip", "node_address", "block"):
            yield Fact("scenario", node.name, name, str(getattr(node, name)), _MANIFEST)


# ---------------------------------------------------------------------- what a node is like


def _of_a_node(tables: Tables, node: Any) -> Iterator[Fact]:
    def fact(name: str, value: object, places: Iterable[Any], command: str) -> Fact:
        told = ", ".join(map(evidence, places)) or f"captures/{node.name}/{command}.txt"
        return Fact("state", node.name, name, str(value), told, node.name, command)

    name, device = node.name, tunnel(tables.scenario.cni).device
    for link in tables.where("links", node=name):
        yield fact(f"{_role(link.name, device)} MTU", link.mtu_bytes, [link], "ip-link")
    link = device_of(tables, name)
    if link is not None:
        yield fact("tunnel device", link.name, [link], "ip-link")
        if tables.scenario.cni.plugin == "calico" and isinstance(link.mac, str):
            yield fact("tunnel MAC", link.mac, [link], "ip-link")
        for label, column in _LINK.items():
            if not pd.isna(value := getattr(link, column)):
                yield Fact("state", name, f"tunnel {label}", str(value), detail_of(link), name, "ip-link")
    for dev, owned in _grouped(tables.where("addresses", node=name, family="inet"), "ifname"):
        yield fact(f"{_role(dev, device)} address", ", ".join(sorted(own.address for own in owned)), owned, "ip-addr")
    for destination, routes in _grouped(_own_routes(tables, node), "destination"):
        yield fact(f"route {destination}", "\n".join(map(_route, routes)), routes, "ip-route")
    for priority, rules in _grouped(tables.where("policy", node=name), "priority"):
        yield fact(f"rule {priority}", "\n".join(map(_policy, rules)), rules, "ip-rule")
    for set_name, members in _grouped(tables.where("ipsets", node=name), "set_name"):
        named = sorted(member.member for member in members if isinstance(member.member, str))
        yield fact(f"ipset {set_name}", ", ".join(named) or _NOTHING, members, "ipset-list")
    for (table, chain), rules in _tunnels_rules(tables, name).items():
        yield fact(f"{table} {chain}", "\n".join(rule.spec for rule in rules), rules, "iptables-save")
    for setting in tables.where("sysctl", node=name):
        key = ".".join(_role(part, device.replace(".", "/")) for part in setting.key.split("."))
        yield fact(key, setting.value, [setting], "sysctl")
    for kernel in tables.where("kernels", node=name):
        yield fact("kernel", kernel.release, [kernel], "uname")
    for offload in tables.where("features", node=name, feature=_OFFLOAD):
        yield fact(f"{_role(offload.device, device)} {_OFFLOAD}", offload.enabled, [offload], "ethtool")
    for answer in tables.where("readiness", node=name):
        yield fact("readiness", answer.http_code, [answer], "readiness")
    if not tables.unread(name, "tcpdump"):
        for direction in ("Out", "In"):
            packets = [each for each in _tunnelled(tables) if (each.node, each.direction) == (name, direction)]
            first = {f"{packet.src_ip} > {packet.dst_ip}": packet for packet in reversed(packets)}
            shown = "\n".join(sorted(first)) or _NOTHING
            yield fact(f"tunnel packets {direction}", shown, [first[key] for key in sorted(first)], "tcpdump")


def _role(name: str, device: str) -> str:
    """What a device is called in a fact: the tunnel's by its role, so that two plugins can be compared."""
    return "tunnel" if name == device else name


def _grouped(found: Iterable[Any], column: str) -> Iterator[tuple[Any, list[Any]]]:
    """Rows by the value of a column, in the order in which the values come."""
    groups: dict[Any, list[Any]] = {}
    for row in found:
        groups.setdefault(getattr(row, column), []).append(row)
    yield from groups.items()


def _own_routes(tables: Tables, node: Any) -> list[Any]:
    """IPv4 routes that somebody set: not those of the kernel's own table, nor to peers' blocks (`_of_pairs`)."""
    blocks = {peer.block for peer in nodes_of(tables) if peer.name != node.name}
    return [
        route
        for route in tables.where("routes", node=node.name)
        if route.table != "local" and ":" not in route.destination and route.destination not in blocks
    ]


def _route(route: Any) -> str:
    words = [] if route.type == "unicast" else [route.type]
    words += [f"{key} {value}" for key in ("via", "dev", "table", "proto", "src") if _has(value := getattr(route, key))]
    words += [] if pd.isna(route.metric) else [f"metric {route.metric}"]
    return " ".join(words)


def _policy(rule: Any) -> str:
    words = ["not"] if rule.not_ else []
    named = ("src", "dst", "fwmark", "iif", "oif", "action", "table")
    words += [f"{key} {value}" for key in named if _has(value := getattr(rule, key))]
    words += [] if pd.isna(rule.suppress_prefixlength) else [f"suppress_prefixlength {rule.suppress_prefixlength}"]
    return " ".join([*words, *map(str, rule.others)])


def _has(value: Any) -> bool:
    return isinstance(value, str)


def _tunnels_rules(tables: Tables, node: str) -> dict[tuple[str, str], list[Any]]:
    """By table and chain, the rules that are about the tunnel's packets, or that translate or do not track any.

    kube-proxy's own chains are left out: they come and go with services.
    """
    own = tunnel(tables.scenario.cni)
    found: dict[tuple[str, str], list[Any]] = {}
    for rule in tables.where("iptables", node=node):
        if rule.chain.startswith("KUBE-"):
            continue
        ports = rule.dports.split(",") if isinstance(rule.dports, str) else []
        touches = (
            (own.port and str(own.port) in ports)
            or own.device in (rule.in_iface, rule.out_iface)
            or (own.port is None and rule.proto in ("4", "ipencap", "ipip"))
            or rule.target in (*_NAT, "NOTRACK")
            or (rule.target == "CT" and "--notrack" in rule.spec)
        )
        if touches:
            found.setdefault((rule.table, rule.chain), []).append(rule)
    return found


def _tunnelled(tables: Tables) -> list[Any]:
    return [packet for proto in ("vxlan", "ipip") for packet in tables.where("packets", proto=proto)]


# ---------------------------------------------------------------------- what a node knows of a peer


def _of_pairs(tables: Tables) -> Iterator[Fact]:
    device = tunnel(tables.scenario.cni).device
    for node in nodes_of(tables):
        for peer in nodes_of(tables):
            if peer.name == node.name:
                continue
            subject, theirs = f"{node.name} → {peer.name}", device_of(tables, peer.name)
            found = {
                "route": ("ip-route", _routes_to(tables, node, peer)),
                "FDB": ("bridge-fdb", _sends_to(tables, node, theirs, device)),
                "ARP": ("ip-neigh", _neighbours(tables, node, theirs, device)),
                "BGP": ("bird-protocols", _sessions(tables, node, peer)),
            }
            for name, (command, told) in found.items():
                if told:
                    value = ", ".join(dict.fromkeys(value for value, _ in told))
                    places = ", ".join(evidence(row) for _, row in told)
                    yield Fact("state", subject, name, value, places, node.name, command)


def _routes_to(tables: Tables, node: Any, peer: Any) -> list[tuple[str, Any]]:
    """Routes to the peer's block, and where only the older ``route`` was captured, what that says of them."""
    routes = [
        (f"via {each.via} dev {each.dev}" if _has(each.via) else f"{each.type} dev {each.dev}", each)
        for each in tables.where("routes", node=node.name, destination=peer.block)
    ]
    if routes or not tables.unread(node.name, "ip-route"):
        return routes
    block = ipaddress.ip_network(peer.block)
    return [
        (f"via {each.gateway} dev {each.iface}", each)
        for each in tables.where(
            "route", node=node.name, destination=str(block.network_address), genmask=str(block.netmask)
        )
    ]


def _sends_to(tables: Tables, node: Any, theirs: Any, device: str) -> list[tuple[str, Any]]:
    if theirs is None:
        return []
    entries = tables.where("fdb", node=node.name, dev=device, mac=theirs.mac)
    return [(entry.dst, entry) for entry in entries if _has(entry.dst)]


def _neighbours(tables: Tables, node: Any, theirs: Any, device: str) -> list[tuple[str, Any]]:
    """The permanent entry by which packets for the peer's tunnel address get its MAC."""
    if theirs is None:
        return []
    entries = tables.where("neighbours", node=node.name, dev=device, mac=theirs.mac)
    return [(entry.dst, entry) for entry in entries if entry.state == "PERMANENT" and ":" not in entry.dst]


def _sessions(tables: Tables, node: Any, peer: Any) -> list[tuple[str, Any]]:
    sessions = tables.where("bgp", node=node.name, peer_ip=bare(peer))
    return [("established" if established(session) else "not established", session) for session in sessions]


# ---------------------------------------------------------------------- what was measured and found


def _of_probes(tables: Tables) -> Iterator[Fact]:
    for ping in rows(tables.pings):
        size = "" if pd.isna(ping.size_bytes) else f" {ping.size_bytes}"
        # Refused by the sender's own kernel or a router is not lost without a word.
        value = "refused" if ping.outcome == "no_replies" and ping.errors else ping.outcome
        place = ping.file if pd.isna(ping.line) else evidence(ping)
        subject = f"{ping.source} → {ping.target}"
        yield Fact("probe", subject, f"ping {ping.via}{size}", value, place, ping.node, Path(ping.file).stem)
    for sweep in rows(tables.mtu_sweeps):
        largest = _NOTHING if pd.isna(sweep.passes_bytes) else str(sweep.passes_bytes)
        place = sweep.file if pd.isna(sweep.line) else evidence(sweep)
        capture = Path(sweep.file).stem
        yield Fact("probe", sweep.path, f"largest packet {sweep.layer}", largest, place, sweep.source, capture)


def _of_findings(tables: Tables) -> Iterator[Fact]:
    findings = check(tables)
    grouped: dict[tuple[str, str], list[Finding]] = {}
    for finding in findings:
        if finding.id not in _NO_FACTS:
            grouped.setdefault((finding.node, finding.id), []).append(finding)
    for (node, rule), found in grouped.items():
        places = ", ".join(dict.fromkeys(place for finding in found for place in finding.evidence))
        yield Fact("finding", node, rule, _cases(found), places, node)
    summed = verdict(findings, tables)
    answers = {
        "installed": summed.installed,
        "ping": summed.ping,
        "agrees": agrees(summed, tables.scenario.expected),
    }
    for name, answer in answers.items():
        yield Fact("verdict", "verdict", name, "unknown" if answer is None else str(answer).lower(), "")
    undecided = summed.ping is None and summed.installed is not False
    yield Fact("verdict", "verdict", "cause", summed.cause or ("unknown" if undecided else "none"), "")


def _cases(found: list[Finding]) -> str:
    """The case of a node's findings of one rule: one for all peers and pods, or each with whom it is about."""
    cases = dict.fromkeys(finding.case for finding in found)
    if len(cases) == 1:
        return found[0].case
    about = ("peer", "target", "pod", "setting", "chain", "size")
    told = [(" ".join(str(each.values[key]) for key in about if key in each.values), each.case) for each in found]
    return "\n".join(f"{whom}: {case}" if whom else case for whom, case in dict.fromkeys(told))
