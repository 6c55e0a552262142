"""BIRD's log file.

======== ========== ==== ===========================================================================
column   type       unit meaning
======== ========== ==== ===========================================================================
line     int             1-based line in the text
time     str             as printed
level    str             INFO, WARN, ERR, RMT, AUTH, TRACE, DBG, FATAL, BUG
name     str | None      the protocol that the message is about
message  str
======== ========== ==== ===========================================================================

Source of the form: BIRD, ``sysdep/unix/log.c`` (1.6 and 2.0).
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from calico_lab.parsers._words import lines

__all__ = ["Row", "parse"]

_LINE = re.compile(r"(\d{4}-\d\d-\d\d \d\d:\d\d:\d\d(?:\.\d+)?) <([A-Z]+)> (?:(\w+): )?(.*)")


@dataclass(frozen=True, slots=True)
class Row:
    """One message."""

    line: int
    time: str
    level: str
    name: str | None
    message: str


def parse(text: str) -> list[Row]:
    """Read the log.

    Raises
    ------
    ParseError
        For a line without time and level.
    """
    rows: list[Row] = []
    for line in lines(text):
        found = _LINE.fullmatch(line.text)
        if not found:
            raise line.error("not a line of BIRD's log")
        rows.append(Row(line.number, *found.groups()))
    return rows
