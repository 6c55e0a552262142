"""What the document asks first: could everything be read, is the CNI ready, do pods answer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import pandas as pd

from ..calico import tunnel
from ..tables import Tables, evidence, rows
from .findings import Finding, rule
from .shared import established, nodes_of, skip


@rule("recording")
def recording(tables: Tables) -> Iterator[Finding]:
    """Every capture could be read."""
    for capture in rows(tables.captures):
        # A probe that could not be sent is a measurement of its own; the rules that need it look at it.
        probe = capture.kind in ("ping", "mtu_sweep")
        if capture.status in ("read", "empty") or (probe and capture.status == "failed"):
            continue
        values = {"command": capture.command, "detail": capture.detail if isinstance(capture.detail, str) else ""}
        yield Finding(capture.node, f"error-{capture.status}", values, (capture.file,), str(capture.run))


@rule("ready")
def ready(tables: Tables) -> Iterator[Finding]:
    """The CNI daemon's own readiness: what decides between 1/1 and 0/1 Running."""
    next_command = f"kubectl -n kube-system get pods -l k8s-app={tunnel(tables.scenario.cni).workload} -o wide"
    for node in nodes_of(tables):
        row = next((row for row in tables.where("readiness", node=node.name) if not pd.isna(row.http_code)), None)
        if row is None:
            yield skip(node.name, tables, "readiness")
            continue
        result = "pass" if row.http_code in (200, 204) else "fail"
        finding = Finding(node.name, result, {"code": row.http_code}, (evidence(row),), next_command)
        if result == "pass" and tables.scenario.cni.backend == "bird":
            finding = _bird_ready(tables, node, finding)
        yield finding


def _bird_ready(tables: Tables, node: Any, felix: Finding) -> Finding:
    """Calico's `-bird-ready` once 30 s have passed since the start: one Established session is enough (bird.go)."""
    if tables.unread(node.name, "bird-protocols"):
        return skip(node.name, tables, "bird-protocols")
    sessions = tables.where("bgp", node=node.name, proto="BGP")
    up = [session for session in sessions if established(session)]
    places = (*felix.evidence, *map(evidence, sessions))
    if up or not sessions:
        return replace(felix, evidence=places)
    peers = ",".join(session.peer_ip for session in sessions)
    return replace(felix, case="fail-bird", values={"peers": peers}, evidence=places)


@rule("pod-ping")
def pod_ping(tables: Tables) -> Iterator[Finding]:
    """The review document's ping: from a node, and from a pod, to a pod of another node."""
    probes = tables.pings[tables.pings["via"].isin(["node", "pod"])]
    for ping in rows(probes):
        result = "pass" if ping.outcome == "replies" else "fail" if ping.outcome == "no_replies" else "skip"
        values = {
            "target": ping.target,
            "address": ping.address,
            "via": ping.via,
            "received": ping.received,
            "transmitted": ping.transmitted,
            "detail": ping.detail,
        }
        place = (evidence(ping),) if result != "skip" else (ping.file,)
        yield Finding(ping.source, result, values, place, f"ping -c 3 {ping.address}")
