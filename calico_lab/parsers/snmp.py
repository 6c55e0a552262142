"""`/proc/net/snmp`.

======== ==== ===== ================================================
column   type unit  meaning
======== ==== ===== ================================================
line     int        1-based line of the values
protocol str        Ip, Icmp, IcmpMsg, Tcp, Udp, UdpLite
counter  str        InErrors, OutRequests, ...
value    int  count Tcp MaxConn is -1 where the kernel sets no limit
======== ==== ===== ================================================

Source of the counters: the kernel, ``net/ipv4/proc.c``; RFC 1213 names them.
"""

from __future__ import annotations

from dataclasses import dataclass

from calico_lab.parsers._words import Line, integer, lines

__all__ = ["Row", "parse"]


@dataclass(frozen=True, slots=True)
class Row:
    """One counter; columns as in the module's table."""

    line: int
    protocol: str
    counter: str
    value: int


def parse(text: str) -> list[Row]:
    """Read the counters.

    Raises
    ------
    ParseError
        For names without their values, and for names and values that do not pair.
    """
    rows: list[Row] = []
    rest = lines(text)
    for header in rest:
        protocol, names = _split(header)
        line = next(rest, None)
        if line is None:
            raise header.error("names of counters without their values")
        other, values = _split(line)
        if other != protocol:
            raise line.error(f"values of {other!r} under the names of {protocol!r}")
        if len(names) != len(values):
            raise line.error(f"{len(names)} names of counters and {len(values)} values")
        rows.extend(
            Row(line.number, protocol, name, integer(line, value, name))
            for name, value in zip(names, values, strict=True)
        )
    return rows


def _split(line: Line) -> tuple[str, list[str]]:
    protocol, colon, rest = line.text.partition(": ")
    if not colon or not protocol.isalnum() or not rest.split():
        raise line.error("neither names nor values of counters")
    return protocol, rest.split()
