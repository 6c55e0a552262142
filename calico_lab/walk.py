"""One packet followed from a pod to a pod of another node, over what the nodes and their networks are set to do.

`walk` does not care where that comes from: `journey` reads it in a recording, `predict` derives it from a scenario. It
follows where the packet goes, not where it should go: one that misses the tunnel leaves by the NIC as it is, and is
followed there. The hops are `HOPS`; one that the packet has no part in (an FDB without VXLAN, the internet within one
site) is left out.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from .calico import goes_direct, mode, tunnel
from .forwarding import (
    Packet,
    best_route,
    destination_rewritten,
    dropped_by,
    not_tracked,
    shown_route,
    source_rewritten,
)
from .scenario import Scenario
from .tables import evidence

__all__ = [
    "HOPS",
    "INTERNET",
    "Device",
    "Direction",
    "Hop",
    "Host",
    "Result",
    "Session",
    "cause_of",
    "place_of",
    "round_trip",
    "session_trouble",
    "walk",
]

HOPS = (
    "pod",
    "veth",
    "route",
    "neighbour",
    "fdb",
    "outer",
    "snat",
    "nic",
    "source-check",
    "nat",
    "internet",
    "peer-nic",
    "allow-list",
    "decapsulation",
    "peer-pod",
)
"""Every hop there can be, in order."""

INTERNET = "internet"
"""The place that is nobody's."""

Direction = Literal["request", "reply"]

Result = Literal["pass", "astray", "stop", "unknown", "unreached"]
"""Whether the packet passes a hop as it should, goes on another way, ends there, cannot be judged, or never comes."""

_IPIP, _UDP, _TCP = 4, 17, 6  # IANA protocol numbers
_NAMES = {_IPIP: ("4", "ipencap", "ipip"), _UDP: ("udp", "17"), _TCP: ("tcp", "6")}
_BGP_PORT = 179


@dataclass(frozen=True, slots=True)
class Device:
    """A node's tunnel device.

    Attributes
    ----------
    name : str
    mac, local_ip : str or None
    vni, dstport : int or None
        All four are None for IP-in-IP.
    up : bool
    detailed : bool
        Whether it is known what its tunnel is like; ``ip link`` without ``-d`` does not say.
    evidence : str
        Where it stands in a recording; empty where there is none.
    """

    name: str
    mac: str | None = None
    local_ip: str | None = None
    vni: int | None = None
    dstport: int | None = None
    up: bool = True
    detailed: bool = True
    evidence: str = ""


@dataclass(frozen=True, slots=True)
class Session:
    """A BGP session as its node sees it: whether it is up, its state in BIRD's words, and where that stands."""

    up: bool
    state: str
    evidence: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Host:
    """A node, as far as it decides which way a packet takes.

    Attributes
    ----------
    name, site, nic, private_ip, public_ip : str
        As in `scenario.Node`.
    node_address : str
        Annotation projectcalico.org/IPv4Address, with its mask if it has one.
    pod : str
        Address of the node's first pod.
    veth : str or None
        Its interface on the node; None where no pod is known.
    veth_up : bool or None
        None where that is not known.
    device : Device or None
    addresses : mapping
        Each address of an interface, and where it stands in a recording.
    routes, neighbours, fdb, rules : sequence
        Rows of `parsers.ip_route`, `parsers.ip_neigh`, `parsers.bridge_fdb` and `parsers.iptables_save`.
    sets : mapping
        Members of each IP set.
    sysctl : mapping
        Rows of `parsers.sysctl` by their key.
    sessions : mapping
        `Session` by the peer's address.
    unread : frozenset of str
        Captures that are not there, by their name: what they would say is not known.
    """

    name: str
    site: str
    nic: str
    private_ip: str
    public_ip: str
    node_address: str
    pod: str
    veth: str | None
    veth_up: bool | None = True
    device: Device | None = None
    addresses: Mapping[str, str] = field(default_factory=dict)
    routes: Sequence[Any] = ()
    neighbours: Sequence[Any] = ()
    fdb: Sequence[Any] = ()
    rules: Sequence[Any] = ()
    sets: Mapping[str, Sequence[str]] = field(default_factory=dict)
    sysctl: Mapping[str, Any] = field(default_factory=dict)
    sessions: Mapping[str, Session] = field(default_factory=dict)
    unread: frozenset[str] = frozenset()

    @property
    def node_ip(self) -> str:
        return self.node_address.partition("/")[0]

    def setting(self, interface: str, name: str) -> Any:
        """A row of an interface's kernel settings, or None."""
        return self.sysctl.get(f"net.ipv4.conf.{interface.replace('.', '/')}.{name}")

    def forwarding_off(self, interface: str) -> Any:
        """The setting that keeps the node from forwarding what comes in by an interface, or None."""
        settings = (self.sysctl.get("net.ipv4.ip_forward"), self.setting(interface, "forwarding"))
        return next((each for each in settings if each is not None and each.value == "0"), None)

    def strict(self, interface: str) -> Any:
        """The setting that makes an interface's reverse path filter strict, or None; the larger one counts."""
        settings = [self.setting(name, "rp_filter") for name in ("all", interface)]
        counts = max((each for each in settings if each is not None), key=lambda each: int(each.value), default=None)
        return counts if counts is not None and counts.value == "1" else None


@dataclass(frozen=True, slots=True)
class Hop:
    """What becomes of the packet at one hop.

    Attributes
    ----------
    hop : str
        One of `HOPS`.
    place : str
        Node, site, or "internet".
    result : Result
    what : str
        What decides there, as commands print it: the route, the FDB entry, the addresses.
    cause : str or None
        Of a hop that is not passed as it should be: the rule of `checks.CAUSES` that looks at it.
    source, destination : str or None
        Of the outermost header behind this hop.
    evidence : tuple of str
    missing : tuple of str
        Of an unknown hop: the captures that would decide it, as far as they are not there.
    """

    hop: str
    place: str
    result: Result
    what: str = ""
    cause: str | None = None
    source: str | None = None
    destination: str | None = None
    evidence: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()


def walk(source: Host, target: Host, scenario: Scenario) -> list[Hop]:
    """The hops from the source's pod to the target's; those behind the one that ends it are unreached."""
    way, hops = _Way(source, target, scenario), []
    for hop in way.from_pod():
        hops.append(hop)
        if hop.result == "stop":
            hops += [Hop(each, place_of(each, source, target), "unreached") for each in way.ahead(hop.hop)]
            break
    return hops


def round_trip(source: Host, target: Host, scenario: Scenario) -> dict[Direction, list[Hop]]:
    """The way there and the way back; nothing comes back from where nothing arrived."""
    request, reply = walk(source, target, scenario), walk(target, source, scenario)
    if any(hop.result == "stop" for hop in request):
        reply = [Hop(hop.hop, hop.place, "unreached") for hop in reply]
    return {"request": request, "reply": reply}


def cause_of(hops: Sequence[Hop]) -> str | None:
    """What keeps the packet from the pod: the cause of the first hop that it does not pass as it should."""
    if hops[-1].result in ("pass", "unknown"):
        return None
    return next((hop.cause for hop in hops if hop.result in ("astray", "stop")), None)


def session_trouble(host: Host, peer: Host, scenario: Scenario) -> Hop | None:
    """The hop at which a BGP connection between two nodes ends, or None.

    Of the two the one whose address is the larger text dials (confd, bird.cfg.template), from its own node address.
    """
    dials, waits = sorted((host, peer), key=lambda each: each.node_ip, reverse=True)
    way = _Way(dials, waits, scenario)
    way.begin(_TCP, _BGP_PORT, dials.node_ip, waits.node_ip)
    return next((hop for hop in way.carried() if hop.result == "stop"), None)


def place_of(hop: str, source: Host, target: Host) -> str:
    """Where a hop is."""
    if hop == "internet":
        return INTERNET
    if hop in ("source-check", "nat"):
        return source.site
    return target.name if HOPS.index(hop) >= HOPS.index("peer-nic") else source.name


class _Way:
    """A packet on its way: its outermost header, and the captures that are missing to be certain of its source."""

    def __init__(self, source: Host, target: Host, scenario: Scenario) -> None:
        self.source, self.target, self.scenario = source, target, scenario
        self.by_tunnel = True
        self.mac: str | None = None
        self.remote = target.node_ip
        self.begin(0, None, source.pod, target.pod)

    def begin(self, protocol: int, port: int | None, source: str, destination: str) -> None:
        """Give the packet this header."""
        self.protocol, self.port, self.outer, self.destination = protocol, port, source, destination
        self.doubt: frozenset[str] = frozenset()

    @property
    def leaves_site(self) -> bool:
        """Whether the packet goes by way of the internet: to another site, or to a public address of its own."""
        return self.source.site != self.target.site or self.destination == self.target.public_ip

    def ahead(self, hop: str) -> list[str]:
        """The hops behind this one, as far as they can be told."""
        without = set() if self.leaves_site else {"nat", "internet"}
        if not self.by_tunnel:
            without |= {"neighbour", "fdb", "outer", "snat", "allow-list", "decapsulation"}
        elif mode(self.scenario.cni) == "bird":
            without |= {"neighbour", "fdb"}
        return [each for each in HOPS[HOPS.index(hop) + 1 :] if each not in without]

    def at(self, hop: str, result: Result, what: str = "", *rows: Any, cause: str | None = None) -> Hop:
        """A hop with the header as it now is; evidence is where the rows stand in a recording, if they do."""
        places = tuple(each if isinstance(each, str) else evidence(each) for each in rows if _stands(each))
        place = place_of(hop, self.source, self.target)
        return Hop(hop, place, result, what, cause, self.outer, self.destination, places)

    def unknown(self, hop: str, missing: Collection[str], what: str = "", *rows: Any, cause: str | None = None) -> Hop:
        """A hop that cannot be judged for want of these captures."""
        return replace(self.at(hop, "unknown", what, *rows, cause=cause), missing=tuple(sorted(missing)))

    # ------------------------------------------------------------------ the sender

    def from_pod(self) -> Iterator[Hop]:
        yield self._pod()
        yield self._veth()
        route = best_route(self.source.routes, self.target.pod)
        yield self._route(route)
        if not self.by_tunnel:
            yield from self._network()
            yield self._peer_pod()
            return
        if mode(self.scenario.cni) == "bird":
            remote = route.via if route is not None else self.target.node_ip
            self.begin(_IPIP, None, self.source.private_ip, remote)
        else:
            yield self._neighbour(route)
            yield self._fdb()
            self._begin_vxlan()
        yield from self.carried()
        yield self._decapsulation()
        yield self._peer_pod()

    def _begin_vxlan(self) -> None:
        own, made, cni = self.source, tunnel(self.scenario.cni), self.scenario.cni
        if own.device is not None and own.device.detailed:
            self.begin(_UDP, own.device.dstport, own.device.local_ip or own.private_ip, self.remote)
        else:
            # What the CNI would give it, as long as nobody looked.
            self.begin(_UDP, made.port, own.private_ip if mode(cni) == "canal" else own.node_ip, self.remote)
            self.doubt = frozenset({"ip-link"})

    def _pod(self) -> Hop:
        own = self.source
        if own.veth_up is None:
            return self.unknown("pod", ["ip-link"] if own.veth else [])
        if not own.veth_up:
            return self.at("pod", "stop", f"{own.veth}: down", cause="pod-route")
        return self.at("pod", "pass", f"{own.pod} → {self.target.pod}")

    def _veth(self) -> Hop:
        own = self.source
        unread = own.unread & {"sysctl", "ip-route"}
        if unread or own.veth is None:
            return self.unknown("veth", unread)
        arp = own.setting(own.veth, "proxy_arp")
        if arp is not None and arp.value == "0":
            return self.at("veth", "stop", f"{arp.key} = 0", arp, cause="proxy-arp")
        back = best_route(own.routes, own.pod)
        if back is None or back.dev != own.veth:
            return self.at("veth", "stop", shown_route(back), back, cause="pod-route")
        off = own.forwarding_off(own.veth)
        if off is not None:
            return self.at("veth", "stop", f"{off.key} = 0", off, cause="ip-forward")
        return self.at("veth", "pass", own.veth, back)

    def _route(self, route: Any) -> Hop:
        own, far, cni = self.source, self.target, self.scenario.cni
        if {"ip-route", "route"} <= own.unread:
            return self.unknown("route", ["ip-route"])
        what, dev = shown_route(route), route.dev if route is not None else None
        if own.device is not None and dev == own.device.name:
            dropped = self._forwarded(own, own.veth, dev)
            if dropped is not None:
                return self.at("route", "stop", dropped.spec, dropped, cause="node-filter")
            return self.at("route", "pass", what, route)
        session = own.sessions.get(far.node_ip)
        if mode(cni) == "bird" and session is not None and not session.up:
            trouble = session_trouble(own, far, self.scenario)
            cause = trouble.cause if trouble is not None else "bgp-session"
            return self.at("route", "stop", f"BGP {far.node_ip}: {session.state}", session.evidence, cause=cause)
        tunnel_there = own.device is not None and own.device.up
        cause = "route-to-block" if tunnel_there or "ip-link" in own.unread else "device-present"
        if route is None or route.type != "unicast" or dev != own.nic:
            return self.at("route", "stop", what, route, cause=cause)
        self.by_tunnel = False
        if goes_direct(cni, own.node_address, far.node_address) and route.via == far.node_ip:
            return self.at("route", "pass", what, route)
        return self.at("route", "astray", what, route, cause=cause)

    def _forwarded(self, host: Host, in_iface: str | None, out_iface: str) -> Any:
        """The rule of a node's firewall that drops the inner packet as the node forwards it, or None."""
        packet = Packet(self.source.pod, self.target.pod, ("icmp", "1"), in_iface=in_iface or "", out_iface=out_iface)
        return dropped_by(host.rules, host.sets, "FORWARD", packet)

    def _neighbour(self, route: Any) -> Hop:
        own, far = self.source, self.target
        gateway = route.via if route is not None and isinstance(route.via, str) else far.pod
        name = tunnel(self.scenario.cni).device
        if "ip-neigh" in own.unread:
            self.mac = far.device.mac if far.device is not None else None
            return self.unknown("neighbour", ["ip-neigh"])
        entry = next((each for each in own.neighbours if (each.dst, each.dev) == (gateway, name)), None)
        if entry is None or not isinstance(entry.mac, str):
            return self.at("neighbour", "stop", f"{gateway} → –", cause="mac-agreement")
        self.mac = entry.mac
        return self.at("neighbour", "pass", f"{gateway} → {entry.mac}", entry)

    def _fdb(self) -> Hop:
        own, far, name = self.source, self.target, tunnel(self.scenario.cni).device
        if "bridge-fdb" in own.unread:
            return self.unknown("fdb", ["bridge-fdb"])
        entry = next((each for each in own.fdb if (each.mac, each.dev) == (self.mac, name)), None)
        if entry is None or not isinstance(entry.dst, str):
            return self.at("fdb", "stop", f"{self.mac} → –", cause="mac-agreement")
        self.remote, what = entry.dst, f"{entry.mac} → {entry.dst}"
        if entry.dst != far.node_ip:
            return self.at("fdb", "astray", what, entry, cause="fdb-destination")
        return self.at("fdb", "pass", what, entry)

    # ------------------------------------------------------------------ from the outer header to the peer

    def carried(self) -> Iterator[Hop]:
        """A packet of the node's own, from its header to the peer's firewall."""
        yield self._outer()
        yield self._snat()
        yield from self._network()
        yield self._allow_list()

    def _outer(self) -> Hop:
        own, device = self.source, self.source.device
        how = f"ip proto {self.protocol}" if self.port is None else f"{_NAMES[self.protocol][0]}/{self.port}"
        if self.protocol == _UDP and device is not None and device.detailed:
            how += f" vni {device.vni}"
        rows = (device.evidence,) if device is not None and self.protocol != _TCP else ()
        what = f"{self.outer} → {self.destination} {how}"
        missing = self.doubt | own.unread & {"ip-addr"}
        if missing:
            return self.unknown("outer", missing, what, *rows)
        if self.outer not in own.addresses:
            cause = "bgp-source" if self.protocol == _TCP else "local-address"
            return self.at("outer", "stop", what, *rows, cause=cause)
        return self.at("outer", "pass", what, *rows, own.addresses[self.outer])

    def _snat(self) -> Hop:
        own, protocol, port = self.source, _NAMES[self.protocol][0], self.port or 0
        if "iptables-save" in own.unread and self.outer != own.private_ip:
            self.doubt |= {"iptables-save"}
        missing = self.doubt | own.unread & {"iptables-save"}
        if missing:
            return self.unknown("snat", missing)
        untracked = not_tracked(own.rules, own, self.outer, protocol, port)
        if untracked is not None:
            return self.at("snat", "pass", untracked.spec, untracked)
        snat = None
        if self.outer != own.private_ip:
            snat = source_rewritten(own.rules, own, self.outer, protocol, port)
        dnat = destination_rewritten(own.rules, own, self.destination, protocol, port)
        said = []
        if snat is not None:
            said.append(f"{self.outer} → {own.private_ip}")
            self.outer = own.private_ip
        if dnat is not None:
            to = str(dnat.to_destination).partition(":")[0]
            said.append(f"{self.destination} → {to}")
            self.destination = to
        return self.at("snat", "pass", ", ".join(said) or "–", snat, dnat)

    def _network(self) -> Iterator[Hop]:
        yield self._nic()
        yield self._source_check()
        if self.leaves_site or self.destination not in (self.target.private_ip, self.target.pod):
            yield self._nat()
            yield self._internet()
        yield self._peer_nic()

    def _nic(self) -> Hop:
        own = self.source
        if self.destination in own.addresses:
            twice = own.addresses[self.destination]
            return self.at("nic", "stop", self.destination, twice, cause="duplicate-address")
        packet = Packet(self.outer, self.destination, _NAMES.get(self.protocol, ()), self.port, out_iface=own.nic)
        dropped = dropped_by(own.rules, own.sets, "OUTPUT", packet) if self.protocol else None
        if dropped is not None:
            return self.at("nic", "stop", dropped.spec, dropped, cause="node-filter")
        return self.at("nic", "pass", own.nic)

    @property
    def _foreign(self) -> str:
        """The cause where the cloud does not know the source."""
        return {_TCP: "bgp-source", _UDP: "outer-source", _IPIP: "outer-source"}.get(self.protocol, "pod-source")

    def _source_check(self) -> Hop:
        own, scenario = self.source, self.scenario
        if self.protocol in scenario.blocked_protocols(own.site):
            return self.at("source-check", "stop", f"ip proto {self.protocol}", cause="outer-protocol")
        if not scenario.checks_source(own.site):
            return self.at("source-check", "pass", "source_check: false")
        known = self.outer == own.private_ip
        what = self.outer if known else f"{self.outer} ≠ {own.private_ip}"
        if self.doubt:
            return self.unknown("source-check", self.doubt, what, cause=None if known else self._foreign)
        if known:
            return self.at("source-check", "pass", what)
        return self.at("source-check", "stop", what, cause=self._foreign)

    def _nat(self) -> Hop:
        own = self.source
        if not self.scenario.cloud(own.site).nat:
            return self.at("nat", "pass", "–")
        if self.outer != own.private_ip:
            what = f"{self.outer} → –"
            if self.doubt:
                return self.unknown("nat", self.doubt, what, cause=self._foreign)
            return self.at("nat", "stop", what, cause=self._foreign)
        self.outer = own.public_ip
        return self.at("nat", "pass", f"{own.private_ip} → {own.public_ip}")

    def _internet(self) -> Hop:
        if self.destination == self.target.public_ip:
            return self.at("internet", "pass", self.destination)
        cause = "bgp-reachable" if self.protocol == _TCP else "fdb-reachable" if self.by_tunnel else "route-to-block"
        return self.at("internet", "stop", f"{self.destination} → –", cause=cause)

    def _peer_nic(self) -> Hop:
        far, scenario, what = self.target, self.scenario, self.target.nic
        if self.protocol in scenario.blocked_protocols(far.site):
            return self.at("peer-nic", "stop", f"ip proto {self.protocol}", cause="outer-protocol")
        if self.destination == far.public_ip and scenario.cloud(far.site).nat:
            what = f"{self.destination} → {far.private_ip}"
            self.destination = far.private_ip
        return self.at("peer-nic", "pass", what)

    # ------------------------------------------------------------------ the receiver

    def _allow_list(self) -> Hop:
        far = self.target
        wanted = {"ip-addr", "iptables-save"} | (set() if mode(self.scenario.cni) == "canal" else {"ipset-list"})
        missing = far.unread & wanted | self.doubt
        if missing:
            return self.unknown("allow-list", missing)
        if self.outer in far.addresses:
            # A kernel takes no packet from an address of its own (a "martian source").
            own = far.addresses[self.outer]
            return self.at("allow-list", "stop", self.outer, own, cause="duplicate-address")
        packet = Packet(self.outer, self.destination, _NAMES[self.protocol], self.port, in_iface=far.nic)
        dropped = dropped_by(far.rules, far.sets, "INPUT", packet)
        if dropped is None:
            return self.at("allow-list", "pass", self.outer)
        listed = isinstance(dropped.comment, str) and "non-whitelisted hosts" in dropped.comment
        members = ", ".join(member for name, each in far.sets.items() if name in _ALLOWED for member in each)
        what = f"{self.outer} ∉ {{{members}}}" if listed else dropped.spec or f"policy {dropped.policy}"
        return self.at("allow-list", "stop", what, dropped, cause="allow-list" if listed else "node-filter")

    def _decapsulation(self) -> Hop:
        own, far = self.source.device, self.target.device
        if "ip-link" in self.target.unread or own is None or not own.detailed or (far and not far.detailed):
            return self.unknown("decapsulation", ["ip-link"])
        if far is None or not far.up:
            return self.at("decapsulation", "stop", tunnel(self.scenario.cni).device, cause="device-present")
        what = far.name if far.vni is None else f"{far.name} vni {far.vni} udp/{far.dstport}"
        if (own.vni, own.dstport) != (far.vni, far.dstport):
            return self.at("decapsulation", "stop", what, own.evidence, far.evidence, cause="vni-port")
        return self.at("decapsulation", "pass", what, far.evidence)

    def _peer_pod(self) -> Hop:
        far = self.target
        self.outer, self.destination = self.source.pod, far.pod
        if self.by_tunnel and self.mac is not None and far.device is not None and self.mac != far.device.mac:
            what = f"{self.mac} ≠ {far.device.mac}"
            return self.at("peer-pod", "stop", what, far.device.evidence, cause="mac-agreement")
        unread = far.unread & {"sysctl", "ip-route", "iptables-save"}
        if far.veth is not None and far.veth_up is None:
            unread |= {"ip-link"}
        if unread or far.veth is None:
            return self.unknown("peer-pod", unread)
        came_by = far.nic if not self.by_tunnel or far.device is None else far.device.name
        back, strict = best_route(far.routes, self.source.pod), far.strict(came_by)
        if strict is not None and back is not None and back.dev != came_by:
            return self.at("peer-pod", "stop", shown_route(back), strict, back, cause="rp-filter")
        off = far.forwarding_off(came_by)
        if off is not None:
            return self.at("peer-pod", "stop", f"{off.key} = 0", off, cause="ip-forward")
        route = best_route(far.routes, far.pod)
        if route is None or route.dev != far.veth or not far.veth_up:
            return self.at("peer-pod", "stop", shown_route(route), route, cause="pod-route")
        dropped = self._forwarded(far, came_by, far.veth)
        if dropped is not None:
            return self.at("peer-pod", "stop", dropped.spec or f"policy {dropped.policy}", dropped, cause="node-filter")
        return self.at("peer-pod", "pass", shown_route(route), route)


_ALLOWED = ("cali40all-vxlan-net", "cali40all-hosts-net")


def _stands(row: Any) -> bool:
    """Whether something stands in a recording."""
    return bool(row) if isinstance(row, str) else hasattr(row, "file")
