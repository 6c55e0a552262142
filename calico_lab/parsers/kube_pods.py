"""`kubectl get pods --all-namespaces` with custom columns: the pods of a node as the API server knows them.

========== ========== ==== ==================================================================
column     type       unit meaning
========== ========== ==== ==================================================================
line       int             1-based line in the text
namespace  str
name       str
phase      str | None      Pending, Running, Succeeded, Failed, Unknown
ready      int             containers that are ready
containers int             all that have a state; 0 before the kubelet has seen the pod
restarts   int             of all containers
reason     str | None      why a container waits: CrashLoopBackOff, ImagePullBackOff, …
message    str | None      the kubelet's words for it
========== ========== ==== ==================================================================

Source of the form: kubectl, ``pkg/cmd/get/customcolumn.go``.
"""

from __future__ import annotations

from dataclasses import dataclass

from calico_lab.parsers._columns import booleans, cells, integers, text

__all__ = ["Row", "parse"]

_COLUMNS = ("NAMESPACE", "NAME", "PHASE", "READY", "RESTARTS", "REASON", "MESSAGE")
_PHASES = {"Pending", "Running", "Succeeded", "Failed", "Unknown", None}


@dataclass(frozen=True, slots=True)
class Row:
    """One pod; columns as in the module's table."""

    line: int
    namespace: str
    name: str
    phase: str | None
    ready: int
    containers: int
    restarts: int
    reason: str | None
    message: str | None


def parse(printed: str) -> list[Row]:
    """Read the pods.

    Raises
    ------
    ParseError
        For another heading, an unknown phase, and cells that are not what their column holds.
    """
    rows = []
    for line, (namespace, name, phase, ready, restarts, reason, message) in cells(printed, _COLUMNS):
        if text(phase) not in _PHASES:
            raise line.error("not a pod's phase")
        states = booleans(line, ready, "ready")
        rows.append(
            Row(
                line=line.number,
                namespace=namespace,
                name=name,
                phase=text(phase),
                ready=sum(states),
                containers=len(states),
                restarts=sum(integers(line, restarts, "restarts")),
                reason=text(reason),
                message=text(message),
            )
        )
    return rows
