"""What kubectl prints, made of what the API server says: a recording has the lines that a person would type.

Each line takes the node's name from ``$NODE``, and the events its pod's from ``$POD``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from ...calico import tunnel
from ...commands import Command
from ...scenario import Cni

__all__ = ["ASKS", "EVENTS", "NODE", "PODS", "events", "log_line", "node", "pods"]

Object = Mapping[str, Any]

_POD_COLUMNS = {
    "NAMESPACE": ".metadata.namespace",
    "NAME": ".metadata.name",
    "PHASE": ".status.phase",
    "READY": ".status.containerStatuses[*].ready",
    "RESTARTS": ".status.containerStatuses[*].restartCount",
    "REASON": ".status.containerStatuses[*].state.waiting.reason",
    "MESSAGE": ".status.containerStatuses[*].state.waiting.message",
}
_NODE_COLUMNS = {
    "NAME": ".metadata.name",
    "READY": '.status.conditions[?(@.type=="Ready")].status',
    "VERSION": ".status.nodeInfo.kubeletVersion",
    "INTERNAL-IP": '.status.addresses[?(@.type=="InternalIP")].address',
    "EXTERNAL-IP": '.status.addresses[?(@.type=="ExternalIP")].address',
    "KERNEL-VERSION": ".status.nodeInfo.kernelVersion",
    "CONTAINER-RUNTIME": ".status.nodeInfo.containerRuntimeVersion",
    "OS-IMAGE": ".status.nodeInfo.osImage",
}
_EVENT = r"""{{range .items}}{{.reason}} {{.count}} {{printf "%q" .message}}{{"\n"}}{{end}}"""


def _columns(columns: Mapping[str, str]) -> str:
    return "custom-columns=" + ",".join(f"{name}:{path}" for name, path in columns.items())


PODS = Command(
    "kube-pods",
    "kube_pods",
    f"kubectl get pods --all-namespaces --field-selector spec.nodeName=$NODE -o '{_columns(_POD_COLUMNS)}'",
)
NODE = Command("kube-node", "kube_nodes", f"kubectl get node $NODE -o '{_columns(_NODE_COLUMNS)}'")
EVENTS = Command(
    "kube-events",
    "kube_events",
    "kubectl -n kube-system get events --field-selector involvedObject.name=$POD,type=Warning "
    f"-o go-template='{_EVENT}'",
)
"""Warnings about the CNI's own pod: a readiness probe that fails says why here and nowhere else."""

ASKS = (PODS, NODE, EVENTS)


def log_line(cni: Cni) -> str:
    """The line that prints the CNI daemon's log."""
    on_node = f"-l k8s-app={tunnel(cni).workload} --field-selector spec.nodeName=$NODE"
    return f'kubectl -n kube-system logs "$(kubectl -n kube-system get pods {on_node} -o name)" -c calico-node'


def pods(found: Iterable[Object]) -> str:
    """What `PODS` prints of these pods."""

    def statuses(pod: Object) -> Sequence[Object]:
        return pod.get("status", {}).get("containerStatuses") or []

    def waiting(pod: Object, key: str) -> list[str]:
        return [each["state"]["waiting"].get(key) for each in statuses(pod) if each.get("state", {}).get("waiting")]

    cells: dict[str, Callable[[Object], object]] = {
        "NAMESPACE": lambda pod: pod["metadata"]["namespace"],
        "NAME": lambda pod: pod["metadata"]["name"],
        "PHASE": lambda pod: pod.get("status", {}).get("phase"),
        "READY": lambda pod: [each["ready"] for each in statuses(pod)],
        "RESTARTS": lambda pod: [each["restartCount"] for each in statuses(pod)],
        "REASON": lambda pod: waiting(pod, "reason"),
        "MESSAGE": lambda pod: waiting(pod, "message"),
    }
    return _table(found, cells)


def node(found: Object) -> str:
    """What `NODE` prints of this node."""
    info = found.get("status", {}).get("nodeInfo", {})

    def addresses(kind: str) -> list[str]:
        return [each["address"] for each in found.get("status", {}).get("addresses", []) if each["type"] == kind]

    conditions = found.get("status", {}).get("conditions", [])
    cells: dict[str, Callable[[Object], object]] = {
        "NAME": lambda node: node["metadata"]["name"],
        "READY": lambda _: [each["status"] for each in conditions if each["type"] == "Ready"],
        "VERSION": lambda _: info.get("kubeletVersion"),
        "INTERNAL-IP": lambda _: addresses("InternalIP"),
        "EXTERNAL-IP": lambda _: addresses("ExternalIP"),
        "KERNEL-VERSION": lambda _: info.get("kernelVersion"),
        "CONTAINER-RUNTIME": lambda _: info.get("containerRuntimeVersion"),
        "OS-IMAGE": lambda _: info.get("osImage"),
    }
    return _table([found], cells)


def events(found: Iterable[Object]) -> str:
    """What `EVENTS` prints of these events: Go quotes a text as JSON does."""
    lines = (
        f"{each['reason']} {each.get('count') or '<no value>'} {json.dumps(each['message'], ensure_ascii=False)}\n"
        for each in found
    )
    return "".join(lines)


_GAP = 3
"""Blanks between kubectl's columns (cli-runtime, printers/tabwriter.go)."""


def _table(found: Iterable[Object], cells: Mapping[str, Callable[[Object], object]]) -> str:
    """Custom columns as kubectl sets them: as wide as the widest cell and three blanks; the last one is open."""
    rows = [list(cells), *([_cell(cell(each)) for cell in cells.values()] for each in found)]
    widths = [max(map(len, column)) + _GAP for column in zip(*rows, strict=True)]
    widths[-1] = 0
    return "".join("".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) + "\n" for row in rows)


def _cell(value: object) -> str:
    """As kubectl prints a value: a list with commas, nothing as <none>; line breaks would break the table."""
    values = [each for each in (value if isinstance(value, list) else [value]) if each is not None and each != ""]
    words = [str(each).lower() if isinstance(each, bool) else str(each) for each in values]
    return " ".join(",".join(words).split("\n")) or "<none>"
