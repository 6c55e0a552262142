"""Recordings made of what somebody else captured: a folder of command outputs, a folder a node."""

from __future__ import annotations

from pathlib import Path

from . import __version__
from .capture import about_node, about_pod
from .commands import BIRD, COUNTERS, HEARD, STATE
from .errors import InputError
from .recording import Recording, Writer
from .scenario import Scenario

__all__ = ["KINDS", "from_folder"]

KINDS = {
    **{each.name: each.kind for each in (*STATE, *BIRD, *COUNTERS, HEARD)},
    **{f"{each.name}-before": each.kind for each in COUNTERS},
    "node-log": "node_log",
}
"""Names that a file may have, without its ``.txt``, and the parser of each."""

_LINES = {each.name: each.line for each in (*STATE, *BIRD, *COUNTERS)}


def from_folder(scenario: Scenario, source: Path, folder: Path) -> Recording:
    """Make a recording of ``<source>/<node>/<command>.txt``.

    What is not there is not in the recording: rules that need it skip, and name it. When the commands ran and how they
    ended is not known; that they ended well is taken for granted, and the recording says that it was imported.

    Parameters
    ----------
    scenario : Scenario
        Whose nodes these are.
    source : Path
    folder : Path
        Where the recording goes; an older one there stays until this one is complete.

    Raises
    ------
    InputError
        If the folder has no node of the scenario, or a file that is no known command's; nothing is written then.
    """
    nodes = {node.name for node in scenario.nodes}
    files = sorted(path for path in source.glob("*/*") if path.is_file()) if source.is_dir() else []
    if not {path.parent.name for path in files} & nodes:
        raise InputError(
            "no folder of a node with outputs in it",
            where=str(source),
            seen=", ".join(sorted({path.parent.name for path in files})) or "nothing",
            todo=f"name folders after the scenario's nodes: {', '.join(sorted(nodes))}",
        )
    strange = [
        path for path in files if path.parent.name not in nodes or path.suffix != ".txt" or path.stem not in KINDS
    ]
    if strange:
        raise InputError(
            "files that belong to no node or no known command",
            where=str(source),
            seen=", ".join(str(path.relative_to(source)) for path in strange),
            todo=f"remove or rename them; a node's files are: {', '.join(f'{name}.txt' for name in sorted(KINDS))}",
        )
    about = {
        "tool": f"calico_lab {__version__}",
        "provider": "import",
        "facts": {"imported": source.name},
        "nodes": [about_node(node, scenario) for node in scenario.nodes],
        "pods": [about_pod(pod) for node in scenario.nodes for pod in node.pods],
        "fabric": [],
    }
    with Writer(folder, scenario, **about) as writer:
        for path in files:
            writer.add(
                node=path.parent.name,
                command=path.stem,
                kind=KINDS[path.stem],
                line=_LINES.get(path.stem.removesuffix("-before"), path.stem),
                stdout=path.read_text(encoding="utf-8"),
                stderr="",
                outcome="done",
                exit_code=0,
                started="",
                duration_s=0.0,
            )
    return Recording(folder)
