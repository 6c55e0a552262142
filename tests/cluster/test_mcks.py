"""Clusters of MCKS: making, seeing, adding to and deleting them, whatever happens to the connection meanwhile."""

from __future__ import annotations

import json
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from calico_lab.cluster.mcks.client import ClusterAccess, MachineAccess, Mcks, McksCluster, McksNode
from calico_lab.cluster.mcks.request import cluster_request
from calico_lab.errors import CalicoLabError, InputError, ScenarioError
from calico_lab.scenario import Scenario
from tests.cluster.conftest import Client
from tests.cluster.mcks_contract import RELEASES
from tests.cluster.mcks_double import NAMESPACE, REASONS, SECRET, McksDouble

SCENARIO = Scenario.load("cross-vxlan")
NAME = "cb-cluster"
AWS = {"connection": "config-aws-tokyo", "spec": "t2.medium"}


def created(mcks: Mcks, name: str = NAME) -> McksCluster:
    return mcks.create(SCENARIO, name)


def error_of(call: Callable[[], object]) -> str:
    with pytest.raises(CalicoLabError) as error:
        call()
    assert SECRET not in repr(error.value) + str(error.value)
    return str(error.value)


def somebody_elses(double: McksDouble, client: Client, name: str = NAME) -> None:
    """A cluster that was made, but not from this folder."""
    other = client(double)
    created(other, name)
    other.records.forget(name)


def record(mcks: Mcks, name: str = NAME) -> Any:
    return json.loads((mcks.records.folder(name) / "made.json").read_text(encoding="utf-8"))


def where(double: McksDouble) -> str:
    return f"{double.url}{double.release.base}, namespace {NAMESPACE}"


# ---------------------------------------------------------------------- what is asked for


def test_the_request_is_the_documents_and_what_later_releases_insist_on() -> None:
    disk = {"rootDisk": {"type": "default", "size": "default"}}
    assert cluster_request(SCENARIO, NAME, description="d") == {
        "name": NAME,
        "label": "calico_lab",
        "description": "d",
        "serviceType": "multi",
        "installMonAgent": "no",
        "controlPlane": [{"connection": "config-aws-tokyo", "count": 1, "spec": "t2.medium", **disk}],
        "worker": [{"connection": "config-gcp-tokyo", "count": 1, "spec": "e2-highcpu-4", **disk}],
        "config": {
            "installMonAgent": "no",
            "kubernetes": {
                "version": "1.23.13",
                "networkCni": "canal",
                "podCidr": "10.244.0.0/16",
                "serviceCidr": "10.96.0.0/12",
                "serviceDnsDomain": "cluster.local",
                "loadbalancer": "haproxy",
                "etcd": "local",
            },
        },
    }


def test_nodes_of_a_group_are_asked_for_together() -> None:
    group = {"name": "w", "site": "gcp-tokyo", "spec": "e2-highcpu-4", "count": 3}
    scenario = Scenario.load("cross-vxlan", {"sites.1.public": "35.189.140.0/24", "nodes.1": group})
    assert [group["count"] for group in cluster_request(scenario, NAME, description="")["worker"]] == [3]


NOT_FOR_MCKS = {
    "no-connection": (
        {"sites.0.connection": None},
        "site aws-tokyo: connection: MCKS has to know it; add connection to the scenario",
    ),
    "no-spec": ({"nodes.1.spec": None}, "node w-1-36384: spec: MCKS has to know it; add spec to the scenario"),
    "other-pods": (
        {"cni.ip_pool": "10.128.0.0/16", "nodes.0.block": "10.128.1.0/24", "nodes.1.block": "10.128.2.0/24"},
        "cni.ip_pool: MCKS's canal has another network for pods, whatever it is asked for; seen: 10.128.0.0/16; "
        "allowed: 10.244.0.0/16",
    ),
    "no-workers": (
        {"nodes.1.role": "control-plane"},
        "nodes: MCKS makes control planes with one connection and spec, and at least one worker; "
        "seen: 2 for the control plane, 0 for workers",
    ),
}


@pytest.mark.parametrize(("overrides", "message"), NOT_FOR_MCKS.values(), ids=NOT_FOR_MCKS)
def test_a_scenario_that_mcks_cannot_make_is_refused_before_anything_is_asked(
    double: McksDouble, client: Client, overrides: dict[str, Any], message: str
) -> None:
    with pytest.raises(ScenarioError) as error:
        client(double).create(Scenario.load("cross-vxlan", overrides), NAME)
    assert (str(error.value), double.asked) == (message, [])


def test_a_name_that_mcks_refuses_is_refused_here(double: McksDouble, client: Client) -> None:
    assert error_of(lambda: created(client(double), "Cluster_1")) == (
        "NAME: not a name for a cluster; seen: Cluster_1; a-z, 0-9 and - in between, a letter first"
    )


def test_a_kubernetes_that_mcks_cannot_install_is_refused_here(double: McksDouble, client: Client) -> None:
    assert error_of(lambda: client(double).create(SCENARIO, NAME, kubernetes="1.30.1")) == (
        "--kubernetes: MCKS installs no such Kubernetes; seen: 1.30.1; allowed: 1.18.x, 1.23.x"
    )


GENERATIONS = {
    "v0.5.1": "before v0.6.0",
    "v0.6.0": "v0.6.0 to v0.6.3",
    "v0.7.0": "v0.6.4 to v0.7.1",
    "v0.7.2": "v0.7.2 or later",
}


@pytest.mark.parametrize("release", RELEASES)
def test_calico_is_refused_by_name_before_anything_is_paid_for(
    start_double: Callable[[str], McksDouble], client: Client, release: str
) -> None:
    double = start_double(release)
    assert error_of(lambda: client(double).create(SCENARIO, NAME, cni="calico")) == (
        f"{double.url}{double.release.base}: this MCKS ({GENERATIONS[release]}) installs no such CNI across clouds; "
        "seen: calico; allowed: canal, kilo; Calico comes later, in place of canal"
    )
    assert double.posts() == []


def test_an_mcks_that_does_not_describe_itself_decides_itself(double: McksDouble, client: Client) -> None:
    double.documented = False
    mcks = client(double)
    assert error_of(lambda: mcks.create(SCENARIO, NAME, cni="calico")) == (
        f"POST {double.url}/ladybug/ns/acornsoft/clusters: Network-cni allows only canal or kilo in Multi-Cloud type; "
        "seen: HTTP 400"
    )
    assert mcks.records.read(NAME) is None


# ---------------------------------------------------------------------- where MCKS is


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize("path", ["", "/mcks", "/ladybug"])
def test_each_generation_is_found_under_whatever_path_was_given(
    start_double: Callable[[str], McksDouble], client: Client, release: str, path: str
) -> None:
    double = start_double(release)
    mcks = client(double, url=f"{double.url}{path}")
    assert (mcks.address, mcks.generation.versions) == (f"{double.url}{double.release.base}", GENERATIONS[release])


def test_another_service_is_no_mcks(double: McksDouble, client: Client) -> None:
    mcks = client(double, url=f"{double.url}/spider")
    double.release = replace(double.release, base="/other")
    assert error_of(mcks.clusters) == (
        f"{double.url}: no MCKS answers here; "
        "seen: /spider/healthy: HTTP 404, /ladybug/healthy: HTTP 404, /mcks/healthy: HTTP 404; "
        "set MCKS_URL to its address, with its path if it was started under another"
    )


def test_a_port_where_nothing_listens_is_one_line(double: McksDouble, client: Client, unused_port: int) -> None:
    url = f"http://127.0.0.1:{unused_port}"
    assert error_of(client(double, url=url).clusters) == (
        f"GET {url}/ladybug/healthy: no answer from MCKS; seen: NewConnectionError; "
        "is it running there? MCKS_URL says where it is"
    )


# ---------------------------------------------------------------------- making


@pytest.mark.parametrize("release", RELEASES)
def test_a_cluster_is_made_and_waited_for(
    start_double: Callable[[str], McksDouble], client: Client, release: str
) -> None:
    double = start_double(release)
    double.hold("machines", "kubernetes")
    told: list[str] = []

    def progress(text: str) -> None:
        """Each phase lasts until it was seen."""
        told.append(text)
        if text == "Provisioning: machines":
            double.open("machines")
        if text == "Provisioning: Kubernetes on 2 nodes":
            double.open("kubernetes")

    mcks = client(double, progress)
    cluster = created(mcks)
    assert [text for text in told if text.startswith("Provisioning")] == [
        "Provisioning: machines",
        "Provisioning: Kubernetes on 2 nodes",
    ]
    assert (cluster.phase, cluster.cni, [node.role for node in cluster.nodes]) == (
        "Provisioned",
        "canal",
        ["control-plane", "worker"],
    )
    assert {node.private_ip is None for node in cluster.nodes} == {not double.release.private_ip}
    assert cluster.kubernetes == (None if release == "v0.5.1" else "1.23.13-00")
    assert len(double.posts()) == 1
    assert record(mcks) == {
        "format": 1,
        "name": NAME,
        "namespace": NAMESPACE,
        "endpoint": double.url,
        "mark": cluster.description.removeprefix("cross-vxlan "),
        "count": 2,
        "created_time": cluster.created_time,
        "nodes": [node.name for node in cluster.nodes],
    }


def test_it_is_written_down_before_it_is_asked_for(double: McksDouble, client: Client) -> None:
    mcks = client(double)
    double.validate = lambda request: seen.append(record(mcks)["mark"])  # type: ignore[method-assign]
    seen: list[str] = []
    cluster = created(mcks)
    assert [mark in cluster.description for mark in seen] == [True]


def test_a_node_is_all_that_mcks_says_but_its_key(double: McksDouble, client: Client) -> None:
    leader = created(client(double)).nodes[0]
    assert leader == McksNode(
        name=leader.name,
        role="control-plane",
        csp="aws",
        region="ap-northeast-1",
        zone="ap-northeast-1a",
        spec="t2.medium",
        public_ip="52.199.85.10",
        private_ip="192.168.10.10",
        created_time=leader.created_time,
    )


@pytest.mark.parametrize("reason", REASONS)
def test_a_cluster_that_fails_says_at_what_and_why(double: McksDouble, client: Client, reason: str) -> None:
    double.fail = reason
    mcks = client(double)
    failed = error_of(lambda: created(mcks))
    message = "no quota" if "kubeadm" not in failed else "Process exited with status 1: kubeadm join --token [redacted]"
    assert failed == (
        f"cluster {NAME}: MCKS could not make it: {message}; seen: {reason}; "
        f'what MCKS keeps of it goes with: make cluster DO="delete {NAME}"'
    )
    assert mcks.delete(NAME)
    assert double.clusters == {}


LOST = ["after", "gateway"]


@pytest.mark.parametrize("drop", LOST)
def test_a_lost_connection_does_not_lose_the_cluster(double: McksDouble, client: Client, drop: str) -> None:
    double.drop = drop
    double.hold("kubernetes")
    mcks = client(double, lambda text: double.open("kubernetes") if "Kubernetes" in text else None)
    assert created(mcks).phase == "Provisioned"
    assert len(double.posts()) == 1


def test_a_request_that_never_arrived_is_sent_again_once(double: McksDouble, client: Client) -> None:
    double.drop = "before"
    assert created(client(double)).phase == "Provisioned"
    first, second = double.posts()
    assert first == second


def test_an_answer_that_never_comes_is_not_waited_for(double: McksDouble, client: Client) -> None:
    """A connection that a firewall forgot says nothing for ever."""
    double.hold("answer")
    assert created(client(double)).phase == "Provisioned"


@pytest.mark.parametrize("drop", LOST)
def test_a_failure_after_a_lost_connection_is_seen_too(double: McksDouble, client: Client, drop: str) -> None:
    double.drop, double.fail = drop, "JoinWorkerFailedReason"
    assert "seen: JoinWorkerFailedReason" in error_of(lambda: created(client(double)))


def test_a_tumblebug_that_is_down_for_a_while_is_waited_for(double: McksDouble, client: Client) -> None:
    double.hold("machines")

    def progress(text: str) -> None:
        if text.startswith("MCKS does not say"):
            double.tumblebug_down = False
        elif text == "Provisioning: machines" and not told:
            double.tumblebug_down = True
        elif text == "Provisioning: machines":
            double.open("machines")
        told.append(text)

    told: list[str] = []
    assert created(client(double, progress)).phase == "Provisioned"
    assert "MCKS does not say: dial tcp 127.0.0.1:1323: connect: connection refused" in told


def test_a_cluster_that_was_there_is_never_taken_for_ours(double: McksDouble, client: Client) -> None:
    somebody_elses(double, client)
    before = json.dumps(double.clusters)
    mcks = client(double)
    assert error_of(lambda: created(mcks)) == (
        f"{where(double)}: a cluster has that name already; nothing was changed; seen: {NAME}, Provisioned; "
        "delete it first, or name another"
    )
    assert (len(double.posts()), json.dumps(double.clusters), mcks.records.read(NAME)) == (1, before, None)


def test_somebody_elses_failed_cluster_is_not_replaced(double: McksDouble, client: Client) -> None:
    """MCKS would delete it if it were asked for that name."""
    double.fail = "JoinWorkerFailedReason"
    error_of(lambda: somebody_elses(double, client))
    client(double).records.forget(NAME)
    double.fail = ""
    assert f"seen: {NAME}, Failed" in error_of(lambda: created(client(double)))
    assert len(double.posts()) == 1


def test_one_that_somebody_else_makes_at_the_same_time_is_not_ours(double: McksDouble, client: Client) -> None:
    mcks = client(double)

    def first(request: dict[str, Any]) -> None:
        double.clusters[NAME] = {**theirs, "name": NAME}

    created(mcks, "another")
    theirs = double.clusters["another"]
    double.validate = first  # type: ignore[method-assign]
    assert error_of(lambda: created(mcks)) in (
        f"POST {double.url}/ladybug/ns/acornsoft/clusters: The cluster '{NAME}' already exists. (namespace=acornsoft); "
        "seen: HTTP 500",
        f"{where(double)}: somebody else made a cluster of that name; seen: {NAME}",
    )
    assert "this tool did not make it" in error_of(lambda: mcks.delete(NAME))


def test_one_that_is_still_being_made_is_waited_for_and_not_asked_for_again(double: McksDouble, client: Client) -> None:
    def interrupt(text: str) -> None:
        if text.startswith("Provisioning"):
            raise KeyboardInterrupt

    double.hold("kubernetes")
    with pytest.raises(KeyboardInterrupt) as stopped:
        created(client(double, interrupt))
    assert str(stopped.value) == (
        f'stopped waiting; MCKS goes on making cluster {NAME}; to look: make cluster DO="show {NAME}"; '
        f'to wait on: DO="create {NAME}" SCENARIO=cross-vxlan; when it is complete or failed: DO="delete {NAME}"'
    )
    again = client(double, lambda text: double.open("kubernetes"))
    assert created(again).phase == "Provisioned"
    assert len(double.posts()) == 1
    assert len(record(again)["nodes"]) == 2


def test_a_record_of_another_mcks_is_not_written_over(
    start_double: Callable[[str], McksDouble], client: Client
) -> None:
    one, other = start_double("v0.7.2"), start_double("v0.5.1")
    created(client(one))
    assert error_of(lambda: created(client(other))) == (
        f"cluster {NAME}: the record under that name is of another MCKS or namespace; "
        f"seen: {one.url}, namespace {NAMESPACE}; name that MCKS, or another cluster"
    )


# ---------------------------------------------------------------------- seeing


ERRORS = {
    "namespace": (
        {"namespace": "absent"},
        "Could not be found a namespace. (namespace=absent); seen: HTTP 400; "
        "make it in Tumblebug, or name another with MCKS_NAMESPACE",
    ),
    "tumblebug": ({}, "dial tcp 127.0.0.1:1323: connect: connection refused; seen: HTTP 400"),
}


@pytest.mark.parametrize(("settings", "message"), ERRORS.values(), ids=ERRORS)
def test_an_error_is_one_line(double: McksDouble, client: Client, settings: dict[str, str], message: str) -> None:
    double.tumblebug_down = not settings
    namespace = settings.get("namespace", NAMESPACE)
    assert error_of(client(double, **settings).clusters) == (
        f"GET {double.url}/ladybug/ns/{namespace}/clusters: {message}"
    )


NO_CLUSTERS = {
    "no-json": ("<html>", "{get}: the answer is no JSON object; seen: HTTP 200; is this an MCKS?"),
    "a-list": ("[]", "{get}: the answer is no JSON object; seen: HTTP 200; is this an MCKS?"),
    "an-error": (
        '{"kind": "Status", "code": 500, "message": "in trouble"}',
        "{get}: in trouble; seen: HTTP 200 with code 500 inside",
    ),
    "an-unknown-error": (
        '{"kind": "Status", "code": 0, "message": ""}',
        "{get}: MCKS gives no reason; seen: HTTP 200 with code 500 inside",
    ),
    "older": (
        '{"kind": "ClusterList", "items": [{"name": "a", "status": "completed"}]}',
        "a cluster is not shown as MCKS from v0.5.1 on shows it; is this an older MCKS?",
    ),
}


@pytest.mark.parametrize(("answer", "message"), NO_CLUSTERS.values(), ids=NO_CLUSTERS)
def test_an_answer_that_is_none_is_an_error(double: McksDouble, client: Client, answer: str, message: str) -> None:
    double.broken = answer
    assert error_of(client(double).clusters) == message.format(get=f"GET {double.url}/ladybug/ns/acornsoft/clusters")


def test_no_items_may_be_null(double: McksDouble, client: Client) -> None:
    double.broken = '{"kind": "ClusterList", "items": null}'
    assert client(double).clusters() == ()


def test_a_cluster_that_is_not_there_names_those_that_are(double: McksDouble, client: Client) -> None:
    """Asked for the nodes of an absent cluster, MCKS answers with an empty list and 200."""
    mcks = client(double)
    created(mcks)
    assert error_of(lambda: mcks.cluster("absent")) == (
        f"{where(double)}: no cluster has that name; seen: absent; there are: {NAME}"
    )


# ---------------------------------------------------------------------- keys and kubeconfig


def mode(path: Path) -> str:
    return oct(stat.S_IMODE(path.stat().st_mode))


def test_a_key_is_for_its_owner_alone_and_ends_its_line(double: McksDouble, client: Client) -> None:
    mcks = client(double)
    node = created(mcks).nodes[1].name
    path = mcks.save_key(NAME, node)
    assert (path, mode(path), mode(path.parent)) == (mcks.records.folder(NAME) / f"{node}.pem", "0o600", "0o700")
    assert path.read_text() == double.clusters[NAME]["nodes"][1]["credential"] + "\n"


def test_no_key_is_an_error_and_no_file(double: McksDouble, client: Client) -> None:
    mcks = client(double)
    node = created(mcks).nodes[0].name
    for credential in ("", None, "<html>"):
        double.clusters[NAME]["nodes"][0]["credential"] = credential
        assert error_of(lambda: mcks.save_key(NAME, node)) == (
            f"cluster {NAME}, node {node}: MCKS holds no private key of it; "
            "it keeps none of a node whose machine failed: look at the cluster's phase"
        )
    assert list(mcks.records.folder(NAME).glob("*.pem")) == []


def test_a_node_that_is_not_there_names_those_that_are(double: McksDouble, client: Client) -> None:
    mcks = client(double)
    names = ", ".join(node.name for node in created(mcks).nodes)
    assert error_of(lambda: mcks.save_key(NAME, "w-9")) == (
        f"cluster {NAME}: no node has that name; seen: w-9; there are: {names}"
    )


def test_a_node_whose_name_is_a_path_is_written_nowhere(double: McksDouble, client: Client) -> None:
    mcks = client(double)
    created(mcks)
    double.clusters[NAME]["nodes"][0]["name"] = "../../key"
    double.clusters[NAME]["cpLeader"] = "../../key"
    assert (
        error_of(lambda: mcks.save_key(NAME, "../../key")) == "not a name of a cluster or a node; seen: ../../key.pem"
    )


def test_no_kubeconfig_is_an_error_and_no_file(double: McksDouble, client: Client) -> None:
    """MCKS has none until the control plane has one."""
    mcks = client(double)
    created(mcks)
    double.clusters[NAME] |= {"clusterConfig": "", "status": {"phase": "Provisioning", "reason": "", "message": ""}}
    assert error_of(lambda: mcks.save_kubeconfig(NAME)) == (
        f"cluster {NAME}: MCKS holds no kubeconfig of it; seen: phase Provisioning; "
        "it has one when the cluster is Provisioned"
    )
    assert not (mcks.records.folder(NAME) / "kubeconfig").exists()


@pytest.mark.parametrize("release", RELEASES)
def test_access_is_all_that_a_review_needs(
    start_double: Callable[[str], McksDouble], client: Client, release: str
) -> None:
    double = start_double(release)
    somebody_elses(double, client)
    mcks = client(double)
    folder = mcks.records.folder(NAME)
    leader, worker = (node["name"] for node in double.clusters[NAME]["nodes"])
    private = ["192.168.10.10", "192.168.29.10"] if release == "v0.7.2" else [None, None]
    assert mcks.access(NAME) == ClusterAccess(
        NAME,
        (
            MachineAccess(
                *(leader, "control-plane", "aws", "ap-northeast-1", "ap-northeast-1a"),
                *("52.199.85.10", private[0], "cb-user", folder / f"{leader}.pem"),
            ),
            MachineAccess(
                *(worker, "worker", "gcp", "asia-northeast1", "asia-northeast1-a"),
                *("34.146.125.10", private[1], "cb-user", folder / f"{worker}.pem"),
            ),
        ),
        folder / "kubeconfig",
    )
    assert [mode(path) for path in sorted(folder.iterdir())] == ["0o600"] * 3


def test_a_cluster_with_a_node_that_failed_has_no_access(double: McksDouble, client: Client) -> None:
    mcks = client(double)
    created(mcks)
    double.fail_adding = True
    error_of(lambda: mcks.add(NAME, **AWS))
    lost = double.clusters[NAME]["nodes"][2]["name"]
    assert error_of(lambda: mcks.access(NAME)) == (
        f"cluster {NAME}: the cluster is not complete; seen: phase Provisioned, no public IP: {lost}"
    )


def test_no_secret_is_in_what_is_shown_of_a_cluster(double: McksDouble, client: Client) -> None:
    mcks = client(double)
    created(mcks)
    assert SECRET not in repr((mcks.clusters(), mcks.access(NAME), mcks.records.read(NAME), mcks))


# ---------------------------------------------------------------------- nodes


@pytest.mark.parametrize("drop", ["", "after", "gateway"])
def test_nodes_are_added_once_and_waited_for(double: McksDouble, client: Client, drop: str) -> None:
    mcks = client(double)
    before = {node.name for node in created(mcks).nodes}
    double.drop = drop
    new = mcks.add(NAME, **AWS, count=2)
    assert {node["name"] for node in double.clusters[NAME]["nodes"]} == {*before, *new}
    assert (len(new), len(double.posts("nodes"))) == (2, 1)
    assert record(mcks)["nodes"][2:] == list(new)


def test_adding_is_not_asked_for_again(double: McksDouble, client: Client) -> None:
    """A second request would add as many again."""
    mcks = client(double)
    created(mcks)
    double.drop = "before"
    assert error_of(lambda: mcks.add(NAME, **AWS)) == (
        f"{where(double)}: the connection broke before MCKS took the request; nothing was done; run it again"
    )
    assert len(double.posts("nodes")) == 1
    assert (record(mcks)["count"], len(record(mcks)["nodes"])) == (2, 2)


NOT_ADDED = {
    "": "POST {clusters}/cb-cluster/nodes: Fail to worker-node join. (node={node}); seen: HTTP 500",
    "after": "{where}: MCKS could not add {node}",
    "gateway": "{where}: MCKS could not add {node}",
}


@pytest.mark.parametrize(("drop", "message"), NOT_ADDED.items(), ids=["answered", "after", "gateway"])
def test_nodes_that_mcks_failed_to_add_go_with_the_cluster(
    double: McksDouble, client: Client, drop: str, message: str
) -> None:
    mcks = client(double)
    created(mcks)
    double.drop, double.fail_adding = drop, True
    said = error_of(lambda: mcks.add(NAME, **AWS))
    clusters, node = f"{double.url}/ladybug/ns/acornsoft/clusters", double.clusters[NAME]["nodes"][2]["name"]
    assert said == message.format(clusters=clusters, where=where(double), node=node)
    assert mcks.delete(NAME)


def test_nodes_whose_adding_was_cut_off_go_with_the_cluster(double: McksDouble, client: Client) -> None:
    def cut_off(text: str) -> None:
        if text.startswith("Kubernetes on w-"):
            raise KeyboardInterrupt

    created(client(double))
    double.hold("kubernetes")
    with pytest.raises(KeyboardInterrupt) as stopped:
        client(double, cut_off).add(NAME, **AWS)
    assert str(stopped.value) == (
        f'stopped waiting; MCKS goes on adding to cluster {NAME}; to look: make cluster DO="nodes {NAME}"'
    )
    assert client(double).delete(NAME)


def test_no_number_of_nodes_is_refused_here(double: McksDouble, client: Client) -> None:
    """Releases from v0.6.4 on would add none and call that a success."""
    with pytest.raises(InputError) as error:
        client(double).add(NAME, **AWS, count=0)
    assert str(error.value) == "--count: not a number of nodes; seen: 0; allowed: 1 and more"


def test_a_cluster_in_another_phase_takes_no_nodes(double: McksDouble, client: Client) -> None:
    mcks = client(double)
    created(mcks)
    double.clusters[NAME]["status"]["phase"] = "Failed"
    assert error_of(lambda: mcks.add(NAME, **AWS)) == (
        f"POST {double.url}/ladybug/ns/acornsoft/clusters/{NAME}/nodes: Unable to add a node. status is 'Failed'.; "
        "seen: HTTP 500"
    )


@pytest.mark.parametrize("drop", ["", "after", "gateway"])
def test_a_node_that_was_made_here_can_be_removed_with_its_key(double: McksDouble, client: Client, drop: str) -> None:
    mcks = client(double)
    created(mcks)
    (new,) = mcks.add(NAME, **AWS)
    key = mcks.save_key(NAME, new)
    double.drop = drop
    mcks.remove(NAME, new)
    assert new not in [node["name"] for node in double.clusters[NAME]["nodes"]]
    assert (key.exists(), new in record(mcks)["nodes"]) == (False, False)


def test_the_leader_stays(double: McksDouble, client: Client) -> None:
    mcks = client(double)
    leader = created(mcks).leader
    assert error_of(lambda: mcks.remove(NAME, leader)) == (
        f"DELETE {double.url}/ladybug/ns/acornsoft/clusters/{NAME}/nodes/{leader}: "
        "Could not be delete a control-plane leader node.; seen: HTTP 500"
    )


def test_a_node_added_to_somebody_elses_cluster_can_be_removed_and_no_other(double: McksDouble, client: Client) -> None:
    somebody_elses(double, client)
    mcks = client(double)
    theirs = double.clusters[NAME]["nodes"][1]["name"]
    (new,) = mcks.add(NAME, **AWS)
    assert error_of(lambda: mcks.remove(NAME, theirs)) == (
        f"cluster {NAME}, node {theirs}: this tool did not make it, and deletes only what it made; "
        "seen: it is not in its record"
    )
    mcks.remove(NAME, new)
    assert len(double.clusters[NAME]["nodes"]) == 2
    assert "this tool did not make it" in error_of(lambda: mcks.delete(NAME))


# ---------------------------------------------------------------------- deleting


@pytest.mark.parametrize("drop", ["", "after", "gateway"])
def test_a_cluster_that_was_made_here_is_deleted_with_its_files(double: McksDouble, client: Client, drop: str) -> None:
    mcks = client(double)
    created(mcks)
    folder = mcks.access(NAME).kubeconfig.parent
    double.drop = drop
    assert mcks.delete(NAME)
    assert (double.clusters, folder.exists()) == ({}, False)


def test_a_delete_that_never_arrived_says_so(double: McksDouble, client: Client) -> None:
    mcks = client(double)
    created(mcks)
    double.drop = "before"
    assert "nothing was done; run it again" in error_of(lambda: mcks.delete(NAME))
    assert mcks.delete(NAME)


def test_a_cluster_that_is_gone_already_is_forgotten(double: McksDouble, client: Client) -> None:
    """MCKS would answer 200, with 404 inside."""
    mcks = client(double)
    created(mcks)
    double.clusters.clear()
    assert (mcks.delete(NAME), mcks.records.read(NAME)) == (False, None)


def test_one_that_goes_between_looking_and_deleting_is_deleted(double: McksDouble, client: Client) -> None:
    mcks = client(double)
    cluster = created(mcks)
    double.clusters.clear()
    mcks.deletable = lambda name, **_: cluster  # type: ignore[method-assign]
    assert mcks.delete(NAME)


def test_a_delete_that_mcks_refuses_keeps_the_record(double: McksDouble, client: Client) -> None:
    mcks = client(double)
    created(mcks)
    double.stuck = True
    assert error_of(lambda: mcks.delete(NAME)) == (
        f"DELETE {double.url}/ladybug/ns/acornsoft/clusters/{NAME}: "
        f"Failed to terminate a MCIS (mcis={NAME}, cause='timeout'); seen: HTTP 500"
    )
    double.stuck = False
    assert mcks.delete(NAME)


def _made_again(cluster: dict[str, Any]) -> None:
    cluster["createdTime"] = "2023-01-01T00:00:00Z"


def _another(cluster: dict[str, Any]) -> None:
    cluster["description"] = "create a cluster test"


def _another_namespace(cluster: dict[str, Any]) -> None:
    cluster["namespace"] = "other"


def _grown(cluster: dict[str, Any]) -> None:
    cluster["nodes"].append({**cluster["nodes"][1], "name": "w-7-theirs"})


NOT_OURS = {
    "made-again": (_made_again, "createdTime 2023-01-01T00:00:00Z, not 2022-01-02T12:01:00Z"),
    "another": (_another, "a description without this tool's mark"),
    "another-namespace": (_another_namespace, "namespace other, not acornsoft"),
    "grown": (_grown, "nodes that others added: w-7-theirs"),
}


@pytest.mark.parametrize(("change", "why"), NOT_OURS.values(), ids=NOT_OURS)
def test_what_was_not_made_here_is_never_deleted(
    double: McksDouble, client: Client, change: Callable[[dict[str, Any]], None], why: str
) -> None:
    mcks = client(double)
    created(mcks)
    change(double.clusters[NAME])
    assert error_of(lambda: mcks.delete(NAME)) == (
        f"cluster {NAME}: this tool did not make it, and deletes only what it made; seen: {why}"
    )
    assert [method for method, *_ in double.asked if method == "DELETE"] == []


def test_without_a_record_nothing_is_deleted(double: McksDouble, client: Client) -> None:
    somebody_elses(double, client)
    assert error_of(lambda: client(double).delete(NAME)) == (
        f"cluster {NAME}: this tool did not make it, and deletes only what it made; "
        "seen: there is no record that it did"
    )


def test_half_a_record_deletes_nothing(double: McksDouble, client: Client) -> None:
    mcks = client(double)
    created(mcks)
    path = mcks.records.folder(NAME) / "made.json"
    path.write_text(path.read_text()[:40])
    assert error_of(lambda: mcks.delete(NAME)) == f"{path}: the record of what was made cannot be read"
    assert double.clusters


def test_another_mcks_deletes_nothing(start_double: Callable[[str], McksDouble], client: Client) -> None:
    one, other = start_double("v0.7.2"), start_double("v0.7.2")
    created(client(one))
    other.clusters = one.clusters
    assert "is of another MCKS or namespace" in error_of(lambda: client(other).delete(NAME))


def test_it_is_still_ours_when_mcks_moves_to_another_path(
    start_double: Callable[[str], McksDouble], client: Client
) -> None:
    double = start_double("v0.7.2")
    created(client(double, url=f"{double.url}/mcks"))
    assert client(double, url=f"{double.url}/ladybug").delete(NAME)


def test_a_cluster_whose_making_was_cut_off_can_be_deleted(double: McksDouble, client: Client) -> None:
    """The record has neither its nodes nor its time then."""

    def cut_off(text: str) -> None:
        if text.startswith("Provisioning"):
            raise KeyboardInterrupt

    double.hold("kubernetes")
    with pytest.raises(KeyboardInterrupt):
        created(client(double, cut_off))
    mcks = client(double)
    assert (record(mcks)["nodes"], record(mcks)["created_time"]) == ([], None)
    assert error_of(lambda: mcks.delete(NAME)) == (
        f"cluster {NAME}: MCKS is still making it, and could leave machines behind; seen: Provisioning; "
        "wait until it is complete or failed; if MCKS was restarted meanwhile, add --unfinished"
    )
    assert mcks.delete(NAME, unfinished=True)


def test_waiting_ends(double: McksDouble, client: Client) -> None:
    """A server that crashed while it made a cluster leaves it Provisioning for ever."""
    double.hold("kubernetes")
    waited = error_of(lambda: created(client(double, whole_s=0.1)))
    assert waited.startswith(f"{where(double)}: waited long enough; MCKS may still go on; seen: ")
    assert waited.endswith('; look again later: make cluster DO="list"')
