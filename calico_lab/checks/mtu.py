"""Packet sizes: whether what a pod may send fits the devices it goes through, and whether whole packets arrive."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd

from ..calico import tunnel
from ..tables import Tables, evidence
from .findings import Finding, rule
from .shared import device_of, nodes_of, skip, tunnel_pairs, tunnels


@rule("mtu-fit")
def mtu_fit(tables: Tables) -> Iterator[Finding]:
    """A pod's packet fits the tunnel device, and with the tunnel's headers the NIC."""
    overhead = tunnel(tables.scenario.cni).overhead_bytes
    for node, device in tunnels(tables):
        if isinstance(device, Finding):
            yield device
            continue
        ways = [pod.veth for pod in tables.where("pods", node=node.name)]
        links = {link.name: link for link in tables.where("links", node=node.name)}
        if node.nic not in links:
            yield skip(node.name, tables, "ip-link")
            continue
        nic, pods = links[node.nic], [links[way] for way in ways if way in links]
        largest = max((pod.mtu_bytes for pod in pods), default=device.mtu_bytes)
        fits = largest <= device.mtu_bytes and device.mtu_bytes + overhead <= nic.mtu_bytes
        values = {
            "pod": largest,
            "device": device.name,
            "device_mtu": device.mtu_bytes,
            "overhead": overhead,
            "nic": node.nic,
            "nic_mtu": nic.mtu_bytes,
        }
        places = (*(evidence(pod) for pod in pods), evidence(device), evidence(nic))
        yield Finding(node.name, "pass" if fits else "fail", values, places, "" if fits else "ip link show")


@rule("mtu-between")
def mtu_between(tables: Tables) -> Iterator[Finding]:
    """Both ends of a tunnel have the same MTU; else the larger sends what the smaller could not send back."""
    for node, peer, device in tunnel_pairs(tables):
        if isinstance(device, Finding):
            continue
        theirs = device_of(tables, peer.name)
        if theirs is None or device.mtu_bytes < theirs.mtu_bytes:
            continue
        values = {"peer": peer.name, "own": device.mtu_bytes, "theirs": theirs.mtu_bytes}
        agree = device.mtu_bytes == theirs.mtu_bytes
        command = "" if agree else "kubectl -n kube-system get configmap calico-config -o yaml | grep mtu"
        yield Finding(node.name, "pass" if agree else "fail", values, (evidence(device), evidence(theirs)), command)


_LOSSY_PERCENT = 15.0
"""From here on three pings of one size are all lost by chance once in 300, and a sweep has some 16 sizes."""


@rule("path-mtu")
def path_mtu(tables: Tables) -> Iterator[Finding]:
    """Large packets to a pod arrive, or the sender is told that they are too large; none vanish without a word."""
    for node in nodes_of(tables):
        for sweep in tables.where("mtu_sweeps", source=node.name, layer="overlay"):
            values = {"target": sweep.target, "address": sweep.address, "passes": sweep.passes_bytes}
            if sweep.limit == "failed":
                yield Finding(node.name, "cannot-send", values | {"detail": sweep.detail}, (sweep.file,))
            elif pd.isna(sweep.passes_bytes):
                yield Finding(node.name, "no-small", values, (evidence(sweep),))
            elif not pd.isna(sweep.silent_bytes):
                yield _vanishing(tables, node.name, sweep, values | {"size": sweep.silent_bytes})
            else:
                case = "pass-untold" if pd.isna(sweep.told_bytes) else "pass"
                yield Finding(node.name, case, values | {"told": sweep.told_bytes}, (evidence(sweep),))


def _vanishing(tables: Tables, node: str, sweep: Any, values: dict[str, Any]) -> Finding:
    """Where so many small packets are lost that a lost size says nothing, it is not decided."""
    small = tables.where("pings", source=node, address=sweep.address, via="node")
    places = (evidence(sweep), *(evidence(ping) for ping in small if ping.outcome != "failed"))
    lossy = [ping.loss_percent for ping in small if ping.outcome != "failed" and ping.loss_percent >= _LOSSY_PERCENT]
    if lossy:
        return Finding(node, "lossy", values | {"loss": f"{max(lossy):g}"}, places)
    return Finding(node, "fail", values, places, f"tracepath -n {sweep.address}")
