"""What a node's kernel does with a packet, read from what its commands print: route, NAT and filter rules.

Routes are rows of `parsers.ip_route` and rules are rows of `parsers.iptables_save`, alone or from a table of `Tables`.
Only rules whose conditions are all understood here apply; one with another match is passed over.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import pandas as pd

__all__ = [
    "Packet",
    "best_route",
    "destination_rewritten",
    "dropped_by",
    "not_tracked",
    "shown_route",
    "source_rewritten",
    "within",
]


# ---------------------------------------------------------------------- routes


def best_route(routes: Iterable[Any], address: str) -> Any:
    """The route of the main table that a packet to this address takes, or None: longest prefix, then lowest metric."""
    wanted = ipaddress.ip_address(address)
    fitting = [
        (-network.prefixlen, 0 if pd.isna(route.metric) else route.metric, route.line, route)
        for route in routes
        if not isinstance(route.table, str)
        for network in [_network(route.destination, wanted.version)]
        if network is not None and wanted in network
    ]
    return min(fitting, key=lambda found: found[:3])[-1] if fitting else None


@cache
def _network(destination: str, version: int) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    """A route's destination as a network of that IP version, or None."""
    text = ("0.0.0.0/0" if version == 4 else "::/0") if destination == "default" else destination
    network = ipaddress.ip_network(text)
    return network if network.version == version else None


def shown_route(route: Any) -> str:
    """A route in a few words, as ``ip route`` has it."""
    if route is None:
        return "–"
    words = ["" if route.type == "unicast" else route.type, route.destination]
    words += [f"via {route.via}" if isinstance(route.via, str) else ""]
    words += [f"dev {route.dev}" if isinstance(route.dev, str) else ""]
    return " ".join(word for word in words if word)


# ---------------------------------------------------------------------- NAT


def source_rewritten(rules: Iterable[Any], node: Any, source: str, protocol: str, port: int) -> Any:
    """The SNAT rule that gives what leaves with this source the NIC's own address, or None.

    Parameters
    ----------
    rules : iterable
        All of the node's rules.
    node : object
        With ``nic`` and ``private_ip``.
    source, protocol, port : str, str, int
        Of what leaves: outer address, as iptables names the protocol, and destination port.
    """
    return next(
        (
            rule
            for rule in rules
            if rule.table == "nat"
            and (rule.target == "MASQUERADE" or (rule.target == "SNAT" and rule.to_source == node.private_ip))
            and _leaves(rule, node, source, protocol, port)
        ),
        None,
    )


def destination_rewritten(rules: Iterable[Any], node: Any, destination: str, protocol: str, port: int) -> Any:
    """The DNAT rule for what the node itself sends to this address, or None."""
    return next(
        (
            rule
            for rule in rules
            if (rule.table, rule.target, rule.chain) == ("nat", "DNAT", "OUTPUT")
            and isinstance(rule.dst, str)
            and within(destination, [rule.dst])
            and _leaves(rule, node, node.private_ip, protocol, port)
        ),
        None,
    )


def not_tracked(rules: Iterable[Any], node: Any, source: str, protocol: str, port: int) -> Any:
    """The rule that keeps what leaves with this source from connection tracking, and so from any NAT; or None."""
    return next(
        (
            rule
            for rule in rules
            if rule.table == "raw"
            and (rule.target == "NOTRACK" or (rule.target == "CT" and "--notrack" in rule.spec))
            and rule.chain != "PREROUTING"
            and _leaves(rule, node, source, protocol, port)
        ),
        None,
    )


def _leaves(rule: Any, node: Any, source: str, protocol: str, port: int) -> bool:
    """Whether an iptables rule is for packets that leave the NIC with this source; one with more conditions is not."""
    source_fits = not isinstance(rule.src, str) or within(source, [rule.src])
    leaves_here = not isinstance(rule.out_iface, str) or rule.out_iface == node.nic
    port_fits = not isinstance(rule.dports, str) or str(port) in rule.dports.split(",")
    proto_fits = not isinstance(rule.proto, str) or rule.proto == protocol
    plain = not rule.negated and not isinstance(rule.set_name, str) and not isinstance(rule.src_type, str)
    return source_fits and leaves_here and port_fits and proto_fits and plain


def within(address: str, networks: Iterable[str]) -> bool:
    """Whether one of the networks (or addresses) has the address."""
    return any(ipaddress.ip_address(address) in ipaddress.ip_network(network, strict=False) for network in networks)


# ---------------------------------------------------------------------- filter


@dataclass(frozen=True, slots=True)
class Packet:
    """What a filter rule looks at.

    Attributes
    ----------
    source, destination : str
    protocols : tuple of str
        Names of its IP protocol: iptables-save prints IP-in-IP's as ipencap, ipip or 4.
    port : int or None
        Destination port.
    in_iface, out_iface : str
        Empty where there is none.
    """

    source: str
    destination: str
    protocols: tuple[str, ...]
    port: int | None = None
    in_iface: str = ""
    out_iface: str = ""


_UNDERSTOOD = {"comment", "set", "addrtype", "multiport", "udp", "tcp", "icmp"}
_LAST_WORDS = {"ACCEPT", "DROP", "REJECT"}


def dropped_by(rules: Sequence[Any], sets: Mapping[str, Sequence[str]], chain: str, packet: Packet) -> Any:
    """The rule of the filter table, or the chain's own row where its policy decides, that drops the packet; or None.

    Parameters
    ----------
    rules : sequence
        All of the node's rules.
    sets : mapping
        Members of each IP set.
    chain : str
        Where the packet begins: INPUT, FORWARD or OUTPUT.
    packet : Packet
    """
    table = [rule for rule in rules if rule.table == "filter"]
    decisive = _decisive(table, sets, chain, packet)
    if decisive is None:
        return next((rule for rule in table if rule.chain == chain and rule.policy == "DROP"), None)
    return None if decisive.target == "ACCEPT" else decisive


def _decisive(rules: Sequence[Any], sets: Mapping[str, Sequence[str]], chain: str, packet: Packet) -> Any:
    """The first rule that has the last word on the packet, in this chain or in one that it jumps to."""
    own = [rule for rule in rules if rule.chain == chain and not pd.isna(rule.number)]
    for rule in sorted(own, key=lambda rule: int(rule.number)):
        if not _matches(rule, sets, packet):
            continue
        if rule.target == "RETURN":
            return None
        if rule.target in _LAST_WORDS:
            return rule
        found = _decisive(rules, sets, rule.target, packet) if isinstance(rule.target, str) else None
        if found is not None or rule.goto:
            return found
    return None


def _matches(rule: Any, sets: Mapping[str, Sequence[str]], packet: Packet) -> bool:
    if rule.negated or not set(re.findall(r"-m (\S+)", rule.spec)) <= _UNDERSTOOD:
        return False
    # What a chain of INPUT sees is for this node, and what one of OUTPUT sees is of it.
    local = all(not isinstance(kind, str) or kind == "LOCAL" for kind in (rule.src_type, rule.dst_type))
    return (
        local
        and _of_set(rule, sets, packet)
        and (not isinstance(rule.src, str) or within(packet.source, [rule.src]))
        and (not isinstance(rule.dst, str) or within(packet.destination, [rule.dst]))
        and (not isinstance(rule.proto, str) or rule.proto in packet.protocols)
        and (not isinstance(rule.dports, str) or str(packet.port) in rule.dports.split(","))
        and not isinstance(rule.sports, str)
        and _of_interface(rule.in_iface, packet.in_iface)
        and _of_interface(rule.out_iface, packet.out_iface)
    )


def _of_set(rule: Any, sets: Mapping[str, Sequence[str]], packet: Packet) -> bool:
    if not isinstance(rule.set_name, str):
        return True
    address = {"src": packet.source, "dst": packet.destination}.get(rule.set_side)
    return address is not None and within(address, sets.get(rule.set_name, ()))


def _of_interface(wanted: Any, interface: str) -> bool:
    if not isinstance(wanted, str):
        return True
    return interface.startswith(wanted[:-1]) if wanted.endswith("+") else interface == wanted
