"""Packet sizes: whether what a pod may send fits the devices it goes through, and whether whole packets arrive."""

from __future__ import annotations

from collections.abc import Iterator

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


@rule("path-mtu")
def path_mtu(tables: Tables) -> Iterator[Finding]:
    """Whole packets arrive where small ones do. One that the sender itself refuses is told, and is no loss."""
    for node in nodes_of(tables):
        for ping in tables.where("pings", source=node.name, via="size"):
            small = tables.where("pings", source=node.name, address=ping.address, via="node")
            values = {"target": ping.target, "address": ping.address, "size": ping.size_bytes}
            values |= {"received": ping.received, "transmitted": ping.transmitted}
            if ping.outcome == "replies":
                yield Finding(node.name, "pass", values, (evidence(ping),))
            elif ping.outcome == "failed":
                yield Finding(node.name, "cannot-send", values | {"detail": ping.detail}, (ping.file,))
            elif ping.errors:
                yield Finding(node.name, "pass-refused", values | {"errors": ping.errors}, (evidence(ping),))
            elif any(each.outcome == "replies" for each in small):
                places = (evidence(ping), *map(evidence, small[:1]))
                command = f"tracepath -n {ping.address}"
                yield Finding(node.name, "fail", values, places, command)
            else:
                yield Finding(node.name, "no-small", values, (evidence(ping),))
