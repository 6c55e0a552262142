"""A cluster's kubeconfig: under names of its own, in a file of its own, or merged into a person's.

The names are cbctl's (itnpeople/cbctl, cmd/update-kubeconfig): context ``<name>``, cluster ``<name>-cluster``, user
``<name>-user``. What kubeadm writes is called ``kubernetes`` in every cluster, so two could not stand side by side.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import yaml

from ...errors import ClusterError, InputError
from ...recording import write_atomically

__all__ = ["merge", "merge_target", "renamed"]

_MINE = 0o600
_PROGRAMS = {"exec", "auth-provider"}
_LISTS = {"clusters": "cluster", "users": "user", "contexts": "context"}


def renamed(text: str, name: str) -> str:
    """The current context of a kubeconfig, alone and under cbctl's names.

    Raises
    ------
    ClusterError
        If it is no kubeconfig, its current context is not whole, or it would have kubectl run a program: MCKS's never
        does, and its answers come over plain HTTP. The message quotes none of it.
    """
    try:
        read = yaml.safe_load(text)
        context = _entry(read, "contexts", read["current-context"])
        cluster, user = _entry(read, "clusters", context["cluster"]), _entry(read, "users", context["user"])
    except (yaml.YAMLError, LookupError, TypeError):
        raise ClusterError(
            "what MCKS holds as kubeconfig is none", where=f"cluster {name}", todo="look at the cluster's phase"
        ) from None
    if user.keys() & _PROGRAMS:
        raise ClusterError("the kubeconfig that MCKS holds runs a program, so it is not used", where=f"cluster {name}")
    own = {
        "clusters": {"name": f"{name}-cluster", "cluster": cluster},
        "users": {"name": f"{name}-user", "user": user},
        "contexts": {
            "name": name,
            "context": {**context, "cluster": f"{name}-cluster", "user": f"{name}-user"},
        },
    }
    return _text({key: [entry] for key, entry in own.items()} | {"current-context": name})


def merge_target(environment: Mapping[str, str] = os.environ, home: Path | None = None) -> Path:
    """The file that kubectl would write: of those in ``KUBECONFIG`` the first there, else the first; or its own."""
    listed = [Path(each) for each in environment.get("KUBECONFIG", "").split(os.pathsep) if each]
    default = (home or Path.home()) / ".kube" / "config"
    return next((path for path in listed if path.exists()), listed[0] if listed else default)


def merge(own: str, target: Path) -> Path | None:
    """Put a kubeconfig's entries into a person's file and make its context current; nothing else there changes.

    Parameters
    ----------
    own : str
        From `renamed`. Entries of the same names are replaced.
    target : Path
        May be missing. Where it is a link, what it leads to is written.

    Returns
    -------
    Path or None
        A copy of the file as it was before, beside it; None where there was none.

    Raises
    ------
    InputError
        If the file is no kubeconfig; it stays as it is.
    """
    target = target.resolve()
    backup = None
    before: dict[str, Any] = {}
    if target.exists():
        data = target.read_bytes()
        before = _kubeconfig(data, target)
        backup = target.with_name(f"{target.name}.{datetime.now(UTC):%Y%m%dT%H%M%S%f}.bak")
        write_atomically(backup, data, _MINE)
    added = yaml.safe_load(own)
    lists = {key: _replaced(before.get(key) or [], added[key]) for key in _LISTS}
    write_atomically(target, _text(before | lists | {"current-context": added["current-context"]}).encode(), _MINE)
    return backup


def _kubeconfig(data: bytes, target: Path) -> dict[str, Any]:
    try:
        read: dict[str, Any] = yaml.safe_load(data.decode()) or {}
        for key in _LISTS:
            _replaced(read.get(key) or [], [])
    except (UnicodeDecodeError, yaml.YAMLError, AttributeError, KeyError, TypeError):
        raise InputError("not a kubeconfig", where=str(target), todo="mend it, or leave out --merge") from None
    return read


def _entry(read: Any, key: str, name: str) -> dict[str, Any]:
    found = {entry["name"]: entry[_LISTS[key]] for entry in read[key]}
    return dict(found[name])


def _replaced(entries: list[dict[str, Any]], added: list[dict[str, Any]]) -> list[dict[str, Any]]:
    names = {entry["name"] for entry in added}
    return [*(entry for entry in entries if entry["name"] not in names), *added]


def _text(read: Mapping[str, Any]) -> str:
    return yaml.safe_dump({"apiVersion": "v1", "kind": "Config", **read}, sort_keys=False, allow_unicode=True)
