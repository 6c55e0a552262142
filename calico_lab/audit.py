"""The review document's conclusions, held against recordings: supported, contradicted or untested.

Each conclusion is a question to what was recorded: this scenario's own recording, canal's on the same nodes, and those
with remedies. One that no recording answers is untested, whatever is known of it otherwise. What each says stands in
the catalogue of words, under ``audit.<id>``.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from .calico import tunnel
from .checks import Verdict
from .checks.shared import detail_of, device_of, nodes_of
from .tables import Tables, evidence, rows

__all__ = ["CONCLUSIONS", "Answer", "Measured", "audit"]


@dataclass(frozen=True, slots=True)
class Measured:
    """One recording with its verdict; `told` says in words which it is."""

    tables: Tables
    verdict: Verdict
    told: str

    @property
    def plugin(self) -> str:
        return self.tables.scenario.cni.plugin


@dataclass(frozen=True, slots=True)
class Answer:
    """What recordings say of one conclusion.

    Attributes
    ----------
    id : str
    status : "supported", "contradicted" or "untested"
    told : str
        The recording that says so; empty where none does.
    evidence : tuple of str
        ``file:line`` in that recording.
    """

    id: str
    status: str
    told: str = ""
    evidence: tuple[str, ...] = ()


Question = Callable[[Sequence[Measured]], tuple[bool, Measured, tuple[str, ...]] | None]


def _locals(one: Measured) -> list[tuple[Any, Any]]:
    """Each node with its tunnel device, where it has one with a local address."""
    found = [(node, device_of(one.tables, node.name)) for node in nodes_of(one.tables)]
    return [(node, device) for node, device in found if device is not None and isinstance(device.local_ip, str)]


def _internal_ip_is_public(measured: Sequence[Measured]) -> tuple[bool, Measured, tuple[str, ...]] | None:
    for one in measured:
        devices = _locals(one) if one.plugin == "calico" else []
        if devices:
            public = all(device.local_ip == node.public_ip for node, device in devices)
            return public, one, tuple(detail_of(device) for _, device in devices)
    return None


def _flannels_local_is_private(measured: Sequence[Measured]) -> tuple[bool, Measured, tuple[str, ...]] | None:
    for one in measured:
        devices = _locals(one) if one.plugin == "canal" else []
        if devices:
            private = all(device.local_ip == node.private_ip for node, device in devices)
            return private, one, tuple(detail_of(device) for _, device in devices)
    return None


def _flannel_sends_to_public(measured: Sequence[Measured]) -> tuple[bool, Measured, tuple[str, ...]] | None:
    for one in measured:
        if one.plugin != "canal" or one.tables.scenario.topology != "cross":
            continue
        device = tunnel(one.tables.scenario.cni).device
        sent = [entry for entry in one.tables.where("fdb", dev=device) if isinstance(entry.dst, str)]
        if sent:
            public = {node.public_ip for node in nodes_of(one.tables)}
            return {entry.dst for entry in sent} <= public, one, tuple(map(evidence, sent))
    return None


def _pings(one: Measured) -> tuple[str, ...]:
    probes = one.tables.pings[one.tables.pings["via"] == "node"]
    return tuple(evidence(ping) for ping in rows(probes) if ping.outcome == "replies")


def _calico_works_across(measured: Sequence[Measured]) -> tuple[bool, Measured, tuple[str, ...]] | None:
    """One recording of Calico's VXLAN between clouds whose pods reach each other is enough against these."""
    for one in measured:
        vxlan = one.plugin == "calico" and tunnel(one.tables.scenario.cni).port is not None
        if vxlan and one.tables.scenario.topology == "cross" and one.verdict.ping:
            return False, one, _pings(one)
    return None


def _canal_works(measured: Sequence[Measured]) -> tuple[bool, Measured, tuple[str, ...]] | None:
    for one in measured:
        if one.plugin == "canal" and one.verdict.ping is not None:
            return one.verdict.ping, one, _pings(one)
    return None


def _installs_with_bgp(measured: Sequence[Measured]) -> tuple[bool, Measured, tuple[str, ...]] | None:
    """One recording of BGP with public node addresses that is ready is enough against it."""
    for one in measured:
        cni = one.tables.scenario.cni
        if (one.plugin, cni.backend, cni.node_ip) == ("calico", "bird", "public") and one.verdict.installed:
            return False, one, tuple(map(evidence, rows(one.tables.readiness)))
    return None


def _ready_without_bird(measured: Sequence[Measured]) -> tuple[bool, Measured, tuple[str, ...]] | None:
    """Ready although pods do not reach each other: with VXLAN, readiness asks Felix alone."""
    for one in measured:
        if one.plugin == "calico" and one.tables.scenario.cni.backend == "vxlan" and one.verdict.ping is False:
            return one.verdict.installed is True, one, tuple(map(evidence, rows(one.tables.readiness)))
    return None


CONCLUSIONS: dict[str, Question] = {
    "internal-ip": _internal_ip_is_public,
    "flannel-local": _flannels_local_is_private,
    "flannel-public": _flannel_sends_to_public,
    "l3-impossible": _calico_works_across,
    "cross-subnet": _calico_works_across,
    "only-single-private": _calico_works_across,
    "bgp-public": _installs_with_bgp,
    "bird-liveness": _ready_without_bird,
    "canal": _canal_works,
}
"""Each of the document's conclusions, and the question that recordings may answer."""


def audit(measured: Sequence[Measured]) -> list[Answer]:
    """What these recordings say of every conclusion."""
    answers = []
    for name, question in CONCLUSIONS.items():
        found = question(measured)
        if found is None:
            answers.append(Answer(name, "untested"))
        else:
            holds, one, places = found
            answers.append(Answer(name, "supported" if holds else "contradicted", one.told, places))
    return answers
