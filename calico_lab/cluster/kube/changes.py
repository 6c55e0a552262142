"""What is changed on a cluster, written down before it is done, and undone on request.

A change stands in the journal with what was there before it, before the API server hears of it; so a crash, a lost
connection or Ctrl-C loses nothing. `restore` goes back from the last change to the first and writes down each one that
is undone: it may be interrupted and run again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ...errors import InputError
from ...recording import now
from .api import MANAGER, Api, Ref
from .journal import append, pending, read

__all__ = ["Changes", "restore"]

Object = dict[str, Any]

_OF_THE_SERVER = ("managedFields", "resourceVersion", "uid", "creationTimestamp", "generation", "selfLink")
"""What the server sets in metadata: not to be sent back."""

_CNI_PREFIXES = ("projectcalico.org/", "flannel.alpha.coreos.com/")


class Changes:
    """The changes that this tool makes, through an API server, with their journal.

    Parameters
    ----------
    api : Api
    journal : Path
        An older one of the same cluster is continued: what was there before the first change is what counts.
    """

    def __init__(self, api: Api, journal: Path) -> None:
        self._api, self._journal = api, journal
        entries = read(journal) if journal.exists() else []
        _require_same_cluster(api, journal, entries, todo=f"undo it first: make restore JOURNAL={journal}")
        self._last = max((entry["change"] for entry in entries if "change" in entry), default=0)

    def apply(self, thing: Mapping[str, Any], *, force: bool = False) -> Object:
        """Server-side apply of an object; see `Api.apply`."""
        ref = Ref.of(thing)
        before = _plain(self._api.get(ref))
        self._note({"do": "apply", **_named(ref), "before": before})
        made = self._api.apply(thing, force=force)
        if before is None:
            self._append({"change": self._last, "made": made["metadata"]["uid"]})
        return made

    def merge(self, ref: Ref, patch: Mapping[str, Any]) -> None:
        """Change some fields of an object that is there; see `Api.merge`."""
        self._note({"do": "apply", **_named(ref), "before": _plain(self._api.get(ref))})
        self._api.merge(ref, patch)

    def annotate(self, node: str, values: Mapping[str, str]) -> None:
        """Set annotations of a node, where they are not so already.

        The CNI will write more of them by itself; so what was there of its kind is noted even if nothing is set here.
        """
        ref = Ref("v1", "Node", node)
        found = self._api.get(ref)
        if found is None:
            raise InputError("no such node", where=node, todo="see: kubectl get nodes")
        before = _of_the_cni(found)
        self._note({"do": "annotate", **_named(ref), "before": before})
        if any(before.get(key) != value for key, value in values.items()):
            self._api.merge(ref, {"metadata": {"annotations": dict(values)}})

    def _note(self, entry: Object) -> None:
        self._last += 1
        self._append({"change": self._last, **entry})

    def _append(self, entry: Object) -> None:
        append(self._journal, {"server": self._api.host, "time": now(), **entry})


def restore(api: Api, journal: Path, progress: Callable[[str], None] = lambda line: None) -> list[str]:
    """Undo what the journal says, the last change first; returns a line for each that could not be.

    What was there before is put back as it was; what was not there is deleted, unless somebody else has made it since.

    Parameters
    ----------
    api : Api
    journal : Path
    progress : callable, optional
        Called with a line for each change.

    Raises
    ------
    InputError
        If there is no journal, or it is of another cluster.
    RecordingError
        If the journal is damaged before its last line.
    ClusterError
        If the API server refuses; what was undone until then is, and the next call goes on from there.
    """
    entries = read(journal)
    _require_same_cluster(api, journal, entries, todo="name that cluster's kubeconfig")
    made = {entry["change"]: entry["made"] for entry in entries if "made" in entry}
    left = []
    for entry in reversed(pending(entries)):
        line, done = _undo(api, entry, made.get(entry["change"]))
        progress(line)
        if not done:
            left.append(line)
        append(journal, {"server": api.host, "time": now(), "undone": entry["change"]})
    return left


def _require_same_cluster(api: Api, journal: Path, entries: Sequence[Object], *, todo: str) -> None:
    others = sorted({entry["server"] for entry in entries} - {api.host})
    if others:
        raise InputError("the journal is of another cluster", where=str(journal), seen=", ".join(others), todo=todo)


def _undo(api: Api, entry: Object, made: str | None) -> tuple[str, bool]:
    """Undo one change, `made` being the uid of the object that it made: what was done, and whether it was."""
    ref = Ref(entry["api_version"], entry["kind"], entry["name"], entry["namespace"])
    found = api.get(ref) if api.serves(ref.api_version, ref.kind) else None
    before = entry["before"]
    if entry["do"] == "annotate":
        if found is None:
            return f"{ref}: gone", True
        have = _of_the_cni(found)
        changes = {key: before.get(key) for key in have.keys() | before.keys() if have.get(key) != before.get(key)}
        if changes:
            api.merge(ref, {"metadata": {"annotations": changes}})
        return f"{ref}: annotations as before", True
    if before is not None:
        if found is None:
            api.create(before)
        elif _plain(found) != before:
            api.replace(before)
        return f"{ref}: as before", True
    if found is None:
        return f"{ref}: gone", True
    # A crash may have come between an object and its uid in the journal; whom it belongs to then says the server.
    about = found["metadata"]
    managers = [each.get("manager") for each in about.get("managedFields") or []]
    if about["uid"] != made if made else MANAGER not in managers:
        return f"{ref}: was made by others since, and is left", False
    api.delete(ref)
    return f"{ref}: deleted", True


def _of_the_cni(node: Object) -> dict[str, str]:
    """A node's annotations that Calico and flannel read and write."""
    have = node["metadata"].get("annotations") or {}
    return {key: value for key, value in have.items() if key.startswith(_CNI_PREFIXES)}


def _named(ref: Ref) -> Object:
    return {"api_version": ref.api_version, "kind": ref.kind, "namespace": ref.namespace, "name": ref.name}


def _plain(thing: Object | None) -> Object | None:
    """An object without what only the server may say."""
    if thing is None:
        return None
    about = {key: value for key, value in thing["metadata"].items() if key not in _OF_THE_SERVER}
    return {key: value for key, value in thing.items() if key != "status"} | {"metadata": about}
