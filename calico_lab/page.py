"""What a notebook cell displays: text, tables, figures and raw command output, in Korean or English.

Everything a reader sees comes from the catalogue ``words/<language>.yaml``. Each block carries the two forms that the
exports need, HTML for the report and Markdown for a wiki, so that neither is made from the other.
"""

from __future__ import annotations

import base64
import difflib
import html
import io
import math
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal

import numpy as np
import pandas as pd
import yaml
from matplotlib.figure import Figure

__all__ = ["LANGUAGES", "Block", "Language", "Page", "catalogue"]

Language = Literal["ko", "en"]
LANGUAGES: tuple[Language, ...] = ("ko", "en")

_WORDS = Path(__file__).resolve().parent / "words"

_PIXELS_PER_INCH = 96
"""CSS's inch. A figure is shown at this size and drawn at twice as many pixels, for dense screens and print."""

_LONG_LINES = 24
"""A raw text longer than this is folded: about half a printed page."""


@dataclass(frozen=True, slots=True)
class Block:
    """Something that Jupyter displays.

    Attributes
    ----------
    data : mapping of str to str
        MIME type to content, as in a notebook's output.
    metadata : mapping
        MIME type to its metadata; a picture's hold ``alt``, ``caption``, ``width`` and ``height`` (CSS pixels).
    """

    data: Mapping[str, str]
    metadata: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def __repr__(self) -> str:
        return self.data["text/plain"]

    def _repr_mimebundle_(self, include: Any = None, exclude: Any = None) -> tuple[dict[str, str], dict[str, Any]]:
        return dict(self.data), dict(self.metadata)


@cache
def catalogue(language: Language) -> Mapping[str, str]:
    """Texts of one language by dotted key, read once.

    Raises
    ------
    KeyError
        If there is no catalogue of that language.
    """
    if language not in LANGUAGES:
        raise KeyError(f"no catalogue for language {language!r}, there are: {', '.join(LANGUAGES)}")
    raw = yaml.safe_load((_WORDS / f"{language}.yaml").read_text(encoding="utf-8"))
    return MappingProxyType(dict(_flat(raw)))


class Page:
    """The blocks of one report in one language.

    Parameters
    ----------
    language : {"ko", "en"}

    Raises
    ------
    KeyError
        If there is no catalogue of that language.
    """

    def __init__(self, language: Language) -> None:
        self.language = language
        self._texts = catalogue(language)

    def words(self, key: str, **values: object) -> str:
        """The text of that key with its placeholders filled.

        Raises
        ------
        KeyError
            If the catalogue has no such key, or its text a placeholder that `values` lacks.
        """
        try:
            text = self._texts[key]
        except KeyError:
            close = difflib.get_close_matches(key, list(self._texts), n=1)
            hint = f", did you mean {close[0]}?" if close else ""
            raise KeyError(f"words/{self.language}.yaml has no key {key}{hint}") from None
        try:
            return text.format(**values)
        except KeyError as missing:
            raise KeyError(f"words/{self.language}.yaml: {key} needs a value for {missing}") from None

    def text(self, key: str, **values: object) -> Block:
        """A text of the catalogue, read as Markdown."""
        text = self.words(key, **values)
        return Block({"text/markdown": text, "text/plain": text})

    def verdict(self, values: Mapping[str, object], line: str) -> Block:
        """An outcome: in HTML a box of values under their headings, in Markdown one line.

        Parameters
        ----------
        values : mapping
            Shown as in a table, under ``column.<name>``.
        line : str
            The same in a sentence, Markdown.
        """
        pairs = (
            f"<div><dt>{_inline_html(self.words(f'column.{name}'))}</dt>"
            f"<dd>{_inline_html(self._cell(name, value))}</dd></div>"
            for name, value in values.items()
        )
        box = "\n".join(['<dl class="verdict">', *pairs, "</dl>"])
        return Block({"text/html": box, "text/markdown": line, "text/plain": line})

    def table(
        self,
        frame: pd.DataFrame,
        caption_key: str | None = None,
        columns: Sequence[str] | None = None,
        **values: object,
    ) -> Block:
        """A table with the headings ``column.<name>``.

        Parameters
        ----------
        frame : DataFrame
            None, NaN and NA are shown as ``.`` and booleans as ``O`` and ``X``, like the review document's table.
            Column ``result`` holds pass, fail, skip or error and is shown with a symbol and a word. Text between
            backticks is shown as code. Floats keep three significant digits.
        caption_key : str, optional
            Key of the table's caption; `values` fill it.
        columns : sequence of str, optional
            Which columns to show, in that order; all by default.

        Raises
        ------
        KeyError
            If a column has no heading in the catalogue, or `frame` lacks one of `columns`.
        """
        names = list(frame.columns if columns is None else columns)
        headings = [self.words(f"column.{name}") for name in names]
        cells = [[self._cell(name, value) for value in frame[name].tolist()] for name in names]
        rows = list(zip(*cells, strict=True))
        kinds = [_kind(frame[name], texts) for name, texts in zip(names, cells, strict=True)]
        caption = None if caption_key is None else self.words(caption_key, **values)
        markdown = "\n".join(_markdown_table(headings, rows, kinds, caption, self.words("table.empty")))
        return Block(
            {
                "text/html": "\n".join(_html_table(headings, rows, kinds, caption, self.words("table.empty"))),
                "text/markdown": markdown,
                "text/plain": markdown,
            }
        )

    def figure(self, figure: Figure, alt: str, caption: str | None = None) -> Block:
        """A figure as a PNG of twice the pixels it is shown at. The figure is used up: its memory is freed.

        Parameters
        ----------
        figure : Figure
        alt : str
            What the picture shows, for a reader who does not see it.
        caption : str, optional
            The line below the picture; `alt` by default.
        """
        width, height = (round(inches * _PIXELS_PER_INCH) for inches in figure.get_size_inches())
        png = io.BytesIO()
        # Without the Software key, which names matplotlib's version, equal figures are equal bytes.
        figure.savefig(png, format="png", dpi=2 * _PIXELS_PER_INCH, metadata={"Software": None})
        figure.clear()
        shown = {"alt": alt, "caption": alt if caption is None else caption, "width": width, "height": height}
        return Block(
            {"image/png": base64.b64encode(png.getvalue()).decode("ascii"), "text/plain": alt}, {"image/png": shown}
        )

    def raw(self, text: str, title: str) -> Block:
        """Command output as it is, under a title; in HTML a long one is folded.

        Parameters
        ----------
        text : str
        title : str
            Usually the node and the command.
        """
        lines = text.rstrip("\n")
        pre = f"<pre>{_escape(lines)}</pre>"
        if lines.count("\n") < _LONG_LINES:
            shown = f'<div class="raw">\n<p class="title">{_inline_html(title)}</p>\n{pre}\n</div>'
        else:
            shown = f'<details class="raw">\n<summary>{_inline_html(title)}</summary>\n{pre}\n</details>'
        longest_run = max((len(run) for run in re.findall(r"`+", lines)), default=0)
        fence = "`" * max(3, longest_run + 1)
        markdown = f"{_inline_markdown(title)}\n\n{fence}\n{lines}\n{fence}"
        return Block({"text/html": shown, "text/markdown": markdown, "text/plain": f"{title}\n{lines}"})

    def _cell(self, column: str, value: object) -> str:
        """The text of one cell, not yet escaped."""
        if isinstance(value, list | tuple | set | frozenset):
            return ", ".join(self._cell("", item) for item in value)
        if value is None or value is pd.NA or value is pd.NaT or (isinstance(value, float) and math.isnan(value)):
            return "."
        if isinstance(value, bool | np.bool_):
            return "O" if value else "X"
        if isinstance(value, float):
            return f"{value:.0f}" if abs(value) >= 1000 else f"{value:.3g}"
        return self.words(f"result.{value}") if column == "result" else str(value)


def _flat(tree: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    for key, value in tree.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", str(value)


# ---------------------------------------------------------------------- tables

_Kind = Literal["text", "short", "number", "mark"]

_SHORT = 24
"""A column whose cells all have at most that many characters is never broken into lines."""


def _kind(column: pd.Series[Any], texts: Sequence[str]) -> _Kind:
    """How a column is set: numbers to the right, O and X in the middle, only long text in several lines."""
    values = column.dropna().tolist()
    if values and all(isinstance(value, bool | np.bool_) for value in values):
        return "mark"
    if pd.api.types.is_numeric_dtype(column.dtype):
        return "number"
    return "short" if all(len(text) <= _SHORT for text in texts) else "text"


def _html_table(
    headings: Sequence[str],
    rows: Sequence[Sequence[str]],
    kinds: Sequence[_Kind],
    caption: str | None,
    empty: str,
) -> Iterator[str]:
    # Focusable, so that a table wider than the page can be scrolled with the keyboard.
    yield '<div class="table" tabindex="0">'
    yield "<table>"
    if caption is not None:
        yield f"<caption>{_inline_html(caption)}</caption>"
    cells = (
        f'<th scope="col" class="{kind}">{_inline_html(heading)}</th>'
        for heading, kind in zip(headings, kinds, strict=True)
    )
    yield f"<thead><tr>{''.join(cells)}</tr></thead>"
    yield "<tbody>"
    for row in rows:
        cells = (f'<td class="{kind}">{_inline_html(cell)}</td>' for cell, kind in zip(row, kinds, strict=True))
        yield f"<tr>{''.join(cells)}</tr>"
    if not rows:
        yield f'<tr><td class="empty" colspan="{len(headings)}">{_inline_html(empty)}</td></tr>'
    yield "</tbody>"
    yield "</table>"
    yield "</div>"


def _markdown_table(
    headings: Sequence[str],
    rows: Sequence[Sequence[str]],
    kinds: Sequence[_Kind],
    caption: str | None,
    empty: str,
) -> Iterator[str]:
    if caption is not None:
        yield f"**{_inline_markdown(caption)}**"
        yield ""
    rules = {"text": "---", "short": "---", "number": "---:", "mark": ":---:"}
    yield _pipes(map(_cell_markdown, headings))
    yield _pipes(rules[kind] for kind in kinds)
    for row in rows or [[empty] + [""] * (len(headings) - 1)]:
        yield _pipes(map(_cell_markdown, row))


def _pipes(cells: Iterable[str]) -> str:
    return f"| {' | '.join(cells)} |"


# ---------------------------------------------------------------------- escaping

_CODE = re.compile(r"`([^`]+)`")
_MARKDOWN_ACTIVE = re.compile(r"[\\`*\[\]~$]|(?<!\w)_|_(?!\w)")
"""What could start markup in a plain text. GitHub leaves an underscore inside a word alone, and so do we."""


def _inline_html(text: str) -> str:
    return _with_code(text, _escape, lambda code: f"<code>{_escape(code)}</code>").replace("\n", "<br>")


def _inline_markdown(text: str) -> str:
    return _with_code(text, _plain_markdown, lambda code: f"`{code}`").replace("\n", " ")


def _cell_markdown(text: str) -> str:
    """GitHub splits a row at each pipe before it reads the cells, so that even one inside code needs its backslash."""
    return _with_code(text, _plain_markdown, lambda code: f"`{code}`").replace("|", r"\|").replace("\n", "<br>")


def _plain_markdown(text: str) -> str:
    return _MARKDOWN_ACTIVE.sub(lambda active: f"\\{active[0]}", text.replace("&", "&amp;").replace("<", "&lt;"))


def _escape(text: str) -> str:
    return html.escape(text, quote=False)


def _with_code(text: str, plain: Callable[[str], str], code: Callable[[str], str]) -> str:
    """The text with what stands between backticks given to `code` and the rest to `plain`."""
    return "".join(code(part) if index % 2 else plain(part) for index, part in enumerate(_CODE.split(text)))
