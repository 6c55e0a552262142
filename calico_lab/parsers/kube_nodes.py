"""`kubectl get node` with custom columns: a node as the API server knows it.

=========== ========== ==== ==================================================================
column      type       unit meaning
=========== ========== ==== ==================================================================
line        int             1-based line in the text
name        str
ready       str | None      condition Ready: True, False, Unknown
version     str | None      the kubelet's
internal_ip str | None      with commas where there are more
external_ip str | None
kernel      str | None
runtime     str | None      containerd://1.6.8, docker://19.3.11
os_image    str | None
=========== ========== ==== ==================================================================

Source of the form: kubectl, ``pkg/cmd/get/customcolumn.go``.
"""

from __future__ import annotations

from dataclasses import dataclass

from calico_lab.parsers._columns import cells, text

__all__ = ["Row", "parse"]

_COLUMNS = (
    *("NAME", "READY", "VERSION", "INTERNAL-IP", "EXTERNAL-IP"),
    *("KERNEL-VERSION", "CONTAINER-RUNTIME", "OS-IMAGE"),
)
_READY = {"True", "False", "Unknown", None}


@dataclass(frozen=True, slots=True)
class Row:
    """One node; columns as in the module's table."""

    line: int
    name: str
    ready: str | None
    version: str | None
    internal_ip: str | None
    external_ip: str | None
    kernel: str | None
    runtime: str | None
    os_image: str | None


def parse(printed: str) -> list[Row]:
    """Read the node.

    Raises
    ------
    ParseError
        For another heading, and for a condition that is none.
    """
    rows = []
    for line, (name, *values) in cells(printed, _COLUMNS):
        if text(values[0]) not in _READY:
            raise line.error("not a condition's status")
        rows.append(Row(line.number, name, *map(text, values)))
    return rows
