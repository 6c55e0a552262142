"""What holds for all parsers."""

from __future__ import annotations

import dataclasses
import importlib
import re
import typing
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from hypothesis import given, settings, strategies as st

from calico_lab import parsers
from calico_lab.errors import ParseError
from calico_lab.parsers import PARSERS

KINDS = sorted(PARSERS)
FIXTURES = Path(__file__).parent / "fixtures"
# Nothing is kept between runs, and a slow machine is no failure.
QUICK = settings(max_examples=50, deadline=None, database=None)


def module(kind: str) -> ModuleType:
    return importlib.import_module(f"calico_lab.parsers.{kind}")


def row_class(kind: str) -> Any:
    (row,) = typing.get_args(typing.get_type_hints(module(kind).parse)["return"])
    return row


def table_of_columns(kind: str) -> list[tuple[str, str]]:
    """Names and types in the docstring's table."""
    _, _, body, _ = re.split(r"^=+(?: +=+)+$", module(kind).__doc__ or "", maxsplit=3, flags=re.MULTILINE)
    cell = re.compile(r"(\S+) +(tuple of str|(?:int|float|str|bool)(?: \| None)?)(?: |$)")
    return [match.groups() for line in body.strip().split("\n") if (match := cell.match(line))]  # type: ignore[misc]


def type_in_words(hint: Any) -> str:
    if hint == tuple[str, ...]:
        return "tuple of str"
    return hint.__name__ if isinstance(hint, type) else str(hint)


def test_every_module_is_a_kind() -> None:
    folder = Path(parsers.__file__).parent
    assert {path.stem for path in folder.glob("[!_]*.py")} == set(PARSERS)


@pytest.mark.parametrize("kind", KINDS)
def test_the_docstring_names_the_columns_and_their_types(kind: str) -> None:
    hints = typing.get_type_hints(row_class(kind))
    columns = [(field.name, type_in_words(hints[field.name])) for field in dataclasses.fields(row_class(kind))]
    assert table_of_columns(kind) == columns


@pytest.mark.parametrize("kind", KINDS)
def test_rows_are_frozen_and_slotted_and_know_their_line(kind: str) -> None:
    row = row_class(kind)
    assert row.__dataclass_params__.frozen
    assert "__slots__" in vars(row)
    assert dataclasses.fields(row)[0].name == "line"


@pytest.mark.parametrize("text", ["", "\n", " \t\n\n"], ids=["empty", "newline", "blanks"])
@pytest.mark.parametrize("kind", KINDS)
def test_nothing_gives_no_rows(kind: str, text: str) -> None:
    assert PARSERS[kind](text) == []


def test_an_error_names_node_command_line_and_text() -> None:
    with pytest.raises(ParseError) as caught:
        parsers.parse("ip_neigh", "\nbash: ip: command not found\n", node="w-1", command="ip-neigh")
    assert str(caught.value) == ("w-1, ip-neigh, line 2: not an IP address: 'bash:'; seen: bash: ip: command not found")


def test_a_good_text_gives_the_rows_of_its_kind() -> None:
    text = "10.244.124.0 dev vxlan.calico lladdr 66:09:ac:35:3b:2d PERMANENT\n"
    assert parsers.parse("ip_neigh", text, node="c-1", command="ip-neigh") == PARSERS["ip_neigh"](text)


@pytest.mark.parametrize("kind", KINDS)
def test_any_text_gives_rows_or_a_parse_error(kind: str) -> None:
    @QUICK
    @given(st.text())
    def check(text: str) -> None:
        rows_or_error(kind, text)

    check()


@pytest.mark.parametrize("kind", KINDS)
def test_a_damaged_text_gives_rows_or_a_parse_error(kind: str) -> None:
    """Words dropped, repeated, swapped or replaced: what a text that nearly fits may look like."""
    texts = [path.read_text() for path in sorted((FIXTURES / kind).glob("*.txt"))]

    @QUICK
    @given(st.sampled_from(texts), st.data())
    def check(text: str, data: st.DataObject) -> None:
        parts = re.split(r"(\s+)", text)
        at = data.draw(st.integers(0, len(parts) - 1))
        parts[at] = data.draw(st.sampled_from(["", parts[at] * 2, "\u0663", "1e9", "/", ":", "[", *parts[:200]]))
        rows_or_error(kind, "".join(parts))

    check()


def rows_or_error(kind: str, text: str) -> None:
    try:
        rows = PARSERS[kind](text)
    except ParseError:
        return
    assert all(isinstance(row, row_class(kind)) for row in rows)
