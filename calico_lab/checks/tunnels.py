"""The tunnel: its device, what both ends must agree on, and the addresses that its packets carry."""

from __future__ import annotations

from collections.abc import Iterator

import pandas as pd

from ..calico import tunnel
from ..clouds import CLOUDS
from ..tables import Tables, evidence
from .findings import VXLAN, Finding, rule
from .shared import (
    bare,
    counters_of,
    detail_of,
    device_of,
    fdb_pairs,
    file_of,
    no_peer_device,
    nodes_of,
    pass_or_fail,
    reachable,
    seen_from,
    skip,
    source_rewritten,
    tunnel_ip,
    tunnel_pairs,
    tunnels,
)


@rule("device-present")
def device_present(tables: Tables) -> Iterator[Finding]:
    """The tunnel device exists. Felix makes none if no interface has the node's address, and stays ready."""
    device = tunnel(tables.scenario.cni).device
    for node in nodes_of(tables):
        if tables.unread(node.name, "ip-link"):
            yield skip(node.name, tables, "ip-link")
            continue
        link = device_of(tables, node.name)
        if link is not None:
            yield Finding(node.name, "pass", {"device": device}, (evidence(link),))
            continue
        log = [line for line in tables.where("log", node=node.name) if "parent interface" in line.message]
        places = [file_of(tables, node.name, "ip-link"), *map(evidence, log[:1])]
        case = "fail-no-parent" if log else "fail"
        values = {"device": device, "address": bare(node)}
        command = f"kubectl -n kube-system logs {tunnel(tables.scenario.cni).workload}-… -c calico-node | grep -i vxlan"
        yield Finding(node.name, case, values, tuple(places), command)


@rule("mac-agreement", modes=VXLAN)
def mac_agreement(tables: Tables) -> Iterator[Finding]:
    """The document's cross-check: the peer's MAC is the same in ARP, in the FDB and on the peer's own device."""
    for node, peer, device in tunnel_pairs(tables):
        if isinstance(device, Finding):
            yield device
            continue
        theirs = device_of(tables, peer.name)
        if theirs is None:
            yield no_peer_device(node, peer, device, tables)
            continue
        unread = [
            (place, command)
            for place, command in ((node.name, "ip-neigh"), (node.name, "bridge-fdb"), (peer.name, "ip-addr"))
            if tables.unread(place, command)
        ]
        if unread:
            place, command = unread[0]
            yield skip(node.name, tables, command, at=place)
            continue
        address = tunnel_ip(tables, peer.name, device.name)
        arp = tables.where("neighbours", node=node.name, dst=address)
        known = dict.fromkeys([theirs.mac, *(entry.mac for entry in arp)])
        fdb = [entry for mac in known for entry in tables.where("fdb", node=node.name, dev=device.name, mac=mac)]
        values = {
            "peer": peer.name,
            "link": theirs.mac,
            "neigh": ", ".join(entry.mac for entry in arp if isinstance(entry.mac, str)) or "–",
            "fdb": ", ".join(entry.mac for entry in fdb) or "–",
        }
        agree = {entry.mac for entry in arp} == {entry.mac for entry in fdb} == {theirs.mac}
        places = (*map(evidence, arp), *map(evidence, fdb), evidence(theirs))
        command = f"ip neigh show dev {device.name}; bridge fdb show dev {device.name}"
        yield Finding(node.name, pass_or_fail(agree), values, places, "" if agree else command)


@rule("vni-port", modes=VXLAN)
def vni_port(tables: Tables) -> Iterator[Finding]:
    """Both ends of the tunnel use the same VNI and UDP port."""
    for node, peer, device in tunnel_pairs(tables):
        if isinstance(device, Finding):
            yield device
            continue
        theirs = device_of(tables, peer.name)
        if theirs is None:
            yield no_peer_device(node, peer, device, tables)
            continue
        agree = (device.vni, device.dstport) == (theirs.vni, theirs.dstport)
        values = {
            "peer": peer.name,
            "own": f"{device.vni}/{device.dstport}",
            "theirs": f"{theirs.vni}/{theirs.dstport}",
        }
        places = (detail_of(device), detail_of(theirs))
        yield Finding(
            node.name,
            pass_or_fail(agree),
            values,
            places,
            "" if agree else f"ip -d link show {device.name}",
        )


@rule("fdb-destination", modes=VXLAN)
def fdb_destination(tables: Tables) -> Iterator[Finding]:
    """The FDB sends to the peer's node address: what its annotation says."""
    for node, peer, entries in fdb_pairs(tables):
        if isinstance(entries, Finding):
            yield entries
            continue
        wanted = bare(peer)
        agree = {entry.dst for entry in entries} == {wanted}
        values = {"peer": peer.name, "dst": ", ".join(entry.dst for entry in entries), "wanted": wanted}
        yield Finding(
            node.name,
            pass_or_fail(agree),
            values,
            tuple(map(evidence, entries)),
            "" if agree else f"kubectl get node {peer.name} -o yaml | grep IPv4Address",
        )


@rule("local-address", modes=VXLAN)
def local_address(tables: Tables) -> Iterator[Finding]:
    """The tunnel's own address is on some interface; else the kernel sends nothing and counts carrier errors."""
    for node, device in tunnels(tables):
        if isinstance(device, Finding):
            yield device
            continue
        if tables.unread(node.name, "ip-addr"):
            yield skip(node.name, tables, "ip-addr")
            continue
        owners = tables.where("addresses", node=node.name, address=device.local_ip)
        counted = counters_of(tables, node.name, device.name)
        values = {"local": device.local_ip, "device": device.name}
        if not owners:
            values["carrier"] = "–" if counted is None or pd.isna(counted.tx_carrier) else int(counted.tx_carrier)
            places = (
                detail_of(device),
                file_of(tables, node.name, "ip-addr"),
                *([evidence(counted)] if counted else []),
            )
            yield Finding(node.name, "fail", values, places, f"ip addr show to {device.local_ip}")
        else:
            owner = owners[0]
            values["owner"] = owner.label if isinstance(owner.label, str) else owner.ifname
            yield Finding(node.name, "pass", values, (detail_of(device), evidence(owner)))


@rule("outer-source", modes=VXLAN)
def outer_source(tables: Tables) -> Iterator[Finding]:
    """The outer source is an address that the cloud gave the NIC, or is rewritten to one before it leaves.

    A cloud with 1:1 NAT and a source check knows a NIC by its private address only (`clouds`).
    """
    for node, device in tunnels(tables):
        if isinstance(device, Finding):
            yield device
            continue
        cloud = CLOUDS[node.cloud]
        values = {"local": device.local_ip, "private": node.private_ip, "cloud": cloud.title, "device": device.name}
        if device.local_ip == node.private_ip:
            yield Finding(node.name, "pass", values, (detail_of(device),))
            continue
        if not (cloud.nat and cloud.source_check):
            yield Finding(node.name, "pass-unchecked", values, (detail_of(device),))
            continue
        if tables.unread(node.name, "iptables-save"):
            yield skip(node.name, tables, "iptables-save")
            continue
        snat = source_rewritten(tables, node, device.local_ip, "udp", device.dstport)
        if snat is not None:
            yield Finding(node.name, "pass-snat", values, (detail_of(device), evidence(snat)))
            continue
        yield Finding(
            node.name,
            "fail",
            values,
            (detail_of(device), *seen_from(tables, node, device.local_ip)),
            f"tcpdump -ni {node.nic} udp port {device.dstport}",
        )


@rule("fdb-reachable", modes=VXLAN)
def fdb_reachable(tables: Tables) -> Iterator[Finding]:
    """The address that the FDB sends to answers a ping from this node's own private address."""
    for node, peer, entries in fdb_pairs(tables):
        if isinstance(entries, Finding):
            yield entries
            continue
        yield reachable(tables, node, peer, entries[0].dst, (evidence(entries[0]),))
