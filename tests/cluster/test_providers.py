"""Whole reviews of clusters that are there, from the words on the command line to what is left on the cluster."""

from __future__ import annotations

import json
import stat
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import paramiko
import pytest

from calico_lab import run
from calico_lab.cli import main
from calico_lab.cluster.lab import LabCluster
from calico_lab.cluster.mcks import ownership
from calico_lab.doctor import Verdict, survey, verdict
from calico_lab.recording import Recording
from calico_lab.scenario import Scenario
from tests.cluster.doors import Door
from tests.cluster.kube_double import KubeDouble
from tests.cluster.mcks_double import NAMESPACE, McksDouble
from tests.cluster.test_kube import FIXTURES, join_lab
from tests.cluster.test_machines import let_in

pytestmark = [
    pytest.mark.lab,
    pytest.mark.skipif(verdict(survey()) is not Verdict.LAB_WITH_SSHD, reason="no sshd can run here"),
]

NAME = "cross-vxlan"
SETTINGS = [
    *("--set", "internet.latency_ms=0", "--set", "probes.ping_count=3"),
    *("--set", f"kubernetes.manifest={FIXTURES / 'calico.yaml'}", "--set", "kubernetes.probe_selector=app=probe"),
]


@pytest.fixture
def lab() -> Iterator[LabCluster]:
    with closing(LabCluster(Scenario.load(NAME, {"internet.latency_ms": 0}))) as cluster:
        yield cluster


@pytest.fixture
def cluster(lab: LabCluster, kube: KubeDouble) -> KubeDouble:
    """An API server whose nodes are the lab's, with a pod on each, and the canal that MCKS has installed."""
    join_lab(kube, lab)
    template = {"metadata": {"labels": {"k8s-app": "canal"}}, "spec": {"containers": [{"name": "c", "image": "i"}]}}
    spec = {"selector": {"matchLabels": {"k8s-app": "canal"}}, "template": template}
    about = {"name": "canal", "namespace": "kube-system"}
    kube.add({"apiVersion": "apps/v1", "kind": "DaemonSet", "metadata": about, "spec": spec})
    return kube


@pytest.fixture
def mcks(
    lab: LabCluster,
    cluster: KubeDouble,
    start_double: Callable[[str], McksDouble],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> Iterator[McksDouble]:
    """An MCKS with that cluster, whose nodes' sshds are at the loopback's port 22, as MCKS's nodes have them."""
    key = paramiko.RSAKey.generate(2048)
    key.write_private_key_file(str(tmp_path / "key"))
    double = start_double("v0.7.2")
    nodes: list[dict[str, Any]] = []
    with ExitStack() as ends:
        for number, node in enumerate(lab.nodes, start=1):
            let_in(lab, node.name, key)
            door = Door(lab, node.name, address=f"127.9.0.{number}", port=22)
            ends.callback(door.close)
            nodes.append(
                {
                    "name": node.name,
                    "kind": "Node",
                    "credential": (tmp_path / "key").read_text(encoding="utf-8"),
                    "publicIp": door.address,
                    "privateIp": node.private_ip,
                    "role": node.role,
                    "spec": node.spec,
                    "csp": node.cloud,
                    "createdTime": "2022-01-02T12:00:00Z",
                    "cspLabel": f"topology.cloud-barista.github.io/csp={node.cloud}",
                    "regionLabel": "topology.kubernetes.io/region=tokyo",
                    "zoneLabel": "topology.kubernetes.io/zone=tokyo-a",
                }
            )
        double.clusters["cb-cluster"] = {
            "name": "cb-cluster",
            "kind": "Cluster",
            "status": {"phase": "Provisioned", "reason": "", "message": ""},
            "mcis": "cb-cluster",
            "namespace": NAMESPACE,
            "k8sVersion": "1.23.13-00",
            "clusterConfig": cluster.kubeconfig.read_text(encoding="utf-8"),
            "cpLeader": lab.nodes[0].name,
            "cpGroup": "c-1",
            "networkCni": "canal",
            "label": "",
            "installMonAgent": "no",
            "loadbalancer": "haproxy",
            "etcd": "local",
            "description": "",
            "createdTime": "2022-01-02T12:00:00Z",
            "serviceType": "multi",
            "nodes": nodes,
        }
        monkeypatch.setenv("MCKS_URL", double.url)
        monkeypatch.setenv("MCKS_NAMESPACE", NAMESPACE)
        monkeypatch.setattr(ownership, "CLUSTERS", tmp_path / "outputs/clusters")
        monkeypatch.setattr(run, "OUTPUTS", tmp_path / "outputs")
        yield double


def test_a_cluster_of_mcks_is_reviewed_by_its_name_and_given_back(
    mcks: McksDouble, cluster: KubeDouble, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = json.loads(json.dumps(cluster.get("daemonsets", "canal", "kube-system")["spec"]))
    words = ["--provider", "mcks", "--cluster", "cb-cluster", "--trust-first-use", "--other-cni", "park"]
    assert main(["report", NAME, *SETTINGS, *words]) == 0
    folder = tmp_path / "outputs" / NAME
    summary = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
    assert (summary["provider"], summary["installed"], summary["ping"], summary["cause"]) == (
        "mcks",
        True,
        False,
        "outer-source",
    )
    facts = Recording(folder / "recording").manifest["facts"]
    assert (facts["transport"], sorted(facts["host_keys"])) == ("ssh", ["c-1-h43jk", "w-1-36384"])
    assert cluster.get("daemonsets", "calico-lab-agent", "calico-lab") is None  # SSH goes to the nodes
    said = capsys.readouterr()
    kubeconfig = tmp_path / "outputs/clusters/cb-cluster/kubeconfig"
    undo = f"make restore JOURNAL={folder}/changes.jsonl KUBECONFIG={kubeconfig}"
    assert said.err == f"to undo what was changed on the cluster: {undo}\n"
    assert stat.S_IMODE(kubeconfig.stat().st_mode) == 0o600
    secrets = [mcks.clusters["cb-cluster"]["nodes"][0]["credential"], cluster.token]
    written = b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())
    assert [secret for secret in secrets if secret in said.out + said.err or secret.encode() in written] == []

    assert main(["restore", "--journal", str(folder / "changes.jsonl"), "--kubeconfig", str(kubeconfig)]) == 0
    assert cluster.get("daemonsets", "canal", "kube-system")["spec"] == before
    assert cluster.get("daemonsets", "calico-node", "kube-system") is None


def test_a_cluster_with_canal_is_let_be_unless_told_otherwise(
    mcks: McksDouble, cluster: KubeDouble, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["--provider", "mcks", "--cluster", "cb-cluster", "--trust-first-use"]
    assert main(["capture", NAME, *SETTINGS, *words]) == 4
    assert capsys.readouterr().err == (
        f"calico_lab: {cluster.url}: another CNI is on this cluster; seen: DaemonSet kube-system/canal; "
        "remove it first, or say OTHER_CNI=park, which takes its pods away until it is restored\n"
    )


def test_a_cluster_that_is_not_there_is_one_line_with_those_that_are(
    mcks: McksDouble, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["report", NAME, *SETTINGS, "--provider", "mcks"]) == 4
    assert "no cluster has that name; seen: cross-vxlan; there are: cb-cluster" in capsys.readouterr().err
