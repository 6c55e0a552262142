"""The provider `kube`: an existing cluster by its kubeconfig, with the scenario's CNI installed on it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

from ...calico import tunnel
from ...commands import Command
from ...errors import ClusterError
from ...scenario import Found, Kubernetes, Node, Pod, Scenario
from .. import Result, found
from ..ssh import Shells
from . import kubectl
from .api import Api, Ref
from .changes import Changes
from .install import AGENT, NAMESPACE, PROBE, OtherCni, Plan, install, plan

__all__ = ["KubeCluster", "open_kube"]

_AT_ONCE = 16
"""Nodes that are looked at together."""

_ENTER = ("nsenter", "-t", "1", "-m", "-u", "-i", "-n", "-p", "--")
"""From a container with hostPID to the node itself: the namespaces of its first process."""


class KubeCluster:
    """A cluster that `open_kube` has installed the scenario's CNI on.

    Closing it changes nothing on the cluster: `changes.restore` undoes what was done.

    Parameters
    ----------
    api : Api
    scenario : Scenario
    planned : Plan
    provider : str
    shells : Shells, optional
        Run lines on nodes; None takes the agent's pods.
    unready : sequence of str
        What of the CNI did not get ready, and why.

    Raises
    ------
    ClusterError
        If a node cannot be asked, or has no pod to ping.
    """

    asks: tuple[Command, ...] = kubectl.ASKS
    fabric: tuple[str, ...] = ()

    def __init__(
        self,
        api: Api,
        scenario: Scenario,
        planned: Plan,
        *,
        provider: str,
        shells: Shells | None,
        unready: Sequence[str],
    ) -> None:
        self.provider = provider
        self._api, self._planned, self._unready = api, planned, unready
        self._shells = shells
        self._agents = self._by_node(NAMESPACE, f"app={AGENT}") if shells is None else {}
        self._shell = shells.run if shells else self._in_agent
        self._daemons = self._by_node("kube-system", f"k8s-app={tunnel(scenario.cni).workload}")
        self.node_log = kubectl.log_line(scenario.cni)
        self._answers: Mapping[str, Callable[[str], str]] = {
            self.node_log: self._log,
            kubectl.PODS.line: self._pods_of,
            kubectl.NODE.line: self._node,
            kubectl.EVENTS.line: self._events,
        }
        self.scenario = scenario.on(self._look(planned.machines, scenario))
        found_pods = [self._probe(node, scenario.kubernetes or Kubernetes()) for node in self.nodes]
        self.pods = tuple(pod for pod in found_pods if pod is not None)

    @property
    def nodes(self) -> tuple[Node, ...]:
        return self.scenario.nodes

    @property
    def facts(self) -> dict[str, Any]:
        kernels = [node["status"]["nodeInfo"]["kernelVersion"] for node in self._planned.nodes]
        return {
            "transport": "ssh" if self._shells else "exec",
            **({"host_keys": self._shells.host_keys} if self._shells else {}),
            "kernel": ", ".join(dict.fromkeys(kernels)),
            "manifest": {"source": self._planned.manifest.source, "sha256": self._planned.manifest.sha256},
            "unready": list(self._unready),
        }

    def run(self, where: str, line: str, timeout_s: float) -> Result:
        """Run a shell line on a node as root; what kubectl would print comes from the API server."""
        if line not in self._answers:
            return self._shell(where, line, timeout_s)
        start = time.monotonic()
        try:
            printed = self._answers[line](where)
        except ClusterError as problem:
            return Result("done", 1, "", f"{problem}\n", time.monotonic() - start)
        return Result("done", 0, printed, "", time.monotonic() - start)

    def inside(self, pod: Pod) -> str:
        return found.inside(pod)

    def close(self) -> None:
        self._api.close()

    # ------------------------------------------------------------------ nodes

    def _in_agent(self, where: str, line: str, timeout_s: float) -> Result:
        """On the node itself, through the agent's pod there; killed there after its time."""
        if where not in self._agents:
            return Result("unreachable", None, "", f"no pod of {NAMESPACE}/{AGENT} runs there", 0.0)
        command = [*_ENTER, "timeout", "-s", "KILL", f"{timeout_s:g}", "sh", "-c", line]
        return self._api.run(NAMESPACE, self._agents[where]["metadata"]["name"], AGENT, command, timeout_s)

    def _look(self, machines: Sequence[Found], scenario: Scenario) -> list[Found]:
        """What the nodes say of themselves: the API server knows neither NIC nor, with MCKS, the private address."""

        def look(machine: Found) -> Found:
            timeout_s = scenario.probes.command_timeout_s
            public = machine.public_ip
            seen = found.look(self._shell, machine.name, scenario.cni, public_ip=public, timeout_s=timeout_s)
            about = {key: getattr(seen, key) for key in ("private_ip", "nic", "mtu_bytes", "prefix_len")}
            # A node without a public address is reached at its only one.
            block = seen.block or self._pod_cidr(machine.name)
            return replace(machine, **about, public_ip=public or seen.private_ip, block=block)

        with ThreadPoolExecutor(_AT_ONCE) as several:
            return list(several.map(look, machines))

    def _pod_cidr(self, name: str) -> str | None:
        node = next(each for each in self._planned.nodes if each["metadata"]["name"] == name)
        cidr: str | None = node["spec"].get("podCIDR")
        return cidr

    # ------------------------------------------------------------------ pods

    def _by_node(self, namespace: str, labels: str) -> dict[str, dict[str, Any]]:
        pods = self._api.find("v1", "Pod", namespace, labels=labels)
        return {pod["spec"]["nodeName"]: pod for pod in pods if pod["spec"].get("nodeName")}

    def _probe(self, node: Node, settings: Kubernetes) -> Pod | None:
        """A pod to ping; None where the CNI is not ready, and there is none for that reason."""
        own = settings.probe_selector is None
        labels = f"app={PROBE}" if own else str(settings.probe_selector)
        on_node = f"spec.nodeName={node.name},status.phase=Running"
        pods = self._api.find("v1", "Pod", NAMESPACE if own else None, labels=labels, fields=on_node)
        for pod in pods:
            if pod["status"].get("podIP") and not pod["spec"].get("hostNetwork"):
                about = pod["metadata"]
                return Pod(about["name"], node.name, pod["status"]["podIP"], about["namespace"])
        if self._unready:
            return None
        raise ClusterError(
            "no pod in the pod network runs here",
            where=node.name,
            seen=f"label {labels}",
            todo="name pods with one on every node (kubernetes.probe_selector), or leave that out",
        )

    # ------------------------------------------------------------------ what the API server knows

    def _daemon_on(self, where: str) -> str:
        if where not in self._daemons:
            raise ClusterError(f"no pod of {tunnel(self.scenario.cni).workload} is on this node", where=where)
        return str(self._daemons[where]["metadata"]["name"])

    def _log(self, where: str) -> str:
        return self._api.log("kube-system", self._daemon_on(where), "calico-node")

    def _pods_of(self, where: str) -> str:
        return kubectl.pods(self._api.find("v1", "Pod", fields=f"spec.nodeName={where}"))

    def _node(self, where: str) -> str:
        node = self._api.get(Ref("v1", "Node", where))
        if node is None:
            raise ClusterError("no such node", where=where)
        return kubectl.node(node)

    def _events(self, where: str) -> str:
        about = f"involvedObject.name={self._daemon_on(where)},type=Warning"
        return kubectl.events(self._api.find("v1", "Event", "kube-system", fields=about))


def open_kube(
    scenario: Scenario,
    kubeconfig: Path,
    journal: Path,
    *,
    context: str | None = None,
    provider: str = "kube",
    shells: Shells | None = None,
    force: bool = False,
    other_cni: OtherCni = "refuse",
    progress: Callable[[str], None] = lambda step: None,
) -> KubeCluster:
    """Install the scenario's CNI on an existing cluster, and return the cluster ready to be recorded.

    Parameters
    ----------
    scenario : Scenario
    kubeconfig : Path
    journal : Path
        Where each change is written down before it is made; `changes.restore` undoes them.
    context : str, optional
        Of the kubeconfig; by default its current one.
    provider : str
        What the recording says that it is from.
    shells : Shells, optional
        Run lines on nodes, in place of the tool's own privileged pods.
    force : bool
        Take over fields that others manage.
    other_cni : "refuse", "stay" or "park"
        See `install.plan`.
    progress : callable, optional
        Called with a catalogue key or a line at each step.

    Raises
    ------
    InputError, HostError, ClusterError
        See `Api.open`, `install.plan`, `install.install` and `KubeCluster`; what was changed is in the journal.
    """
    api = Api.open(kubeconfig, context)
    try:
        progress("api")
        planned = plan(api, scenario, force=force, other_cni=other_cni)
        changes = Changes(api, journal)
        unready = install(api, changes, planned, scenario, force=force, agent=shells is None, progress=progress)
        return KubeCluster(api, scenario, planned, provider=provider, shells=shells, unready=unready)
    except BaseException:
        api.close()
        raise
