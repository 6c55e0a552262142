"""Two recordings side by side, in words: what their facts have in common, and in what they differ.

Behind the waist like `review`; what a fact is stands in `facts`.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cached_property
from pathlib import Path

import pandas as pd

from .facts import KINDS, STATUSES, differences
from .page import Block, Language, Page
from .review import Review

__all__ = ["Comparison"]


class Comparison:
    """Two recordings, in one language.

    Parameters
    ----------
    a, b : path
        The recordings' folders. The same one twice is allowed: nothing differs then.
    name_a, name_b : str
        What they are called.
    language : {"ko", "en"}

    Raises
    ------
    RecordingError
        If a recording cannot be read.
    """

    def __init__(self, a: Path | str, b: Path | str, name_a: str, name_b: str, language: Language = "ko") -> None:
        self.page = Page(language)
        self.words = self.page.words
        self.reviews = {"A": Review(a, language), "B": Review(b, language)}
        self.names = {"A": name_a, "B": name_b}

    @cached_property
    def table(self) -> pd.DataFrame:
        """`facts.differences` of the two."""
        return differences(self.reviews["A"].tables, self.reviews["B"].tables)

    @cached_property
    def counts(self) -> pd.DataFrame:
        """How many facts of each kind have which status: a row a kind, with the columns kind and `STATUSES`."""
        counted = pd.crosstab(self.table["kind"], self.table["status"])
        counted = counted.reindex(index=list(KINDS), columns=list(STATUSES), fill_value=0)
        return counted.rename_axis(columns=None).reset_index()

    @property
    def title(self) -> str:
        return self.words("compare.title", a=self.names["A"], b=self.names["B"])

    @property
    def headline(self) -> str:
        """How many facts differ, in a sentence."""
        counted = self.table["status"].value_counts().reindex(list(STATUSES), fill_value=0)
        only = int(counted["only-a"] + counted["only-b"])
        if counted["same"] == len(self.table):
            return self.words("compare.equal", same=int(counted["same"]))
        return self.words(
            "compare.headline",
            same=int(counted["same"]),
            differs=int(counted["differs"]),
            only=only,
            unknown=int(counted["unknown"]),
        )

    # ------------------------------------------------------------------ what the notebook shows

    def heading(self) -> Block:
        text = f"# {self.title}\n\n{self.headline}"
        return Block({"text/markdown": text, "text/plain": text})

    @property
    def sources(self) -> pd.DataFrame:
        """Which recordings these are, and what each amounts to: a row a recording."""
        return pd.DataFrame(
            [
                {
                    "side": side,
                    "recording": self.names[side],
                    "scenario": review.scenario.name,
                    "provider": review.facts["provider"],
                    "dated": None if review.imported else review.facts["recorded"],
                    "installed": review.verdict.installed,
                    "ping": review.verdict.ping,
                    "cause": review.cause,
                    "agrees": review.agrees,
                }
                for side, review in self.reviews.items()
            ]
        )

    @property
    def summary(self) -> pd.DataFrame:
        """`counts`, with the kinds in words."""
        kinds = [self.words(f"compare.kind.{kind}") for kind in self.counts["kind"]]
        return self.counts.assign(kind=kinds)

    def shown(self, *statuses: str) -> pd.DataFrame:
        """The facts of these statuses, with columns subject, fact, a and b, and where each stands below its value."""
        chosen = self.table[self.table["status"].isin(statuses)]
        values = {side: pd.Series(_placed(chosen, side), chosen.index, dtype="str") for side in ("a", "b")}
        return chosen.assign(**values)[["subject", "fact", "a", "b"]]


def _placed(table: pd.DataFrame, side: str) -> Iterator[str | None]:
    for value, evidence in zip(table[side], table[f"evidence_{side}"], strict=True):
        places = "" if pd.isna(evidence) else ", ".join(f"`{place}`" for place in evidence.split(", ") if place)
        yield None if pd.isna(value) else f"{value}\n{places}" if places else value
