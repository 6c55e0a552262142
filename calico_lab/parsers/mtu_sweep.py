"""A don't-fragment sweep: `commands.mtu_sweep`. One row a size, in the order in which they were tried.

=========== ========== ===== ==================================================================
column      type       unit  meaning
=========== ========== ===== ==================================================================
line        int              1-based line that says the outcome
size_bytes  int        bytes of the whole IPv4 packet
outcome     str              reply, refused_local, frag_needed, error or silent: see below
transmitted int
received    int
mtu_bytes   int | None bytes MTU that the refusal names
from_ip     str | None       the router that refused
error       str | None       the refusal in ping's words
=========== ========== ===== ==================================================================

A packet that is too large is refused by the sender's own kernel (refused_local) or by a router (frag_needed); both name
an MTU. Any other refusal is an error, and silent is what was neither answered nor refused.

Before each size stands a line ``size <bytes>``. What follows is the output of `ping -M do`, standard error included,
and is read by `parsers.ping`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from calico_lab.parsers import ping
from calico_lab.parsers._words import Line, integer, lines

__all__ = ["Row", "parse"]

_SIZE = re.compile(r"size [0-9]+")
_HEADERS_BYTES = 28
"""IPv4 and ICMP headers, which ping adds to its payload."""


@dataclass(frozen=True, slots=True)
class Row:
    """One size; columns as in the module's table."""

    line: int
    size_bytes: int
    outcome: str
    transmitted: int
    received: int
    mtu_bytes: int | None = None
    from_ip: str | None = None
    error: str | None = None


def parse(text: str) -> list[Row]:
    """Read what became of each size.

    Raises
    ------
    ParseError
        For a line that is none of ping's, a size without the statistics of its ping, and a ping of another size.
    """
    return [_row(line, size, printed) for line, size, printed in _parts(text)]


def _parts(text: str) -> Iterator[tuple[Line, int, str]]:
    """The line of each size, the size, and ping's text below it, which keeps its line numbers."""
    found = list(lines(text))
    heads = [line for line in found if _SIZE.fullmatch(line.text)]
    if found and found[0] not in heads:
        raise found[0].error("not a size of a sweep")
    all_lines = text.split("\n")
    ends = [*(line.number - 1 for line in heads[1:]), len(all_lines)]
    for line, end in zip(heads, ends, strict=False):
        size = integer(line, line.text.removeprefix("size "), "size")
        yield line, size, "\n" * line.number + "\n".join(all_lines[line.number : end])


def _row(line: Line, size: int, printed: str) -> Row:
    if not printed.strip():
        raise line.error("ping printed nothing for this size")
    events, counts = ping.parse(printed), ping.summary(printed)
    if counts.size_bytes + _HEADERS_BYTES != size:
        raise line.error(f"ping sent packets of {counts.size_bytes + _HEADERS_BYTES} bytes")
    sent = counts.transmitted, counts.received
    errors = sorted((event for event in events if event.outcome == "error"), key=lambda each: each.mtu_bytes is None)
    if any(event.outcome == "reply" for event in events):
        return Row(counts.line, size, "reply", *sent)
    if not errors:
        return Row(counts.line, size, "silent", *sent)
    told = errors[0]
    outcome = "error" if told.mtu_bytes is None else "refused_local" if told.from_ip is None else "frag_needed"
    return Row(told.line, size, outcome, *sent, told.mtu_bytes, told.from_ip, told.error)
