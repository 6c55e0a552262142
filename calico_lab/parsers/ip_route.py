"""`ip route show`, `ip route show table all` and their `-6` forms.

=========== ============ ===== =====================================================================
column      type         unit  meaning
=========== ============ ===== =====================================================================
line        int                1-based line; of the next hop where a route has several
type        str                unicast where none is printed; blackhole, local, broadcast, ...
destination str                "default", a network, or an address, which stands for its /32 or /128
via         str | None         gateway
dev         str | None
proto       str | None         kernel, bird, dhcp, 80, ...; None where printed without (boot)
scope       str | None         link, host; None where printed without (global)
src         str | None         preferred source address
metric      int | None
table       str | None         name or number; None is the table asked for, "main" with `table all`
onlink      bool               the gateway is taken to be on the link, whatever the addresses say
mtu_bytes   int | None   bytes MTU of the route
weight      int | None         of the next hop, where a route has several
flags       tuple of str       linkdown, dead, pervasive, offload, ... as printed
=========== ============ ===== =====================================================================

Source of the words: iproute2, ``ip/iproute.c`` (4.15 to 6.1).
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from calico_lab.parsers._words import Line, Words, address, destination, integer, lines

__all__ = ["Row", "parse"]

_TYPES = {
    "unicast",
    "local",
    "broadcast",
    "anycast",
    "multicast",
    "blackhole",
    "unreachable",
    "prohibit",
    "throw",
    "nat",
}
_NO_NEXT_HOP = {"blackhole", "unreachable", "prohibit", "throw"}
_VALUES = {
    "via",
    "dev",
    "proto",
    "scope",
    "src",
    "metric",
    "table",
    "mtu",
    "weight",
    "nhid",
    "pref",
    "tos",
    "from",
    "realm",
    "realms",
    "advmss",
    "window",
    "rtt",
    "rttvar",
    "ssthresh",
    "cwnd",
    "initcwnd",
    "initrwnd",
    "hoplimit",
    "reordering",
    "quickack",
    "congctl",
    "features",
    "rto_min",
    "expires",
    "error",
    "ttl-propagate",
}
_FLAGS = {
    "linkdown",
    "dead",
    "pervasive",
    "offload",
    "offload_failed",
    "rt_offload",
    "rt_trap",
    "trap",
    "notify",
    "unresolved",
}


@dataclass(frozen=True, slots=True)
class Row:
    """One route, or one next hop of it; columns as in the module's table."""

    line: int
    type: str
    destination: str
    via: str | None
    dev: str | None
    proto: str | None
    scope: str | None
    src: str | None
    metric: int | None
    table: str | None
    onlink: bool
    mtu_bytes: int | None
    weight: int | None
    flags: tuple[str, ...]


def parse(text: str) -> list[Row]:
    """Read the routes.

    A route of several next hops gives a row for each, all with the route's other columns.

    Raises
    ------
    ParseError
        For an unknown word (named), and for a route that leads nowhere: its line, or those of its next hops, are cut.
    """
    rows: list[Row] = []
    several: Row | None = None
    due: Line | None = None  # a route whose next hops are still to come
    for line in lines(text):
        if line.text.startswith(("\t", " ")):
            if several is None:
                raise line.error("a next hop without its route")
            rows.append(_next_hop(several, line))
            due = None
            continue
        if due:
            raise due.error("a route without device, gateway and next hops")
        row, has_next_hops = _route(line)
        if has_next_hops:
            several, due = row, line
        else:
            several = None
            rows.append(row)
    if due:
        raise due.error("a route without device, gateway and next hops")
    return rows


def _route(line: Line) -> tuple[Row, bool]:
    """The route on this line, and whether its next hops stand on the lines below."""
    words = Words(line)
    first = words.take("destination")
    kind = first if first in _TYPES else "unicast"
    target = destination(line, words.take("destination") if first in _TYPES else first)
    row = replace(_read(line, words), type=kind, destination=target)
    return row, row.dev is None and row.via is None and kind not in _NO_NEXT_HOP


def _next_hop(route: Row, line: Line) -> Row:
    words = Words(line)
    if words.take("next hop") != "nexthop":
        raise line.error("not a next hop")
    hop = _read(line, words)
    if hop.via is None and hop.dev is None:
        raise line.error("a next hop without device and gateway")
    return replace(
        route,
        line=hop.line,
        via=hop.via,
        dev=hop.dev,
        onlink=hop.onlink,
        weight=hop.weight,
        flags=route.flags + hop.flags,
    )


def _read(line: Line, words: Words) -> Row:
    text: list[str] = []
    while words:
        word = words.take("next word")
        # "mtu lock 1400" pins the MTU; "via inet6 fe80::1" is an IPv6 gateway of an IPv4 route.
        if text and (text[-1], word) in (("mtu", "lock"), ("via", "inet"), ("via", "inet6")):
            continue
        text.append(word)
    values, flags = Words(line, " ".join(text)).claim(_VALUES, _FLAGS | {"onlink"})

    def number(key: str) -> int | None:
        return integer(line, values[key], key) if key in values else None

    return Row(
        line=line.number,
        type="unicast",
        destination="default",
        via=address(line, values["via"]) if "via" in values else None,
        dev=values.get("dev"),
        proto=values.get("proto"),
        scope=values.get("scope"),
        src=address(line, values["src"]) if "src" in values else None,
        metric=number("metric"),
        table=values.get("table"),
        onlink="onlink" in flags,
        mtu_bytes=number("mtu"),
        weight=number("weight"),
        flags=tuple(flag for flag in flags if flag != "onlink"),
    )
