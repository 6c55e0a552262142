r"""``curl -sS -o /dev/null -w '%{http_code}\n' http://localhost:9099/readiness``.

========= ========== ==== =========================================================================
column    type       unit meaning
========= ========== ==== =========================================================================
line      int             1-based line in the text
http_code int | None      200 ready, 503 not ready; None for curl's "000": nothing answered by HTTP
========= ========== ==== =========================================================================
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from calico_lab.parsers._words import lines

__all__ = ["Row", "parse"]

_CODE = re.compile(r"000|[1-5][0-9]{2}")


@dataclass(frozen=True, slots=True)
class Row:
    """Felix's answer; columns as in the module's table."""

    line: int
    http_code: int | None


def parse(text: str) -> list[Row]:
    """Read the status code.

    Raises
    ------
    ParseError
        For anything but one three-digit status code.
    """
    found = list(lines(text))
    if len(found) > 1:
        raise found[1].error("more than one line")
    for line in found:
        if not _CODE.fullmatch(line.text.strip()):
            raise line.error("not an HTTP status code")
    return [Row(line.number, int(line.text) or None) for line in found]
