"""A recording's probe from pod to pod, hop by hop: what should become of it, and what was seen of it.

The predicted column follows a packet over the state that the nodes printed (`walk`). The measured column knows nothing
of that: it says at which hops packets were counted or seen. tcpdump shows the very probe, by the addresses within the
tunnel. A counter knows no addresses, so what it counted may be another probe's: only one that is too small tells, and
one of packets that were dropped.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import pandas as pd

from .calico import tunnel
from .checks.shared import established, first_pod, nodes_of
from .checks.wire import dropped_probes
from .tables import Tables, evidence, rows
from .walk import Device, Direction, Hop, Host, Session, round_trip

__all__ = ["differs", "end", "first_pair", "journey"]


def first_pair(tables: Tables) -> tuple[str, str]:
    """The nodes of the first probe between pods of two sites; of any two nodes, or unprobed, where there is none."""
    sites = {node.name: node.site for node in nodes_of(tables)}
    names = list(sites)
    probed = [(ping.source, ping.target) for ping in rows(tables.pings) if ping.via == "pod"]
    pairs = probed or [(near, far) for near in names for far in names if near != far]
    # Probes are recorded as they end, which is in another order each time.
    pairs.sort(key=lambda pair: (sites[pair[0]] == sites[pair[1]], names.index(pair[0]), names.index(pair[1])))
    return pairs[0]


def journey(tables: Tables, source: str, target: str) -> pd.DataFrame:
    """The probe from the source's pod to the target's, and back.

    Parameters
    ----------
    tables : Tables
    source, target : str
        Names of nodes.

    Returns
    -------
    DataFrame
        A row a hop.

        ================= ==== ==== ==================================================================
        column            type unit meaning
        ================= ==== ==== ==================================================================
        direction         str       request or reply
        position          int       from 1, through both directions
        hop               str       one of `walk.HOPS`
        place             str       node, site or "internet"
        what              str       what decides there, as commands print it
        missing           str       captures without which the hop cannot be judged, by their names
        outer_source      str       of the outermost header behind the hop; NA where it is unreached
        outer_destination str
        predicted         str       pass, astray, stop, unknown or unreached: from the nodes' state alone
        cause             str       of a hop that is not passed as it should be: id of the check that looks at it
        measured          str       seen, dropped (a counter says so), unseen, or NA where nothing tells
        packets           int       how many were seen, counted or dropped there; NA where nothing tells
        evidence          tuple     file:line of both
        ================= ==== ==== ==================================================================
    """
    near, far = (_host(tables, tables.where("nodes", name=name)[0]) for name in (source, target))
    way = round_trip(near, far, tables.scenario)
    hops = [(direction, hop) for direction, each in way.items() for hop in each]
    sightings = _sightings(tables, source, target, way)
    frame = pd.DataFrame(
        [
            {
                "direction": direction,
                "position": position,
                "hop": hop.hop,
                "place": hop.place,
                "what": hop.what or None,
                "missing": ", ".join(hop.missing) or None,
                "outer_source": hop.source,
                "outer_destination": hop.destination,
                "predicted": hop.result,
                "cause": hop.cause,
                "measured": seen.how if seen is not None else None,
                "packets": seen.packets if seen is not None else None,
                "evidence": (*hop.evidence, *(seen.places if seen is not None else ())),
            }
            for position, ((direction, hop), seen) in enumerate(zip(hops, sightings, strict=True), start=1)
        ]
    )
    texts = ["what", "missing", "outer_source", "outer_destination", "cause", "measured"]
    return frame.astype(dict.fromkeys(texts, "str") | {"packets": "Int64"})


def end(frame: pd.DataFrame, column: Literal["predicted", "measured"]) -> Any:
    """The row of a journey at which the packet ends, as predicted or as measured, or None where it arrives."""
    wanted = ("stop",) if column == "predicted" else ("dropped", "unseen")
    return next(rows(frame[frame[column].isin(wanted)]), None)


def differs(frame: pd.DataFrame) -> bool | None:
    """Whether a journey was measured otherwise than predicted; None where one of the two is not known.

    A measurement tells between which two hops the packet was lost: behind the last at which it was seen, and no later
    than the first at which it was not.
    """
    predicted, lost = end(frame, "predicted"), end(frame, "measured")
    seen = frame.loc[frame["measured"] == "seen", "position"]
    doubtful = frame.loc[frame["predicted"] == "unknown", "position"]
    if lost is None:
        if seen.empty or seen.max() < frame["position"].max():
            return None
        return True if predicted is not None else None if not doubtful.empty else False
    before = seen[seen < lost.position].max() if (seen < lost.position).any() else 0
    if predicted is not None and before < predicted.position <= lost.position:
        return False
    return None if doubtful.between(before + 1, lost.position).any() else True


# ---------------------------------------------------------------------- what the nodes are set to do


_DECIDING = (
    "ip-link",
    "ip-addr",
    "ip-route",
    "route",
    "ip-neigh",
    "bridge-fdb",
    "iptables-save",
    "ipset-list",
    "sysctl",
)


def _host(tables: Tables, node: Any) -> Host:
    veth = next((pod.veth for pod in tables.where("pods", node=node.name)), None)
    links = {link.name: link for link in tables.where("links", node=node.name)}
    # Of what was captured by hand there may be one interface alone.
    whole, device = node.nic in links, _device(links.get(tunnel(tables.scenario.cni).device))
    unread = {name for name in _DECIDING if tables.unread(node.name, name)}
    sets: dict[str, list[str]] = {}
    for member in tables.where("ipsets", node=node.name):
        sets.setdefault(member.set_name, []).extend([member.member] if isinstance(member.member, str) else [])
    return Host(
        name=node.name,
        site=node.site,
        nic=node.nic,
        private_ip=node.private_ip,
        public_ip=node.public_ip,
        node_address=node.node_address,
        pod=first_pod(tables, node.name),
        veth=veth,
        veth_up="UP" in links[veth].flags if veth in links else False if whole and veth else None,
        device=device,
        addresses={each.address: evidence(each) for each in tables.where("addresses", node=node.name, family="inet")},
        routes=tables.where("routes", node=node.name) or _old_routes(tables, node),
        neighbours=tables.where("neighbours", node=node.name),
        fdb=tables.where("fdb", node=node.name),
        rules=tables.where("iptables", node=node.name),
        sets=sets,
        sysctl={each.key: each for each in tables.where("sysctl", node=node.name)},
        sessions={
            each.peer_ip: Session(
                established(each), each.info if isinstance(each.info, str) else each.state, evidence(each)
            )
            for each in tables.where("bgp", node=node.name, proto="BGP")
        },
        unread=frozenset(unread if whole or device is not None else unread | {"ip-link"}),
    )


def _device(link: Any) -> Device | None:
    if link is None:
        return None
    mac, local_ip, vni, dstport = (
        None if pd.isna(value) else value for value in (link.mac, link.local_ip, link.vni, link.dstport)
    )
    detailed = not pd.isna(link.detail_line)
    place = evidence(link, int(link.detail_line) if detailed else None)
    return Device(link.name, mac, local_ip, vni, dstport, "UP" in link.flags, detailed, place)


@dataclass(frozen=True, slots=True)
class _OldRoute:
    """A row of the older ``route``, with the columns of `parsers.ip_route` that it has."""

    file: str
    line: int
    type: str
    destination: str
    via: str | None
    dev: str | None
    metric: int
    table: None = None


def _old_routes(tables: Tables, node: Any) -> list[_OldRoute]:
    found = []
    for entry in tables.where("route", node=node.name):
        default = entry.destination in ("default", "0.0.0.0")
        if not default and not entry.destination[0].isdigit():
            continue  # a name, such as _gateway
        network = "default" if default else str(ipaddress.ip_network(f"{entry.destination}/{entry.genmask}"))
        nowhere = entry.iface == "*" or not isinstance(entry.iface, str)
        via = entry.gateway if isinstance(entry.gateway, str) and entry.gateway != "0.0.0.0" else None
        kind, dev = ("blackhole", None) if nowhere else ("unicast", entry.iface)
        found.append(_OldRoute(entry.file, entry.line, kind, network, via, dev, entry.metric))
    return found


# ---------------------------------------------------------------------- what was seen of the probe

_REQUEST, _REPLY = "ICMP echo request", "ICMP echo reply"


@dataclass(frozen=True, slots=True)
class _Seen:
    """What a hop tells: `exact` where it is of this very probe, and not of whatever else was counted there."""

    how: Literal["seen", "dropped", "unseen"]
    packets: int | None
    places: tuple[str, ...]
    exact: bool = False


def _sightings(tables: Tables, source: str, target: str, way: Mapping[Direction, list[Hop]]) -> list[_Seen | None]:
    """What each hop of the way tells, in order."""
    ping = next(iter(tables.where("pings", source=source, target=target, via="pod")), None)
    if ping is None:
        return [None] * sum(map(len, way.values()))
    if ping.outcome == "failed":
        return [_Seen("unseen", 0, (ping.file,)), *[None] * (sum(map(len, way.values())) - 1)]
    sent = int(ping.transmitted)
    there, back = _Flow(tables, source, target, _REQUEST, sent), _Flow(tables, target, source, _REPLY, sent)
    request = [there.at(hop.hop, way["request"]) for hop in way["request"]]
    reply = [back.at(hop.hop, way["reply"]) for hop in way["reply"][:-1]]
    if not ping.received and any(each is not None and each.how != "seen" for each in _consistent(request)):
        reply = [None] * len(reply)  # what was counted there is the other node's own requests
    how: Literal["seen", "unseen"] = "seen" if ping.received else "unseen"
    return _consistent([*request, *reply, _Seen(how, int(ping.received), (evidence(ping),), exact=True)])


def _consistent(found: list[_Seen | None]) -> list[_Seen | None]:
    """What was seen for certain passed all earlier hops, and what was lost is at no later one; the end is known."""
    certain = max((index for index, each in enumerate(found) if each and each.exact and each.how == "seen"), default=-1)
    result: list[_Seen | None] = []
    lost = False
    for index, each in enumerate(found):
        kept = each
        if index < certain and (each is None or each.how != "seen"):
            kept = _Seen("seen", None, ())
        elif lost and index < len(found) - 1:
            kept = None
        lost = lost or (kept is not None and kept.how != "seen")
        result.append(kept)
    return result


class _Flow:
    """The probe's packets in one direction.

    Parameters
    ----------
    tables : Tables
    near, far : str
        Nodes from and to which they go.
    kind : str
        How tcpdump names them.
    sent : int
        How many there should be.
    """

    def __init__(self, tables: Tables, near: str, far: str, kind: str, sent: int) -> None:
        nodes = {node.name: node for node in nodes_of(tables)}
        self.tables, self.near, self.far, self.kind, self.sent = tables, nodes[near], nodes[far], kind, sent
        self.pods = {name: tables.where("pods", node=name)[0] for name in (near, far)}
        self.device = tunnel(tables.scenario.cni).device

    def at(self, hop: str, way: Sequence[Hop]) -> _Seen | None:
        """What that hop tells; nothing of a tunnel that the packet does not take."""
        hops = {each.hop for each in way}
        if "outer" not in hops and hop in ("nic", "peer-nic"):
            return None
        if hop == ("neighbour" if "neighbour" in hops else "outer") and (short := self._into_tunnel()) is not None:
            return short
        look = {
            "pod": self._pod,
            "fdb": self._no_entry,
            "outer": self._no_carrier,
            "nic": self._leaving,
            "source-check": self._checked,
            "nat": self._unmapped,
            "internet": self._unrouted,
            "peer-nic": self._arriving,
            "allow-list": self._filtered,
            "decapsulation": self._out_of_tunnel,
            "peer-pod": self._delivered,
        }.get(hop)
        return look() if look is not None else None

    # ------------------------------------------------------------------ counters of interfaces

    def _counted(self, node: str, interface: str, *columns: str) -> tuple[int, tuple[str, ...]] | None:
        """What an interface counted, and where that stands; None if nobody asked. One that is not there counts none."""
        row = next(iter(self.tables.where("counters", node=node, dev=interface)), None)
        if row is None:
            unread = any(self.tables.unread(node, name) for name in ("ip-link-stats-before", "ip-link-stats"))
            return None if unread else (0, (f"captures/{node}/ip-link-stats.txt",))
        values = [getattr(row, column) for column in columns]
        return (sum(map(int, values)), (evidence(row),)) if not any(map(pd.isna, values)) else None

    def _pod(self) -> _Seen | None:
        """Whether the pod sent anything: of one that answers nobody can tell what else it sent."""
        counted = self._counted(self.near.name, self.pods[self.near.name].veth, "rx_packets")
        if counted is None or (counted[0] and self.kind != _REQUEST):
            return None
        return _Seen("seen", None, counted[1]) if counted[0] else _Seen("unseen", *counted)

    def _into_tunnel(self) -> _Seen | None:
        """Whether too little went into the tunnel's device; what left the NIC is another probe's, or seen there."""
        counted = self._counted(self.near.name, self.device, "tx_packets", "tx_errors", "tx_dropped")
        if counted is None or self.tables.unread(self.near.name, "tcpdump"):
            return None
        left = [
            packet
            for proto in ("vxlan", "ipip")
            for packet in self.tables.where("packets", node=self.near.name, direction="Out", proto=proto)
        ]
        return self._too_few((max(0, counted[0] - len(left)), counted[1]))

    def _too_few(self, counted: tuple[int, tuple[str, ...]] | None) -> _Seen | None:
        return _Seen("unseen", *counted) if counted is not None and counted[0] < self.sent else None

    def _no_entry(self) -> _Seen | None:
        """VXLAN drops what it finds no entry for, or no MAC (drivers/net/vxlan, vxlan_xmit)."""
        if self._no_carrier() is not None:
            return None  # they found their entry; what else was dropped is the kernel's own multicast
        return self._lost(self._counted(self.near.name, self.device, "tx_dropped"))

    def _no_carrier(self) -> _Seen | None:
        """No local address for the outer header counts as a carrier error (drivers/net/vxlan, vxlan_xmit_one)."""
        return self._lost(self._counted(self.near.name, self.device, "tx_carrier"))

    def _lost(self, counted: tuple[int, tuple[str, ...]] | None) -> _Seen | None:
        return _Seen("dropped", *counted) if counted is not None and counted[0] >= self.sent else None

    def _out_of_tunnel(self) -> _Seen | None:
        return self._too_few(self._counted(self.far.name, self.device, "rx_packets"))

    def _delivered(self) -> _Seen | None:
        answers = self._on_wire(self.far.name, "Out", answer=True)
        if answers:
            return _Seen("seen", len(answers), (evidence(answers[0]),), exact=True)
        counted = self._counted(self.far.name, self.pods[self.far.name].veth, "tx_packets")
        return self._blocked(forwarded=True) or self._too_few(counted)

    # ------------------------------------------------------------------ packets at the NICs

    def _on_wire(self, node: str, direction: str, *, answer: bool = False) -> list[Any]:
        """This probe's packets at a node's interfaces, or the answers to them."""
        ends = [self.pods[self.near.name].address, self.pods[self.far.name].address]
        src, dst = ends[::-1] if answer else ends
        kind = _REPLY if answer else self.kind
        found = self.tables.where("packets", node=node, direction=direction, inner_src=src, inner_dst=dst)
        return [packet for packet in found if packet.info.startswith(kind)]

    def _leaving(self) -> _Seen | None:
        return self._sighted(self.near.name, "Out")

    def _arriving(self) -> _Seen | None:
        return self._drop("blocked-protocol", self.far.name, "filter") or self._sighted(self.far.name, "In")

    def _sighted(self, node: str, direction: str) -> _Seen | None:
        if self.tables.unread(node, "tcpdump"):
            return None
        found = self._on_wire(node, direction)
        place = evidence(found[0]) if found else f"captures/{node}/tcpdump.txt"
        return _Seen("seen" if found else "unseen", len(found), (place,), exact=True)

    # ------------------------------------------------------------------ rules that name what they drop

    def _checked(self) -> _Seen | None:
        return self._drop("source-check", self.near.name, "raw") or self._drop(
            "blocked-protocol", self.near.name, "raw"
        )

    def _unmapped(self) -> _Seen | None:
        return self._drop("no-mapping", "", "filter", router=f"fabric.{self.near.site}")

    def _unrouted(self) -> _Seen | None:
        """Packets to the peer's private address, or to a pod's, that got as far as the internet."""
        drops = [
            self._drop("no-route", "", "raw", towards=address)
            for address in (self.far.private_ip, self.pods[self.far.name].address)
        ]
        return next((drop for drop in drops if drop is not None), None)

    def _drop(
        self, name: str, node: str, table: str, *, router: str | None = None, towards: str | None = None
    ) -> _Seen | None:
        """What the lab's routers dropped under that name, without the pings that were sent to be dropped."""
        for rule in self.tables.where("fabric_iptables", comment=f"{name} {node}".rstrip(), table=table):
            here = router is None or rule.node == router
            if towards is not None:
                here = here and ipaddress.ip_address(towards) in ipaddress.ip_network(rule.dst)
            packets = int(rule.packets) - dropped_probes(self.tables, name, node, rule.dst) if here else 0
            if here and packets >= self.sent:
                return _Seen("dropped", packets, (evidence(rule),))
        return None

    def _filtered(self) -> _Seen | None:
        return self._blocked(forwarded=False)

    def _blocked(self, *, forwarded: bool) -> _Seen | None:
        """What the peer's own firewall dropped on its way in, or while it forwarded."""
        tunnels = ("udp",) if tunnel(self.tables.scenario.cni).port else ("4", "ipencap", "ipip")
        protocols = ("icmp",) if forwarded else tunnels
        for rule in self.tables.where("iptables_grown", node=self.far.name, table="filter"):
            if rule.target not in ("DROP", "REJECT") or pd.isna(rule.grown) or rule.grown < self.sent:
                continue
            if isinstance(rule.proto, str) and rule.proto not in protocols:
                continue
            if ("FORWARD" in rule.chain) is forwarded and "OUTPUT" not in rule.chain:
                return _Seen("dropped", int(rule.grown), (evidence(rule),))
        return None
