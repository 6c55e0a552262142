"""What is asked of nodes, and what a recording says that was asked."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from calico_lab import __version__, commands, parsers
from calico_lab.capture import mtu_sweeps, pairs, probes, record
from calico_lab.cluster.lab import LabCluster
from calico_lab.commands import Command
from calico_lab.doctor import Verdict, survey, verdict
from calico_lab.errors import CalicoLabError
from calico_lab.recording import FORMAT, Recording
from calico_lab.scenario import Node, Pod, Scenario

QUICK = {"internet.latency_ms": 0, "probes.ping_count": 2, "probes.ping_timeout_s": 0.2}
CROSS = Scenario.load("cross-vxlan", QUICK)
NO_ALIAS = Scenario.load("cross-vxlan-noalias", QUICK)
MASTER, WORKER = CROSS.nodes
NEEDS_SSHD = pytest.mark.skipif(verdict(survey()) is not Verdict.LAB_WITH_SSHD, reason="no sshd can run here")


def sized(count: int, sites: int) -> Scenario:
    """That many nodes, evenly in that many sites."""
    return Scenario.of(
        {
            "scenario": f"nodes-{count}",
            "sites": [
                {"name": f"site-{n}", "cloud": "aws", "subnets": [f"192.168.{n}.0/24"], "public": f"203.0.{n}.0/24"}
                for n in range(sites)
            ],
            "nodes": [{"name": f"node-{n}", "site": f"site-{n}", "count": count // sites} for n in range(sites)],
            "cni": {"plugin": "calico", "version": "3.22.0", "node_ip": "public"},
        }
    )


@dataclass(frozen=True)
class OnPaper:
    """Nodes and pods of a scenario, which is all that probes are planned with."""

    scenario: Scenario

    @property
    def nodes(self) -> tuple[Node, ...]:
        return self.scenario.nodes

    @property
    def pods(self) -> tuple[Pod, ...]:
        return tuple(pod for node in self.nodes for pod in node.pods)

    def inside(self, pod: Pod) -> str:
        return f"ip netns exec {pod.name}"


def planned(scenario: Scenario, node: Node | None = None) -> list[Command]:
    """Pings, then sweeps of the overlay, then sweeps of the underlay."""
    node, cluster = node or scenario.nodes[0], OnPaper(scenario)
    return [
        *probes(node, cluster, scenario),  # type: ignore[arg-type]
        *mtu_sweeps(node, cluster, scenario, "overlay"),  # type: ignore[arg-type]
        *mtu_sweeps(node, cluster, scenario, "underlay"),  # type: ignore[arg-type]
    ]


# ---------------------------------------------------------------------- the catalogue


CATALOGUE = [*commands.STATE, *commands.BIRD, *commands.COUNTERS, *planned(CROSS)]


@pytest.mark.parametrize("command", CATALOGUE, ids=lambda command: command.name)
def test_every_kind_has_a_parser(command: Command) -> None:
    assert command.kind in parsers.PARSERS


@pytest.mark.parametrize("scenario", [CROSS, sized(4, 2), sized(50, 2)], ids=lambda scenario: scenario.name)
def test_a_name_is_one_command_s_on_its_node(scenario: Scenario) -> None:
    own = [each.name for each in [*commands.STATE, *commands.BIRD, *commands.COUNTERS]]
    own += [*(f"{each.name}-before" for each in commands.COUNTERS), "node-log", "tcpdump"]
    for node in scenario.nodes:
        names = [*own, *(probe.name for probe in planned(scenario, node))]
        assert sorted(set(names)) == sorted(names)


def test_the_document_s_four_commands_come_first() -> None:
    assert [command.line for command in commands.STATE[:4]] == [
        "route",
        "ip -d link show",
        "ip neigh show",
        "bridge fdb show",
    ]


# ---------------------------------------------------------------------- probes


def test_probes_of_two_nodes() -> None:
    ping = "ping -n -O -c 2 -i 0.02 -W 0.2"
    assert [(probe.name, probe.line) for probe in planned(CROSS)] == [
        ("ping-public-w-1-36384", f"{ping} 35.189.140.156"),
        ("ping-private-w-1-36384", f"{ping} 192.168.29.28"),
        ("ping-node-probe-1-w-1-36384", f"{ping} 10.244.124.1"),
        ("ping-pod-probe-1-w-1-36384", f"ip netns exec probe-1-c-1-h43jk {ping} 10.244.124.1"),
        ("ping-from-public-w-1-36384", f"{ping} -I 54.64.9.64 35.189.140.156"),
        ("mtu-overlay-probe-1-w-1-36384", commands.mtu_sweep("10.244.124.1", CROSS.probes)),
        ("mtu-underlay-w-1-36384", commands.mtu_sweep("35.189.140.156", CROSS.probes)),
    ]


def test_what_a_probe_measures_is_kept_with_it() -> None:
    ends = {"source": "c-1-h43jk", "target": "w-1-36384"}
    assert [probe.probe for probe in planned(CROSS)][-3:] == [
        ends | {"layer": "underlay", "via": "public-source", "address": "35.189.140.156"},
        ends | {"layer": "overlay", "address": "10.244.124.1"},
        ends | {"layer": "underlay", "address": "35.189.140.156"},
    ]


@pytest.mark.parametrize(
    ("scenario", "address"),
    [
        pytest.param("cross-vxlan-private", "35.189.140.156", id="across-clouds"),
        pytest.param("single-vxlan", "52.199.85.152", id="in-one-cloud-with-public-addresses"),
        pytest.param("single-vxlan-private", "192.168.11.28", id="in-one-cloud"),
    ],
)
def test_the_underlay_is_swept_where_the_tunnels_packets_go(scenario: str, address: str) -> None:
    assert planned(Scenario.load(scenario))[-1].probe["address"] == address


@pytest.mark.parametrize(
    ("scenario", "peers"),
    [
        pytest.param(sized(2, 2), ["node-1-1"], id="2-nodes"),
        pytest.param(sized(4, 2), ["node-0-2", "node-1-1", "node-1-2"], id="4-nodes"),
        pytest.param(sized(50, 2), ["node-0-2", "node-1-1", "node-1-2"], id="50-nodes"),
    ],
)
def test_effort_grows_with_nodes_and_not_with_pairs(scenario: Scenario, peers: list[str]) -> None:
    assert [peer.name for peer in pairs(scenario.nodes[0], scenario.nodes)] == peers
    assert list(dict.fromkeys(probe.probe["target"] for probe in planned(scenario))) == peers
    assert all(len(pairs(node, scenario.nodes)) <= 4 for node in scenario.nodes)


def test_every_node_probes_somebody() -> None:
    scenario = sized(50, 2)
    assert all(planned(scenario, node) for node in scenario.nodes)


# ---------------------------------------------------------------------- a recording


@pytest.fixture(scope="module")
def cluster() -> Iterator[LabCluster]:
    with closing(LabCluster(NO_ALIAS)) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def progress() -> list[tuple[int, int]]:
    return []


@pytest.fixture(scope="module")
def recording(
    cluster: LabCluster, progress: list[tuple[int, int]], tmp_path_factory: pytest.TempPathFactory
) -> Recording:
    folder = tmp_path_factory.mktemp("capture") / "recording"
    return record(cluster, NO_ALIAS, folder, lambda *done: progress.append(done))


@pytest.mark.lab
def test_the_manifest_says_what_was_recorded(cluster: LabCluster, recording: Recording) -> None:
    manifest = recording.manifest
    assert {key: manifest[key] for key in ("format", "tool", "provider", "facts", "fabric", "scenario")} == {
        "format": FORMAT,
        "tool": f"calico_lab {__version__}",
        "provider": "lab",
        "facts": cluster.facts,
        "fabric": ["fabric.aws-tokyo", "fabric.gcp-tokyo", "fabric.internet"],
        "scenario": NO_ALIAS.parameters(),
    }
    assert manifest["started"] < manifest["finished"]
    assert manifest["pods"][0] == {
        "name": "probe-1-c-1-h43jk",
        "node": "c-1-h43jk",
        "address": "10.244.122.1",
        "namespace": "default",
    }
    assert manifest["nodes"][1] == {
        "name": "w-1-36384",
        "role": "worker",
        "site": "gcp-tokyo",
        "cloud": "gcp",
        "nic": "ens4",
        "mtu_bytes": 1460,
        "private_ip": "192.168.29.28",
        "prefix_len": 32,
        "subnet": "192.168.29.0/24",
        "public_ip": "35.189.140.156",
        "block": "10.244.124.0/24",
        "spec": "e2-highcpu-4",
        "node_address": "35.189.140.156",
    }


@pytest.mark.lab
def test_every_node_and_router_was_asked_everything(recording: Recording) -> None:
    asked: dict[str, list[str]] = {}
    for each in recording.captures:
        asked.setdefault(each.node, []).append(each.command)
    own = [each.name for each in [*commands.STATE, *commands.COUNTERS]]
    own += [*(f"{each.name}-before" for each in commands.COUNTERS), "node-log", "tcpdump"]
    nodes = {node.name: sorted([*own, *(probe.name for probe in planned(NO_ALIAS, node))]) for node in NO_ALIAS.nodes}
    routers = {router: ["ip-link", "iptables-save"] for router in recording.manifest["fabric"]}
    assert asked == nodes | routers


@pytest.mark.lab
def test_every_output_is_read_by_its_parser(recording: Recording) -> None:
    for each in recording.captures:
        if each.exit_code == 0:
            parsers.parse(each.kind, recording.text(each), node=each.node, command=each.command)


@pytest.mark.lab
def test_counters_are_read_before_and_after_the_probes(recording: Recording) -> None:
    of_master = {each.command: each.started for each in recording.captures if each.node == MASTER.name}
    probing = [started for command, started in of_master.items() if command.startswith(("ping-", "mtu-"))]
    for counter in commands.COUNTERS:
        assert of_master[f"{counter.name}-before"] < min(probing) <= max(probing) < of_master[counter.name]


@pytest.mark.lab
def test_pings_are_undisturbed_and_the_overlay_is_swept_before_routers_say_anything_of_the_underlay(
    recording: Recording,
) -> None:
    """Every node waits for the others: what one round measures, the next may change."""

    def span(prefix: str) -> tuple[datetime, datetime]:
        times = [
            (began, began + timedelta(seconds=each.duration_s))
            for each in recording.captures
            if each.command.startswith(prefix)
            for began in [datetime.fromisoformat(each.started)]
        ]
        return min(began for began, _ in times), max(ended for _, ended in times)

    pings, overlay, underlay = span("ping-"), span("mtu-overlay-"), span("mtu-underlay-")
    assert pings[0] < pings[1] <= overlay[0] < overlay[1] <= underlay[0]


@pytest.mark.lab
def test_progress_counts_every_command_once(recording: Recording, progress: list[tuple[int, int]]) -> None:
    total = len(recording.captures) + len(NO_ALIAS.nodes)  # on each node tcpdump starts, and later tells what it heard
    assert progress == [(done, total) for done in range(1, total + 1)]


@pytest.mark.lab
def test_a_command_that_fails_is_recorded(recording: Recording) -> None:
    (failed,) = [
        each
        for each in recording.captures
        if (each.node, each.command) == (MASTER.name, f"ping-from-public-{WORKER.name}")
    ]
    assert (failed.outcome, failed.exit_code, failed.stderr, recording.text(failed)) == (
        "done",
        2,
        "ping: bind: Cannot assign requested address\n",
        "",
    )


def outcomes(recording: Recording, **where: Any) -> set[str]:
    return {
        each.outcome for each in recording.captures if all(getattr(each, key) == value for key, value in where.items())
    }


@pytest.mark.lab
@NEEDS_SSHD
def test_a_node_that_hangs_or_is_gone_is_recorded_as_that(tmp_path: Path) -> None:
    slow = {"probes.ping_count": 20, "probes.ping_interval_s": 0.2, "probes.command_timeout_s": 1}
    scenario = Scenario.load("cross-vxlan-noalias", QUICK | slow)
    with closing(LabCluster(scenario)) as cluster:
        cluster.host.do(WORKER.name, ["sh", "-c", "pkill -KILL -x sshd --ns $$ --nslist net"])
        recording = record(cluster, scenario, tmp_path / "recording")
    assert outcomes(recording, node=WORKER.name) == {"unreachable"}
    assert outcomes(recording, node=MASTER.name, command=f"ping-public-{WORKER.name}") == {"timeout"}
    assert outcomes(recording, node=MASTER.name, kind="ip_link") == {"done"}


@pytest.mark.lab
@NEEDS_SSHD
def test_a_cluster_that_is_closed_meanwhile_leaves_the_older_recording(recording: Recording, tmp_path: Path) -> None:
    folder = tmp_path / "recording"
    folder.mkdir()
    (folder / "manifest.json").write_text("older\n", encoding="utf-8")
    cluster = LabCluster(NO_ALIAS)

    def close_at(done: int, total: int) -> None:
        if done == 5:
            cluster.close()

    with pytest.raises(CalicoLabError, match=r"the connection was closed|the lab ended"):
        record(cluster, NO_ALIAS, folder, close_at)
    assert [path.name for path in tmp_path.iterdir()] == ["recording"]
    assert (folder / "manifest.json").read_text(encoding="utf-8") == "older\n"
