"""`ip link show`, with or without `-d` (details) and `-s` (counters).

============ ============ ===== ================================================================================
column       type         unit  meaning
============ ============ ===== ================================================================================
line         int                1-based line of the interface's header
ifindex      int
name         str
peer         str | None         what stands behind "@": the other end of a veth, or "NONE"
link_netnsid int | None         namespace of the peer, by number; None too where printed as "unknown"
link_netns   str | None         namespace of the peer, by name (iproute2 prints one or the other)
flags        tuple of str       UP, LOWER_UP, NO-CARRIER, ...
mtu_bytes    int          bytes
qdisc        str | None
state        str | None         UP, DOWN, UNKNOWN, ...
master       str | None         bridge, bond or VRF the interface belongs to
mac          str | None         lower case; None on links without one (tunl0, tun0)
kind         str | None         vxlan, veth, bridge, ...; None without `-d`, and on NICs and lo, which have none
vni          int | None         vxlan `id`
local_ip     str | None         vxlan and ipip: outer source; None where "any"
remote_ip    str | None         vxlan and ipip: fixed outer destination, a vxlan group too; None where "any"
parent_dev   str | None         vxlan and ipip `dev`
dstport      int | None         vxlan UDP port
learning     bool | None        vxlan: learns MAC addresses from traffic
udp_csum     bool | None        vxlan: outer UDP checksum
ttl          str | None         vxlan and ipip: number, "inherit" or "auto"
detail       str | None         details of any other kind, and of a bridge's port, as printed
detail_line  int | None         line of the kind's details
rx_bytes     int | None   bytes this and the next eight: None without `-s`
rx_packets   int | None
rx_errors    int | None
rx_dropped   int | None
tx_bytes     int | None   bytes
tx_packets   int | None
tx_errors    int | None
tx_dropped   int | None
tx_carrier   int | None         carrier errors: a VTEP counts one when no route takes its `local_ip`
tx_line      int | None         line of the TX counters
============ ============ ===== ================================================================================

Source of the words: iproute2, ``ip/ipaddress.c``, ``ip/iplink_vxlan.c`` and ``ip/link_iptnl.c`` (4.15 to 6.1).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from calico_lab.parsers._words import Line, Words, address, integer, is_mac, lines

__all__ = ["Row", "blocks", "parse", "read_link"]

_HEADER = re.compile(
    r"(?P<ifindex>[0-9]+): (?P<name>[^\s@]+?)(?:@(?P<peer>[^\s:]+))?: <(?P<flags>[A-Z0-9_,-]*)> (?P<rest>mtu .*)"
)
_HEADER_VALUES = {"mtu", "qdisc", "master", "state", "mode", "group", "qlen", "link-netns", "link-netnsid"}

_LINK = re.compile(r" {4}link/(?P<type>\S+)(?P<rest> .*)?")
_ADDRESS = re.compile(r"[0-9a-f.:]+", re.IGNORECASE)
_LINK_VALUES = {
    "brd",
    "peer",
    "permaddr",
    "link-netns",
    "link-netnsid",
    "protodown",
    "protodown_reason",
    "promiscuity",
    "allmulti",
    "minmtu",
    "maxmtu",
}
# What ends the details of every device, on the line of its kind or, on one without a kind, of its address.
_TAIL_VALUES = {
    "addrgenmode",
    "numtxqueues",
    "numrxqueues",
    "gso_max_size",
    "gso_max_segs",
    "tso_max_size",
    "tso_max_segs",
    "gro_max_size",
    "gso_ipv4_max_size",
    "gro_ipv4_max_size",
    "portname",
    "portid",
    "switchid",
    "parentbus",
    "parentdev",
}
# A kernel that cannot steer packets between processors (CONFIG_RPS), as user-mode Linux, has no numrxqueues to show.
_END_OF_DETAILS = re.compile(r"\bnumtxqueues [0-9]+\b")

_VXLAN_VALUES = dict.fromkeys(
    ("id", "group", "remote", "local", "dev", "dstport", "tos", "ttl", "df", "flowlabel", "ageing", "maxaddr"), 1
) | {"srcport": 2}
_VXLAN_FLAGS = {
    "external",
    "vnifilter",
    "learning",
    "nolearning",
    "proxy",
    "rsc",
    "l2miss",
    "l3miss",
    "udpcsum",
    "noudpcsum",
    "udp6zerocsumtx",
    "noudp6zerocsumtx",
    "udp6zerocsumrx",
    "noudp6zerocsumrx",
    "remcsumtx",
    "remcsumrx",
    "gbp",
    "gpe",
}
_IPIP_VALUES = dict.fromkeys(
    ("remote", "local", "dev", "ttl", "tos", "fwmark", "encap", "encap-sport", "encap-dport"), 1
)
_IPIP_FLAGS = {
    "external",
    "any",
    "ipip",
    "ip6ip",
    "mplsip",
    "pmtudisc",
    "nopmtudisc",
    "encap-csum",
    "noencap-csum",
    "encap-csum6",
    "noencap-csum6",
    "encap-remcsum",
    "noencap-remcsum",
}
_KINDS = {
    "vxlan",
    "ipip",
    "veth",
    "bridge",
    "dummy",
    "wireguard",
    "tun",
    "ifb",
    "bond",
    "team",
    "vlan",
    "macvlan",
    "macvtap",
    "ipvlan",
    "ipvtap",
    "vrf",
    "geneve",
    "gre",
    "gretap",
    "erspan",
    "ip6gre",
    "ip6gretap",
    "ip6erspan",
    "ip6tnl",
    "sit",
    "vti",
    "vti6",
    "xfrm",
    "nlmon",
    "netdevsim",
    "openvswitch",
    "bareudp",
    "macsec",
    "netkit",
}
_KIND = re.compile(r" {4}(?P<kind>[a-z0-9_]+)(?: (?P<rest>.*))?")
_NAMES = re.compile(r" {4}(?P<side>[RT]X)(?P<errors> errors)?:(?P<names>(?: +[a-z]+)+) *")
_NUMBERS = re.compile(r" {4,}[0-9]+(?: +[0-9]+)* *")
# Lines that carry nothing for the columns: other names, SR-IOV functions, an XDP program.
_NOTE = re.compile(r" {4}(?:alias \S.*|altname \S+ *|vf [0-9]+ .*|prog/xdp id [0-9]+.*)")


@dataclass(frozen=True, slots=True)
class Row:
    """One interface; columns as in the module's table."""

    line: int
    ifindex: int
    name: str
    peer: str | None
    link_netnsid: int | None
    link_netns: str | None
    flags: tuple[str, ...]
    mtu_bytes: int
    qdisc: str | None
    state: str | None
    master: str | None
    mac: str | None = None
    kind: str | None = None
    vni: int | None = None
    local_ip: str | None = None
    remote_ip: str | None = None
    parent_dev: str | None = None
    dstport: int | None = None
    learning: bool | None = None
    udp_csum: bool | None = None
    ttl: str | None = None
    detail: str | None = None
    detail_line: int | None = None
    rx_bytes: int | None = None
    rx_packets: int | None = None
    rx_errors: int | None = None
    rx_dropped: int | None = None
    tx_bytes: int | None = None
    tx_packets: int | None = None
    tx_errors: int | None = None
    tx_dropped: int | None = None
    tx_carrier: int | None = None
    tx_line: int | None = None


def parse(text: str) -> list[Row]:
    """Read the interfaces.

    A header must be followed by its `link/` line. Where that line shows `-d`, the details must reach their end, and
    where one interface has counters all must; so a text cut in between is an error. A text of headers and `link/` lines
    alone is what `ip link show` prints without options, and is complete.

    Raises
    ------
    ParseError
        For a line of no known form, an unknown word (named), and a text that ends within an interface.
    """
    rows: list[Row] = []
    for header, body in blocks(text):
        row = read_link(header, body)
        if rows and (rows[-1].tx_line is None) != (row.tx_line is None):
            raise header.error("some interfaces have counters and some have not: the text is cut")
        rows.append(row)
    return rows


def blocks(text: str) -> Iterator[tuple[Line, list[Line]]]:
    """Each interface's header line with the indented lines under it.

    Raises
    ------
    ParseError
        For a text that begins with no header.
    """
    header: Line | None = None
    body: list[Line] = []
    for line in lines(text):
        if line.text.startswith(" "):
            body.append(line)
            if header is None:
                raise line.error("no interface's header stands above this line")
        else:
            if header is not None:
                yield header, body
            header, body = line, []
    if header is not None:
        yield header, body


def read_link(header: Line, body: list[Line], *, link_line: bool = True) -> Row:
    """Read one interface.

    Parameters
    ----------
    header : Line
        ``8: vxlan.calico: <...> mtu 8951 ...``.
    body : list of Line
        The indented lines under it, without addresses.
    link_line : bool
        Whether the `link/` line must be there; `ip -4 addr` leaves it out.

    Raises
    ------
    ParseError
        As `parse`.
    """
    row = _header(header)
    linked = detailed = details_due = False
    rest = iter(body)
    for line in rest:
        if details_due:
            row = _details(row, line)
            details_due = not _END_OF_DETAILS.search(line.text)
        elif not linked and (match := _LINK.fullmatch(line.text)):
            row = _link(row, line, match["rest"] or "")
            linked = True
            detailed = " promiscuity " in line.text
            details_due = detailed and not _END_OF_DETAILS.search(line.text)
        elif link_line and not linked:
            raise line.error("the line of the link's address is missing")
        elif match := _NAMES.fullmatch(line.text):
            row = _counters(row, match, line, next(rest, None))
        elif _NOTE.fullmatch(line.text):
            continue
        elif row.kind is None and not detailed:
            # The review document trims the address line and keeps the kind's.
            row = _details(row, line)
        else:
            raise line.error("unknown line of an interface")
    last = body[-1] if body else header
    if link_line and not linked:
        raise last.error("the line of the link's address is missing")
    if details_due:
        raise last.error("the text ends within the details of an interface")
    if (row.rx_bytes is None) != (row.tx_bytes is None):
        raise last.error("the text ends within the counters of an interface")
    return row


def _header(line: Line) -> Row:
    match = _HEADER.fullmatch(line.text)
    if not match:
        raise line.error("not the header of an interface")
    # XDP stands as one word of varying value behind the MTU: xdp/id:34, xdpgeneric/id:34.
    rest = " ".join(word for word in match["rest"].split() if not word.startswith("xdp"))
    values, _ = Words(line, rest).claim(_HEADER_VALUES, ())
    for due in ("qdisc", "group"):
        if due not in values:
            raise line.error(f"the line ends before its {due}")
    return Row(
        line=line.number,
        ifindex=integer(line, match["ifindex"], "ifindex"),
        name=match["name"],
        peer=match["peer"],
        link_netnsid=_netnsid(line, values),
        link_netns=values.get("link-netns"),
        flags=tuple(match["flags"].split(",")) if match["flags"] else (),
        mtu_bytes=integer(line, values["mtu"], "mtu"),
        qdisc=values.get("qdisc"),
        state=values.get("state"),
        master=values.get("master"),
    )


def _netnsid(line: Line, values: dict[str, str]) -> int | None:
    number = values.get("link-netnsid", "unknown")
    return None if number == "unknown" else integer(line, number, "link-netnsid")


def _link(row: Row, line: Line, text: str) -> Row:
    words = Words(line, text)
    first = words.peek() or ""
    own = words.take("address") if _ADDRESS.fullmatch(first) else None
    values, _ = words.claim(_LINK_VALUES | _TAIL_VALUES, ())
    if own is not None and "brd" not in values and "peer" not in values:
        raise line.error("the line ends before its broadcast address")
    return replace(
        row,
        mac=own.lower() if own is not None and is_mac(own) else None,
        link_netnsid=_netnsid(line, values) if "link-netnsid" in values else row.link_netnsid,
        link_netns=values.get("link-netns", row.link_netns),
    )


def _details(row: Row, line: Line) -> Row:
    match = _KIND.fullmatch(line.text)
    kind = match["kind"] if match else ""
    if match is None or (kind not in _KINDS and not kind.endswith("_slave")):
        raise line.error(f"unknown kind of device {kind!r}" if kind else "not the details of an interface")
    rest = (match["rest"] or "").strip()
    if kind == "vxlan":
        return _vxlan(row, line, rest)
    if kind == "ipip":
        return _ipip(row, line, rest)
    if row.kind is None:
        return replace(row, kind=kind, detail=rest or None, detail_line=line.number)
    # A bridge's port: its own kind stands on the line above.
    return replace(row, detail=" ".join(part for part in (row.detail, kind, rest) if part))


def _vxlan(row: Row, line: Line, text: str) -> Row:
    values, flags = Words(line, text).claim(_VXLAN_VALUES | dict.fromkeys(_TAIL_VALUES, 1), _VXLAN_FLAGS)
    if "id" not in values and "external" not in flags:
        raise line.error("the details of a vxlan device lack its id")
    remote = values.get("remote", values.get("group"))
    return replace(
        row,
        kind="vxlan",
        vni=integer(line, values["id"], "id") if "id" in values else None,
        local_ip=address(line, values["local"]) if "local" in values else None,
        remote_ip=address(line, remote) if remote is not None else None,
        parent_dev=values.get("dev"),
        dstport=integer(line, values["dstport"], "dstport") if "dstport" in values else None,
        # iproute2 prints "nolearning" and, but for the newest, nothing when it is on.
        learning="nolearning" not in flags,
        udp_csum="udpcsum" in flags if {"udpcsum", "noudpcsum"} & set(flags) else None,
        ttl=values.get("ttl"),
        detail_line=line.number,
    )


def _ipip(row: Row, line: Line, text: str) -> Row:
    values, _ = Words(line, text).claim(_IPIP_VALUES | dict.fromkeys(_TAIL_VALUES, 1), _IPIP_FLAGS)

    def endpoint(key: str) -> str | None:
        value = values.get(key, "any")
        return None if value == "any" else address(line, value)

    return replace(
        row,
        kind="ipip",
        local_ip=endpoint("local"),
        remote_ip=endpoint("remote"),
        parent_dev=values.get("dev"),
        ttl=values.get("ttl"),
        detail_line=line.number,
    )


def _counters(row: Row, header: re.Match[str], line: Line, numbers: Line | None) -> Row:
    if numbers is None or not _NUMBERS.fullmatch(numbers.text):
        raise (numbers or line).error(f"the {header['side']} counters have no numbers")
    names, values = header["names"].split(), numbers.text.split()
    if len(names) != len(values):
        raise numbers.error(f"{len(names)} names of counters and {len(values)} numbers")
    if header["errors"]:
        return row
    found = {name: integer(numbers, value, name) for name, value in zip(names, values, strict=True)}
    try:
        if header["side"] == "RX":
            return replace(
                row,
                rx_bytes=found["bytes"],
                rx_packets=found["packets"],
                rx_errors=found["errors"],
                rx_dropped=found["dropped"],
            )
        return replace(
            row,
            tx_bytes=found["bytes"],
            tx_packets=found["packets"],
            tx_errors=found["errors"],
            tx_dropped=found["dropped"],
            tx_carrier=found["carrier"],
            tx_line=numbers.number,
        )
    except KeyError as missing:
        raise line.error(f"the {header['side']} counters lack {missing.args[0]!r}") from None
