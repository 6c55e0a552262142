"""Rules over the tables of one recording: rows of findings, each with its evidence and the next command to run.

A rule is a function from `Tables` to findings, with an id. It says pass, fail or skip for each node or pair of nodes;
no data is a skip, never a pass. The rules in `CAUSES` explain why pods cannot reach each other; they stand in the order
in which a packet meets what they look at, so that the first one that fails is the cause and the later ones may be its
consequences. A verdict reads findings and nothing else; the scenario's expectation is compared with it afterwards.

What a finding says in words stands in the catalogue, under ``finding.<id>.<case>``.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import pandas as pd

from ..calico import mode, tunnel
from ..tables import Tables
from . import bgp, outcome, routes, tunnels, wire  # noqa: F401  (for the rules that they register)
from .findings import MODES_OF, RULES, Finding, Result, Words

__all__ = ["CAUSES", "RULES", "Finding", "Verdict", "check", "findings_table", "verdict"]

CAUSES = (
    "bgp-source",
    "bgp-reachable",
    "bgp-session",
    "device-present",
    "route-to-block",
    "pod-source",
    "outer-protocol",
    "mac-agreement",
    "vni-port",
    "fdb-destination",
    "local-address",
    "outer-source",
    "fdb-reachable",
)
"""Ids of the cause rules, in the order in which a packet meets them."""


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the findings amount to.

    Attributes
    ----------
    installed : bool or None
        Every node's CNI daemon is ready; None where some could not be asked.
    ready : dict of str to str
        For each node, as ``kubectl get pods`` shows it: ready containers of all.
    ping : bool or None
        Every probe between pods, and from a node to a pod of another, got an answer; None where the CNI is not
        installed or nothing was probed.
    cause : str or None
        Id of the first cause rule that failed, where the CNI is not installed or pods cannot reach each other.
    """

    installed: bool | None
    ready: dict[str, str]
    ping: bool | None
    cause: str | None


def check(tables: Tables) -> list[Finding]:
    """All findings, rule by rule, of the rules that apply to the install mode."""
    own = mode(tables.scenario.cni)
    return [
        replace(finding, id=name) for name, rule in RULES.items() if own in MODES_OF[name] for finding in rule(tables)
    ]


def verdict(findings: list[Finding], tables: Tables) -> Verdict:
    """Sum the findings up."""
    containers = tunnel(tables.scenario.cni).containers
    readiness = {finding.node: finding.result for finding in findings if finding.id == "ready"}
    ready = {
        # Felix's container is the only one with a readiness probe that can fail.
        node: f"{containers if result == 'pass' else containers - 1}/{containers}"
        for node, result in readiness.items()
        if result != "skip"
    }
    installed = _all_of(list(readiness.values()))
    ping = _all_of([finding.result for finding in findings if finding.id == "pod-ping"]) if installed else None
    failed = {finding.id for finding in findings if finding.result == "fail"}
    cause = next((rule for rule in CAUSES if rule in failed), None) if False in (installed, ping) else None
    return Verdict(installed, ready, ping, cause)


def findings_table(findings: list[Finding], words: Words) -> pd.DataFrame:
    """Findings as a DataFrame with columns id, result, node, reason, evidence, next, all text."""
    return pd.DataFrame(
        [
            {
                "id": finding.id,
                "result": finding.result,
                "node": finding.node,
                "reason": finding.reason(words),
                "evidence": ", ".join(f"`{place}`" for place in finding.evidence),
                "next": f"`{finding.next}`" if finding.next else None,
            }
            for finding in findings
        ],
        columns=["id", "result", "node", "reason", "evidence", "next"],
    )


def _all_of(results: list[Result]) -> bool | None:
    if "fail" in results:
        return False
    return True if results and set(results) == {"pass"} else None
