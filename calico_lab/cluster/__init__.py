"""Where nodes come from: one small protocol, one module a provider."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Protocol

from ..commands import Command
from ..scenario import Node, Pod, Scenario

__all__ = ["OUTPUT_LIMIT_BYTES", "TOO_MUCH", "Cluster", "Result"]

OUTPUT_LIMIT_BYTES = 8 * 2**20
"""How much a command may print on either stream: far more than any node says, far less than a machine's memory."""

TOO_MUCH = "stopped: it printed more than is kept\n"
"""The end of `Result.stderr` where a command was stopped at that limit."""


@dataclass(frozen=True, slots=True)
class Result:
    """One command on one node.

    Attributes
    ----------
    outcome : "done", "timeout" or "unreachable"
        Whether it ended by itself, was stopped (after its time or at `OUTPUT_LIMIT_BYTES`), or never reached the node.
    code : int or None
        Its exit code where it ended by itself; negative where a signal ended it.
    stdout, stderr : str
    duration_s : float
    """

    outcome: Literal["done", "timeout", "unreachable"]
    code: int | None
    stdout: str
    stderr: str
    duration_s: float


class Cluster(Protocol):
    """Nodes with a CNI installed, that can be asked.

    Attributes
    ----------
    provider : str
    scenario : Scenario
        With the cluster's own nodes in it.
    nodes : tuple of Node
    pods : tuple of Pod
    fabric : tuple of str
        Routers between the nodes that can be asked too: none but in the lab.
    facts : dict
        What a reader of the recording must know: how commands reached the nodes, what stands in for what.
    node_log : str
        The shell line that prints the CNI daemon's log on a node.
    asks : tuple of Command
        What else can be asked here about each node, beside the catalogue: what an API server knows of it.
    """

    @property
    def provider(self) -> str: ...

    @property
    def node_log(self) -> str: ...

    @property
    def asks(self) -> tuple[Command, ...]: ...

    @property
    def scenario(self) -> Scenario: ...

    @property
    def nodes(self) -> tuple[Node, ...]: ...

    @property
    def pods(self) -> tuple[Pod, ...]: ...

    @property
    def fabric(self) -> tuple[str, ...]: ...

    @property
    def facts(self) -> dict[str, Any]: ...

    def run(self, where: str, line: str, timeout_s: float) -> Result:
        """Run a shell line as root on a node (or router), whatever comes of it. Any number of threads may call it."""

    def inside(self, pod: Pod) -> str:
        """What to put before a command, in a shell line on the pod's node, to run it in the pod's network namespace."""

    def close(self) -> None: ...
