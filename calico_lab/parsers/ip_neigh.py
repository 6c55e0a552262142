"""`ip neigh show`.

====== ============ ==== ==================================================================
column type         unit meaning
====== ============ ==== ==================================================================
line   int               1-based line in the text
dst    str               the neighbour's address
dev    str | None        None under `ip neigh show dev X`, which does not repeat the device
mac    str | None        lower case; None for a neighbour that has not answered
state  str | None        NUD state, upper case; None for a proxy entry
flags  tuple of str      router, proxy, extern_learn, ... as printed
proto  str | None        who added the entry, where the kernel says
====== ============ ==== ==================================================================

Source of the words: iproute2, ``ip/ipneigh.c`` (4.15 to 6.1).
"""

from __future__ import annotations

from dataclasses import dataclass

from calico_lab.parsers._words import Line, Words, address, lines, mac

__all__ = ["Row", "parse"]

_VALUES = {"dev", "lladdr", "proto"}
_FLAGS = {"router", "proxy", "extern_learn", "extern_valid", "offload", "managed"}
_STATES = {"NONE", "INCOMPLETE", "REACHABLE", "STALE", "DELAY", "PROBE", "FAILED", "NOARP", "PERMANENT"}


@dataclass(frozen=True, slots=True)
class Row:
    """One neighbour; columns as in the module's table."""

    line: int
    dst: str
    dev: str | None
    mac: str | None
    state: str | None
    flags: tuple[str, ...]
    proto: str | None


def parse(text: str) -> list[Row]:
    """Read the neighbour table.

    Raises
    ------
    ParseError
        For an unknown word, and for an entry without a state that is no proxy entry.
    """
    return [_row(line) for line in lines(text)]


def _row(line: Line) -> Row:
    words = Words(line)
    dst = address(line, words.take("address"))
    values, marks = words.claim(_VALUES, _FLAGS | _STATES)
    states = [mark for mark in marks if mark in _STATES]
    flags = tuple(mark for mark in marks if mark in _FLAGS)
    if len(states) > 1:
        raise line.error(f"two states: {' and '.join(states)}")
    if not states and "proxy" not in flags:
        raise line.error("the line ends before its state")
    return Row(
        line=line.number,
        dst=dst,
        dev=values.get("dev"),
        mac=mac(line, values["lladdr"]) if "lladdr" in values else None,
        state=states[0] if states else None,
        flags=flags,
        proto=values.get("proto"),
    )
