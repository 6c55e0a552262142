"""Recordings of many scenarios side by side: the review document's result table, and what others say of its rows.

Behind the waist like `review`: this reads recordings. What the document and others claim stands in ``claims.yaml`` and
meets the measurement only here, after each verdict stands.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from . import plot
from .calico import tunnel
from .page import Block, Language, Page
from .predict import predict
from .review import Review
from .scenario import Scenario
from .tables import rows

__all__ = ["Claim", "Entry", "Overview", "claims"]

_CLAIMS = Path(__file__).resolve().parent / "claims.yaml"


@dataclass(frozen=True, slots=True)
class Claim:
    """What somebody says of a scenario.

    Attributes
    ----------
    source : str
        Key of ``claims.yaml``'s sources.
    installed, ping : bool or None
        None where the source leaves it open.
    remark : str or None
        What else it says there.
    """

    source: str
    installed: bool | None = None
    ping: bool | None = None
    remark: str | None = None


@cache
def claims() -> Mapping[str, tuple[Claim, ...]]:
    """Claims by scenario, read once."""
    raw = yaml.safe_load(_CLAIMS.read_text(encoding="utf-8"))
    return {
        scenario: tuple(Claim(source, **said) for source, said in by_source.items())
        for scenario, by_source in raw["claims"].items()
    }


@dataclass(frozen=True, slots=True)
class Entry:
    """A scenario's place in the overview.

    Attributes
    ----------
    scenario : Scenario
    seconds : float or None
        What recording and report took; None if they are from an earlier run.
    error : str or None
        Why there is no measurement.
    """

    scenario: Scenario
    seconds: float | None = None
    error: str | None = None

    def plain(self) -> dict[str, Any]:
        """The same as plain data, which a notebook can be given; `of` reads it."""
        return {"parameters": self.scenario.parameters(), "seconds": self.seconds, "error": self.error}

    @classmethod
    def of(cls, plain: Mapping[str, Any]) -> Entry:
        return cls(Scenario.of(plain["parameters"]), plain["seconds"], plain["error"])


class Overview:
    """The scenarios of `entries`, in one language.

    Parameters
    ----------
    entries : sequence of Entry
    outputs : Path
        Folder with a folder a scenario. Without an error an entry has a recording there.
    language : {"ko", "en"}

    Raises
    ------
    RecordingError
        If a recording cannot be read.
    """

    def __init__(self, entries: Sequence[Entry], outputs: Path, language: Language = "ko") -> None:
        self.entries = tuple(entries)
        self.outputs = outputs
        self.page = Page(language)
        self.words = self.page.words
        self.reviews = {
            entry.scenario.name: Review(outputs / entry.scenario.name / "recording", language)
            for entry in self.entries
            if entry.error is None
        }

    @cached_property
    def table(self) -> pd.DataFrame:
        """One row a scenario.

        =================== ======= ==== ==================================================================
        column              type    unit meaning
        =================== ======= ==== ==================================================================
        scenario            str
        topology            str          CSP of the document's table, in its words
        backend             str          라우팅
        node_ip             str          IPv4Address
        predicted_installed boolean      from the scenario alone (`predict.predict`)
        predicted_ping      boolean      NA where the CNI would not be installed
        predicted_cause     str          NA where pods would reach each other
        installed           boolean      설치; NA without a measurement
        ping                boolean      NA without a measurement, or where it is not decided
        note                str          비고, as it follows from the measurement; the error where there is none
        cause               str          id of the first cause that failed; NA if none did
        expected_installed  boolean
        expected_ping       boolean
        expected_cause      str
        agrees              boolean      NA where nothing is expected or measured
        seconds             Float64 s    recording and report; NA if they are from an earlier run
        error               str          why there is no measurement
        =================== ======= ==== ==================================================================
        """
        frame = pd.DataFrame([self._row(entry) for entry in self.entries])
        pairs = [f"{said}{what}" for said in ("predicted_", "", "expected_") for what in ("installed", "ping")]
        return frame.astype(dict.fromkeys([*pairs, "agrees"], "boolean") | {"seconds": "Float64"})

    def _row(self, entry: Entry) -> dict[str, Any]:
        scenario, review = entry.scenario, self.reviews.get(entry.scenario.name)
        expected, measured = scenario.expected, review.verdict if review else None
        backend = "canal" if scenario.cni.plugin == "canal" else scenario.cni.backend
        predicted = predict(scenario)
        return {
            "scenario": scenario.name,
            "topology": self.words(f"value.topology.{scenario.topology}"),
            "backend": self.words(f"value.backend.{backend}"),
            "node_ip": self.words(f"value.node_ip.{scenario.cni.node_ip}"),
            "predicted_installed": predicted.installed,
            "predicted_ping": predicted.ping,
            "predicted_cause": predicted.cause,
            "installed": measured.installed if measured else None,
            "ping": measured.ping if measured else None,
            "note": review.result["note"].iloc[0] if review else self.words("matrix.not-measured", error=entry.error),
            "cause": measured.cause if measured else None,
            "expected_installed": expected.installed if expected else None,
            "expected_ping": expected.ping if expected else None,
            "expected_cause": expected.cause if expected else None,
            "agrees": review.agrees if review else None,
            "seconds": entry.seconds,
            "error": entry.error,
        }

    # ------------------------------------------------------------------ what the notebook shows

    def heading(self) -> Block:
        measured = self.table["installed"].notna().sum()
        agreeing = self.table["agrees"].fillna(False).sum()
        foreseen = measured - sum(self.surprise(row) is not None for row in rows(self.table))
        counts = {"total": len(self.table), "measured": measured, "foreseen": foreseen, "agreeing": agreeing}
        line = self.words("matrix.subtitle", **counts)
        return self._markdown(f"# {self.words('matrix.title')}\n\n{line}")

    @property
    def result(self) -> pd.DataFrame:
        """The document's result table: what was predicted, what was measured and what is documented, side by side."""
        names = {cause: self.words(f"cause.{cause}") for cause in self.table["cause"].dropna()}
        notes = [
            "\n".join(filter(None, [row.note, self.surprise(row), self.disagreement(row.scenario)]))
            for row in rows(self.table)
        ]
        predicted = [
            self._pair(row.predicted_installed, row.predicted_ping) + (" ≠" if self.surprise(row) else "")
            for row in rows(self.table)
        ]
        documented = [self._pair(row.expected_installed, row.expected_ping) for row in rows(self.table)]
        shown = self.table.assign(note=notes, cause=self.table["cause"].map(names))
        shown = shown.assign(predicted=predicted, documented=documented)
        return shown[
            [
                *("scenario", "topology", "backend", "node_ip", "predicted", "installed", "ping", "documented"),
                *("agrees", "cause", "note", "seconds"),
            ]
        ]

    def surprise(self, row: Any) -> str | None:
        """That a row of the table was measured otherwise than predicted."""
        sides = [
            (getattr(row, f"{said}installed"), getattr(row, f"{said}ping"), getattr(row, f"{said}cause"))
            for said in ("predicted_", "")
        ]
        predicted, measured = ([None if pd.isna(value) else value for value in side] for side in sides)
        if row.scenario not in self.reviews or predicted == measured:
            return None
        return self.words("matrix.surprise", predicted=self._verdict(*predicted), measured=self._verdict(*measured))

    def _verdict(self, installed: Any, ping: Any, cause: str | None) -> str:
        named = self.words(f"cause.{cause}") if cause else self.words("review.no-cause")
        return f"{self._pair(installed, ping)} ({named})"

    def disagreement(self, name: str) -> str | None:
        """Who says what of a scenario where they do not all say the same, and why it was measured so."""
        review = self.reviews.get(name)
        said = claims().get(name, ())
        if review is None or not said:
            return None
        measured = (review.verdict.installed, review.verdict.ping)
        pairs = [pair for claim in said for pair in zip((claim.installed, claim.ping), measured, strict=True)]
        if all(claimed in (None, found) for claimed, found in pairs):
            return None
        parts = [
            self.words("matrix.claim", source=self.words(f"matrix.source.{claim.source}"), said=self._said(claim))
            for claim in said
        ]
        return self.words(
            "matrix.disagreement",
            claims=" · ".join(parts),
            measured=self._pair(*measured),
            why=self._why(review),
        )

    def _said(self, claim: Claim) -> str:
        pair = self._pair(claim.installed, claim.ping)
        return pair if claim.remark is None else f"{pair} ({claim.remark})"

    def _why(self, review: Review) -> str:
        """The first finding that decided it, with its evidence."""
        decisive = review.verdict.cause or ("ready" if not review.verdict.installed else None)
        for finding in review.findings:
            if finding.id == decisive and finding.result == "fail":
                places = ", ".join(f"`{place}`" for place in finding.evidence)
                return f"{finding.node}: {finding.reason(self.words)} ({places})"
        return self.words("matrix.nothing-failed")

    def _pair(self, installed: Any, ping: Any) -> str:
        marks = [
            self.words(f"value.{'none' if pd.isna(value) else str(bool(value)).lower()}") for value in (installed, ping)
        ]
        return "/".join(marks)

    def latency_heading(self) -> Block:
        """Above the map, with the scenarios whose latency their kernel left out."""
        left_out = [
            name for name, review in self.reviews.items() if review.recording.manifest["facts"].get("latency_left_out")
        ]
        text = self.words("matrix.latency")
        if left_out:
            text += "\n" + self.words("matrix.latency-left-out", scenarios=", ".join(f"`{name}`" for name in left_out))
        return self._markdown(text)

    def latency_figure(self) -> Block:
        """Median round trip to the pods of other nodes; a pair without a reply has a mark, not a number."""
        cells = pd.DataFrame(self._latencies(), columns=["row", "column", "value", "mark"])
        return self._heat(cells, "latency")

    def _latencies(self) -> Iterator[tuple[str, str, float | None, str]]:
        for name, review in self.reviews.items():
            for src, dst, median, mark in review.latency_cells():
                yield name, f"{src} → {dst}", median, mark

    def mtu_figure(self) -> Block:
        """MTU of each node's tunnel device, which says what a pod may send."""
        cells = pd.DataFrame(self._mtus(), columns=["row", "column", "value", "mark"])
        return self._heat(cells, "mtu")

    def _mtus(self) -> Iterator[tuple[str, str, float | None, str]]:
        for name, review in self.reviews.items():
            links = review.tables.links
            own = links[links["name"] == tunnel(review.scenario.cni).device].set_index("node")["mtu_bytes"]
            for node in review.tables.nodes["name"]:
                mtu_bytes = own.get(node)
                mark = self.words("plot.heat.no-device") if mtu_bytes is None else str(mtu_bytes)
                yield name, str(node), None if mtu_bytes is None else float(mtu_bytes), mark

    def _heat(self, cells: pd.DataFrame, kind: str) -> Block:
        summary = "; ".join(
            f"{name} " + ", ".join(f"{cell.column} {cell.mark}" for cell in rows(own))
            for name, own in cells.groupby("row", sort=False)
        )
        figure = plot.heat(cells, self.words, self.words(f"plot.heat.{kind}"))
        caption = self.words(f"matrix.caption.{kind}")
        return self.page.figure(figure, self.words(f"matrix.alt.{kind}", summary=summary), caption)

    def links(self) -> Block:
        """To each scenario's own report, from a page in a folder beside theirs."""
        lines = [f"* {name}: [HTML](../{name}/report.html) · [Markdown](../{name}/report.md)" for name in self.reviews]
        return self._markdown("\n".join(lines) or self.words("table.empty"))

    @property
    def sources(self) -> pd.DataFrame:
        """Where the claims come from."""
        raw = yaml.safe_load(_CLAIMS.read_text(encoding="utf-8"))["sources"]
        return pd.DataFrame(
            [
                {"source": self.words(f"matrix.source.{key}"), "url": source["url"], "dated": source["date"]}
                for key, source in raw.items()
            ]
        )

    def _markdown(self, text: str) -> Block:
        return Block({"text/markdown": text, "text/plain": text})
