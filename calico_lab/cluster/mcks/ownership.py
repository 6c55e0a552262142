"""What this tool made on an MCKS: written down before it is asked for, and all that it may ever delete.

::

    outputs/clusters/<cluster>/made.json      this record
    outputs/clusters/<cluster>/kubeconfig     for its owner's eyes only, as are the keys
    outputs/clusters/<cluster>/<node>.pem

MCKS has no owners and no ids: a name can be freed and taken again by somebody else. So a cluster carries a mark in its
description, which MCKS gives back, and the record holds the same mark beside where and when the cluster was made.
"""

from __future__ import annotations

import json
import re
import secrets
import shutil
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from ...errors import ClusterError
from ...recording import write_atomically
from ...scenario import PARAMS

__all__ = ["CLUSTERS", "Made", "Records", "new_mark"]

CLUSTERS = PARAMS.parent / "outputs" / "clusters"

_FORMAT = 1
_FILE = "made.json"
_FILE_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?")


@dataclass(frozen=True, slots=True)
class Made:
    """What was made under a cluster's name.

    Attributes
    ----------
    name, namespace, endpoint : str
        The cluster's; the endpoint is the scheme, host and port of its MCKS.
    mark : str or None
        Stands in the cluster's description; None where the tool only added nodes to somebody else's cluster.
    count : int
        How many nodes were asked for: more than names are known where the tool was stopped before they showed.
    created_time : str or None
        When MCKS says that it was complete; None before that is known.
    nodes : tuple of str
        Names of the nodes that the tool made, as far as they are known.
    """

    name: str
    namespace: str
    endpoint: str
    mark: str | None
    count: int = 0
    created_time: str | None = None
    nodes: tuple[str, ...] = ()

    def differences(
        self, *, name: str, namespace: str, endpoint: str, description: str, created_time: str | None
    ) -> list[str]:
        """Why what an MCKS shows is not what was made; empty where it is."""
        where = {"name": name, "namespace": namespace, "endpoint": endpoint}
        found = [f"{key} {seen}, not {getattr(self, key)}" for key, seen in where.items() if seen != getattr(self, key)]
        if self.mark is not None and self.mark not in description:
            found.append("a description without this tool's mark")
        if self.created_time is not None and self.created_time != created_time:
            found.append(f"createdTime {created_time or 'none'}, not {self.created_time}")
        return found


class Records:
    """The records below a folder, one a cluster's name; below `CLUSTERS` where none is given."""

    def __init__(self, folder: Path | None = None) -> None:
        self._folder = folder or CLUSTERS

    def folder(self, name: str) -> Path:
        """A cluster's folder, for its owner's eyes only."""
        folder = self._folder / _file_name(name)
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o700)
        return folder

    def write_secret(self, name: str, file: str, text: str) -> Path:
        """A file beside a cluster's record that only its owner can read."""
        path = self.folder(name) / _file_name(file)
        write_atomically(path, text.encode(), 0o600)
        return path

    def read(self, name: str) -> Made | None:
        """What was made under that name.

        Raises
        ------
        ClusterError
            If there is a record that cannot be read: nothing is deleted by half a record.
        """
        path = self._folder / _file_name(name) / _FILE
        try:
            read: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
            if read.pop("format") != _FORMAT:
                raise ValueError("another format")
            return Made(**read | {"nodes": tuple(read["nodes"])})
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError, AttributeError):
            raise ClusterError("the record of what was made cannot be read", where=str(path)) from None

    def write(self, made: Made) -> None:
        text = json.dumps({"format": _FORMAT, **asdict(made)}, ensure_ascii=False, indent=1) + "\n"
        write_atomically(self.folder(made.name) / _FILE, text.encode())

    def forget(self, name: str) -> None:
        """Remove the record with its cluster's keys and kubeconfig: they open nothing any more."""
        if (folder := self._folder / _file_name(name)).exists():
            shutil.rmtree(folder)

    def without(self, made: Made, node: str) -> None:
        """Take a node that is gone, and its key, out of the record."""
        self.write(replace(made, count=made.count - 1, nodes=tuple(each for each in made.nodes if each != node)))
        (self._folder / _file_name(made.name) / f"{_file_name(node)}.pem").unlink(missing_ok=True)


def new_mark() -> str:
    """A mark that no other cluster has."""
    return f"[calico_lab {secrets.token_hex(8)}]"


def _file_name(name: str) -> str:
    """A name as MCKS and Kubernetes allow it, which is then also one for a file."""
    if not _FILE_NAME.fullmatch(name):
        raise ClusterError("not a name of a cluster or a node", seen=name)
    return name
