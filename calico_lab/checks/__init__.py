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
from ..scenario import Expected
from ..tables import Tables
from . import bgp, host, mtu, outcome, routes, tunnels, wire  # noqa: F401  (for the rules that they register)
from .findings import MODES_OF, RULES, Finding, Result, Words
from .shared import line_of

__all__ = ["CAUSES", "RULES", "Finding", "Verdict", "agrees", "check", "findings_table", "gaps", "verdict"]

CAUSES = (
    "duplicate-address",
    "bgp-source",
    "bgp-reachable",
    "bgp-session",
    "proxy-arp",
    "pod-route",
    "ip-forward",
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
    "allow-list",
    "checksum-offload",
    "node-filter",
    "rp-filter",
    "wire",
    "path-mtu",
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
        Id of the first cause rule that failed, where the CNI is not installed, pods cannot reach each other, or whole
        packets are lost without a word.
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
    asked = False in (installed, ping) or "path-mtu" in failed
    cause = next((rule for rule in CAUSES if rule in failed), None) if asked else None
    return Verdict(installed, ready, ping, cause)


def agrees(measured: Verdict, expected: Expected | None) -> bool | None:
    """Whether a verdict is what a scenario expects; None where it expects nothing."""
    if expected is None:
        return None
    wanted = (expected.installed, expected.ping, expected.cause)
    return wanted == (measured.installed, measured.ping, measured.cause)


def gaps(findings: list[Finding], tables: Tables) -> pd.DataFrame:
    """What to ask next where cause rules could not decide: captures that only read, the most telling first.

    A rule that could not decide, but has already seen something that speaks against the node, counts before any number
    of rules that have seen nothing. Each next capture is the one that decides most of what the earlier ones leave open.

    Returns
    -------
    DataFrame
        Columns command (the capture's name), run (the line to type), nodes and rules (comma-separated), suspects (how
        many undecided findings had seen something).
    """
    undecided = [finding for finding in findings if finding.id in CAUSES and finding.wants]
    found = []
    while undecided:
        deciding: dict[str, list[Finding]] = {}
        for finding in undecided:
            deciding.setdefault(finding.wants[0][1], []).append(finding)
        command, decided = max(deciding.items(), key=lambda item: (_suspects(item[1]), len({f.id for f in item[1]})))
        found.append(
            {
                "command": command,
                "run": line_of(tables, command),
                "nodes": ", ".join(dict.fromkeys(n for f in decided for n, name in f.wants if name == command)),
                "rules": ", ".join(dict.fromkeys(finding.id for finding in decided)),
                "suspects": _suspects(decided),
            }
        )
        undecided = [finding for finding in undecided if command not in {name for _, name in finding.wants}]
    return pd.DataFrame(found, columns=["command", "run", "nodes", "rules", "suspects"])


def _suspects(findings: list[Finding]) -> int:
    return sum(finding.case == "suspect" for finding in findings)


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
