r"""`kubectl get events` with a Go template: what the kubelet warned of, for one pod.

======= ========== ==== ==================================================================
column  type       unit meaning
======= ========== ==== ==================================================================
line    int             1-based line in the text
reason  str             Unhealthy, BackOff, Failed, …
count   int | None      how often; None where the API server does not count
message str             with its line breaks
======= ========== ==== ==================================================================

A line is ``{{.reason}} {{.count}} {{printf "%q" .message}}``; Go quotes a text as JSON does, for what Kubernetes says.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from calico_lab.parsers._words import Line, integer, lines

__all__ = ["Row", "parse"]

_EVENT = re.compile(r'(?P<reason>[A-Z]\w*) (?P<count>[0-9]+|<no value>|<nil>) (?P<message>".*")')


@dataclass(frozen=True, slots=True)
class Row:
    """One warning; columns as in the module's table."""

    line: int
    reason: str
    count: int | None
    message: str


def parse(text: str) -> list[Row]:
    """Read the warnings.

    Raises
    ------
    ParseError
        For a line of another form.
    """
    return [_row(line) for line in lines(text)]


def _row(line: Line) -> Row:
    match = _EVENT.fullmatch(line.text)
    if not match:
        raise line.error("not a reason, a count and a quoted message")
    try:
        message = json.loads(match["message"])
    except ValueError:
        raise line.error("the message is not quoted as a whole") from None
    count = match["count"]
    return Row(
        line=line.number,
        reason=match["reason"],
        count=integer(line, count, "count") if count.isdigit() else None,
        message=message,
    )
