"""Log of calico-node: Felix, startup, confd and BIRD in one stream, and plain lines of other programs.

======= ========== ==== ==========================================================================
column  type       unit meaning
======= ========== ==== ==========================================================================
line    int             1-based line the message begins on
time    str | None      "2022-04-29 05:12:34.567", in the node's clock
level   str | None      DEBUG, INFO, WARNING, ERROR, FATAL, PANIC; None for a plain line
pid     int | None
source  str | None      "felix/vxlan_mgr.go 496": file and line; "cni-installer/<nil> <nil>" has neither
message str             with its fields (``error=...``); continuation lines follow after a newline
======= ========== ==== ==========================================================================

A line that begins with a blank continues the message above it.

Source of the form: Calico 3.22, ``libcalico-go/lib/logutils/logutils.go``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from calico_lab.parsers._words import Line, integer, lines

__all__ = ["Row", "parse"]

_DATED = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{3} .*")
_CALICO = re.compile(
    r"(?P<time>\S+ \S+) \[(?P<level>[A-Z]+)\]\[(?P<pid>[0-9]+)(?:/[0-9]+)?\] "
    r"(?P<source>\S+ (?:[0-9]+|<nil>)): (?P<message>.*)"
)


@dataclass(frozen=True, slots=True)
class Row:
    """One message; columns as in the module's table."""

    line: int
    time: str | None
    level: str | None
    pid: int | None
    source: str | None
    message: str


def parse(text: str) -> list[Row]:
    """Read the messages.

    Raises
    ------
    ParseError
        For a dated line that is not of Calico's form, and for a continuation without a message above it.
    """
    rows: list[Row] = []
    for line in lines(text):
        if line.text[0].isspace():
            if not rows:
                raise line.error("a continuation without a message above it")
            rows[-1] = replace(rows[-1], message=f"{rows[-1].message}\n{line.text}")
        else:
            rows.append(_row(line))
    return rows


def _row(line: Line) -> Row:
    if not _DATED.fullmatch(line.text):
        return Row(line.number, None, None, None, None, line.text)
    match = _CALICO.fullmatch(line.text)
    if not match:
        raise line.error("a dated line that is not of Calico's form")
    return Row(
        line=line.number,
        time=match["time"],
        level=match["level"],
        pid=integer(line, match["pid"], "pid"),
        source=match["source"],
        message=match["message"],
    )
