"""The verdict that follows from a scenario alone, before anything runs, and the way of a packet that explains it.

What Felix, flannel and BIRD would set on each node is derived from `calico`, what the networks do from `clouds`, and
packets are followed over that by `walk`. What the scenario expects is never read. A prediction is about small packets
and about nodes that are as they should be; that they are not is what a measurement is for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import permutations
from typing import Any

import pandas as pd

from . import parsers
from .calico import (
    goes_direct,
    mode,
    node_address,
    node_ip,
    senders,
    tunnel,
    tunnel_rules,
    tunnel_source,
    veth_name,
    vtep_mac,
)
from .checks import CAUSES
from .scenario import Node, Scenario
from .walk import Device, Direction, Hop, Host, Session, cause_of, round_trip, session_trouble, walk

__all__ = ["Prediction", "predict", "shown"]


@dataclass(frozen=True, slots=True)
class Prediction:
    """What a scenario should lead to.

    Attributes
    ----------
    installed, ping, cause
        As in `checks.Verdict`; never unknown, but for a ping that is not tried as the CNI is not installed.
    source, target : str
        Nodes between which `way` goes: the first pair with that cause, else the first of two sites.
    way : dict
        `walk.round_trip` between them.
    """

    installed: bool
    ping: bool | None
    cause: str | None
    source: str
    target: str
    way: dict[Direction, list[Hop]]


def predict(scenario: Scenario) -> Prediction:
    """Follow a packet between each two nodes, and sum up as `checks.verdict` does."""
    hosts = _hosts(scenario)
    ways = {(near, far): walk(hosts[near], hosts[far], scenario) for near, far in permutations(hosts, 2)}
    causes = {pair: cause for pair, hops in ways.items() if (cause := cause_of(hops)) is not None}
    installed = all(
        not host.sessions or any(session.up for session in host.sessions.values()) for host in hosts.values()
    )
    ping = all(hops[-1].result == "pass" for hops in ways.values()) if installed else None
    cause = min(causes.values(), key=CAUSES.index, default=None) if not ping else None
    across = [pair for pair in ways if hosts[pair[0]].site != hosts[pair[1]].site]
    shown = [pair for pair, found in causes.items() if cause is not None and found == cause]
    source, target = (shown or across or list(ways))[0]
    way = round_trip(hosts[source], hosts[target], scenario)
    return Prediction(installed, ping, cause, source, target, way)


def shown(prediction: Prediction, words: Callable[..., str]) -> Iterator[str | pd.DataFrame]:
    """A prediction for a person: the verdict, whose packet explains it, its hops each way, and that nothing was run.

    Parameters
    ----------
    prediction : Prediction
    words : callable
        `calico_lab.page.Page.words`.
    """
    marks = {True: words("value.true"), False: words("value.false"), None: words("value.none")}
    cause = words("review.no-cause") if prediction.cause is None else words(f"cause.{prediction.cause}")
    installed, ping = marks[prediction.installed], marks[prediction.ping]
    yield words("journey.predict.headline", installed=installed, ping=ping, cause=cause)
    yield words("journey.predict.way", source=prediction.source, target=prediction.target)
    for direction, hops in prediction.way.items():
        come = [hop for hop in hops if hop.result != "unreached"]
        columns = {
            words(f"journey.direction.{direction}"): [words(f"journey.hop.{hop.hop}") for hop in come],
            words("column.place"): [hop.place for hop in come],
            words("column.what"): [hop.what for hop in come],
            words("column.predicted"): [words(f"journey.fare.{hop.result}") for hop in come],
        }
        if come:
            yield pd.DataFrame(columns)
    yield words("journey.predict.nothing-ran")


def _hosts(scenario: Scenario) -> dict[str, Host]:
    """Every node as its CNI would leave it, by name."""
    hosts = {node.name: _host(node, scenario) for node in scenario.nodes}
    if mode(scenario.cni) != "bird":
        return hosts
    return {name: _with_bgp(host, hosts, scenario) for name, host in hosts.items()}


def _host(node: Node, scenario: Scenario) -> Host:
    """What decides a packet's way on a node, in the words of the commands that would print it; without BGP's routes."""
    cni = scenario.cni
    veths = {pod.address: veth_name(pod.namespace, pod.name) for pod in node.pods}
    addresses = [node.private_ip, *([node.public_ip] if scenario.public_ip_alias else [])]
    device = _device(node, scenario, addresses)
    routes = [
        f"default via {node.gateway} dev {node.nic}",
        f"blackhole {node.block}",
        *(f"{address} dev {veth} scope link" for address, veth in veths.items()),
    ]
    neighbours, fdb = [], []
    if device is not None and device.vni is not None:
        for peer in scenario.peers(node):
            neighbours.append(f"{peer.tunnel_ip} dev {device.name} lladdr {vtep_mac(peer.name)} PERMANENT")
            fdb.append(f"{vtep_mac(peer.name)} dev {device.name} dst {node_ip(peer, cni)} self permanent")
            routes.append(_route(node, node_address(node, cni), peer, node_ip(peer, cni), scenario))
    allowed, members = senders(node, scenario)
    return Host(
        name=node.name,
        site=node.site,
        nic=node.nic,
        private_ip=node.private_ip,
        public_ip=node.public_ip,
        node_address=node_address(node, cni),
        pod=node.pods[0].address,
        veth=veths[node.pods[0].address],
        device=device,
        addresses=dict.fromkeys(addresses, ""),
        routes=_rows("ip_route", routes),
        neighbours=_rows("ip_neigh", neighbours),
        fdb=_rows("bridge_fdb", fdb),
        rules=[] if mode(cni) == "canal" else _rows("iptables_save", _filter(scenario)),
        sets={} if mode(cni) == "canal" else {allowed: members},
    )


def _device(node: Node, scenario: Scenario, addresses: list[str]) -> Device | None:
    """The tunnel device; Felix makes none for VXLAN if no interface has the node's address (vxlan_mgr.go)."""
    made, own = tunnel(scenario.cni), tunnel_source(node, scenario.cni)
    if made.vni is None:
        return Device(made.device)
    # flannel's MAC is the kernel's own choice; all that counts is that peers are told it.
    return Device(made.device, vtep_mac(node.name), own, made.vni, made.port) if own in addresses else None


def _route(node: Node, address: str, peer: Node, peer_ip: str, scenario: Scenario) -> str:
    """The route to a peer's block."""
    device = tunnel(scenario.cni)
    if goes_direct(scenario.cni, address, peer_ip):
        return f"{peer.block} via {peer_ip} dev {node.nic}"
    return f"{peer.block} via {peer.tunnel_ip if device.vni is not None else peer_ip} dev {device.device} onlink"


def _with_bgp(host: Host, hosts: Mapping[str, Host], scenario: Scenario) -> Host:
    """The node with its sessions, and with a route to the block of each peer whose session is up."""
    node, routes, sessions = scenario.node(host.name), [], {}
    for peer in scenario.peers(node):
        far = hosts[peer.name]
        trouble = session_trouble(host, far, scenario)
        state = "Established" if trouble is None else f"{trouble.hop}: {trouble.what}"
        sessions[far.node_ip] = Session(trouble is None, state)
        if trouble is None:
            routes.append(_route(node, host.node_address, peer, far.node_ip, scenario))
    return replace(host, sessions=sessions, routes=[*host.routes, *_rows("ip_route", routes)])


def _filter(scenario: Scenario) -> list[str]:
    """Felix's rules for tunnel packets, as iptables-save prints the table."""
    chains = [":INPUT ACCEPT [0:0]", ":OUTPUT ACCEPT [0:0]", ":cali-INPUT - [0:0]", ":cali-OUTPUT - [0:0]"]
    jumps = ["-A INPUT -j cali-INPUT", "-A OUTPUT -j cali-OUTPUT"]
    return ["*filter", *chains, *jumps, *tunnel_rules(tunnel(scenario.cni)), "COMMIT"]


def _rows(kind: str, lines: list[str]) -> list[Any]:
    """Rows as the parser of that command reads them."""
    return parsers.parse(kind, "".join(f"{line}\n" for line in lines), node="", command=kind) if lines else []
