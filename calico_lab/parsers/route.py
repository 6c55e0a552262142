"""`route` and `route -n` of net-tools.

=========== ========== ==== ====================================================================
column      type       unit meaning
=========== ========== ==== ====================================================================
line        int             1-based line in the text
destination str             address, "default", or a name such as "_gateway" (without `-n`)
gateway     str | None      address or name; None for a rejecting route ("-")
genmask     str             netmask, dotted quad
flags       str             letters as printed, "!" for a rejecting route
metric      int             as printed: net-tools reads it as signed, so 4278198272 is -16769024
ref         int | None      None where net-tools prints "-"
use         int             lookups of the route
iface       str | None      "*" for a route without a device (a blackhole); None for "-"
=========== ========== ==== ====================================================================
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass

from calico_lab.parsers._words import Line, integer, lines

__all__ = ["Row", "parse"]

_TITLE = "Kernel IP routing table"
_HEADER = ["Destination", "Gateway", "Genmask", "Flags", "Metric", "Ref", "Use", "Iface"]
_NAME = re.compile(r"[\w.*-]+", re.ASCII)
# route(8): U G H R D M A C, and ! for reject.
_FLAGS = re.compile(r"!?[UGHRDMAC]*!?")


@dataclass(frozen=True, slots=True)
class Row:
    """One route; columns as in the module's table."""

    line: int
    destination: str
    gateway: str | None
    genmask: str
    flags: str
    metric: int
    ref: int | None
    use: int
    iface: str | None


def parse(text: str) -> list[Row]:
    """Read the routing table that net-tools prints.

    The title line may be missing, as it is in the review document's first block; the line of column names may not.

    Raises
    ------
    ParseError
        For a line that is neither title, column names nor a route of eight columns.
    """
    rows: list[Row] = []
    headed = False
    for line in lines(text):
        if line.text.split() == _HEADER and not headed:
            headed = True
        elif headed:
            rows.append(_row(line))
        elif line.text.strip() != _TITLE:
            raise line.error("not a routing table: the line of column names is missing")
    if not headed and text.strip():
        raise Line(1, text.strip()).error("the routing table ends before its column names")
    return rows


def _row(line: Line) -> Row:
    words = line.text.split()
    if len(words) != len(_HEADER):
        raise line.error(f"a route has {len(_HEADER)} columns, not {len(words)}")
    target, gateway, genmask, flags, metric, ref, use, iface = words
    for name in (target, gateway):
        if not _NAME.fullmatch(name):
            raise line.error(f"neither an address nor a name: {name!r}")
    try:
        ipaddress.IPv4Address(genmask)
    except ValueError:
        raise line.error(f"not a netmask: {genmask!r}") from None
    if not _FLAGS.fullmatch(flags):
        raise line.error(f"unknown flags {flags!r}")
    return Row(
        line=line.number,
        destination=target,
        gateway=None if gateway == "-" else gateway,
        genmask=genmask,
        flags=flags,
        metric=integer(line, metric, "metric"),
        ref=None if ref == "-" else integer(line, ref, "ref"),
        use=integer(line, use, "use"),
        iface=None if iface == "-" else iface,
    )
