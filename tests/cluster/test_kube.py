"""An existing cluster: what is installed on it and how, what keeps that from getting ready, and how it is asked."""

from __future__ import annotations

import copy
import os
import shlex
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from kubernetes import client, config

from calico_lab.capture import record
from calico_lab.cluster import Result
from calico_lab.cluster.kube import kubectl
from calico_lab.cluster.kube.api import Api, ConflictError
from calico_lab.cluster.kube.changes import restore
from calico_lab.cluster.kube.cluster import KubeCluster, open_kube
from calico_lab.cluster.lab import LabCluster
from calico_lab.cluster.ssh import Shells
from calico_lab.errors import CalicoLabError
from calico_lab.review import Review
from calico_lab.scenario import Node, Pod, Scenario
from tests.cluster.kube_double import KubeDouble, running, unready, unschedulable, waiting

FIXTURES = Path(__file__).parent / "fixtures"
CSP = "topology.cloud-barista.github.io/csp"

Open = Callable[..., KubeCluster]
Object = dict[str, Any]


def scenario_of(name: str, **kubernetes: Any) -> Scenario:
    plugin = "canal" if "canal" in name else "calico"
    settings = {"manifest": str(FIXTURES / f"{plugin}.yaml"), "ready_timeout_s": 1.0} | kubernetes
    return Scenario.load(name, {"kubernetes": settings, "internet.latency_ms": 0, "probes.ping_count": 3})


def join(kube: KubeDouble, node: Node, **about: Any) -> None:
    """A node as MCKS sets it up: its internal address is the public one."""
    role = {"node-role.kubernetes.io/control-plane": ""} if node.role == "control-plane" else {}
    settings = {"labels": {CSP: node.cloud} | role, "spec": {"podCIDR": str(node.block)}} | about
    kube.add_node(node.name, node.public_ip, **settings)
    kube.pod_ips[node.name] = node.pods[0].address


def join_lab(kube: KubeDouble, lab: LabCluster) -> None:
    """A lab's nodes, with their logs and their pods, which are labelled app=probe."""
    for node in lab.nodes:
        join(kube, node)
        kube.logs[node.name] = lab.run(node.name, lab.node_log, 5).stdout
        for pod in node.pods:
            spec = {"nodeName": node.name, "containers": [{"name": "probe", "image": "probe"}]}
            about = {"name": pod.name, "namespace": pod.namespace, "labels": {"app": "probe"}}
            status = running({"spec": spec}) | {"podIP": pod.address}
            kube.add({"apiVersion": "v1", "kind": "Pod", "metadata": about, "spec": spec, "status": status})


def answers(scenario: Scenario) -> Callable[[str, list[str]], tuple[int, bytes, bytes]]:
    """What the nodes of a scenario answer to whoever asks what they are like."""

    def execute(name: str, command: list[str]) -> tuple[int, bytes, bytes]:
        node, line = scenario.node(name), command[-1]
        told = {
            "ip -4 route show": f"default via {node.gateway} dev {node.nic} src {node.private_ip}\n",
            "ip -4 addr show": (
                f"2: {node.nic}: <BROADCAST,MULTICAST,UP,LOWER_UP> mtu {node.mtu_bytes} qdisc mq state UP group "
                f"default\n"
                f"    inet {node.private_ip}/{node.prefix_len} scope global {node.nic}\n"
                "       valid_lft forever preferred_lft forever\n"
                f"    inet {node.public_ip}/32 scope global {node.nic}:1\n"
                "       valid_lft forever preferred_lft forever\n"
            ),
            "uname -r": "5.3.0-1035-aws\n",
        }
        return (0, told[line].encode(), b"") if line in told else (127, b"", b"not known here\n")

    return execute


@pytest.fixture
def vxlan() -> Scenario:
    return scenario_of("cross-vxlan")


@pytest.fixture
def two(kube: KubeDouble, vxlan: Scenario) -> KubeDouble:
    """The review document's two nodes."""
    for node in vxlan.nodes:
        join(kube, node)
    kube.execute = answers(vxlan)
    return kube


@pytest.fixture
def open_(kube: KubeDouble, vxlan: Scenario, tmp_path: Path) -> Iterator[Open]:
    opened: list[KubeCluster] = []

    def now(scenario: Scenario = vxlan, **options: Any) -> KubeCluster:
        opened.append(open_kube(scenario, kube.kubeconfig, tmp_path / "run" / "changes.jsonl", **options))
        return opened[-1]

    yield now
    for cluster in opened:
        cluster.close()


def refusal(open_: Open, *arguments: Any, **options: Any) -> str:
    with pytest.raises(CalicoLabError) as caught:
        open_(*arguments, **options)
    return str(caught.value)


def changes(kube: KubeDouble) -> list[tuple[str, str]]:
    """Requests that changed something."""
    return [(how, path) for how, path in kube.requests if how != "GET" and "dryRun" not in path]


# ---------------------------------------------------------------------- installing


def test_the_nodes_are_the_clusters_own(two: KubeDouble, open_: Open, vxlan: Scenario) -> None:
    """With MCKS the private address is not in the API: the node itself says it."""
    cluster = open_()
    assert [(node.name, node.role, node.site, node.public_ip) for node in cluster.nodes] == [
        ("c-1-h43jk", "control-plane", "aws-tokyo", "54.64.9.64"),
        ("w-1-36384", "worker", "gcp-tokyo", "35.189.140.156"),
    ]
    for node in cluster.nodes:
        said = vxlan.node(node.name)
        assert (node.private_ip, node.prefix_len) == (said.private_ip, said.prefix_len)
        assert (node.nic, node.mtu_bytes, node.block) == (said.nic, said.mtu_bytes, said.block)


def test_pods_to_ping_are_the_tools_own(two: KubeDouble, open_: Open, vxlan: Scenario) -> None:
    for pod, node in zip(open_().pods, vxlan.nodes, strict=True):
        assert (pod.node, pod.namespace, pod.address) == (node.name, "calico-lab", node.pods[0].address)
        assert two.get("pods", pod.name, "calico-lab")["metadata"]["labels"] == {"app": "calico-lab-probe"}


def test_nodes_are_annotated_before_the_cni_is_applied(two: KubeDouble, open_: Open) -> None:
    open_()
    paths = [path.partition("?")[0] for _, path in changes(two)]
    assert paths[:2] == ["/api/v1/nodes/c-1-h43jk", "/api/v1/nodes/w-1-36384"]
    assert paths.index("/apis/apps/v1/namespaces/kube-system/daemonsets/calico-node") > 1
    annotations = [two.get("nodes", name)["metadata"]["annotations"] for name in ("c-1-h43jk", "w-1-36384")]
    assert annotations == [
        {"projectcalico.org/IPv4Address": "54.64.9.64"},
        {"projectcalico.org/IPv4Address": "35.189.140.156"},
    ]


def test_canal_is_told_the_public_address_twice(two: KubeDouble, open_: Open) -> None:
    open_(scenario_of("cross-canal"))
    assert two.get("nodes", "c-1-h43jk")["metadata"]["annotations"] == {
        "projectcalico.org/IPv4Address": "54.64.9.64",
        "flannel.alpha.coreos.com/public-ip-overwrite": "54.64.9.64",
    }
    assert two.get("daemonsets", "canal", "kube-system") is not None


def test_detected_addresses_need_no_annotation(two: KubeDouble, open_: Open) -> None:
    open_(scenario_of("cross-vxlan-private"))
    assert "annotations" not in two.get("nodes", "c-1-h43jk")["metadata"]


def test_progress_names_each_workload(two: KubeDouble, open_: Open) -> None:
    steps: list[str] = []
    open_(progress=steps.append)
    assert steps == [
        "api",
        "cni",
        "DaemonSet kube-system/calico-node: 2 of 2 ready",
        "Deployment kube-system/calico-kube-controllers: 1 of 1 ready",
        "DaemonSet calico-lab/calico-lab-agent: 2 of 2 ready",
        "DaemonSet calico-lab/calico-lab-probe: 2 of 2 ready",
    ]


def test_waiting_ends_when_the_last_pod_is_ready(two: KubeDouble, open_: Open) -> None:
    two.states["calico-lab-agent"] = unready
    steps: list[str] = []

    def progress(step: str) -> None:
        steps.append(step)
        if step == "DaemonSet calico-lab/calico-lab-agent: 0 of 2 ready":
            two.settle("calico-lab-agent", running)

    open_(scenario_of("cross-vxlan", ready_timeout_s=30), progress=progress)
    assert "DaemonSet calico-lab/calico-lab-agent: 2 of 2 ready" in steps


def test_the_daemons_pods_are_new_ones_each_time(two: KubeDouble, open_: Open) -> None:
    """Calico reads annotations when it starts."""
    versions = []
    for _ in range(2):
        open_()
        template = two.get("daemonsets", "calico-node", "kube-system")["spec"]["template"]
        versions.append(template["metadata"]["annotations"]["calico-lab/started"])
    assert versions[0] < versions[1]


def test_what_was_installed_is_in_the_facts(two: KubeDouble, open_: Open) -> None:
    facts = open_().facts
    assert facts["manifest"]["source"] == str(FIXTURES / "calico.yaml")
    assert len(facts["manifest"]["sha256"]) == 64
    assert {key: facts[key] for key in ("transport", "kernel", "unready")} == {
        "transport": "exec",
        "kernel": "5.3.0-1035-aws",
        "unready": [],
    }


@pytest.mark.parametrize("name", ["cross-vxlan", "cross-canal", "cross-bgp"])
def test_undoing_leaves_the_cluster_as_it_was(two: KubeDouble, open_: Open, tmp_path: Path, name: str) -> None:
    def there() -> dict[Any, Any]:
        left_out = ("resourceVersion", "managedFields", "generation")
        kept = copy.deepcopy(two.objects)
        for thing in kept.values():
            for key in left_out:
                thing["metadata"].pop(key, None)
            if not thing["metadata"].get("annotations"):
                thing["metadata"].pop("annotations", None)
        return kept

    before = there()
    open_(scenario_of(name))
    with closing(Api.open(two.kubeconfig)) as api:
        assert restore(api, tmp_path / "run" / "changes.jsonl") == []
    assert there() == before


# ---------------------------------------------------------------------- what does not get ready


def test_pods_that_do_not_start_without_the_cni_are_a_result_too(two: KubeDouble, open_: Open) -> None:
    two.states["calico-node"] = unready
    two.states["calico-lab-probe"] = waiting("ContainerCreating", "")
    cluster = open_()
    assert cluster.pods == ()
    assert sum("calico-lab-probe" in line for line in cluster.facts["unready"]) == 2


def test_a_cni_that_stays_unready_is_a_result(two: KubeDouble, open_: Open, tmp_path: Path) -> None:
    """The document's BGP rows: 0/1 Running."""
    two.states["calico-node"] = unready
    pod = f"calico-node-{_suffixes(two)[0]}"
    message = "Readiness probe failed: calico/node is not ready: BIRD is not ready: BGP not established with 10.1.2.3"
    _warn(two, pod, message, count=7)
    cluster = open_(scenario_of("cross-bgp"))
    assert cluster.facts["unready"][0] == f"c-1-h43jk, pod kube-system/{pod}: 0/1 Running: {message}"
    assert cluster.run("c-1-h43jk", kubectl.EVENTS.line, 5).stdout == f'Unhealthy 7 "{message}"\n'
    shown = Review(record(cluster, cluster.scenario, tmp_path / "recording"), "en").workloads
    assert shown[["node", "ready", "note"]].to_numpy().tolist() == [
        ["c-1-h43jk", "0/1", f"Running: {message}"],
        ["c-1-h43jk", "1/1", "Running"],
        ["w-1-36384", "0/1", "Running"],
    ]


def _warn(kube: KubeDouble, pod: str, message: str, **about: Any) -> None:
    """An event as the kubelet leaves it of a probe that fails."""
    number = sum(key[0] == "events" for key in kube.objects)
    kube.add(
        {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": f"event-{number}", "namespace": "kube-system"},
            "involvedObject": {"kind": "Pod", "name": pod, "namespace": "kube-system"},
            "type": "Warning",
            "reason": "Unhealthy",
            "message": message,
            **about,
        }
    )


def _suffixes(kube: KubeDouble) -> list[str]:
    """How the double ends the names of a DaemonSet's pods, node by node."""
    _add_daemon(kube, "default", "x")
    names = [key[2].removeprefix("x-") for key in kube.objects if key[0] == "pods" and key[2].startswith("x-")]
    kube.remove(("daemonsets", "default", "x"))
    return names


TROUBLES = {
    "pull": (
        "calico-lab-agent",
        waiting("ImagePullBackOff", 'Back-off pulling image "registry.example/agent:1"'),
        "DaemonSet calico-lab/calico-lab-agent does not get ready; seen: c-1-h43jk, pod "
        "calico-lab/calico-lab-agent-POD, "
        "image registry.example/agent:1 cannot be pulled: ImagePullBackOff: "
        'Back-off pulling image "registry.example/agent:1"; name an image that the nodes can pull, or load it there',
    ),
    "pull-of-the-cni": (
        "calico-node",
        waiting("ErrImagePull", "toomanyrequests: You have reached your pull rate limit."),
        "DaemonSet kube-system/calico-node does not get ready; seen: c-1-h43jk, pod kube-system/calico-node-POD, image "
        "docker.io/calico/node:v3.22.0 cannot be pulled: ErrImagePull: toomanyrequests: You have reached your pull "
        "rate "
        "limit.; name an image that the nodes can pull, or load it there",
    ),
    "unschedulable": (
        "calico-lab-probe",
        unschedulable("0/2 nodes are available: 2 Insufficient cpu."),
        "DaemonSet calico-lab/calico-lab-probe is not ready after 1 s; seen: c-1-h43jk, pod "
        "calico-lab/calico-lab-probe-POD: Unschedulable: 0/2 nodes are available: 2 Insufficient cpu.; w-1-36384, pod "
        "calico-lab/calico-lab-probe-POD: Unschedulable: 0/2 nodes are available: 2 Insufficient cpu.; see: kubectl -n "
        "calico-lab describe pods -l app=calico-lab-probe",
    ),
    "crash-loop": (
        "calico-lab-probe",
        waiting("CrashLoopBackOff", "back-off 10s restarting failed container"),
        "DaemonSet calico-lab/calico-lab-probe is not ready after 1 s; seen: c-1-h43jk, pod "
        "calico-lab/calico-lab-probe-POD, image docker.io/library/busybox:1.36.1: CrashLoopBackOff: back-off 10s "
        "restarting failed container; w-1-36384, pod calico-lab/calico-lab-probe-POD, image "
        "docker.io/library/busybox:1.36.1: CrashLoopBackOff: back-off 10s restarting failed container; see: kubectl -n "
        "calico-lab describe pods -l app=calico-lab-probe",
    ),
    "never": (
        "calico-lab-agent",
        unready,
        "DaemonSet calico-lab/calico-lab-agent is not ready after 1 s; seen: c-1-h43jk, pod "
        "calico-lab/calico-lab-agent-POD: 0/1 Running; w-1-36384, pod calico-lab/calico-lab-agent-POD: 0/1 Running; "
        "see: kubectl -n calico-lab describe pods -l app=calico-lab-agent",
    ),
}


@pytest.mark.parametrize(("workload", "state", "line"), TROUBLES.values(), ids=TROUBLES)
def test_what_keeps_a_pod_is_one_line(
    two: KubeDouble, open_: Open, workload: str, state: Callable[[Object], Object], line: str
) -> None:
    suffixes = _suffixes(two)
    two.states[workload] = state
    said = refusal(open_, scenario_of("cross-vxlan", agent_image="registry.example/agent:1"))
    for suffix in suffixes:
        said = said.replace(f"-{suffix}", "-POD")
    assert said == line


def test_controllers_may_wait_until_the_cni_has_made_the_nodes_ready(two: KubeDouble, open_: Open) -> None:
    two.states["calico-kube-controllers"] = unschedulable("2 node(s) had taint {node.kubernetes.io/not-ready: }")
    steps: list[str] = []

    def progress(step: str) -> None:
        steps.append(step)
        if step == "Deployment kube-system/calico-kube-controllers: 0 of 1 ready":
            two.settle("calico-kube-controllers", running)

    cluster = open_(scenario_of("cross-vxlan", ready_timeout_s=30), progress=progress)
    assert "Deployment kube-system/calico-kube-controllers: 1 of 1 ready" in steps
    assert cluster.facts["unready"] == []


def test_a_cni_in_a_crash_loop_is_a_result(two: KubeDouble, open_: Open) -> None:
    two.states["calico-node"] = waiting("CrashLoopBackOff", "back-off 5m0s restarting failed container")
    unready_ = open_().facts["unready"]
    assert len(unready_) == 2
    assert "image docker.io/calico/node:v3.22.0: CrashLoopBackOff: back-off 5m0s" in unready_[0]


# ---------------------------------------------------------------------- clusters that do not fit: nothing is changed


def test_a_dry_run_comes_before_any_change(two: KubeDouble, open_: Open) -> None:
    two.kinds.pop("policy/v1beta1")  # as Kubernetes 1.25 did
    assert refusal(open_) == (
        f"{two.url}: this API server has no PodDisruptionBudget of policy/v1beta1; the manifest is for another version "
        "of Kubernetes: take a Calico that fits it"
    )
    assert changes(two) == []


def test_a_denial_comes_before_any_change(two: KubeDouble, open_: Open) -> None:
    two.denied.add(("patch", "daemonsets"))
    assert 'User "admin" cannot patch resource "daemonsets" in API group "apps"' in refusal(open_)
    assert changes(two) == []


@pytest.mark.parametrize("name", ["kube-flannel-ds", "canal", "cilium", "weave-net"])
def test_another_cni_is_not_installed_over(two: KubeDouble, open_: Open, name: str) -> None:
    _add_daemon(two, "kube-system", name)
    assert refusal(open_) == (
        f"{two.url}: another CNI is on this cluster; seen: DaemonSet kube-system/{name}; remove it first, or say "
        "OTHER_CNI=park, which takes its pods away until it is restored"
    )
    assert changes(two) == []


def test_the_same_cni_of_an_operator_is_another_one(two: KubeDouble, open_: Open) -> None:
    two.add({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "calico-system"}})
    _add_daemon(two, "calico-system", "calico-node")
    assert "seen: DaemonSet calico-system/calico-node" in refusal(open_)


def test_another_cni_may_be_said_to_stay(two: KubeDouble, open_: Open) -> None:
    _add_daemon(two, "kube-system", "kube-flannel-ds")
    assert len(open_(other_cni="stay").nodes) == 2
    assert [pod["metadata"]["labels"]["app"] for pod in pods_of(two, "kube-flannel-ds")] == ["kube-flannel-ds"] * 2


def test_another_cni_is_parked_and_comes_back(two: KubeDouble, open_: Open, tmp_path: Path) -> None:
    _add_daemon(two, "kube-system", "kube-flannel-ds")
    before = two.get("daemonsets", "kube-flannel-ds", "kube-system")["spec"]
    cluster = open_(other_cni="park")
    assert pods_of(two, "kube-flannel-ds") == []
    paths = [path.partition("?")[0] for _, path in changes(two)]
    assert paths[0] == "/apis/apps/v1/namespaces/kube-system/daemonsets/kube-flannel-ds"
    cluster.close()
    open_()  # what is parked is no hindrance to the next run
    restore(Api.open(two.kubeconfig), tmp_path / "run" / "changes.jsonl")
    assert two.get("daemonsets", "kube-flannel-ds", "kube-system")["spec"] == before
    assert len(pods_of(two, "kube-flannel-ds")) == 2


def pods_of(kube: KubeDouble, daemon: str) -> list[Any]:
    return [thing for key, thing in kube.objects.items() if key[0] == "pods" and key[2].startswith(f"{daemon}-")]


def _add_daemon(kube: KubeDouble, namespace: str, name: str) -> None:
    spec = {"containers": [{"name": "c", "image": "i"}]}
    template = {"metadata": {"labels": {"app": name}}, "spec": spec}
    kube.add(
        {
            "apiVersion": "apps/v1",
            "kind": "DaemonSet",
            "metadata": {"name": name, "namespace": namespace},
            "spec": {"selector": {"matchLabels": {"app": name}}, "template": template},
        }
    )


def test_fields_of_others_are_taken_over_by_force_alone(two: KubeDouble, open_: Open) -> None:
    about = {"name": "calico-config", "namespace": "kube-system"}
    two.add({"apiVersion": "v1", "kind": "ConfigMap", "metadata": about, "data": {"calico_backend": "bird"}}, "kubectl")
    with pytest.raises(ConflictError) as caught:
        open_()
    assert str(caught.value) == (
        'ConfigMap kube-system/calico-config: others manage what would change; seen: conflict with "kubectl" using v1: '
        ".data.calico_backend; undo what they did, or take these fields over with force"
    )
    assert changes(two) == []
    open_(force=True)
    assert two.get("configmaps", "calico-config", "kube-system")["data"]["calico_backend"] == "vxlan"


def test_a_pool_of_an_earlier_installation_is_not_overlooked(two: KubeDouble, open_: Open) -> None:
    two.kinds["crd.projectcalico.org/v1"] = {"IPPool": ("ippools", False)}
    spec = {"cidr": "10.244.0.0/16", "ipipMode": "Always", "vxlanMode": "Never", "blockSize": 26}
    pool = {"apiVersion": "crd.projectcalico.org/v1", "kind": "IPPool", "metadata": {"name": "default-ipv4-ippool"}}
    two.add(pool | {"spec": spec})
    assert refusal(open_) == (
        "IPPool default-ipv4-ippool: Calico's pool was made with other settings, and stays as it is; seen: ipipMode "
        "Always, vxlanMode Never, blockSize 26; undo the earlier installation, or delete the pool while no pod uses it"
    )
    assert changes(two) == []


def test_canal_needs_pod_networks(kube: KubeDouble, open_: Open, vxlan: Scenario) -> None:
    for node in vxlan.nodes:
        join(kube, node, spec={})
    assert refusal(open_, scenario_of("cross-canal")) == (
        "c-1-h43jk: canal needs a network for each node's pods; seen: no spec.podCIDR; start the controller manager "
        "with "
        "--allocate-node-cidrs and --cluster-cidr"
    )


def test_a_node_without_a_public_address_is_named(kube: KubeDouble, open_: Open, vxlan: Scenario) -> None:
    kube.add_node("other", "10.0.0.7", labels={CSP: "aws"})
    assert refusal(open_) == (
        "other: no public address is known of this node; seen: InternalIP 10.0.0.7; name the node with its public_ip "
        "among the scenario's nodes"
    )


def test_an_external_address_is_the_public_one(two: KubeDouble, open_: Open, vxlan: Scenario) -> None:
    two.remove(("nodes", None, "w-1-36384"))
    node = vxlan.node("w-1-36384")
    two.add_node(node.name, node.private_ip, external_ip="198.51.100.9", labels={CSP: "gcp"})
    two.pod_ips[node.name] = node.pods[0].address
    assert open_().scenario.node("w-1-36384").public_ip == "198.51.100.9"
    annotations = two.get("nodes", "w-1-36384")["metadata"]["annotations"]
    assert annotations == {"projectcalico.org/IPv4Address": "198.51.100.9"}


@pytest.mark.parametrize(
    ("about", "seen"),
    [
        pytest.param({}, "neither label topology.cloud-barista.github.io/csp nor a provider ID", id="nothing"),
        pytest.param({"labels": {CSP: "azure"}}, "cloud azure", id="another-cloud"),
        pytest.param({"spec": {"providerID": "azure:///x"}}, "cloud azure", id="another-provider"),
    ],
)
def test_a_node_in_no_site_is_named(kube: KubeDouble, open_: Open, about: Object, seen: str) -> None:
    kube.add_node("other", "203.0.113.7", **about)
    assert refusal(open_) == (
        f"other: in which of the scenario's sites is this node?; seen: {seen}; name the node with its site among the "
        "scenario's nodes"
    )


def test_a_provider_id_tells_the_cloud(two: KubeDouble, open_: Open, vxlan: Scenario) -> None:
    two.add_node("third", "203.0.113.7", spec={"providerID": "gce://project/zone/third", "podCIDR": "10.244.9.0/24"})
    two.pod_ips["third"] = "10.244.9.5"
    known = answers(vxlan)
    mimic = {"third": "w-1-36384"}

    def execute(name: str, command: list[str]) -> tuple[int, bytes, bytes]:
        code, out, err = known(mimic.get(name, name), command)
        return code, out.replace(b"192.168.29.28", b"192.168.29.77") if name in mimic else out, err

    two.execute = execute
    assert open_().scenario.node("third").site == "gcp-tokyo"


def test_a_node_that_cannot_be_asked_is_one_line(two: KubeDouble, open_: Open) -> None:
    two.execute = lambda node, command: (127, b"", b"nsenter: reassociate to namespaces failed\n")
    assert refusal(open_).endswith(
        ": `ip -4 route show` failed; seen: nsenter: reassociate to namespaces failed; see whether it works by hand"
    )


# ---------------------------------------------------------------------- other ways to the nodes and pods


def test_over_ssh_nothing_privileged_is_installed(two: KubeDouble, open_: Open, vxlan: Scenario) -> None:
    asked: list[tuple[str, str]] = []

    class Noted(Shells):
        def run(self, where: str, line: str, timeout_s: float) -> Result:
            asked.append((where, line))
            code, out, err = answers(vxlan)(where, [line])
            return Result("done", code, out.decode(), err.decode(), 0.0)

    cluster = open_(shells=Noted({}))
    cluster.run("w-1-36384", "route", 5)
    assert asked[-1] == ("w-1-36384", "route")
    assert (cluster.facts["transport"], cluster.facts["host_keys"]) == ("ssh", {})
    assert two.get("daemonsets", "calico-lab-agent", "calico-lab") is None


def test_pods_that_run_already_can_be_pinged(two: KubeDouble, open_: Open, vxlan: Scenario) -> None:
    _add_pods(two, vxlan)
    cluster = open_(scenario_of("cross-vxlan", probe_selector="app=web"))
    assert cluster.pods == tuple(
        Pod(f"web-{node.name}", node.name, node.pods[0].address, "default") for node in vxlan.nodes
    )
    assert two.get("daemonsets", "calico-lab-probe", "calico-lab") is None


def test_a_node_without_such_a_pod_is_named(two: KubeDouble, open_: Open, vxlan: Scenario) -> None:
    _add_pods(two, vxlan)
    two.remove(("pods", "default", "web-w-1-36384"))
    assert refusal(open_, scenario_of("cross-vxlan", probe_selector="app=web")) == (
        "w-1-36384: no pod in the pod network runs here; seen: label app=web; name pods with one on every node "
        "(kubernetes.probe_selector), or leave that out"
    )


def _add_pods(kube: KubeDouble, scenario: Scenario) -> None:
    spec = {"containers": [{"name": "web", "image": "web"}]}
    for node in scenario.nodes:
        kube.add(
            {
                "apiVersion": "v1",
                "kind": "Pod",
                "metadata": {"name": f"web-{node.name}", "namespace": "default", "labels": {"app": "web"}},
                "spec": spec | {"nodeName": node.name},
                "status": running({"spec": spec}) | {"podIP": node.pods[0].address},
            }
        )


# ---------------------------------------------------------------------- what kubectl prints


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed here")
@pytest.mark.parametrize("command", [kubectl.PODS, kubectl.NODE, kubectl.EVENTS], ids=lambda command: command.name)
def test_a_recording_has_what_kubectl_prints(two: KubeDouble, open_: Open, tmp_path: Path, command: Any) -> None:
    """The line that the recording names, run by kubectl itself."""
    two.states["calico-node"] = waiting("CrashLoopBackOff", "back-off 5m0s restarting failed container=calico-node")
    cluster = open_()
    pod = next(key[2] for key in two.objects if key[0] == "pods" and key[2].startswith("calico-node"))
    _warn(two, pod, 'Readiness "probe" failed: a\nb')
    _warn(two, pod, "한글 \\ back-off", count=3)
    variables = {"NODE": "c-1-h43jk", "POD": pod, "KUBECONFIG": str(two.kubeconfig), "HOME": str(tmp_path)}
    printed = subprocess.run(["sh", "-c", command.line], env=os.environ | variables, capture_output=True, text=True)
    assert printed.stderr == ""
    assert cluster.run("c-1-h43jk", command.line, 5).stdout == printed.stdout


def test_the_double_answers_in_the_published_form(two: KubeDouble, open_: Open) -> None:
    """The models that Kubernetes generates from the API's description refuse what lacks a field or has a wrong type."""
    open_()
    _warn(two, "calico-node-x", "a probe failed")
    api = config.new_client_from_config(str(two.kubeconfig))
    core, apps = client.CoreV1Api(api), client.AppsV1Api(api)
    listed = {
        "Node": core.list_node(),
        "Namespace": core.list_namespace(),
        "Pod": core.list_pod_for_all_namespaces(),
        "ConfigMap": core.list_config_map_for_all_namespaces(),
        "ServiceAccount": core.list_service_account_for_all_namespaces(),
        "Event": core.list_event_for_all_namespaces(),
        "DaemonSet": apps.list_daemon_set_for_all_namespaces(),
        "Deployment": apps.list_deployment_for_all_namespaces(),
        "ClusterRole": client.RbacAuthorizationV1Api(api).list_cluster_role(),
        "ClusterRoleBinding": client.RbacAuthorizationV1Api(api).list_cluster_role_binding(),
        "CustomResourceDefinition": client.ApiextensionsV1Api(api).list_custom_resource_definition(),
    }
    assert [kind for kind, found in listed.items() if not found.items] == []
    groups = [each.name for each in client.ApisApi(api).get_api_versions().groups]
    assert {"apps", "rbac.authorization.k8s.io", "apiextensions.k8s.io", "crd.projectcalico.org"} <= set(groups)
    exec_ = [each.name for each in core.get_api_resources().resources if each.kind == "PodExecOptions"]
    assert exec_ == ["pods/exec"]


def test_the_log_is_the_pods(two: KubeDouble, open_: Open) -> None:
    two.logs["w-1-36384"] = "a line\n"
    cluster = open_()
    assert cluster.run("w-1-36384", cluster.node_log, 5).stdout == "a line\n"


def test_what_the_api_server_refuses_is_a_failed_command(two: KubeDouble, open_: Open) -> None:
    cluster = open_()
    two.denied.add(("list", "pods"))
    done = cluster.run("w-1-36384", kubectl.PODS.line, 5)
    assert (done.outcome, done.code, done.stdout) == ("done", 1, "")
    assert 'User "admin" cannot list resource "pods"' in done.stderr


# ---------------------------------------------------------------------- a whole recording


@pytest.mark.lab
@pytest.mark.parametrize("name", ["cross-vxlan", "cross-canal"])
def test_a_recording_of_a_cluster_gives_the_document_s_result(
    kube: KubeDouble, open_: Open, tmp_path: Path, name: str
) -> None:
    """The double's kubelets are the lab's nodes: whatever is measured is a kernel's."""
    scenario = scenario_of(name, probe_selector="app=probe", ready_timeout_s=30)
    with closing(LabCluster(scenario)) as lab:

        def execute(where: str, command: list[str]) -> tuple[int, bytes, bytes]:
            done = lab.run(where, shlex.join(command[command.index("--") + 1 :]), 60)
            code = 137 if done.code is None or done.code < 0 else done.code
            return code, done.stdout.encode(), done.stderr.encode()

        kube.execute = execute
        join_lab(kube, lab)
        cluster = open_(scenario)
        review = Review(record(cluster, cluster.scenario, tmp_path / "recording"), "en")
    assert sorted(set(review.tables.captures["status"]) - {"read", "empty"}) == []
    expected = scenario.expected
    assert expected is not None
    assert (review.verdict.installed, review.verdict.ping, review.verdict.cause) == (
        expected.installed,
        expected.ping,
        expected.cause,
    )
    assert list(review.nodes["os_image"]) == ["Ubuntu 18.04.5 LTS"] * 2
    workload = "canal" if name == "cross-canal" else "calico-node"
    shown = review.workloads
    assert [pod.rpartition("-")[0] for pod in shown["pod"]] == [workload, "calico-kube-controllers", workload]
    assert list(shown["note"]) == ["Running"] * 3
