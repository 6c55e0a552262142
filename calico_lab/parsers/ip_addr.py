"""`ip addr show`: one row per address. An interface without addresses gives no row.

============ ============ ===== ============================================================
column       type         unit  meaning
============ ============ ===== ============================================================
line         int                1-based line of the address
ifindex      int
ifname       str
peer         str | None         what stands behind "@" in the interface's name
mtu_bytes    int          bytes
state        str | None         of the interface: UP, DOWN, UNKNOWN
mac          str | None         lower case; None under `ip -4 addr`, which leaves it out
family       str                inet or inet6
address      str                without its prefix length
prefix_len   int          bits
scope        str                global, link, host
label        str | None         the interface's name or an alias of it; IPv4 alone has one
broadcast    str | None
flags        tuple of str       dynamic, noprefixroute, secondary, tentative, ... as printed
peer_address str | None         far end of a point-to-point address
============ ============ ===== ============================================================

Source of the words: iproute2, ``ip/ipaddress.c`` (4.15 to 6.1).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from calico_lab.parsers import ip_link
from calico_lab.parsers._words import Line, Words, address, integer

__all__ = ["Row", "parse"]

_ADDRESS = re.compile(r" {4}(?P<family>inet6?) (?P<rest>.*)")
_LIFETIME = re.compile(r" {7}valid_lft (?:forever|[0-9]+sec) preferred_lft (?:forever|-?[0-9]+sec) *")
_VALUES = {"peer", "metric", "brd", "any", "scope", "proto", "flags"}
_FLAGS = {
    "secondary",
    "temporary",
    "nodad",
    "optimistic",
    "dadfailed",
    "home",
    "deprecated",
    "tentative",
    "dynamic",
    "mngtmpaddr",
    "noprefixroute",
    "autojoin",
    "stable-privacy",
}


@dataclass(frozen=True, slots=True)
class Row:
    """One address; columns as in the module's table."""

    line: int
    ifindex: int
    ifname: str
    peer: str | None
    mtu_bytes: int
    state: str | None
    mac: str | None
    family: str
    address: str
    prefix_len: int
    scope: str
    label: str | None
    broadcast: str | None
    flags: tuple[str, ...]
    peer_address: str | None


def parse(text: str) -> list[Row]:
    """Read the addresses of all interfaces.

    Raises
    ------
    ParseError
        For a line of no known form, an unknown word (named), and an address without the line of its lifetime.
    """
    rows: list[Row] = []
    for header, body in ip_link.blocks(text):
        of_link, of_addresses = _split(body)
        link = ip_link.read_link(header, of_link, link_line=not of_addresses)
        rows.extend(_row(link, line, match) for line, match in of_addresses)
    return rows


def _split(body: list[Line]) -> tuple[list[Line], list[tuple[Line, re.Match[str]]]]:
    """An interface's lines: those `ip link` would print, and its addresses."""
    of_link: list[Line] = []
    of_addresses: list[tuple[Line, re.Match[str]]] = []
    rest = iter(body)
    for line in rest:
        match = _ADDRESS.fullmatch(line.text)
        if match is None:
            of_link.append(line)
            continue
        lifetime = next(rest, None)
        if lifetime is None or not _LIFETIME.fullmatch(lifetime.text):
            raise (lifetime or line).error("an address lacks the line of its lifetime")
        of_addresses.append((line, match))
    return of_link, of_addresses


def _row(link: ip_link.Row, line: Line, match: re.Match[str]) -> Row:
    family = match["family"]
    prefix, _, text = match["rest"].strip().partition(" ")
    label: str | None = None
    if family == "inet":
        # Unlike all before it the label has no keyword; it is the last word.
        text, _, label = text.rpartition(" ")
        if not label or label in _FLAGS:
            raise line.error("the line ends before its label")
    values, flags = Words(line, text).claim(_VALUES, _FLAGS)
    if "scope" not in values:
        raise line.error("the line ends before its scope")
    # With a peer, the prefix length stands behind the peer's address.
    far, own = (values["peer"], prefix) if "peer" in values else (None, prefix)
    host, slash, length = (far or own).partition("/")
    if not slash:
        raise line.error(f"an address without its prefix length: {far or own!r}")
    return Row(
        line=line.number,
        ifindex=link.ifindex,
        ifname=link.name,
        peer=link.peer,
        mtu_bytes=link.mtu_bytes,
        state=link.state,
        mac=link.mac,
        family=family,
        address=address(line, own if far else host),
        prefix_len=integer(line, length, "prefix length"),
        scope=values["scope"],
        label=label,
        broadcast=address(line, values["brd"]) if "brd" in values else None,
        flags=tuple(flags),
        peer_address=address(line, host) if far else None,
    )
