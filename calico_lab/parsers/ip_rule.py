"""`ip rule show`.

===================== ============ ==== ===================================================
column                type         unit meaning
===================== ============ ==== ===================================================
line                  int               1-based line in the text
priority              int
src                   str               `from`: "all", an address or a network
dst                   str | None        `to`
fwmark                str | None        as printed, with its mask: "0x100000/0x100000"
iif                   str | None        incoming device
oif                   str | None        outgoing device
not_                  bool              the rule applies to what does not match
table                 str | None        table looked up, name or number
suppress_prefixlength int | None   bits routes found are refused up to this prefix length
action                str               lookup, goto, nop, blackhole, prohibit, unreachable
others                tuple of str      further conditions, as "ipproto udp"
===================== ============ ==== ===================================================

Source of the words: iproute2, ``ip/iprule.c`` (4.15 to 6.1).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from calico_lab.parsers._words import Line, Words, destination, integer, lines

__all__ = ["Row", "parse"]

_RULE = re.compile(r"(?P<priority>[0-9]+):\t(?P<rest>.*)")
_OTHERS = (
    "tos",
    "dsfield",
    "dscp",
    "uidrange",
    "ipproto",
    "sport",
    "dport",
    "tun_id",
    "realms",
    "suppress_ifgroup",
    "proto",
)
_VALUES = {"from", "to", "fwmark", "iif", "oif", "lookup", "goto", "suppress_prefixlength", *_OTHERS}
_ACTIONS = ("nop", "blackhole", "prohibit", "unreachable")
_FLAGS = {"not", "[detached]", "[unresolved]", *_ACTIONS}


@dataclass(frozen=True, slots=True)
class Row:
    """One rule; columns as in the module's table."""

    line: int
    priority: int
    src: str
    dst: str | None
    fwmark: str | None
    iif: str | None
    oif: str | None
    not_: bool
    table: str | None
    suppress_prefixlength: int | None
    action: str
    others: tuple[str, ...]


def parse(text: str) -> list[Row]:
    """Read the routing policy.

    Raises
    ------
    ParseError
        For an unknown word (named), and for a rule without an action.
    """
    return [_row(line) for line in lines(text)]


def _row(line: Line) -> Row:
    match = _RULE.fullmatch(line.text)
    if not match:
        raise line.error("not a rule: no priority")
    values, flags = Words(line, match["rest"]).claim(_VALUES, _FLAGS)
    actions = [key for key in ("lookup", "goto") if key in values] + [flag for flag in flags if flag in _ACTIONS]
    if len(actions) != 1:
        raise line.error("a rule has one action: " + (f"two here, {' and '.join(actions)}" if actions else "none here"))
    source = values.get("from")
    if source is None:
        raise line.error("a rule without 'from'")
    return Row(
        line=line.number,
        priority=integer(line, match["priority"], "priority"),
        src=source if source == "all" else destination(line, source),
        dst=destination(line, values["to"]) if "to" in values else None,
        fwmark=values.get("fwmark"),
        iif=values.get("iif"),
        oif=values.get("oif"),
        not_="not" in flags,
        table=values.get("lookup"),
        suppress_prefixlength=(
            integer(line, values["suppress_prefixlength"], "suppress_prefixlength")
            if "suppress_prefixlength" in values
            else None
        ),
        action=actions[0],
        others=tuple(f"{key} {value}" for key, value in values.items() if key in _OTHERS),
    )
