"""`sysctl KEY...`.

====== ========== ==== ========================================================================
column type       unit meaning
====== ========== ==== ========================================================================
line   int             1-based line in the text
key    str             net.ipv4.ip_forward; a dot within an interface's name is printed as "/"
value  str | None      as printed, with the tabs between several values; None where it is empty
====== ========== ==== ========================================================================
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from calico_lab.parsers._words import Line, lines

__all__ = ["Row", "parse"]

_SETTING = re.compile(r"(?P<key>[a-z]+\.\S+) = ?(?P<value>.*)")


@dataclass(frozen=True, slots=True)
class Row:
    """One kernel setting; columns as in the module's table."""

    line: int
    key: str
    value: str | None


def parse(text: str) -> list[Row]:
    """Read the settings.

    Raises
    ------
    ParseError
        For a line that is no ``key = value``.
    """
    return [_row(line) for line in lines(text)]


def _row(line: Line) -> Row:
    match = _SETTING.fullmatch(line.text)
    if not match:
        raise line.error("not a setting: no 'key = value'")
    return Row(line.number, match["key"], match["value"].strip() or None)
