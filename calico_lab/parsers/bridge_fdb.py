"""`bridge fdb show`.

======= ============ ==== =======================================================================
column  type         unit meaning
======= ============ ==== =======================================================================
line    int               1-based line in the text
mac     str               lower case
dev     str | None        None under `bridge fdb show dev X`, which does not repeat the device
dst     str | None        remote_ip: the address of the VTEP behind the MAC address
vlan    int | None
master  str | None        the bridge the device belongs to
vni     int | None        only where it differs from the device's
src_vni int | None        only on devices in external mode
port    int | None        UDP port, only where it differs from the device's
via     str | None        device the packets leave by, where pinned
nhid    int | None        next-hop object
flags   tuple of str      self, master, extern_learn, offload, router, ..., permanent, as printed
state   str | None        permanent, static, stale; None for an entry learnt and in use
======= ============ ==== =======================================================================

Source of the words: iproute2, ``bridge/fdb.c`` (4.15 to 6.1).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from calico_lab.parsers._words import Line, Words, address, integer, lines, mac

__all__ = ["Row", "parse"]

_VALUES = {"dev", "dst", "vlan", "vni", "src_vni", "port", "nhid", "link-netnsid", "used"}
_STATES = {"permanent", "static", "stale"}
_FLAGS = {
    "self",
    "router",
    "extern_learn",
    "offload",
    "sticky",
    "locked",
    "blackhole",
    "added_by_user",
    "activity_notify",
    "inactive",
    "norefresh",
}
_NUMBERED_STATE = re.compile(r"state=0x[0-9a-f]+")


@dataclass(frozen=True, slots=True)
class Row:
    """One entry of the forwarding database; columns as in the module's table."""

    line: int
    mac: str
    dev: str | None
    dst: str | None
    vlan: int | None
    master: str | None
    vni: int | None
    src_vni: int | None
    port: int | None
    via: str | None
    nhid: int | None
    flags: tuple[str, ...]
    state: str | None


def parse(text: str) -> list[Row]:
    """Read the forwarding database.

    Raises
    ------
    ParseError
        For an unknown word, and for an entry that is neither the device's own (`self`) nor its bridge's (`master`):
        the kernel sets one of the two, so such a line has been cut.
    """
    return [_row(line) for line in lines(text)]


def _row(line: Line) -> Row:
    words = Words(line)
    lladdr = mac(line, words.take("MAC address"))
    values: dict[str, str] = {}
    flags: list[str] = []
    while words:
        word = words.take("next word")
        if word in values:
            raise line.error(f"{word!r} comes twice")
        if word in _FLAGS or word in _STATES or _NUMBERED_STATE.fullmatch(word):
            flags.append(word)
        elif word in _VALUES:
            values[word] = words.take(f"value of {word!r}")
        elif word == "via":
            via = words.take("value of 'via'")
            # A device of another namespace has no name here: "via ifindex 3".
            values[word] = via if via != "ifindex" else f"ifindex {words.take('index of the device')}"
        elif word == "master":
            # The kernel gives the bridge or, on some devices, a flag alone, which is printed without a name.
            following = words.peek()
            if following is None or following in _STATES or following in _FLAGS:
                flags.append(word)
            else:
                values[word] = words.take("bridge")
        else:
            raise line.error(f"unknown word {word!r}")
    if "self" not in flags and "master" not in flags and "master" not in values:
        raise line.error("the line ends before 'self' or 'master'")

    def number(column: str) -> int | None:
        return integer(line, values[column], column) if column in values else None

    return Row(
        line=line.number,
        mac=lladdr,
        dev=values.get("dev"),
        dst=address(line, values["dst"]) if "dst" in values else None,
        vlan=number("vlan"),
        master=values.get("master"),
        vni=number("vni"),
        src_vni=number("src_vni"),
        port=number("port"),
        via=values.get("via"),
        nhid=number("nhid"),
        flags=tuple(flags),
        state=next((flag for flag in flags if flag in _STATES or flag.startswith("state=")), None),
    )
