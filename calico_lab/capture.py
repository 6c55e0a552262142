"""The capture: all commands of `commands` and the probes, on every node, and the recording they leave."""

from __future__ import annotations

import shlex
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

from . import __version__
from .calico import node_address, outer_way
from .cluster import Cluster
from .commands import BIRD, COUNTERS, FABRIC, HEARD, LISTEN, STATE, Command, mtu_sweep
from .recording import Recording, Writer, now
from .scenario import Node, Pod, Scenario

__all__ = ["about_node", "about_pod", "mtu_sweeps", "pairs", "probes", "record"]

_AT_ONCE_PER_NODE = 4
"""OpenSSH lets ten sessions share a connection (MaxSessions); this leaves room."""


def record(
    cluster: Cluster,
    scenario: Scenario,
    folder: Path,
    progress: Callable[[int, int], None] = lambda done, total: None,
    *,
    facts: Mapping[str, Any] | None = None,
) -> Recording:
    """Ask every node everything, and leave a recording.

    A command that fails, hangs or cannot reach its node is a capture with that outcome, never an exception.

    Parameters
    ----------
    cluster : Cluster
    scenario : Scenario
    folder : Path
        Where the recording goes; an older one there stays until this one is complete.
    progress : callable, optional
        Called with the number of commands done and in all.
    facts : mapping, optional
        What a reader of the recording must know beside the cluster's own facts.
    """
    names = [node.name for node in cluster.nodes]
    state = [*STATE, Command("node-log", "node_log", cluster.node_log), *cluster.asks]
    if scenario.cni.backend == "bird":
        state += BIRD
    before = [Command(f"{each.name}-before", each.kind, each.line) for each in COUNTERS]
    rounds: list[list[tuple[str, Command]]] = [
        [(name, command) for name in names for command in [*state, *before]],
        [(name, LISTEN) for name in names],
        [(node.name, command) for node in cluster.nodes for command in probes(node, cluster, scenario)],
        [(node.name, command) for node in cluster.nodes for command in mtu_sweeps(node, cluster, scenario, "overlay")],
        [(node.name, command) for node in cluster.nodes for command in mtu_sweeps(node, cluster, scenario, "underlay")],
        [(name, HEARD) for name in names],
        [
            *((name, command) for name in names for command in COUNTERS),
            *((router, command) for router in cluster.fabric for command in FABRIC),
        ],
    ]
    total, done = sum(map(len, rounds)), 0
    about = {
        "tool": f"calico_lab {__version__}",
        "provider": cluster.provider,
        "facts": cluster.facts | dict(facts or {}),
        "nodes": [about_node(node, scenario) for node in cluster.nodes],
        "pods": [about_pod(pod) for pod in cluster.pods],
        "fabric": list(cluster.fabric),
    }
    with Writer(folder, scenario, **about) as writer:
        for commands in rounds:
            for _ in _run_all(cluster, commands, scenario.probes.command_timeout_s, writer):
                done += 1
                progress(done, total)
    return Recording(folder)


def _run_all(cluster: Cluster, commands: list[tuple[str, Command]], timeout_s: float, writer: Writer) -> Iterator[None]:
    """Run commands on all nodes at once, a few at a time on each, and write each result as it comes."""
    places = sorted({place for place, _ in commands})
    pools = {place: ThreadPoolExecutor(_AT_ONCE_PER_NODE) for place in places}
    try:
        running: dict[Future[dict[str, Any]], tuple[str, Command]] = {
            pools[place].submit(_run, cluster, place, command, timeout_s): (place, command)
            for place, command in commands
        }
        for future in as_completed(running):
            place, command = running[future]
            yield
            if command is LISTEN:  # what it heard is asked for later
                continue
            writer.add(
                node=place,
                command=command.name,
                kind=command.kind,
                line=command.line,
                probe=command.probe,
                **future.result(),
            )
    finally:
        for pool in pools.values():
            pool.shutdown(wait=False, cancel_futures=True)


def _run(cluster: Cluster, place: str, command: Command, timeout_s: float) -> dict[str, Any]:
    started = now()
    result = cluster.run(place, command.line, timeout_s)
    return {
        "started": started,
        "outcome": result.outcome,
        "exit_code": result.code,
        "stdout": result.stdout,
        "stderr": result.stderr,
        "duration_s": round(result.duration_s, 4),
    }


def about_node(node: Node, scenario: Scenario) -> dict[str, Any]:
    """A node as the manifest keeps it: JSON, with the address that its annotation holds."""
    facts = asdict(node) | {"subnet": str(node.subnet), "block": str(node.block)}
    del facts["pods"]
    return facts | {"node_address": node_address(node, scenario.cni)}


def about_pod(pod: Pod) -> dict[str, str]:
    """A pod as the manifest keeps it."""
    return {key: value for key, value in asdict(pod).items() if value is not None}


# ---------------------------------------------------------------------- probes


def pairs(node: Node, nodes: tuple[Node, ...]) -> list[Node]:
    """The peers that a node probes: the first two of every site, so that effort grows with nodes and not with pairs."""
    peers = []
    for site in dict.fromkeys(peer.site for peer in nodes):
        peers += [peer for peer in nodes if peer.site == site][:2]
    return [peer for peer in peers if peer.name != node.name]


def probes(node: Node, cluster: Cluster, scenario: Scenario) -> list[Command]:
    """A node's pings.

    For each peer: the underlay (its public and private address, and the address that the tunnel uses from the address
    that the tunnel uses) and the overlay from the node and from a pod. They start in that order, `_AT_ONCE_PER_NODE`
    at a time, so that the underlay and the overlay of a pair are measured in the same moments.
    """
    own = next((pod for pod in cluster.pods if pod.node == node.name), None)
    commands = []
    for peer in pairs(node, cluster.nodes):
        outer_source = node.public_ip if scenario.cni.plugin == "calico" and scenario.cni.node_ip == "public" else None
        ends = {"source": node.name, "target": peer.name}
        under, over = ends | {"layer": "underlay"}, ends | {"layer": "overlay"}
        commands += [
            _ping(scenario, f"ping-public-{peer.name}", peer.public_ip, under | {"via": "public"}),
            _ping(scenario, f"ping-private-{peer.name}", peer.private_ip, under | {"via": "private"}),
        ]
        pod = next((pod for pod in cluster.pods if pod.node == peer.name), None)
        if pod:
            commands.append(_ping(scenario, f"ping-node-{pod.name}", pod.address, over | {"via": "node"}))
        if pod and own:
            inside = cluster.inside(own)
            commands.append(_ping(scenario, f"ping-pod-{pod.name}", pod.address, over | {"via": "pod"}, inside=inside))
        if outer_source:
            commands.append(
                _ping(
                    scenario,
                    f"ping-from-public-{peer.name}",
                    peer.public_ip,
                    under | {"via": "public-source"},
                    option=f"-I {outer_source}",
                )
            )
    return commands


def mtu_sweeps(
    node: Node, cluster: Cluster, scenario: Scenario, layer: Literal["overlay", "underlay"]
) -> list[Command]:
    """A node's don't-fragment sweeps to each peer: to a pod of it, or to the address that a tunnel's packets go to.

    All sweeps of the overlay have to end before any of the underlay begins. What a router says to one of the underlay
    the kernel remembers for that address (10 minutes, ``net.ipv4.route.mtu_expires``), and from then on it refuses
    pods' packets that are too large for the path instead of having them fragmented.
    """
    commands = []
    for peer in pairs(node, cluster.nodes):
        way = outer_way(scenario.cni, one_site=node.site == peer.site)
        name, address = peer.name, peer.private_ip if way == "private" else peer.public_ip
        if layer == "overlay":
            pod = next((pod for pod in cluster.pods if pod.node == peer.name), None)
            if pod is None:
                continue
            name, address = pod.name, pod.address
        about = {"source": node.name, "target": peer.name, "layer": layer, "address": address}
        commands.append(Command(f"mtu-{layer}-{name}", "mtu_sweep", mtu_sweep(address, scenario.probes), about))
    return commands


def _ping(
    scenario: Scenario, name: str, address: str, probe: dict[str, Any], *, option: str = "", inside: str = ""
) -> Command:
    settings = scenario.probes
    words = [
        *("ping", "-n", "-O", "-c", str(settings.ping_count), "-i", str(settings.ping_interval_s)),
        *("-W", str(settings.ping_timeout_s), *option.split(), address),
    ]
    return Command(name, "ping", f"{inside} {shlex.join(words)}".lstrip(), probe | {"address": address})
