"""Recordings made of what somebody else captured: a folder with a folder of outputs a node, or calicoctl's bundle."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from . import __version__
from .bundles import Output, decoded, read
from .capture import about_node
from .commands import BIRD, COUNTERS, HEARD, STATE
from .errors import InputError
from .recording import Recording, Writer
from .scenario import Scenario

__all__ = ["KINDS", "from_folder", "import_outputs"]

_BACKENDS = ("iptables-nft-save", "iptables-legacy-save")

KINDS = {
    **{each.name: each.kind for each in (*STATE, *BIRD, *COUNTERS, HEARD)},
    **{f"{each.name}-before": each.kind for each in COUNTERS},
    **dict.fromkeys(_BACKENDS, "iptables_save"),
    "node-log": "node_log",
}
"""Names that a file may have, without its ``.txt``, and the parser of each."""

_ALSO = {
    "ip-d-link": "ip-link",
    "ip-link-show": "ip-link",
    "ip-d-link-show": "ip-link",
    "ip-d-s-link": "ip-link-stats",
    "ip-d-s-link-show": "ip-link-stats",
    "ip-a": "ip-addr",
    "ip-address": "ip-addr",
    "ip-addr-show": "ip-addr",
    "ip-neigh-show": "ip-neigh",
    "ip-route-show": "ip-route",
    "ip-route-show-table-all": "ip-route",
    "ip-rule-show": "ip-rule",
    "bridge-fdb-show": "bridge-fdb",
    "ipset": "ipset-list",
    "iptables-save-c": "iptables-save",
    "iptables-nft-save-c": "iptables-nft-save",
    "iptables-legacy-save-c": "iptables-legacy-save",
    "sysctl-a": "sysctl",
    "uname-a": "uname",
    "calico-node": "node-log",
}
"""What people call the files too: the command itself, with anything between its words."""

_LINES = {each.name: each.line for each in (*STATE, *BIRD, *COUNTERS)}


def import_outputs(scenario: Scenario, source: Path, folder: Path) -> Recording:
    """Make a recording of a bundle (`bundles`), packed or not, or of a plain folder (`from_folder`).

    A bundle's files that nobody reads, and those of nodes that the scenario does not have, are named in the manifest
    (``facts.ignored``).

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
        If it is neither, is damaged or unsafe, or has no node of the scenario; nothing is written then.
    """
    bundle = read(source)
    if bundle is None:
        return from_folder(scenario, source, folder)
    nodes = {node.name for node in scenario.nodes}
    have = {output.node for output in bundle.outputs}
    if not have & nodes:
        raise InputError(
            "no node of the scenario is in the bundle",
            where=str(source),
            seen=", ".join(sorted(have)),
            todo=f"name a scenario with these nodes; {scenario.name} has {', '.join(sorted(nodes))}",
        )
    outputs = [output for output in bundle.outputs if output.node in nodes]
    ignored = sorted({*bundle.ignored, *(output.path for output in bundle.outputs if output.node not in nodes)})
    facts = {"imported": source.name, "bundle": bundle.command, "ignored": ignored}
    return _write(scenario, outputs, facts, folder)


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
    if (source / "manifest.json").is_file():
        raise InputError(
            "this is a recording already",
            where=str(source),
            todo=f"make report RECORDING={source}, or FROM={source}/captures",
        )
    if not {path.parent.name for path in files} & nodes:
        raise InputError(
            "no folder of a node with outputs in it",
            where=str(source),
            seen=", ".join(sorted({path.parent.name for path in files})) or "nothing",
            todo=f"FROM={source.parent}"
            if source.name in nodes
            else f"name folders after the scenario's nodes: {', '.join(sorted(nodes))}",
        )
    strange = [path for path in files if path.parent.name not in nodes or _command(path) is None]
    if strange:
        raise InputError(
            "files that belong to no node or no known command",
            where=str(source),
            seen=", ".join(str(path.relative_to(source)) for path in strange),
            todo=f"remove or rename them; a node's files are: {', '.join(f'{name}.txt' for name in sorted(KINDS))}",
        )
    outputs: dict[tuple[str, str], Output] = {}
    for path in files:
        command = str(_command(path))
        twin = outputs.get((path.parent.name, command))
        if twin is not None:
            raise InputError(
                f"two files of one command, {command}",
                where=f"{source}/{path.parent.name}",
                seen=f"{Path(twin.path).name}, {path.name}",
                todo="remove one of them",
            )
        line = _LINES.get(command.removesuffix("-before"), command)
        text = decoded(path.read_bytes(), str(path))
        outputs[path.parent.name, command] = Output(path.parent.name, command, line, text, str(path))
    return _write(scenario, outputs.values(), {"imported": source.name}, folder)


def _command(path: Path) -> str | None:
    """The capture that a file is, by its name, or None."""
    if path.suffix not in (".txt", ".log", ".out"):
        return None
    name = re.sub(r"[^a-z0-9]+", "-", path.stem.lower()).strip("-")
    name = _ALSO.get(name, name)
    return name if name in KINDS else None


def _write(scenario: Scenario, outputs: Iterable[Output], facts: Mapping[str, Any], folder: Path) -> Recording:
    about = {
        "tool": f"calico_lab {__version__}",
        "provider": "import",
        "facts": dict(facts),
        "nodes": [about_node(node, scenario) for node in scenario.nodes],
        "pods": [],  # the scenario's are probes of ours, which were not there
        "fabric": [],
    }
    with Writer(folder, scenario, **about) as writer:
        for output in _with_one_backend(list(outputs)):
            writer.add(
                node=output.node,
                command=output.command,
                kind=KINDS[output.command],
                line=output.line,
                stdout=output.text,
                stderr=output.stderr,
                outcome=output.outcome,
                exit_code=output.exit_code,
                started="",
                duration_s=0.0,
            )
    return Recording(folder)


def _with_one_backend(outputs: list[Output]) -> Iterator[Output]:
    """Where a node has the rules of both iptables backends, the one with Calico's chains is its ``iptables-save``.

    Felix uses one of them; the other one's rules stay beside it, for the check ``iptables-backend``.
    """
    for output in outputs:
        mine = [each for each in outputs if each.node == output.node]
        backends = [
            each for each in mine if each.command in _BACKENDS and each.outcome == "done" and each.exit_code == 0
        ]
        backends.sort(key=lambda each: _BACKENDS.index(each.command))
        chosen = max(backends, key=_rules_of_calico, default=None)
        if output is chosen and not any(each.command == "iptables-save" for each in mine):
            yield replace(output, command="iptables-save")
        else:
            yield output


def _rules_of_calico(output: Output) -> tuple[int, int]:
    lines = output.text.splitlines()
    return sum(line.startswith(":cali-") for line in lines), sum(" -A " in f" {line}" for line in lines)
