"""Waiting for DaemonSets and Deployments, and what keeps their pods: node, pod, image and reason on one line."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ...errors import ClusterError
from .api import Api, Ref

__all__ = ["Workload", "await_gone", "await_ready"]

Object = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Workload:
    """What makes pods.

    Attributes
    ----------
    kind : "DaemonSet" or "Deployment"
    namespace, name : str
    labels : str
        The selector of its pods.
    """

    kind: str
    namespace: str
    name: str
    labels: str

    def __str__(self) -> str:
        return str(self.ref)

    @property
    def ref(self) -> Ref:
        return Ref("apps/v1", self.kind, self.name, self.namespace)

    @classmethod
    def of(cls, thing: Mapping[str, Any]) -> Workload:
        """The workload that this manifest describes."""
        labels = ",".join(f"{key}={value}" for key, value in thing["spec"]["selector"]["matchLabels"].items())
        return cls(thing["kind"], thing["metadata"]["namespace"], thing["metadata"]["name"], labels)


@dataclass(frozen=True, slots=True)
class _Trouble:
    """What keeps a pod from being ready.

    Attributes
    ----------
    reason : str
        As Kubernetes calls it: ImagePullBackOff, Unschedulable, CrashLoopBackOff, …
    text : str
        One line for a person.
    hopeless : bool
        Whether it will not pass by waiting.
    """

    reason: str
    text: str
    hopeless: bool


_PULL = {"ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull"}
_HOPELESS = {*_PULL, "CreateContainerConfigError"}
"""Not so a pod that is not scheduled: that passes when the CNI has made the nodes ready."""


def _ready_of(pod: Object) -> tuple[int, int]:
    """Ready containers of a pod, and all."""
    statuses = pod.get("status", {}).get("containerStatuses") or []
    return sum(bool(each["ready"]) for each in statuses), len(pod["spec"]["containers"])


def _trouble_of(pod: Object) -> _Trouble | None:
    """The first thing that keeps a pod from being ready, or None where it only needs time."""
    status = pod.get("status", {})
    for condition in status.get("conditions") or []:
        if condition["type"] == "PodScheduled" and condition["status"] == "False":
            reason = condition.get("reason", "Unschedulable")
            text = _line(f"{_place(pod)}: {reason}: {condition.get('message', '')}")
            return _Trouble(reason, text, hopeless=False)
    for container in [*(status.get("initContainerStatuses") or []), *(status.get("containerStatuses") or [])]:
        waiting = container.get("state", {}).get("waiting") or {}
        reason = waiting.get("reason")
        if reason in (None, "ContainerCreating", "PodInitializing"):
            continue
        image = f"image {container['image']}{' cannot be pulled' if reason in _PULL else ''}"
        text = _line(f"{_place(pod)}, {image}: {reason}: {waiting.get('message', '')}")
        return _Trouble(reason, text, hopeless=reason in _HOPELESS)
    return None


def _place(pod: Object) -> str:
    node = pod["spec"].get("nodeName") or _wanted_node(pod) or "no node"
    return f"{node}, pod {pod['metadata']['namespace']}/{pod['metadata']['name']}"


def _line(text: str) -> str:
    return " ".join(text.split())


def _wanted_node(pod: Object) -> str | None:
    """The node that a DaemonSet's pod is for, before it is scheduled there."""
    affinity = pod["spec"].get("affinity", {}).get("nodeAffinity", {})
    terms = affinity.get("requiredDuringSchedulingIgnoredDuringExecution", {}).get("nodeSelectorTerms", [])
    fields = [field for term in terms for field in term.get("matchFields", []) if field["key"] == "metadata.name"]
    return fields[0]["values"][0] if fields else None


def await_ready(
    api: Api, workload: Workload, timeout_s: float, progress: Callable[[str, int, int], None], *, needed: bool
) -> list[str]:
    """Wait until all pods of a workload are ready; what still keeps some after the time, one line each.

    Parameters
    ----------
    api : Api
    workload : Workload
    timeout_s : float
    progress : callable
        Called with the workload, and how many of how many of its pods are ready.
    needed : bool
        Whether nothing can be measured without it. Otherwise pods that stay unready are a result.

    Raises
    ------
    ClusterError
        If something keeps a pod that will not pass by waiting; with `needed` also if the time is over.
    """
    until = time.monotonic() + timeout_s
    lines: list[str] = []
    for pods in api.states("v1", "Pod", workload.namespace, labels=workload.labels, until=until):
        ready, wanted = _rolled_out(api.get(workload.ref))
        progress(str(workload), ready, wanted or 0)
        if ready == wanted:
            return []
        troubles = [trouble for pod in pods.values() if (trouble := _trouble_of(pod)) is not None]
        for trouble in troubles:
            if trouble.hopeless:
                raise ClusterError(f"{workload} does not get ready", seen=trouble.text, todo=_todo(trouble))
        lines = [trouble.text for trouble in troubles] or [_state(api, pod) for pod in pods.values() if _waits(pod)]
    if needed:
        seen = "; ".join(lines) or "no pods"
        raise ClusterError(f"{workload} is not ready after {timeout_s:g} s", seen=seen, todo=f"see: {_see(workload)}")
    return lines


def await_gone(api: Api, workload: Workload, timeout_s: float) -> None:
    """Wait until a workload has no pods any more.

    Raises
    ------
    ClusterError
        If it still has some after the time.
    """
    until = time.monotonic() + timeout_s
    left: list[str] = []
    for pods in api.states("v1", "Pod", workload.namespace, labels=workload.labels, until=until):
        left = sorted(pods)
        if not left:
            return
    raise ClusterError(
        f"{workload} still has pods after {timeout_s:g} s", seen=", ".join(left), todo=f"see: {_see(workload)}"
    )


def _rolled_out(thing: Object | None) -> tuple[int, int | None]:
    """Ready pods of the newest settings, and how many there are to be; None where the controller has not yet looked.

    As ``kubectl rollout status`` decides it (kubectl, polymorphichelpers/rollout_status.go).
    """
    status = (thing or {}).get("status") or {}
    if thing is None or status.get("observedGeneration", 0) < thing["metadata"].get("generation", 1):
        return 0, None
    if thing["kind"] == "Deployment":
        return min(status.get("updatedReplicas", 0), status.get("availableReplicas", 0)), thing["spec"]["replicas"]
    updated, available = status.get("updatedNumberScheduled", 0), status.get("numberAvailable", 0)
    return min(updated, available), status["desiredNumberScheduled"]


def _waits(pod: Object) -> bool:
    ready, containers = _ready_of(pod)
    return ready < containers


def _state(api: Api, pod: Object) -> str:
    """How far a pod is, and the last warning about it: why a readiness probe fails is only said in events."""
    about, (ready, containers) = pod["metadata"], _ready_of(pod)
    state = f"{_place(pod)}: {ready}/{containers} {pod.get('status', {}).get('phase', 'Pending')}"
    fields = f"involvedObject.name={about['name']},type=Warning"
    warnings = api.find("v1", "Event", about["namespace"], fields=fields)
    return _line(f"{state}: {warnings[-1]['message']}") if warnings else state


def _todo(trouble: _Trouble) -> str:
    if trouble.reason in _PULL:
        return "name an image that the nodes can pull, or load it there"
    return "mend that, and run again"


def _see(workload: Workload) -> str:
    return f"kubectl -n {workload.namespace} describe pods -l {workload.labels}"
