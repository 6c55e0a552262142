"""What a rule is, and what it finds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal

from ..tables import Tables

__all__ = ["ANY_RULE", "BIRD", "MODES", "MODES_OF", "RULES", "VXLAN", "Finding", "Result", "Rule", "Words", "rule"]

ANY_RULE = frozenset({"no-data", "no-details", "no-device", "no-peer-device", "no-entry"})
"""Cases whose sentence is the same for every rule, under ``finding.any``."""

MODES = frozenset({"vxlan", "canal", "bird"})
VXLAN = frozenset({"vxlan", "canal"})
BIRD = frozenset({"bird"})

Result = Literal["pass", "fail", "skip", "error"]
Words = Callable[..., str]
Rule = Callable[[Tables], Iterator["Finding"]]


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that a rule found.

    Attributes
    ----------
    node : str
        The node that it is about.
    case : str
        Which of the rule's sentences applies: the end of the catalogue key. Its first word is the result where that is
        one of pass, fail and error (the recording itself is at fault); any other case is a skip.
    values : dict
        What fills that sentence's placeholders.
    evidence : tuple of str
        ``file:line`` in the recording.
    next : str
        A command that looks at it on the node; empty where nothing is left to ask.
    wants : tuple of (str, str)
        Where a capture was missing: node and name of the captures that would decide, each alone, the best first.
    id : str
        The rule's; `check` writes it in.
    """

    node: str
    case: str
    values: dict[str, Any] = field(default_factory=dict)
    evidence: tuple[str, ...] = ()
    next: str = ""
    wants: tuple[tuple[str, str], ...] = ()
    id: str = ""

    @property
    def result(self) -> Result:
        match self.case.partition("-")[0]:
            case "pass" | "fail" | "error" as result:
                return result
        return "skip"

    def reason(self, words: Words) -> str:
        rule = "any" if self.case in ANY_RULE else self.id
        return words(f"finding.{rule}.{self.case}", **self.values).rstrip()


RULES: dict[str, Rule] = {}
"""Every rule by its id."""

MODES_OF: dict[str, frozenset[str]] = {}
"""The install modes that a rule applies to."""


def rule(rule_id: str, *, modes: frozenset[str] = MODES) -> Callable[[Rule], Rule]:
    """Register a rule: a function from tables to findings, which yields nothing where there is nothing to look at."""

    def register(function: Rule) -> Rule:
        RULES[rule_id], MODES_OF[rule_id] = function, modes
        return function

    return register
