"""The node itself: what its kernel must do with a pod's packets before and after the tunnel."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pandas as pd

from ..calico import tunnel
from ..forwarding import shown_route
from ..tables import Tables, evidence, rows
from .findings import VXLAN, Finding, rule
from .shared import (
    bare,
    file_of,
    first_pod,
    nodes_of,
    route_of,
    skip,
    source_rewritten,
    tunnel_ip,
    tunnels,
)

_CHECKSUM_FIXED_IN = (5, 7)
"""Kernels before it computed the checksum of an encapsulated and translated packet wrongly when the NIC was to do it
(Calico 3.22, felix ``featuredetect``: ChecksumOffloadBroken)."""


@rule("duplicate-address")
def duplicate_address(tables: Tables) -> Iterator[Finding]:
    """No address that carries the cluster's traffic is on two nodes."""
    device = tunnel(tables.scenario.cni).device
    for node in nodes_of(tables):
        if tables.unread(node.name, "ip-addr"):
            yield skip(node.name, tables, "ip-addr")
            continue
        twice = [
            (own, other)
            for own in tables.where("addresses", node=node.name, family="inet")
            if own.scope != "host"
            for other in tables.where("addresses", address=own.address)
            if other.node != node.name and _carries(tables, own.address, (own, other), device)
        ]
        for own, other in twice:
            values = {"address": own.address, "dev": own.ifname, "peer": other.node, "peer_dev": other.ifname}
            places = (evidence(own), evidence(other))
            yield Finding(node.name, "fail", values, places, f"arping -D -c 3 -I {node.nic} {own.address}")
        if not twice:
            yield Finding(node.name, "pass", {}, (file_of(tables, node.name, "ip-addr"),))


def _carries(tables: Tables, address: str, owners: tuple[Any, Any], device: str) -> bool:
    """Whether the cluster's traffic goes by it: a node address or a tunnel's. Sites may number their NICs alike."""
    used = {bare(node) for node in nodes_of(tables)}
    sites = {node.name: node.site for node in nodes_of(tables)}
    one_site = sites[owners[0].node] == sites[owners[1].node]
    own = {node.private_ip for node in nodes_of(tables)}
    return address in used or device in {owner.ifname for owner in owners} or (one_site and address in own)


@rule("ip-forward")
def ip_forward(tables: Tables) -> Iterator[Finding]:
    """The kernel forwards between pods and the network."""
    for node in nodes_of(tables):
        if tables.unread(node.name, "sysctl"):
            yield skip(node.name, tables, "sysctl")
            continue
        off = [
            setting
            for key in ("net.ipv4.ip_forward", *_forwarding_keys(tables, node))
            for setting in tables.where("sysctl", node=node.name, key=key)
            if setting.value == "0"
        ]
        values = {"keys": ", ".join(setting.key for setting in off)}
        places = tuple(map(evidence, off)) or (file_of(tables, node.name, "sysctl"),)
        case = "fail" if off else "pass"
        yield Finding(node.name, case, values, places, "sysctl net.ipv4.ip_forward" if off else "")


def _forwarding_keys(tables: Tables, node: Any) -> list[str]:
    ways = [pod.veth for pod in tables.where("pods", node=node.name)]
    return [_key(name, "forwarding") for name in (*ways, tunnel(tables.scenario.cni).device)]


def _key(interface: str, name: str) -> str:
    return f"net.ipv4.conf.{interface.replace('.', '/')}.{name}"


@rule("pod-route")
def pod_route(tables: Tables) -> Iterator[Finding]:
    """Every pod of the node is routed to its own interface, and that is up.

    Felix's own ``rpfilter`` rule drops what a pod without such a route sends, so both directions need it.
    """
    for node in nodes_of(tables):
        for pod in tables.where("pods", node=node.name):
            unread = next((name for name in ("ip-route", "ip-link") if tables.unread(node.name, name)), None)
            if unread:
                yield skip(node.name, tables, unread)
                continue
            route = route_of(tables, node.name, pod.address)
            link = next(iter(tables.where("links", node=node.name, name=pod.veth)), None)
            values = {"pod": pod.name, "address": pod.address, "veth": pod.veth}
            command = f"ip route get {pod.address}"
            if link is None or "UP" not in link.flags:
                places = (evidence(link) if link is not None else file_of(tables, node.name, "ip-link"),)
                yield Finding(node.name, "fail-down", values, places, f"ip link show {pod.veth}")
            elif route is None or route.dev != pod.veth:
                values["route"] = shown_route(route)
                places = (evidence(route) if route is not None else file_of(tables, node.name, "ip-route"),)
                yield Finding(node.name, "fail", values, places, command)
            else:
                yield Finding(node.name, "pass", values, (evidence(route), evidence(link)))


@rule("proxy-arp")
def proxy_arp(tables: Tables) -> Iterator[Finding]:
    """The node answers for the pods' gateway 169.254.1.1, which is no interface's address."""
    for node in nodes_of(tables):
        if tables.unread(node.name, "sysctl"):
            yield skip(node.name, tables, "sysctl")
            continue
        for pod in tables.where("pods", node=node.name):
            for setting in tables.where("sysctl", node=node.name, key=_key(pod.veth, "proxy_arp")):
                case = "pass" if setting.value == "1" else "fail"
                values = {"pod": pod.name, "setting": setting.key, "value": setting.value}
                yield Finding(node.name, case, values, (evidence(setting),), "" if case == "pass" else "ip neigh")


@rule("rp-filter")
def rp_filter(tables: Tables) -> Iterator[Finding]:
    """No interface with a strict reverse path filter gets packets whose source is routed by another one.

    The kernel takes the larger of ``conf.all`` and the interface's own value; 1 is strict (ip-sysctl).
    """
    for node, device in tunnels(tables):
        if isinstance(device, Finding):
            yield device
            continue
        unread = next((name for name in ("sysctl", "ip-route") if tables.unread(node.name, name)), None)
        if unread:
            yield skip(node.name, tables, unread)
            continue
        setting, strict = _rp_filter(tables, node.name, device.name)
        if setting is None:
            yield skip(node.name, tables, "sysctl")
            continue
        for peer in nodes_of(tables):
            if peer.name == node.name:
                continue
            sources = dict.fromkeys(
                filter(None, (tunnel_ip(tables, peer.name, device.name), first_pod(tables, peer.name)))
            )
            routed = [(source, route_of(tables, node.name, source)) for source in sources]
            # A route straight to the peer (CrossSubnet) has the packets come in by the NIC as well.
            elsewhere = [
                (source, route)
                for source, route in routed
                if route is not None and route.dev not in (device.name, None) and _by_tunnel(tables, peer, node, device)
            ]
            values = {"peer": peer.name, "device": device.name, "setting": setting.key}
            if strict and elsewhere:
                source, route = elsewhere[0]
                values |= {"source": source, "route": shown_route(route)}
                command = f"ip route get {source}"
                yield Finding(node.name, "fail", values, (evidence(setting), evidence(route)), command)
            else:
                case = "pass" if strict else "pass-loose"
                yield Finding(node.name, case, values, (evidence(setting),))


def _by_tunnel(tables: Tables, sender: Any, receiver: Any, device: Any) -> bool:
    route = route_of(tables, sender.name, first_pod(tables, receiver.name))
    return route is not None and route.dev == device.name


def _rp_filter(tables: Tables, node: str, interface: str) -> tuple[Any, bool]:
    """The setting that counts for an interface, and whether it is strict."""
    settings = [
        setting
        for name in ("all", interface)
        for setting in tables.where("sysctl", node=node, key=_key(name, "rp_filter"))
    ]
    counts = max(settings, key=lambda setting: int(setting.value), default=None)
    return counts, counts is not None and counts.value == "1"


@rule("checksum-offload", modes=VXLAN)
def checksum_offload(tables: Tables) -> Iterator[Finding]:
    """On an old kernel a NIC may spoil the checksum of a translated tunnel packet; Felix turns the offload off."""
    for node, device in tunnels(tables, details=True):
        if isinstance(device, Finding):
            yield device
            continue
        kernel = next(iter(tables.where("kernels", node=node.name)), None)
        if kernel is None:
            yield skip(node.name, tables, "uname")
            continue
        values = {"kernel": kernel.release, "device": device.name}
        version = tuple(int(part) for part in kernel.release.split("-")[0].split(".")[:2])
        if version >= _CHECKSUM_FIXED_IN:
            yield Finding(node.name, "pass", values, (evidence(kernel),))
            continue
        if tables.unread(node.name, "iptables-save"):
            yield skip(node.name, tables, "iptables-save")
            continue
        snat = source_rewritten(tables, node, str(device.local_ip), "udp", device.dstport)
        if snat is None:
            yield Finding(node.name, "pass-plain", values, (evidence(kernel),))
            continue
        offload = next(iter(tables.where("features", node=node.name, feature="tx-checksum-ip-generic")), None)
        if offload is None:
            yield skip(node.name, tables, "ethtool")
            continue
        places = (evidence(kernel), evidence(snat), evidence(offload))
        case = "fail" if offload.enabled else "pass-off"
        yield Finding(node.name, case, values, places, f"ethtool -k {device.name}" if offload.enabled else "")


@rule("iptables-backend")
def iptables_backend(tables: Tables) -> Iterator[Finding]:
    """A node's rules are all in one of the two iptables backends; what is in the other does not show here."""
    for node in nodes_of(tables):
        if tables.unread(node.name, "iptables-save"):
            yield skip(node.name, tables, "iptables-save")
            continue
        warning = tables.other_backend(node.name)
        if warning is None:
            yield Finding(node.name, "pass", {}, (file_of(tables, node.name, "iptables-save"),))
        else:
            place, backend = warning
            yield Finding(node.name, "fail", {"backend": backend}, (place,), f"iptables-{backend}-save -c")


@rule("node-filter")
def node_filter(tables: Tables) -> Iterator[Finding]:
    """No firewall rule of the node dropped packets while the probes ran, apart from the tunnel's own allow-list."""
    protocols = {"udp", None} if tunnel(tables.scenario.cni).port else {"ipencap", "ipip", "4", "tcp", None}
    for node in nodes_of(tables):
        unread = next((n for n in ("iptables-save-before", "iptables-save") if tables.unread(node.name, n)), None)
        if unread:
            yield skip(node.name, tables, unread)
            continue
        dropping = [
            drop
            for drop in rows(tables.iptables_grown)
            if drop.node == node.name
            and (drop.target in ("DROP", "REJECT") or (pd.isna(drop.number) and drop.policy == "DROP"))
            and drop.grown > 0
            and (drop.proto if isinstance(drop.proto, str) else None) in {*protocols, "icmp"}
            and not (isinstance(drop.comment, str) and "non-whitelisted hosts" in drop.comment)
        ]
        for drop in dropping:
            spec = drop.spec if isinstance(drop.spec, str) else f"policy {drop.policy}"
            values = {"table": drop.table, "chain": drop.chain, "spec": spec, "packets": int(drop.grown)}
            yield Finding(node.name, "fail", values, (evidence(drop),), f"iptables -t {drop.table} -vnL {drop.chain}")
        if not dropping:
            yield Finding(node.name, "pass", {}, (file_of(tables, node.name, "iptables-save"),))
