"""What is put on an existing cluster: the CNI in an install mode, and what it takes to measure it.

First everything is read and every object is tried (a dry run); then the journal is begun, and the cluster changed.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv4Network
from typing import Any, Literal

from ...calico import mode, node_annotations, tunnel
from ...errors import ClusterError, InputError
from ...recording import now
from ...scenario import Cni, Found, Kubernetes, Scenario
from . import manifests
from .api import Api, Ref
from .changes import Changes
from .rollout import Workload, await_gone, await_ready

__all__ = ["AGENT", "NAMESPACE", "PROBE", "OtherCni", "Plan", "install", "plan"]

Object = dict[str, Any]

NAMESPACE = "calico-lab"
AGENT = "calico-lab-agent"
PROBE = "calico-lab-probe"

_SYSTEM = "kube-system"

_CNIS = (
    *("antrea-agent", "aws-node", "calico-node", "canal", "cilium", "kilo", "kube-flannel", "kube-ovn-cni"),
    *("kube-router", "ovnkube-node", "weave-net"),
)
"""How the names of the DaemonSets begin that give nodes a pod network."""

_PARKED = {"calico-lab/parked": "true"}
"""Label that no node has: a DaemonSet that selects it has no pods."""

OtherCni = Literal["refuse", "stay", "park"]

_CSP = "topology.cloud-barista.github.io/csp"
"""MCKS's label: the cloud that a node is in."""
_CLOUD_OF = {"gce": "gcp"}
"""Where a provider ID calls a cloud otherwise than `clouds.CLOUDS`."""
_CONTROL_PLANE = ("node-role.kubernetes.io/control-plane", "node-role.kubernetes.io/master")
_NO_PUBLIC = [IPv4Network(each) for each in ("10.0.0.0/8", "100.64.0.0/10", "172.16.0.0/12", "192.168.0.0/16")]
"""RFC 1918, and what carriers use behind NAT (RFC 6598)."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What is to be done on a cluster.

    Attributes
    ----------
    objects : list of dict
        The CNI's manifest, set for the mode.
    manifest : manifests.Manifest
    nodes : list of dict
        The cluster's nodes, as the API server has them.
    machines : list of Found
        The same with what is known of them before anything runs there.
    others : list of dict
        DaemonSets of other CNIs that are to be parked.
    """

    objects: list[Object]
    manifest: manifests.Manifest
    nodes: list[Object]
    machines: list[Found]
    others: list[Object]


def plan(api: Api, scenario: Scenario, *, force: bool = False, other_cni: OtherCni = "refuse") -> Plan:
    """Look at a cluster, and find out whether the scenario's CNI can be installed on it; nothing is changed.

    Parameters
    ----------
    api : Api
    scenario : Scenario
    force : bool
        Whether fields that others manage are to be taken over.
    other_cni : "refuse", "stay" or "park"
        What becomes of another CNI that is there already. One that is parked has no pods until it is restored.

    Raises
    ------
    InputError
        If the scenario does not fit the nodes, or the manifest is of another layout.
    HostError
        If the manifest cannot be downloaded.
    ClusterError
        If another CNI is there, or the API server would refuse something.
    """
    nodes = api.find("v1", "Node")
    machines = [_machine(node, scenario) for node in nodes]
    settings = scenario.kubernetes or Kubernetes()
    manifest = manifests.fetch(scenario.cni, settings.manifest)
    objects = manifests.for_mode(manifests.parse(manifest.text, manifest.source), scenario.cni, manifest.source)
    others = [] if other_cni == "stay" else _other_cnis(api, scenario.cni)
    if others and other_cni == "refuse":
        raise ClusterError(
            "another CNI is on this cluster",
            where=api.host,
            seen=f"DaemonSet {others[0]['metadata']['namespace']}/{others[0]['metadata']['name']}",
            todo="remove it first, or say OTHER_CNI=park, which takes its pods away until it is restored",
        )
    _refuse_other_pools(api, scenario.cni)
    if mode(scenario.cni) == "canal":
        _require_pod_cidrs(nodes)
    for each in objects:
        api.apply(each, force=force, dry_run=True)
    return Plan(objects, manifest, nodes, machines, others)


def install(
    api: Api,
    changes: Changes,
    planned: Plan,
    scenario: Scenario,
    *,
    force: bool,
    agent: bool,
    progress: Callable[[str], None],
) -> list[str]:
    """Annotate the nodes, install the CNI and what measures it, and wait.

    Returns what stays unready because of the CNI, and why: a result. Without the tool's own pods nothing can be
    measured, but that pods in the pod network do not start may be the CNI's doing.

    Parameters
    ----------
    api : Api
    changes : Changes
    planned : Plan
    scenario : Scenario
    force : bool
        See `plan`.
    agent : bool
        Whether commands reach the nodes through pods.
    progress : callable
        Called with a line at each step.

    Raises
    ------
    ClusterError
        If the API server refuses, an image cannot be pulled, or a pod of the tool does not get ready.
    """
    progress("cni")
    settings = scenario.kubernetes or Kubernetes()
    for daemon in planned.others:
        changes.merge(Ref.of(daemon), {"spec": {"template": {"spec": {"nodeSelector": _PARKED}}}})
        await_gone(api, Workload.of(daemon), settings.ready_timeout_s)
    for machine in planned.machines:
        annotations = node_annotations(scenario.cni, machine.public_ip) if machine.public_ip else {}
        changes.annotate(machine.name, annotations)
    for each in planned.objects:
        changes.apply(_started_anew(each) if each["kind"] == "DaemonSet" else each, force=force)
    unready = _await(api, planned.objects, settings, progress, needed=False)
    helpers = _helpers(settings, agent=agent)
    for each in helpers:
        changes.apply(each, force=force)
    for each in helpers:
        needed = each["metadata"]["name"] == AGENT or not unready
        unready += _await(api, [each], settings, progress, needed=needed)
    return unready


def _await(
    api: Api, objects: Sequence[Object], settings: Kubernetes, progress: Callable[[str], None], *, needed: bool
) -> list[str]:
    def say(workload: str, ready: int, wanted: int) -> None:
        progress(f"{workload}: {ready} of {wanted or '?'} ready")

    workloads = [Workload.of(each) for each in objects if each["kind"] in ("DaemonSet", "Deployment")]
    return [line for each in workloads for line in await_ready(api, each, settings.ready_timeout_s, say, needed=needed)]


def _started_anew(daemon: Object) -> Object:
    """Calico and flannel read a node's annotations when they start, so their pods have to be new ones."""
    changed = copy.deepcopy(daemon)
    about = changed["spec"]["template"].setdefault("metadata", {})
    about["annotations"] = (about.get("annotations") or {}) | {"calico-lab/started": now()}
    return changed


# ---------------------------------------------------------------------- what is there


def _machine(node: Object, scenario: Scenario) -> Found:
    """A node as the scenario takes it, as far as the API server knows it."""
    name = node["metadata"]["name"]
    labels = node["metadata"].get("labels") or {}
    said = next((each for each in scenario.nodes if each.name == name), None)
    public = _public_ip(node) or (said.public_ip if said else None)
    if public is None and scenario.cni.node_ip == "public":
        raise InputError(
            "no public address is known of this node",
            where=name,
            seen=", ".join(f"{each['type']} {each['address']}" for each in _addresses(node)) or "no addresses",
            todo="name the node with its public_ip among the scenario's nodes",
        )
    return Found(
        name=name,
        role="control-plane" if any(label in labels for label in _CONTROL_PLANE) else "worker",
        site=said.site if said else _site(node, scenario),
        public_ip=public,
    )


def _addresses(node: Object) -> list[Object]:
    found: list[Object] = node.get("status", {}).get("addresses") or []
    return [each for each in found if each["type"] in ("InternalIP", "ExternalIP")]


def _public_ip(node: Object) -> str | None:
    """The external address or, as with MCKS, the internal one if it is of the internet."""
    for kind in ("ExternalIP", "InternalIP"):
        for each in _addresses(node):
            if each["type"] == kind and ":" not in each["address"] and not _is_inside(each["address"]):
                return str(each["address"])
    return None


def _is_inside(address: str) -> bool:
    return any(IPv4Address(address) in network for network in _NO_PUBLIC)


def _site(node: Object, scenario: Scenario) -> str:
    """The one site of the node's cloud, by MCKS's label or by the provider ID; one site leaves no doubt."""
    labels = node["metadata"].get("labels") or {}
    scheme = str(node["spec"].get("providerID", "")).partition("://")[0]
    cloud = labels.get(_CSP) or _CLOUD_OF.get(scheme, scheme) or None
    sites = [site.name for site in scenario.sites if cloud in (None, site.cloud)]
    if len(sites) != 1:
        raise InputError(
            "in which of the scenario's sites is this node?",
            where=node["metadata"]["name"],
            seen=f"cloud {cloud}" if cloud else f"neither label {_CSP} nor a provider ID",
            todo="name the node with its site among the scenario's nodes",
        )
    return sites[0]


def _other_cnis(api: Api, cni: Cni) -> list[Object]:
    own = (_SYSTEM, tunnel(cni).workload)
    found = api.find("apps/v1", "DaemonSet")
    places = [(daemon["metadata"]["namespace"], daemon["metadata"]["name"]) for daemon in found]
    return [
        daemon
        for daemon, place in zip(found, places, strict=True)
        if place != own and place[1].startswith(_CNIS) and _PARKED.items().isdisjoint(_selector(daemon).items())
    ]


def _selector(daemon: Object) -> dict[str, str]:
    return daemon["spec"]["template"]["spec"].get("nodeSelector") or {}


def _refuse_other_pools(api: Api, cni: Cni) -> None:
    """Calico makes its pool of the environment only where there is none: an older one would silently win."""
    if cni.plugin != "calico" or not api.serves("crd.projectcalico.org/v1", "IPPool"):
        return
    wanted = {"cidr": str(cni.ip_pool), "ipipMode": cni.ipip, "vxlanMode": cni.vxlan, "blockSize": cni.block_size}
    for pool in api.find("crd.projectcalico.org/v1", "IPPool"):
        other = {key: pool["spec"].get(key) for key in wanted if pool["spec"].get(key) != wanted[key]}
        if other and ":" not in pool["spec"]["cidr"]:
            raise ClusterError(
                "Calico's pool was made with other settings, and stays as it is",
                where=f"IPPool {pool['metadata']['name']}",
                seen=", ".join(f"{key} {value}" for key, value in other.items()),
                todo="undo the earlier installation, or delete the pool while no pod uses it",
            )


def _require_pod_cidrs(nodes: Sequence[Object]) -> None:
    for node in nodes:
        if not node["spec"].get("podCIDR"):
            raise ClusterError(
                "canal needs a network for each node's pods",
                where=node["metadata"]["name"],
                seen="no spec.podCIDR",
                todo="start the controller manager with --allocate-node-cidrs and --cluster-cidr",
            )


# ---------------------------------------------------------------------- the tool's own objects


def _helpers(settings: Kubernetes, *, agent: bool) -> list[Object]:
    """A namespace, pods in the pod network to ping, and pods on the nodes to run commands."""
    daemons = []
    if agent:
        daemons.append(_daemon(AGENT, settings.agent_image, {"privileged": True}, hostNetwork=True, hostPID=True))
    if settings.probe_selector is None:
        # Kubernetes 1.18 does not know seccompProfile; all else is as Pod Security's "restricted" has it.
        confined = {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
            "runAsNonRoot": True,
            "runAsUser": 65534,
        }
        daemons.append(_daemon(PROBE, settings.probe_image, confined))
    if not daemons:
        return []
    about = {"name": NAMESPACE, "labels": {"pod-security.kubernetes.io/enforce": "privileged"}}
    return [{"apiVersion": "v1", "kind": "Namespace", "metadata": about}, *daemons]


def _daemon(name: str, image: str, security: Object, **pod: Any) -> Object:
    labels = {"app": name}
    container = {"name": name, "image": image, "command": ["sleep", "2147483647"], "securityContext": security}
    template = {
        "containers": [container],
        "tolerations": [{"operator": "Exists"}],
        "nodeSelector": {"kubernetes.io/os": "linux"},
        "automountServiceAccountToken": False,
        "terminationGracePeriodSeconds": 0,
        **pod,
    }
    return {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {"name": name, "namespace": NAMESPACE, "labels": labels},
        "spec": {"selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": template}},
    }
