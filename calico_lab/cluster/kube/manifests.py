"""The manifests that install Calico and canal: where they come from, and what an install mode changes in them.

`fetch` reads a file or downloads the official one; all else here turns objects into objects. What a mode changes has
to be there to be changed: a manifest of another layout is an error, and never installed unchanged.
"""

from __future__ import annotations

import copy
import hashlib
import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import urllib3
import yaml

from ...calico import environment, mode, tunnel
from ...errors import HostError, InputError
from ...recording import write_atomically
from ...scenario import Cni

__all__ = ["Manifest", "address", "download", "fetch", "for_mode", "parse"]

Object = dict[str, Any]

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
"""The schemas of Calico's CRDs take libyaml a second, and Python ten."""
_TIMEOUT_S = 30.0
_LIMIT_BYTES = 8 * 2**20
_ON_GITHUB = (3, 24)
"""From this version on a release's manifests are in its tag; the docs keep one set for each minor version before it."""

_CONFIG = {"calico": "calico-config", "canal": "canal-config"}
_BIRD_FLAGS = ("-bird-live", "-bird-ready")


def address(cni: Cni) -> str:
    """Where the official manifest of that version is."""
    name = f"{cni.plugin}.yaml"
    major, minor, _ = (int(part) for part in cni.version.split("."))
    if (major, minor) < _ON_GITHUB:
        return f"https://projectcalico.docs.tigera.io/archive/v{major}.{minor}/manifests/{name}"
    return f"https://raw.githubusercontent.com/projectcalico/calico/v{cni.version}/manifests/{name}"


@dataclass(frozen=True, slots=True)
class Manifest:
    """A manifest as it was released: its text, where it comes from, and the sha256 of it."""

    text: str
    source: str
    sha256: str


def fetch(cni: Cni, given: str | None = None) -> Manifest:
    """The manifest that installs a plugin.

    Parameters
    ----------
    cni : Cni
    given : str, optional
        A file to take instead; otherwise the official one, which is downloaded once and kept in the user's cache.

    Raises
    ------
    InputError
        If the given file cannot be read.
    HostError
        If the official one cannot be downloaded.
    """
    if given is not None:
        try:
            data = Path(given).expanduser().read_bytes()
        except OSError as problem:
            raise InputError(
                "the manifest cannot be read", where="kubernetes.manifest", seen=str(problem), todo="name another file"
            ) from None
        return _manifest(data, given)
    source = address(cni)
    kept = _cache() / f"v{cni.version}" / f"{cni.plugin}.yaml"
    if not kept.is_file():
        try:
            data = download(source)
        except (urllib3.exceptions.HTTPError, OSError) as problem:
            raise HostError(
                "the manifest cannot be downloaded",
                where=source,
                seen=str(problem),
                todo=f'bring the file here and run again with SET="kubernetes.manifest={kept.name}"',
            ) from None
        parse(data.decode(errors="replace"), source)  # what is no manifest is not kept
        write_atomically(kept, data)
    return _manifest(kept.read_bytes(), source)


def _manifest(data: bytes, source: str) -> Manifest:
    return Manifest(data.decode(errors="replace"), source, hashlib.sha256(data).hexdigest())


def _cache() -> Path:
    """The user's cache, as the XDG Base Directory Specification has it."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "calico_lab" / "manifests"


def download(source: str) -> bytes:
    """What is at an address, if it answers within 30 s and is no larger than a manifest may be."""
    response = urllib3.request("GET", source, timeout=_TIMEOUT_S, retries=False, preload_content=False)
    try:
        if response.status != 200:
            raise OSError(f"HTTP {response.status}")
        data = response.read(_LIMIT_BYTES + 1)
    finally:
        response.close()
    if len(data) > _LIMIT_BYTES:
        raise OSError(f"more than {_LIMIT_BYTES} bytes")
    return data


def parse(text: str, where: str) -> list[Object]:
    """The objects of a manifest, in its order.

    Raises
    ------
    InputError
        If it is no YAML, or something in it is no object.
    """
    try:
        found = [each for each in yaml.load_all(text, Loader=_LOADER) if each is not None]
    except yaml.YAMLError as problem:
        raise InputError("not a YAML file", where=where, seen=str(problem), todo="take the manifest again") from None
    for each in found:
        if not (isinstance(each, dict) and {"apiVersion", "kind", "metadata"} <= each.keys()):
            raise InputError(
                "not a manifest of Kubernetes objects", where=where, seen=str(each)[:80], todo="take the manifest again"
            )
    if not found:
        raise InputError("an empty manifest", where=where, todo="take the manifest again")
    return found


def for_mode(objects: list[Object], cni: Cni, where: str) -> list[Object]:
    """The same objects, set for an install mode.

    The environment of `calico.environment`, the backend and the MTU in the ConfigMap, the probes that ask BIRD where
    there is one, flannel's network, and the images of the very version: the docs keep only the last patch release.

    Parameters
    ----------
    objects : list of dict
        As `parse` gives them.
    cni : Cni
    where : str
        The manifest's name, for errors.

    Raises
    ------
    InputError
        If something that the mode sets is not where the official manifests have it.
    """
    changed = copy.deepcopy(objects)
    daemon = _one(changed, "DaemonSet", tunnel(cni).workload, where)
    template = daemon["spec"]["template"]["spec"]
    node = next((each for each in template["containers"] if each["name"] == "calico-node"), None)
    if node is None:
        raise _other_layout(where, f"DaemonSet {tunnel(cni).workload} has no container calico-node")
    config = _one(changed, "ConfigMap", _CONFIG[cni.plugin], where)["data"]
    if mode(cni) == "canal":
        network = json.loads(_held(config, "net-conf.json", where))
        config["net-conf.json"] = json.dumps(network | {"Network": str(cni.ip_pool)})
    else:
        _held(config, "calico_backend", where)
        config["calico_backend"] = cni.backend
        _set_probes(node, cni.backend, where)
    _set_environment(node, cni, where)
    if cni.veth_mtu is not None:
        _held(config, "veth_mtu", where)
        config["veth_mtu"] = str(cni.veth_mtu)
    for container in _containers(changed):
        container["image"] = _of_version(container["image"], cni.version, where)
    return changed


_FROM_CONFIG = "CALICO_NETWORKING_BACKEND"
"""calico.yaml takes it from the ConfigMap; canal.yaml gives it."""
_ADDED = frozenset({"CALICO_IPV4POOL_CIDR", "CALICO_IPV4POOL_BLOCK_SIZE"})
"""The manifests have these commented out or not at all."""


def _set_environment(node: Object, cni: Cni, where: str) -> None:
    given = {each["name"]: each for each in node["env"]}
    for name, value in environment(cni).items():
        if name not in given and name not in _ADDED:
            raise _other_layout(where, f"container calico-node has no environment variable {name}")
        if name == _FROM_CONFIG and mode(cni) != "canal":
            if given[name].get("valueFrom", {}).get("configMapKeyRef", {}).get("key") != "calico_backend":
                raise _other_layout(where, f"{name} is not taken from the ConfigMap's calico_backend")
        elif name in given:
            given[name].pop("valueFrom", None)
            given[name]["value"] = value
        else:
            node["env"].append({"name": name, "value": value})


def _set_probes(node: Object, backend: str, where: str) -> None:
    """Without BIRD a probe that asks it never succeeds, and liveness restarts the pod (node/pkg/health/health.go)."""
    for probe, flag in zip(("livenessProbe", "readinessProbe"), _BIRD_FLAGS, strict=True):
        command = node.get(probe, {}).get("exec", {}).get("command")
        if command is None:
            raise _other_layout(where, f"container calico-node has no {probe} with a command")
        if backend == "bird" and flag not in command:
            raise _other_layout(where, f"{probe} does not ask BIRD ({flag}), as calico.yaml does")
        if backend != "bird":
            node[probe]["exec"]["command"] = [word for word in command if word != flag]


def _containers(objects: list[Object]) -> Iterator[Object]:
    for each in objects:
        if each["kind"] in ("DaemonSet", "Deployment"):
            template = each["spec"]["template"]["spec"]
            yield from (*template.get("initContainers", []), *template["containers"])


_IMAGE = re.compile(r"(?P<name>.*calico/[a-z0-9-]+):v(?P<version>[0-9]+\.[0-9]+\.[0-9]+)")


def _of_version(image: str, version: str, where: str) -> str:
    """Calico's images carry its version; flannel's are left alone."""
    if "calico/" not in image:
        return image
    match = _IMAGE.fullmatch(image)
    if not match:
        raise _other_layout(where, f"image {image} is of no released version")
    minor = version.rpartition(".")[0]
    if match["version"].rpartition(".")[0] != minor:
        raise InputError(
            f"a manifest of Calico {match['version']}",
            where=where,
            seen=f"cni.version is {version}",
            todo=f"take the manifest of {minor}, or set cni.version",
        )
    return f"{match['name']}:v{version}"


def _one(objects: list[Object], kind: str, name: str, where: str) -> Object:
    found = [each for each in objects if (each["kind"], each["metadata"]["name"]) == (kind, name)]
    if len(found) != 1:
        have = ", ".join(each["metadata"]["name"] for each in objects if each["kind"] == kind) or "none"
        raise _other_layout(where, f"no {kind} {name} but {have}")
    return found[0]


def _held(data: dict[str, str], key: str, where: str) -> str:
    if key not in data:
        raise _other_layout(where, f"the ConfigMap has no {key}")
    return data[key]


def _other_layout(where: str, seen: str) -> InputError:
    todo = "take calico.yaml or canal.yaml of the version as it was released"
    return InputError("not laid out as the official manifest is", where=where, seen=seen, todo=todo)
