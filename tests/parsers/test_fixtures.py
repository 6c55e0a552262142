"""Recorded texts and the rows, or the error, that each must give.

`fixtures/<kind>/<name>.txt` stands beside `<name>.json`, the rows; `<name>.bad.txt` beside `<name>.bad.err`, the
message. The first word of a name tells the origin: the review document, Debian 12, Ubuntu 18.04, the lab; or what is
wrong with the text: it is cut (`truncated`), or no output of the command at all or in part (`error`).
"""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from calico_lab.errors import ParseError
from calico_lab.parsers import PARSERS

FIXTURES = Path(__file__).parent / "fixtures"
BAD = sorted(FIXTURES.glob("*/*.bad.txt"))
GOOD = sorted(set(FIXTURES.glob("*/*.txt")) - set(BAD))


def name(path: Path) -> str:
    return f"{path.parent.name}/{path.stem}"


def as_json(rows: list[Any]) -> Any:
    return json.loads(json.dumps([dataclasses.asdict(row) for row in rows]))


def knows_no_more(row: Any, whole: Any) -> bool:
    """Whether `row` is `whole`, less what stood on lines that were cut off."""
    pairs = zip(dataclasses.astuple(row), dataclasses.astuple(whole), strict=True)
    return all(
        a == b or a is None or (isinstance(a, str) and isinstance(b, str) and b.startswith(f"{a}\n")) for a, b in pairs
    )


@pytest.mark.parametrize("path", GOOD, ids=name)
def test_the_text_gives_the_rows(path: Path) -> None:
    assert as_json(PARSERS[path.parent.name](path.read_text())) == json.loads(path.with_suffix(".json").read_text())


@pytest.mark.parametrize("path", BAD, ids=name)
def test_the_text_gives_the_error(path: Path) -> None:
    with pytest.raises(ParseError) as caught:
        PARSERS[path.parent.name](path.read_text())
    assert f"{caught.value}\n" == path.with_suffix(".err").read_text()


@pytest.mark.parametrize("path", GOOD, ids=name)
def test_every_row_points_to_a_line_that_is_not_blank(path: Path) -> None:
    lines = path.read_text().split("\n")
    assert all(lines[row.line - 1].strip() for row in PARSERS[path.parent.name](path.read_text()))


@pytest.mark.parametrize("path", GOOD, ids=name)
def test_a_text_cut_at_a_line_is_an_error_or_gives_the_first_rows(path: Path) -> None:
    parse = PARSERS[path.parent.name]
    text = path.read_text()
    rows = parse(text)
    lines = text.splitlines(keepends=True)
    for count in range(len(lines)):
        try:
            first = parse("".join(lines[:count]))
        except ParseError:
            continue
        assert len(first) <= len(rows)
        assert first[:-1] == rows[: len(first[:-1])]
        assert not first or knows_no_more(first[-1], rows[len(first) - 1])


def test_every_kind_has_good_and_bad_texts() -> None:
    assert {path.parent.name for path in GOOD} == {path.parent.name for path in BAD} == set(PARSERS)


def test_every_expectation_has_its_text() -> None:
    expectations = [path for path in FIXTURES.glob("*/*") if path.suffix in {".json", ".err"}]
    assert [path.name for path in expectations if not path.with_suffix(".txt").exists()] == []
