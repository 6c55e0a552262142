"""kubectl's ``custom-columns``: a heading, and cells that begin below its words."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from calico_lab.parsers._words import Line, integer, lines

__all__ = ["booleans", "cells", "integers", "text"]

_NONE = "<none>"


def cells(printed: str, columns: Sequence[str]) -> Iterator[tuple[Line, list[str]]]:
    """Each line's cells, in the order of the columns.

    Raises
    ------
    ParseError
        For another heading, and for a line whose cells do not begin below its words.
    """
    heading: list[int] = []
    for line in lines(printed):
        if not heading:
            if line.text.split() != list(columns):
                raise line.error(f"not the heading {' '.join(columns)}")
            heading = [match.start() for match in re.finditer(r"\S+", line.text)]
            continue
        # Only the last cell may be cut short or hold more than one word.
        found = [line.text[start:end] for start, end in zip(heading, [*heading[1:], None], strict=True)]
        *words, last = found
        if not last.strip() or any(not re.fullmatch(r"\S+ {2,}", word) for word in words):
            raise line.error("its cells do not begin below the heading's words")
        yield line, [*(word.strip() for word in words), last.strip()]


def text(cell: str) -> str | None:
    """A cell's text; None where kubectl found nothing."""
    return None if cell == _NONE else cell


def integers(line: Line, cell: str, what: str) -> tuple[int, ...]:
    """Numbers with commas between them."""
    return () if cell == _NONE else tuple(integer(line, word, what) for word in cell.split(","))


def booleans(line: Line, cell: str, what: str) -> tuple[bool, ...]:
    """``true`` and ``false`` with commas between them.

    Raises
    ------
    ParseError
        For any other word.
    """
    words = [] if cell == _NONE else cell.split(",")
    if not set(words) <= {"true", "false"}:
        raise line.error(f"not true or false: {what}")
    return tuple(word == "true" for word in words)
