"""The tunnel: its device, what both ends must agree on, and the addresses that its packets carry."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from dataclasses import replace

import pandas as pd

from ..calico import tunnel
from ..clouds import CLOUDS
from ..tables import Tables, evidence
from .findings import VXLAN, Finding, rule
from .shared import (
    bare,
    counters_of,
    destination_rewritten,
    detail_of,
    device_of,
    fdb_pairs,
    file_of,
    line_of,
    no_peer_device,
    nodes_of,
    not_tracked,
    pass_or_fail,
    reachable,
    seen_from,
    skip,
    source_rewritten,
    tunnel_ip,
    tunnel_pairs,
    tunnels,
    without_details,
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
            down = "UP" not in link.flags
            case = "fail-down" if down else "pass"
            command = f"ip link show {device}" if down else ""
            yield Finding(node.name, case, {"device": device}, (evidence(link),), command)
            continue
        log = [line for line in tables.where("log", node=node.name) if "parent interface" in line.message]
        places = [file_of(tables, node.name, "ip-link"), *map(evidence, log[:1])]
        case = "fail-no-parent" if log else "fail"
        values = {"device": device, "address": bare(node)}
        command = f"kubectl -n kube-system logs {tunnel(tables.scenario.cni).workload}-… -c calico-node | grep -i vxlan"
        yield Finding(node.name, case, values, tuple(places), command)


@rule("parent-device", modes=VXLAN)
def parent_device(tables: Tables) -> Iterator[Finding]:
    """The interface that the device was made on has the device's local address, as Felix and flannel choose it."""
    for node, device in tunnels(tables, details=True):
        if isinstance(device, Finding):
            yield device
            continue
        if tables.unread(node.name, "ip-addr"):
            yield skip(node.name, tables, "ip-addr")
            continue
        owners = tables.where("addresses", node=node.name, address=device.local_ip)
        values = {"device": device.name, "parent": device.parent_dev, "local": device.local_ip, "nic": node.nic}
        values["owner"] = ", ".join(owner.ifname for owner in owners) or "–"
        if device.parent_dev not in {owner.ifname for owner in owners}:
            case = "fail"
        else:
            case = "pass" if device.parent_dev == node.nic else "pass-other"
        command = f"ip -d link show {device.name}; ip addr show to {device.local_ip}" if case == "fail" else ""
        yield Finding(node.name, case, values, (detail_of(device), *map(evidence, owners)), command)


@rule("stale-device", modes=frozenset({"vxlan"}))
def stale_device(tables: Tables) -> Iterator[Finding]:
    """The device's local address is the annotation's; Felix does not make a device anew when that changes later."""
    for node, device in tunnels(tables, details=True):
        if isinstance(device, Finding):
            yield device
            continue
        values = {"device": device.name, "local": device.local_ip, "annotated": bare(node)}
        agree = device.local_ip == bare(node)
        command = "" if agree else f"ip link del {device.name}  # Felix makes it again"
        yield Finding(node.name, pass_or_fail(agree), values, (detail_of(device),), command)


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
            for place, command in ((node.name, "ip-neigh"), (node.name, "bridge-fdb"))
            if tables.unread(place, command)
        ]
        if unread:
            place, command = unread[0]
            yield skip(node.name, tables, command, at=place)
            continue
        # Calico gives the tunnel the first address of the peer's block; `ip addr` of the peer knows better.
        address = tunnel_ip(tables, peer.name, device.name) or str(ipaddress.ip_network(peer.block)[0])
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
    for node, peer, device in tunnel_pairs(tables, details=True):
        if isinstance(device, Finding):
            yield device
            continue
        theirs = device_of(tables, peer.name)
        if theirs is None:
            yield no_peer_device(node, peer, device, tables)
            continue
        if undecided := without_details(node.name, theirs, tables, at=peer.name):
            yield undecided
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
    for node, device in tunnels(tables, details=True):
        if isinstance(device, Finding):
            yield device
            continue
        if tables.unread(node.name, "ip-addr"):
            undecided = skip(node.name, tables, "ip-addr")
            if device.local_ip == node.public_ip and CLOUDS[node.cloud].nat:
                values = {"local": device.local_ip, "cloud": CLOUDS[node.cloud].title}
                undecided = replace(undecided, case="suspect", values=values, evidence=(detail_of(device),))
            yield undecided
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
    for node, device in tunnels(tables, details=True):
        if isinstance(device, Finding):
            yield device
            continue
        cloud = CLOUDS[node.cloud]
        values = {"local": device.local_ip, "private": node.private_ip, "cloud": cloud.title, "device": device.name}
        if device.local_ip == node.private_ip:
            yield Finding(node.name, "pass", values, (detail_of(device),))
            continue
        checked = tables.scenario.checks_source(node.site)
        # To a public IP, even of a node in the same cloud, packets go by way of the 1:1 NAT.
        by_nat = cloud.nat and any(bare(peer) == peer.public_ip for peer in nodes_of(tables) if peer.name != node.name)
        if not checked and not by_nat:
            yield Finding(node.name, "pass-unchecked", values, (detail_of(device),))
            continue
        if tables.unread(node.name, "iptables-save"):
            wants = ((node.name, "tcpdump"), (node.name, "iptables-save"))
            command = line_of(tables, "tcpdump")
            yield Finding(node.name, "suspect", values, (detail_of(device),), command, wants)
            continue
        snat = source_rewritten(tables, node, device.local_ip, "udp", device.dstport)
        untracked = not_tracked(tables, node, device.local_ip, "udp", device.dstport)
        if snat is not None and untracked is not None:
            places = (detail_of(device), evidence(snat), evidence(untracked))
            command = "iptables -t raw -vnL OUTPUT"
            yield Finding(node.name, "fail-notrack", values, places, command)
            continue
        if snat is not None:
            yield Finding(node.name, "pass-snat", values, (detail_of(device), evidence(snat)))
            continue
        yield Finding(
            node.name,
            "fail" if checked else "fail-unmapped",
            values,
            (detail_of(device), *seen_from(tables, node, device.local_ip)),
            f"tcpdump -ni {node.nic} udp port {device.dstport}",
        )


@rule("allow-list", modes=frozenset({"vxlan"}))
def allow_list(tables: Tables) -> Iterator[Finding]:
    """The source with which a node's tunnel packets arrive, after SNAT and 1:1 NAT, is one that the peer lets in.

    Felix accepts VXLAN from the addresses of its set and drops all other (felix/rules/static.go).
    """
    for node, peer, device in tunnel_pairs(tables, details=True):
        if isinstance(device, Finding):
            yield device
            continue
        if tables.unread(peer.name, "ipset-list"):
            yield skip(node.name, tables, "ipset-list", at=peer.name)
            continue
        if device.local_ip != node.private_ip and tables.unread(node.name, "iptables-save"):
            yield skip(node.name, tables, "iptables-save")
            continue
        snat = source_rewritten(tables, node, str(device.local_ip), "udp", device.dstport)
        inside = node.private_ip if snat is not None else device.local_ip
        mapped = node.site != peer.site and CLOUDS[node.cloud].nat and inside == node.private_ip
        arrives = node.public_ip if mapped else inside
        members = tables.where("ipsets", node=peer.name, set_name=_ALLOWED)
        fitting = [
            member
            for member in members
            if isinstance(member.member, str) and ipaddress.ip_address(arrives) in ipaddress.ip_network(member.member)
        ]
        values = {"peer": peer.name, "source": arrives, "set": _ALLOWED}
        values["members"] = ", ".join(str(member.member) for member in members if isinstance(member.member, str)) or "–"
        if fitting:
            yield Finding(node.name, "pass", values, (evidence(fitting[0]),))
        else:
            places = tuple(map(evidence, members)) or (file_of(tables, peer.name, "ipset-list"),)
            yield Finding(node.name, "fail", values, places, f"ipset list {_ALLOWED}  # on {peer.name}")


_ALLOWED = "cali40all-vxlan-net"


@rule("fdb-reachable", modes=VXLAN)
def fdb_reachable(tables: Tables) -> Iterator[Finding]:
    """The address that the FDB sends to, after DNAT, answers a ping from this node's own private address."""
    for node, peer, entries in fdb_pairs(tables):
        if isinstance(entries, Finding):
            yield entries
            continue
        address, places = entries[0].dst, [evidence(entries[0])]
        dnat = destination_rewritten(tables, node, address, "udp", device_of(tables, node.name).dstport)
        if dnat is not None:
            address = str(dnat.to_destination).partition(":")[0]
            places.append(evidence(dnat))
        yield reachable(tables, node, peer, address, tuple(places))
