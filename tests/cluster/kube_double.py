"""A stand-in for a cluster: an HTTPS server that speaks the API of Kubernetes, with controllers that tests can steer.

It keeps objects in memory and does to them what an API server does, as far as this project asks for it: discovery,
resource versions, list and watch with bookmarks and 410, merge patches, server-side apply with managed fields and
conflicts, dry runs, deletion with what depends on the deleted, logs, and commands over WebSocket. DaemonSets and
Deployments get pods at once, in the state that the test wants them in. `tests/e2e` holds it and a real API server to
one specification.
"""

from __future__ import annotations

import base64
import copy
import datetime
import hashlib
import ipaddress
import json
import ssl
import struct
import subprocess
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import yaml
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

Object = dict[str, Any]
Paths = dict[tuple[str, ...], Any]

KINDS = {
    "v1": {
        "Namespace": ("namespaces", False),
        "Node": ("nodes", False),
        "Pod": ("pods", True),
        "ConfigMap": ("configmaps", True),
        "ServiceAccount": ("serviceaccounts", True),
        "Event": ("events", True),
    },
    "apps/v1": {"DaemonSet": ("daemonsets", True), "Deployment": ("deployments", True)},
    "policy/v1": {"PodDisruptionBudget": ("poddisruptionbudgets", True)},
    "policy/v1beta1": {"PodDisruptionBudget": ("poddisruptionbudgets", True)},
    "rbac.authorization.k8s.io/v1": {
        "ClusterRole": ("clusterroles", False),
        "ClusterRoleBinding": ("clusterrolebindings", False),
    },
    "apiextensions.k8s.io/v1": {"CustomResourceDefinition": ("customresourcedefinitions", False)},
}
"""API version to kinds: plural, and whether they live in namespaces."""

MERGE_KEYS = {
    "containers": ("name",),
    "initContainers": ("name",),
    "volumes": ("name",),
    "env": ("name",),
    "volumeMounts": ("mountPath",),
    "ports": ("containerPort", "protocol"),
}
"""Lists whose items are known by a key (x-kubernetes-list-map-keys of core/v1); all others are one value."""

EPOCH = "2026-01-01T00:00:00Z"


class RefusalError(Exception):
    """An answer of kind Status."""

    def __init__(self, code: int, reason: str, message: str, **details: Any) -> None:
        super().__init__(message)
        self.code = code
        self.body = {
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": message,
            "reason": reason,
            "code": code,
            **({"details": details} if details else {}),
        }


@dataclass
class Fault:
    """What happens to requests instead of an answer."""

    method: str
    path: str
    status: int
    left: int
    headers: dict[str, str] = field(default_factory=dict)
    hang: threading.Event | None = None


Status = Callable[[Object], Object]
"""A pod's status, from the pod."""


def running(pod: Object, *, ready: bool = True, restarts: int = 0) -> Object:
    statuses = [
        {
            "name": container["name"],
            "image": container["image"],
            "imageID": "",
            "ready": ready,
            "restartCount": restarts,
            "state": {"running": {"startedAt": EPOCH}},
        }
        for container in pod["spec"]["containers"]
    ]
    conditions = [{"type": "Ready", "status": str(ready)}, {"type": "PodScheduled", "status": "True"}]
    return {"phase": "Running", "conditions": conditions, "containerStatuses": statuses}


def unready(pod: Object) -> Object:
    """Runs, and its readiness probe fails."""
    return running(pod, ready=False)


def waiting(reason: str, message: str) -> Status:
    """Its containers wait for that reason."""

    def status(pod: Object) -> Object:
        found = running(pod, ready=False)
        for each in found["containerStatuses"]:
            each["state"] = {"waiting": {"reason": reason, "message": message}}
        return found | {"phase": "Pending"}

    return status


def unschedulable(message: str) -> Status:
    def status(pod: Object) -> Object:
        condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}
        return {"phase": "Pending", "conditions": [condition]}

    return status


def here(node: str, command: list[str]) -> tuple[int, bytes, bytes]:
    """Run a command on this machine, as if the node were it; what enters the node's namespaces is left out."""
    if "--" in command:
        command = command[command.index("--") + 1 :]
    done = subprocess.run(command, capture_output=True, stdin=subprocess.DEVNULL)
    return done.returncode if done.returncode >= 0 else 128 - done.returncode, done.stdout, done.stderr


class KubeDouble:
    """The server, on loopback, until `close`.

    Parameters
    ----------
    folder : Path
        Gets its certificates and ``kubeconfig``.
    """

    def __init__(self, folder: Path) -> None:
        self.folder, self.token = folder, "first-token"
        self.objects: dict[tuple[str, str | None, str], Object] = {}
        self.owners: dict[tuple[str, str | None, str], dict[tuple[str, str], Paths]] = {}
        self.kinds = copy.deepcopy(KINDS)
        self.changed = threading.Condition(threading.RLock())
        self.version, self.oldest = 100, 100
        self.history: list[tuple[int, str, str, Object]] = []
        self.faults: list[Fault] = []
        self.denied: set[tuple[str, str]] = set()
        self.states: dict[str, Status] = {}
        self.pod_ips: dict[str, str] = {}
        self.logs: dict[str, str] = {}
        self.execute: Callable[[str, list[str]], tuple[int, bytes, bytes]] = here
        self.subprotocols = ["v5.channel.k8s.io", "v4.channel.k8s.io"]
        self.requests: list[tuple[str, str]] = []
        self.page: bytes | None = None
        self.closing = threading.Event()
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), _handler_of(self))
        self.server.daemon_threads = True
        certify(folder)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(folder / "server.pem", folder / "server.key")
        # The handshake is the connection's own business: one that stalls must not keep the others waiting.
        self.server.socket = context.wrap_socket(self.server.socket, server_side=True, do_handshake_on_connect=False)
        self.url = f"https://127.0.0.1:{self.server.server_address[1]}"
        self.kubeconfig = self.write_kubeconfig("kubeconfig")
        for name in ("default", "kube-system"):
            self.add({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        self.thread.start()

    def close(self) -> None:
        self.closing.set()
        with self.changed:
            self.changed.notify_all()
        for fault in self.faults:
            if fault.hang:
                fault.hang.set()
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()

    # ------------------------------------------------------------------ steering

    def write_kubeconfig(self, name: str, **changes: Any) -> Path:
        """A kubeconfig for this server; `changes` go into its cluster or, with `user`, replace its user."""
        authority = base64.b64encode((self.folder / "ca.pem").read_bytes()).decode()
        user = changes.pop("user", {"token": self.token})
        cluster = {"server": self.url, "certificate-authority-data": authority} | changes
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "double", "cluster": cluster}],
            "users": [{"name": "admin", "user": user}],
            "contexts": [{"name": "double", "context": {"cluster": "double", "user": "admin"}}],
            "current-context": "double",
        }
        path = self.folder / name
        path.write_text(yaml.safe_dump(config))
        return path

    def fail(
        self, method: str, path: str, status: int, *, times: int = 1, headers: dict[str, str] | None = None
    ) -> None:
        """Answer the next requests, whose path begins so, with that status."""
        self.faults.append(Fault(method, path, status, times, headers or {}))

    def hang(self, method: str, path: str) -> None:
        """Never answer requests whose path begins so."""
        self.faults.append(Fault(method, path, 0, 10**6, hang=threading.Event()))

    def forget(self) -> None:
        """Compact: older versions can no longer be watched."""
        with self.changed:
            self.history.clear()
            self.oldest = self.version
            self.changed.notify_all()

    def add_node(self, name: str, internal_ip: str, **about: Any) -> None:
        labels = about.get("labels", {}) | {"kubernetes.io/os": "linux", "kubernetes.io/hostname": name}
        info = dict.fromkeys(("architecture", "bootID", "kubeProxyVersion", "machineID", "operatingSystem"), "")
        info |= {"systemUUID": "", "kernelVersion": "5.3.0-1035-aws", "osImage": "Ubuntu 18.04.5 LTS"}
        info |= {"kubeletVersion": "v1.18.9", "containerRuntimeVersion": "docker://19.3.11"}
        addresses = [{"type": "InternalIP", "address": internal_ip}]
        if "external_ip" in about:
            addresses.append({"type": "ExternalIP", "address": about["external_ip"]})
        self.add(
            {
                "apiVersion": "v1",
                "kind": "Node",
                "metadata": {"name": name, "labels": labels},
                "spec": about.get("spec", {}),
                "status": {
                    "addresses": addresses,
                    "nodeInfo": info,
                    "conditions": [{"type": "Ready", "status": "False", "reason": "KubeletNotReady"}],
                },
            }
        )

    def add(self, thing: Object, manager: str = "kubelet") -> Object:
        """Put an object there, with its status."""
        with self.changed:
            plural, namespaced = self.kinds[thing["apiVersion"]][thing["kind"]]
            namespace = thing["metadata"].get("namespace") if namespaced else None
            return self.write(plural, namespace, None, copy.deepcopy(thing), (manager, "Update"), own=leaves(thing))

    def get(self, plural: str, name: str, namespace: str | None = None) -> Object | None:
        with self.changed:
            return copy.deepcopy(self.objects.get((plural, namespace, name)))

    def settle(self, workload: str, status: Status) -> None:
        """Give the pods of that DaemonSet or Deployment this state, now and later."""
        with self.changed:
            self.states[workload] = status
            for key, thing in list(self.objects.items()):
                if key[0] in ("daemonsets", "deployments") and key[2] == workload:
                    self.control(key[0], thing)

    # ------------------------------------------------------------------ objects

    def write(
        self,
        plural: str,
        namespace: str | None,
        before: Object | None,
        after: Object,
        manager: tuple[str, str],
        *,
        own: Paths,
        dry_run: bool = False,
    ) -> Object:
        """Store an object with its new version, tell those who watch, and let the controllers work."""
        name = after["metadata"]["name"]
        key = (plural, namespace, name)
        owners = copy.deepcopy(self.owners.get(key, {}))
        now_there = leaves(after)
        for other, paths in owners.items():
            if other != manager:
                owners[other] = {path: value for path, value in paths.items() if now_there.get(path, None) == value}
        kept = owners.get(manager, {}) if manager[1] == "Update" else {}
        owners[manager] = {path: now_there[path] for path in {**kept, **own} if path in now_there}
        about = after["metadata"]
        if before is None:
            about |= {"uid": str(uuid.uuid4()), "creationTimestamp": EPOCH, "generation": 1}
            if namespace:
                about["namespace"] = namespace
        else:
            about |= {key: before["metadata"][key] for key in ("uid", "creationTimestamp", "generation")}
            about["generation"] += after.get("spec") != before.get("spec")
        about["managedFields"] = [
            {
                "manager": each,
                "operation": operation,
                "apiVersion": after["apiVersion"],
                "time": EPOCH,
                "fieldsType": "FieldsV1",
                "fieldsV1": fields_v1(paths),
            }
            for (each, operation), paths in owners.items()
            if paths
        ]
        same = before is not None and _without_version(after) == _without_version(before)
        if dry_run or same:
            about["resourceVersion"] = before["metadata"]["resourceVersion"] if before else ""
            return after
        self.owners[key] = owners
        self.store(key, after, "ADDED" if before is None else "MODIFIED")
        if after["kind"] == "CustomResourceDefinition":
            self.define(after)
        if plural in ("daemonsets", "deployments"):
            self.control(plural, after)
            return copy.deepcopy(self.objects[key])
        return copy.deepcopy(after)

    def store(self, key: tuple[str, str | None, str], thing: Object, event: str) -> None:
        self.version += 1
        thing["metadata"]["resourceVersion"] = str(self.version)
        self.objects[key] = thing
        self.history.append((self.version, key[0], event, copy.deepcopy(thing)))
        self.changed.notify_all()

    def remove(self, key: tuple[str, str | None, str]) -> None:
        """Delete an object, and what depends on it."""
        with self.changed:
            thing = self.objects.pop(key)
            self.owners.pop(key, None)
            self.version += 1
            gone = copy.deepcopy(thing)
            gone["metadata"]["resourceVersion"] = str(self.version)
            self.history.append((self.version, key[0], "DELETED", gone))
            self.changed.notify_all()
            uid = thing["metadata"]["uid"]
            for other, each in list(self.objects.items()):
                owned = uid in [owner["uid"] for owner in each["metadata"].get("ownerReferences", [])]
                inside = thing["kind"] == "Namespace" and other[1] == key[2]
                custom = thing["kind"] == "CustomResourceDefinition" and other[0] == thing["spec"]["names"]["plural"]
                if (owned or inside or custom) and other in self.objects:
                    self.remove(other)
            if thing["kind"] == "CustomResourceDefinition":
                self.kinds[f"{thing['spec']['group']}/{thing['spec']['versions'][0]['name']}"].pop(
                    thing["spec"]["names"]["kind"]
                )

    def define(self, crd: Object) -> None:
        spec = crd["spec"]
        version = f"{spec['group']}/{spec['versions'][0]['name']}"
        kind = (spec["names"]["plural"], spec["scope"] == "Namespaced")
        self.kinds.setdefault(version, {})[spec["names"]["kind"]] = kind

    def control(self, plural: str, workload: Object) -> None:
        """What the controllers and kubelets would do for a workload."""
        about, template = workload["metadata"], workload["spec"]["template"]
        selector = template["spec"].get("nodeSelector") or {}
        labelled = {
            key[2]: node["metadata"].get("labels") or {} for key, node in self.objects.items() if key[0] == "nodes"
        }
        nodes = [name for name, labels in labelled.items() if selector.items() <= labels.items()]
        if plural == "daemonsets":
            for key, pod in list(self.objects.items()):
                owners = pod["metadata"].get("ownerReferences") or [{}]
                if (
                    key[0] == "pods"
                    and owners[0].get("uid") == about["uid"]
                    and pod["spec"].get("nodeName") not in nodes
                ):
                    self.remove(key)
        replicas = workload["spec"].get("replicas", 1)
        wanted = nodes if plural == "daemonsets" else (nodes * replicas)[:replicas]
        if plural == "deployments":
            workload["spec"].setdefault("replicas", replicas)
        made = 0
        for number, node in enumerate(wanted):
            name = f"{about['name']}-{hashlib.sha256(f'{node}{number}'.encode()).hexdigest()[:5]}"
            made += self.pod(name, node, workload, template)
        status = {"observedGeneration": about["generation"]}
        if plural == "daemonsets":
            status |= {key: len(wanted) for key in ("desiredNumberScheduled", "currentNumberScheduled")}
            status |= {"updatedNumberScheduled": len(wanted), "numberAvailable": made, "numberReady": made}
            status |= {"numberMisscheduled": 0}
        else:
            status |= {"replicas": replicas, "updatedReplicas": replicas, "availableReplicas": made}
        if workload.get("status") != status:
            key = (plural, about["namespace"], about["name"])
            self.store(key, copy.deepcopy(workload) | {"status": status}, "MODIFIED")

    def pod(self, name: str, node: str, workload: Object, template: Object) -> bool:
        about = workload["metadata"]
        spec = copy.deepcopy(template["spec"]) | {"nodeName": node}
        owner = {"apiVersion": "apps/v1", "kind": workload["kind"], "name": about["name"], "uid": about["uid"]}
        pod: Object = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": name,
                "namespace": about["namespace"],
                "labels": dict(template["metadata"]["labels"]),
                "ownerReferences": [owner | {"controller": True}],
            },
            "spec": spec,
        }
        state = self.states.get(about["name"], running)(pod)
        address = self.objects["nodes", None, node]["status"]["addresses"][0]["address"]
        if state["phase"] == "Running":
            state |= {"hostIP": address, "podIP": address if spec.get("hostNetwork") else self.pod_ips.get(node, "")}
        if state.get("conditions", [{}])[0].get("reason") == "Unschedulable":
            del spec["nodeName"]
            spec["affinity"] = _affinity(node)
        pod["status"] = state
        key = ("pods", about["namespace"], name)
        before = self.objects.get(key)
        if before is None or (before["spec"], before["status"]) != (pod["spec"], pod["status"]):
            uid = before["metadata"]["uid"] if before else str(uuid.uuid4())
            pod["metadata"] |= {"uid": uid, "creationTimestamp": EPOCH, "generation": 1}
            self.store(key, pod, "MODIFIED" if before else "ADDED")
        return bool(state.get("containerStatuses")) and all(each["ready"] for each in state["containerStatuses"])

    # ------------------------------------------------------------------ requests

    def listed(self, plural: str, namespace: str | None, query: dict[str, str]) -> list[Object]:
        return [
            copy.deepcopy(thing)
            for key, thing in self.objects.items()
            if key[0] == plural and namespace in (None, key[1]) and selects(query, thing)
        ]

    def apply(self, plural: str, namespace: str | None, name: str, body: Object, query: dict[str, str]) -> Object:
        """Server-side apply (Kubernetes docs, "Server-Side Apply")."""
        manager = (query.get("fieldManager", ""), "Apply")
        if not manager[0]:
            raise RefusalError(400, "BadRequest", "fieldManager is required for apply patch")
        key = (plural, namespace, name)
        before = self.objects.get(key)
        self.require_namespace(namespace)
        own, owners = leaves(body), self.owners.get(key, {})
        there = leaves(before) if before else {}
        conflicts = [
            (other, path)
            for other, paths in owners.items()
            for path in own
            if other != manager and path in paths and there.get(path) != own[path]
        ]
        if conflicts and query.get("force") != "true":
            causes = [
                {
                    "reason": "FieldManagerConflict",
                    "message": f'conflict with "{other}"' + (f" using {body['apiVersion']}" if how == "Update" else ""),
                    "field": dotted(path),
                }
                for (other, how), path in conflicts
            ]
            message = (
                f"Apply failed with {len(causes)} conflict{'s' if len(causes) > 1 else ''}: {causes[0]['message']}"
            )
            raise RefusalError(409, "Conflict", message, causes=causes)
        after = copy.deepcopy(before) if before else {}
        for path in owners.get(manager, {}):
            if path not in own and not any(path in paths for other, paths in owners.items() if other != manager):
                cut(after, path)
        merge_applied(after, body)
        return self.write(plural, namespace, before, after, manager, own=own, dry_run=query.get("dryRun") == "All")

    def require_namespace(self, namespace: str | None) -> None:
        if namespace and ("namespaces", None, namespace) not in self.objects:
            raise RefusalError(
                404, "NotFound", f'namespaces "{namespace}" not found', name=namespace, kind="namespaces"
            )

    def watch(self, plural: str, namespace: str | None, query: dict[str, str]) -> Iterator[Object]:
        """Events from a version on, until its time is over."""
        seen = int(query.get("resourceVersion", "0") or 0)
        until = time.monotonic() + float(query.get("timeoutSeconds", "60"))
        while True:
            with self.changed:
                if seen < self.oldest:
                    gone = RefusalError(410, "Expired", f"too old resource version: {seen} ({self.oldest})")
                    yield {"type": "ERROR", "object": gone.body}
                    return
                fresh = [each for each in self.history if each[0] > seen]
                if not fresh:
                    left_s = until - time.monotonic()
                    if left_s <= 0 or self.closing.is_set():
                        break
                    self.changed.wait(left_s)
                    continue
            for version, where, event, thing in fresh:
                seen = version
                inside = namespace in (None, thing["metadata"].get("namespace"))
                if where == plural and inside and selects(query, thing):
                    yield {"type": event, "object": thing}
        if query.get("allowWatchBookmarks") == "true":
            kind, version = next(
                (kind, version)
                for version, kinds in self.kinds.items()
                for kind, (name, _) in kinds.items()
                if name == plural
            )
            about = {"resourceVersion": str(self.version), "creationTimestamp": None}
            yield {"type": "BOOKMARK", "object": {"kind": kind, "apiVersion": version, "metadata": about}}


def _affinity(node: str) -> Object:
    field_of = {"key": "metadata.name", "operator": "In", "values": [node]}
    terms = {"nodeSelectorTerms": [{"matchFields": [field_of]}]}
    return {"nodeAffinity": {"requiredDuringSchedulingIgnoredDuringExecution": terms}}


def _without_version(thing: Object) -> Object:
    left_out = ("resourceVersion", "managedFields", "generation")
    about = {key: value for key, value in thing["metadata"].items() if key not in left_out}
    return thing | {"metadata": about}


# ---------------------------------------------------------------------- fields and their owners


_SYSTEM = {("apiVersion",), ("kind",), ("f:metadata", "f:name"), ("f:metadata", "f:namespace")}


def leaves(thing: Object) -> Paths:
    """Every field that may be owned, with its value: as FieldsV1 names them."""
    found: Paths = {}

    def walk(value: Any, path: tuple[str, ...], name: str) -> None:
        if isinstance(value, dict) and value:
            for key, each in value.items():
                walk(each, (*path, f"f:{key}"), key)
        elif isinstance(value, list) and name in MERGE_KEYS and value:
            for each in value:
                item = {key: each[key] for key in MERGE_KEYS[name] if key in each}
                walk(each, (*path, f"k:{json.dumps(item, separators=(',', ':'))}"), "")
        else:
            found[path] = value

    for key, value in thing.items():
        if key not in ("apiVersion", "kind", "status"):
            walk(value, (f"f:{key}",), key)
    server = {("f:metadata", f"f:{key}") for key in ("uid", "creationTimestamp", "generation", "resourceVersion")}
    left_out = {*_SYSTEM, *server}
    return {path: value for path, value in found.items() if path not in left_out and path[:2] != _MANAGED}


_MANAGED = ("f:metadata", "f:managedFields")


def fields_v1(paths: Paths) -> Object:
    tree: Object = {}
    for path in paths:
        here_ = tree
        for word in path:
            here_ = here_.setdefault(word, {})
    return tree


def dotted(path: tuple[str, ...]) -> str:
    """A path as a conflict names it: .spec.template.spec.containers[name="calico-node"].image."""
    words = []
    for word in path:
        if word.startswith("k:"):
            item = ",".join(f"{key}={json.dumps(value)}" for key, value in json.loads(word[2:]).items())
            words.append(f"[{item}]")
        else:
            words.append(f".{word[2:]}")
    return "".join(words)


def cut(thing: Object, path: tuple[str, ...]) -> None:
    """Remove a field, and items that have nothing left but their key."""
    place: Any = thing
    for word in path[:-1]:
        place = _step(place, word)
        if place is None:
            return
    if path[-1].startswith("f:") and isinstance(place, dict):
        place.pop(path[-1][2:], None)
    # What held nothing but that field goes, too.
    parent = path[:-1]
    if parent and place == {} and parent[-1].startswith("f:"):
        cut(thing, parent)
    if parent and parent[-1].startswith("k:") and isinstance(place, dict) and not place:
        items = thing
        for word in parent[:-1]:
            items = _step(items, word)
        items.remove(place)


def _step(place: Any, word: str) -> Any:
    if word.startswith("f:"):
        return place.get(word[2:]) if isinstance(place, dict) else None
    wanted = json.loads(word[2:])
    return next((each for each in place if wanted.items() <= each.items()), None)


def merge_applied(into: Object, body: Object, name: str = "") -> None:
    for key, value in body.items():
        if isinstance(value, dict) and isinstance(into.get(key), dict):
            merge_applied(into[key], value, key)
        elif isinstance(value, list) and key in MERGE_KEYS and isinstance(into.get(key), list):
            for each in value:
                item = {word: each[word] for word in MERGE_KEYS[key] if word in each}
                old = next((other for other in into[key] if item.items() <= other.items()), None)
                if old is None:
                    into[key].append(copy.deepcopy(each))
                else:
                    merge_applied(old, each)
        else:
            into[key] = copy.deepcopy(value)


def merge_patch(into: Object, patch: Object) -> None:
    """RFC 7386."""
    for key, value in patch.items():
        if value is None:
            into.pop(key, None)
        elif isinstance(value, dict):
            if not isinstance(into.get(key), dict):
                into[key] = {}
            merge_patch(into[key], value)
        else:
            into[key] = value


def selects(query: dict[str, str], thing: Object) -> bool:
    labels = thing["metadata"].get("labels") or {}
    for term in filter(None, query.get("labelSelector", "").split(",")):
        key, _, value = term.partition("=")
        if labels.get(key) != value.removeprefix("="):
            return False
    for term in filter(None, query.get("fieldSelector", "").split(",")):
        key, _, value = term.partition("=")
        found: Any = thing
        for word in key.split("."):
            found = found.get(word, {}) if isinstance(found, dict) else {}
        if (found or "") != value.removeprefix("="):
            return False
    return True


# ---------------------------------------------------------------------- HTTP


FAULTS = {
    429: ("TooManyRequests", "the server has received too many requests and has asked us to try again later"),
    500: ("InternalError", "Internal error occurred: etcdserver: request timed out"),
    503: ("ServiceUnavailable", "the server is currently unable to handle the request"),
}

VERBS = {"GET": "get", "POST": "create", "PUT": "update", "PATCH": "patch", "DELETE": "delete"}


def _handler_of(double: KubeDouble) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def log_message(self, *_: object) -> None:
            pass

        def handle(self) -> None:
            try:
                super().handle()
            except (OSError, ValueError):  # whoever asked has gone
                self.close_connection = True

        def answer(self, code: int, body: Object | bytes, headers: dict[str, str] | None = None) -> None:
            data = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(code)
            kind = "text/plain" if isinstance(body, bytes) else "application/json"
            for key, value in {"Content-Type": kind, "Content-Length": str(len(data)), **(headers or {})}.items():
                self.send_header(key, value)
            self.end_headers()
            self.wfile.write(data)

        def do(self) -> None:
            split = urlsplit(self.path)
            query = dict(parse_qsl(split.query, keep_blank_values=True))
            length = int(self.headers.get("Content-Length") or 0)
            body = self.rfile.read(length) if length else b""
            double.requests.append((self.command, self.path))
            if double.page is not None:  # something else answers at that address
                self.answer(200, double.page)
                return
            try:
                if self.fault(split.path):
                    return
                if self.headers.get("Authorization") != f"Bearer {double.token}":
                    raise RefusalError(401, "Unauthorized", "Unauthorized")
                self.route(split.path.rstrip("/"), query, body)
            except RefusalError as refusal:
                self.answer(refusal.code, refusal.body)

        do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = do  # noqa: N815 (the server's names)

        def fault(self, path: str) -> bool:
            for fault in double.faults:
                if fault.left and fault.method == self.command and path.startswith(fault.path):
                    fault.left -= 1
                    if fault.hang:
                        fault.hang.wait()
                        self.close_connection = True
                    else:
                        reason, message = FAULTS.get(fault.status, ("", "broken"))
                        body = RefusalError(fault.status, reason, message)
                        self.answer(fault.status, body.body, fault.headers)
                    return True
            return False

        def route(self, path: str, query: dict[str, str], body: bytes) -> None:
            words = path.strip("/").split("/")
            if self.discovered(path, words):
                return
            group = "v1" if words[0] == "api" else "/".join(words[1:3])
            rest = words[2:] if words[0] == "api" else words[3:]
            namespace = None
            if rest[0] == "namespaces" and len(rest) > 2:
                namespace, rest = rest[1], rest[2:]
            kinds = double.kinds.get(group, {})
            kind = next((each for each, (plural, _) in kinds.items() if plural == rest[0]), None)
            if kind is None:
                raise RefusalError(404, "NotFound", "the server could not find the requested resource")
            name = rest[1] if len(rest) > 1 else None
            self.allow(rest[0] + (f"/{rest[2]}" if len(rest) > 2 else ""), group, namespace, name, query)
            if len(rest) > 2:
                self.subresource(rest[2], namespace, rest[1], query)
                return
            if query.get("watch") in ("1", "true"):
                self.stream(double.watch(rest[0], namespace, query))
                return
            with double.changed:
                answer = self.changed(group, kind, rest[0], namespace, name, query, body)
            self.answer(201 if self.command == "POST" else 200, answer)

        def allow(
            self, resource: str, group: str, namespace: str | None, name: str | None, query: dict[str, str]
        ) -> None:
            verb = VERBS[self.command]
            if verb == "get" and name is None:
                verb = "watch" if "watch" in query else "list"
            if resource.endswith("/exec"):
                verb = "create"
            if (verb, resource) in double.denied:
                place = f'in the namespace "{namespace}"' if namespace else "at the cluster scope"
                what = f'"{name}" is forbidden' if name else "is forbidden"
                raise RefusalError(
                    403,
                    "Forbidden",
                    f'{resource.partition("/")[0]} {what}: User "admin" cannot {verb} resource "{resource}" '
                    f'in API group "{group.rpartition("/")[0]}" {place}',
                )

        def changed(
            self,
            group: str,
            kind: str,
            plural: str,
            namespace: str | None,
            name: str | None,
            query: dict[str, str],
            body: bytes,
        ) -> Object:
            content = self.headers.get("Content-Type", "")
            if self.command == "GET" and name is None:
                items = [
                    {key: value for key, value in each.items() if key not in ("apiVersion", "kind")}
                    for each in double.listed(plural, namespace, query)
                ]
                about = {"resourceVersion": str(double.version)}
                return {"kind": f"{kind}List", "apiVersion": group, "metadata": about, "items": items}
            given = yaml.safe_load(body) if body else {}
            if self.command == "POST":
                return self.created(plural, namespace, given, query)
            assert name is not None
            key = (plural, namespace, name)
            if self.command == "PATCH" and content.startswith("application/apply-patch"):
                return double.apply(plural, namespace, name, given, query)
            before = double.objects.get(key)
            if before is None:
                raise RefusalError(404, "NotFound", f'{plural} "{name}" not found', name=name, kind=plural)
            if self.command == "GET":
                return copy.deepcopy(before)
            if self.command == "DELETE":
                double.remove(key)
                details = {"name": name, "kind": plural, "uid": before["metadata"]["uid"]}
                return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details}
            manager = (query.get("fieldManager") or self.headers["User-Agent"].split("/")[0], "Update")
            after = copy.deepcopy(before)
            if self.command == "PATCH":
                if content != "application/merge-patch+json":
                    raise RefusalError(415, "UnsupportedMediaType", f"unknown format of the body: {content}")
                merge_patch(after, given)
            else:
                version = given["metadata"].get("resourceVersion")
                if version and version != before["metadata"]["resourceVersion"]:
                    message = "the object has been modified; please apply your changes to the latest version"
                    raise RefusalError(
                        409, "Conflict", f'Operation cannot be fulfilled on {plural} "{name}": {message}'
                    )
                after = given | ({"status": before["status"]} if "status" in before else {})
            there = leaves(before)
            own = {path: value for path, value in leaves(after).items() if there.get(path, ...) != value}
            return double.write(plural, namespace, before, after, manager, own=own)

        def created(self, plural: str, namespace: str | None, given: Object, query: dict[str, str]) -> Object:
            name = given["metadata"]["name"]
            double.require_namespace(namespace)
            if (plural, namespace, name) in double.objects:
                raise RefusalError(409, "AlreadyExists", f'{plural} "{name}" already exists', name=name, kind=plural)
            manager = (query.get("fieldManager") or self.headers["User-Agent"].split("/")[0], "Update")
            return double.write(plural, namespace, None, given, manager, own=leaves(given))

        def discovered(self, path: str, words: list[str]) -> bool:
            if path == "/version":
                self.answer(200, {"major": "1", "minor": "23", "gitVersion": "v1.23.13", "platform": "linux/amd64"})
            elif path == "/api":
                self.answer(200, {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []})
            elif path == "/apis":
                groups: dict[str, list[Object]] = {}
                for version in double.kinds:
                    if "/" in version:
                        group, _, number = version.partition("/")
                        groups.setdefault(group, []).append({"groupVersion": version, "version": number})
                found = [
                    {"name": name, "versions": versions, "preferredVersion": versions[0]}
                    for name, versions in groups.items()
                ]
                self.answer(200, {"kind": "APIGroupList", "apiVersion": "v1", "groups": found})
            elif len(words) == (2 if words[0] == "api" else 3):
                version = words[1] if words[0] == "api" else "/".join(words[1:])
                kinds = double.kinds.get(version)
                if not kinds:
                    raise RefusalError(404, "NotFound", "the server could not find the requested resource")
                verbs = ["create", "delete", "get", "list", "patch", "update", "watch"]
                resources = [
                    {"name": name, "singularName": "", "namespaced": namespaced, "kind": kind, "verbs": verbs}
                    for kind, (name, namespaced) in kinds.items()
                ]
                if version == "v1":
                    exec_ = {"name": "pods/exec", "singularName": "", "namespaced": True, "kind": "PodExecOptions"}
                    resources.append(exec_ | {"verbs": ["create", "get"]})
                self.answer(
                    200,
                    {
                        "kind": "APIResourceList",
                        "apiVersion": "v1",
                        "groupVersion": version,
                        "resources": resources,
                    },
                )
            else:
                return False
            return True

        def stream(self, events: Iterator[Object]) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "application/json")
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for event in events:
                line = json.dumps(event).encode() + b"\n"
                self.wfile.write(b"%x\r\n%s\r\n" % (len(line), line))
            self.wfile.write(b"0\r\n\r\n")

        def subresource(self, word: str, namespace: str | None, name: str, query: dict[str, str]) -> None:
            pod = double.get("pods", name, namespace)
            if pod is None:
                raise RefusalError(404, "NotFound", f'pods "{name}" not found', name=name, kind="pods")
            if word == "log":
                self.answer(200, double.logs.get(pod["spec"]["nodeName"], "").encode())
                return
            protocol = next(
                (
                    each.strip()
                    for each in self.headers.get("Sec-WebSocket-Protocol", "").split(",")
                    if each.strip() in double.subprotocols
                ),
                None,
            )
            if protocol is None:
                raise RefusalError(400, "BadRequest", "unable to upgrade: no protocol")
            command = [value for key, value in parse_qsl(urlsplit(self.path).query) if key == "command"]
            magic = self.headers["Sec-WebSocket-Key"] + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
            accept = base64.b64encode(hashlib.sha1(magic.encode(), usedforsecurity=False).digest()).decode()
            self.send_response(101)
            for key, value in (("Upgrade", "websocket"), ("Connection", "Upgrade"), ("Sec-WebSocket-Accept", accept)):
                self.send_header(key, value)
            self.send_header("Sec-WebSocket-Protocol", protocol)
            self.end_headers()
            self.close_connection = True
            try:
                code, out, err = double.execute(pod["spec"]["nodeName"], command)
            except FileNotFoundError as problem:
                self.status_frame({"status": "Failure", "reason": "InternalError", "message": str(problem)})
                return
            for channel, data in ((1, out), (2, err)):
                for start in range(0, len(data), 32768):
                    self.frame(2, bytes([channel]) + data[start : start + 32768])
            if code == 0:
                self.status_frame({"metadata": {}, "status": "Success"})
            else:
                cause = {"reason": "ExitCode", "message": str(code)}
                message = f"command terminated with non-zero exit code: exit status {code}"
                failure = {"metadata": {}, "status": "Failure", "reason": "NonZeroExitCode", "message": message}
                self.status_frame(failure | {"details": {"causes": [cause]}})

        def status_frame(self, status: Object) -> None:
            self.frame(2, b"\x03" + json.dumps(status).encode())
            self.frame(8, struct.pack("!H", 1000))

        def frame(self, opcode: int, data: bytes) -> None:
            length = len(data)
            if length < 126:
                head = bytes([length])
            elif length < 65536:
                head = b"\x7e" + struct.pack("!H", length)
            else:
                head = b"\x7f" + struct.pack("!Q", length)
            self.wfile.write(bytes([0x80 | opcode]) + head + data)
            self.wfile.flush()

    return Handler


# ---------------------------------------------------------------------- TLS


def certify(folder: Path, name: str = "ca") -> None:
    """A certificate authority of its own, and the server's certificate from it."""
    now = datetime.datetime.now(datetime.UTC)

    def made(subject: str, key: ec.EllipticCurvePrivateKey, issuer: str, signer: ec.EllipticCurvePrivateKey) -> bytes:
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)]))
            .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
            .public_key(key.public_key())
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - datetime.timedelta(days=1))
            .not_valid_after(now + datetime.timedelta(days=1))
            .add_extension(x509.BasicConstraints(ca=subject == issuer, path_length=None), critical=True)
        )
        if subject != issuer:
            names = [x509.IPAddress(ipaddress.ip_address("127.0.0.1"))]
            builder = builder.add_extension(x509.SubjectAlternativeName(names), critical=False)
        return builder.sign(signer, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)

    authority, server = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
    (folder / f"{name}.pem").write_bytes(made("double CA", authority, "double CA", authority))
    (folder / "server.pem").write_bytes(made("kube-apiserver", server, "double CA", authority))
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    (folder / "server.key").write_bytes(server.private_bytes(*form))
