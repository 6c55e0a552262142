"""`uname -a`.

======== ==== ==== ====================================================
column   type unit meaning
======== ==== ==== ====================================================
line     int       1-based line in the text
sysname  str       Linux
nodename str
release  str       of the kernel: 5.4.0-1028-gcp
version  str       "#29~18.04.1-Ubuntu SMP Tue Oct 6 14:33:00 UTC 2020"
machine  str       x86_64, aarch64
======== ==== ==== ====================================================
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from calico_lab.parsers._words import Line, lines

__all__ = ["Row", "parse"]

# Ubuntu prints the machine again as processor and as hardware platform, Debian does not.
_UNAME = re.compile(
    r"(?P<sysname>Linux) (?P<nodename>\S+) (?P<release>\S+) (?P<version>#.+?) (?P<machine>\S+)(?: (?P=machine)){0,2}"
    r" GNU/Linux"
)


@dataclass(frozen=True, slots=True)
class Row:
    """The kernel of a node; columns as in the module's table."""

    line: int
    sysname: str
    nodename: str
    release: str
    version: str
    machine: str


def parse(text: str) -> list[Row]:
    """Read the kernel's name.

    Raises
    ------
    ParseError
        For a line of another form, and for a second line.
    """
    found = list(lines(text))
    if len(found) > 1:
        raise found[1].error("more than one line")
    return [_row(line) for line in found]


def _row(line: Line) -> Row:
    match = _UNAME.fullmatch(line.text.rstrip())
    if not match:
        raise line.error("not the output of uname -a on GNU/Linux")
    return Row(line.number, **match.groupdict())
