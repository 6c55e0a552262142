"""The local lab as a cluster: what it says of itself, how its nodes are asked, and how it ends."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing

import pytest

from calico_lab.cluster import Result
from calico_lab.cluster.lab import LabCluster
from calico_lab.doctor import Verdict, survey, verdict
from calico_lab.errors import ClusterError, LabError
from calico_lab.lab.host import Host
from calico_lab.scenario import Pod, Scenario

pytestmark = pytest.mark.lab

SCENARIO = Scenario.load("single-vxlan-private")
MASTER, WORKER = SCENARIO.nodes
NEEDS_SSHD = pytest.mark.skipif(verdict(survey()) is not Verdict.LAB_WITH_SSHD, reason="no sshd can run here")


@pytest.fixture(
    scope="module", params=[pytest.param("ssh", marks=NEEDS_SSHD), "direct"], ids=["over-ssh", "without-root"]
)
def cluster(request: pytest.FixtureRequest) -> Iterator[LabCluster]:
    with closing(LabCluster(SCENARIO, host=Host(rootless=request.param == "direct"))) as cluster:
        assert cluster.facts["transport"] == request.param
        yield cluster


def test_it_says_what_it_is_made_of(cluster: LabCluster) -> None:
    assert (cluster.provider, cluster.nodes, cluster.fabric, cluster.pods) == (
        "lab",
        (MASTER, WORKER),
        ("fabric.aws-tokyo", "fabric.internet"),
        (
            Pod("probe-1-c-1-h43jk", "c-1-h43jk", "10.244.122.1"),
            Pod("probe-1-w-1-36384", "w-1-36384", "10.244.124.1"),
            Pod("probe-2-w-1-36384", "w-1-36384", "10.244.124.2"),
        ),
    )
    assert cluster.facts["stand_ins"] == ["felix", "fabric"]


@pytest.mark.parametrize(
    "where", [MASTER.name, "fabric.aws-tokyo", "fabric.internet"], ids=["node", "router", "internet"]
)
def test_nodes_and_routers_are_asked_alike(cluster: LabCluster, where: str) -> None:
    result = cluster.run(where, "id -u; echo err >&2; exit 3", 10)
    assert result == Result("done", 3, "0\n", "err\n", result.duration_s)


@pytest.mark.parametrize("where", [MASTER.name, "fabric.internet"], ids=["node", "router"])
def test_a_command_that_hangs_is_stopped_in_its_time(cluster: LabCluster, where: str) -> None:
    result = cluster.run(where, "echo before; sleep 1000", 0.3)
    assert result == Result("timeout", None, "before\n", "", result.duration_s)
    assert 0.3 <= result.duration_s < 2


def test_pods_of_one_site_reach_each_other(cluster: LabCluster) -> None:
    own, other = cluster.pods[:2]
    shown = cluster.run(MASTER.name, f"ip netns exec {own.name} ping -n -c 3 -i 0.05 -W 2 {other.address}", 20)
    assert "3 packets transmitted, 3 received, 0% packet loss" in shown.stdout


def test_the_nodes_tell_the_daemon_s_log(cluster: LabCluster) -> None:
    result = cluster.run(MASTER.name, cluster.node_log, 10)
    assert result == Result("done", 0, "", "", result.duration_s)


def test_progress_names_each_step() -> None:
    steps: list[str] = []
    LabCluster(SCENARIO, progress=steps.append).close()
    assert steps == ["fabric", "cni", "ssh"]


@NEEDS_SSHD
def test_a_closed_cluster_says_so() -> None:
    cluster = LabCluster(SCENARIO)
    cluster.close()
    with pytest.raises(ClusterError) as of_a_node:
        cluster.run(MASTER.name, "true", 5)
    with pytest.raises(LabError) as of_a_router:
        cluster.run("fabric.internet", "true", 5)
    assert (str(of_a_node.value), str(of_a_router.value)) == (
        "c-1-h43jk: the connection was closed",
        "lab: the lab ended; start it again",
    )


def test_what_goes_wrong_while_it_comes_up_ends_the_lab() -> None:
    host = Host()
    host.spaces([MASTER.name], {})  # a name that the scenario needs is taken
    threads = threading.active_count()
    with pytest.raises(LabError, match=r'"/run/netns/c-1-h43jk": File exists'):
        LabCluster(SCENARIO, host=host)
    with pytest.raises(LabError, match=r"^lab: the lab ended; start it again$"):
        host.run("", ["true"])
    assert threading.active_count() <= threads
