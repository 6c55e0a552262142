"""An MCKS that makes no machines: the REST API of four of its releases on 127.0.0.1, with a state and with its traps.

What it does follows the code of MCKS (cloud-barista/cb-ladybug, src/rest-api/router and src/core/service), and each
answer is kept, so that a test can hold it against what MCKS publishes. Slow requests stop at gates, which a test opens;
nothing here takes time by itself.
"""

from __future__ import annotations

import json
import random
import re
import socket
import string
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from tests.cluster.mcks_contract import description

NAMESPACE = "acornsoft"
SECRET = "c2VjcmV0"
"""Stands in every private key and kubeconfig."""

CONNECTIONS = {
    "config-aws-tokyo": ("aws", "ap-northeast-1", "ap-northeast-1a", "52.199.85", "192.168.10"),
    "config-gcp-tokyo": ("gcp", "asia-northeast1", "asia-northeast1-a", "34.146.125", "192.168.29"),
}

BEFORE_MACHINES = [
    "GetMCISFailedReason",
    "AlreadyExistMCISFailedReason",
    "InvalidMCIRReason",
    "CreateMCISFailedReason",
    "GetControlPlaneConnectionInfoFailedReason",
    "GetWorkerConnectionInfoFailedReason",
    "CreateVpcFailedReason",
    "CreateSecurityGroupFailedReason",
    "CreateSSHKeyFailedReason",
    "CreateVmImageFailedReason",
    "CreateVmSpecFailedReason",
    "CreateNLBFailedReason",
]
WITH_MACHINES = [
    "AddNodeEntityFailedReason",
    "SetupBoostrapFailedReason",
    "SetupHaproxyFailedReason",
    "InitControlPlaneFailedReason",
    "InitExternalEtcdFailedReason",
    "SetupNetworkCNIFailedReason",
    "SetupStorageClassFailedReason",
    "JoinControlPlaneFailedReason",
    "JoinWorkerFailedReason",
    "SetupCCMFailedReason",
]
REASONS = BEFORE_MACHINES + WITH_MACHINES
"""In the order in which a create can meet them, before machines are known and after (src/core/model/types.go)."""

_CIDR = re.compile(r"^((?:\d{1,3}.){3}\d{1,3})/(\d{1,2})$")  # with MCKS's own unescaped dot
_ROUTES = r"/ns/([^/]*)/clusters(?:/([^/]+)(/nodes)?(?:/([^/]+))?)?"
_NAME = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")


@dataclass(frozen=True)
class Release:
    """What differs between releases."""

    name: str
    base: str
    product: str = "cb-mcks"
    version: str = "fixed"  # of Kubernetes: fixed, or from the query or the body
    etcd: bool = False  # and loadbalancer
    service_type: bool = False
    private_ip: bool = False
    subgroups: bool = False  # in node names
    default_cni: str = ""


RELEASES = {
    release.name: release
    for release in (
        Release("v0.5.1", "/mcks"),
        Release("v0.6.0", "/mcks", version="query"),
        Release("v0.7.0", "/mcks", version="body", etcd=True, subgroups=True, default_cni="kilo"),
        Release("v0.7.2", "/ladybug", "cb-ladybug", "body", True, True, True, True, "kilo"),
    )
}


class RefusalError(Exception):
    """An error that is answered."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status, self.message = status, message


@dataclass
class Answered:
    route: str
    status: int
    text: str


@dataclass
class McksDouble:
    """The state of one MCKS.

    Attributes
    ----------
    fail : str
        Reason at which the next create fails.
    fail_adding : bool
        Whether adding nodes fails once their machines are there.
    drop : str
        What happens to the connection of the next POST of a cluster or of nodes, or the next DELETE: ``before`` it is
        taken, ``after`` it is, or ``gateway``, which answers 504 in MCKS's place after it is taken.
    tumblebug_down, stuck : bool
        Nothing behind MCKS answers; a cluster cannot be deleted.
    broken : str
        Text that a GET of clusters is answered with, with 200.
    """

    release: Release
    clusters: dict[str, dict[str, Any]] = field(default_factory=dict)
    asked: list[tuple[str, str, dict[str, list[str]], Any]] = field(default_factory=list)
    answered: list[Answered] = field(default_factory=list)
    fail: str = ""
    fail_adding: bool = False
    drop: str = ""
    tumblebug_down: bool = False
    stuck: bool = False
    documented: bool = True
    broken: str = ""
    url: str = ""

    def __post_init__(self) -> None:
        self._random = random.Random(1)  # noqa: S311
        self._clock = iter(range(60))
        self.gates = {name: threading.Event() for name in ("machines", "kubernetes", "answer", "deleted")}
        for gate in self.gates.values():
            gate.set()

    def hold(self, *gates: str) -> None:
        """Stop slow requests there until the gate is opened."""
        for gate in gates:
            self.gates[gate].clear()

    def open(self, *gates: str) -> None:
        for gate in gates:
            self.gates[gate].set()

    def posts(self, what: str = "clusters") -> list[Any]:
        """Bodies of the requests to make something."""
        return [body for method, path, _, body in self.asked if method == "POST" and path.endswith(f"/{what}")]

    def pass_gate(self, name: str) -> None:
        assert self.gates[name].wait(30), f"the test never opened {name}"

    # ------------------------------------------------------------------ clusters

    def verify_namespace(self, namespace: str) -> None:
        if self.tumblebug_down:
            raise LookupError("dial tcp 127.0.0.1:1323: connect: connection refused")
        if namespace != NAMESPACE:
            raise LookupError(f"Could not be found a namespace. (namespace={namespace})")

    def validate(self, request: dict[str, Any]) -> None:
        """Everything that is answered with 400, in MCKS's order."""
        kubernetes = request.setdefault("config", {}).setdefault("kubernetes", {})
        cni = kubernetes["networkCni"] = kubernetes.get("networkCni") or self.release.default_cni
        if len(request.get("controlPlane") or []) == 0:
            raise RefusalError(400, "Control plane node must be at least one")
        if len(request["controlPlane"]) > 1:
            raise RefusalError(400, "Only one control plane node is supported")
        if not request.get("worker"):
            raise RefusalError(400, "Worker node must be at least one")
        kind = request.get("serviceType", "") if self.release.service_type else None
        if kind not in (None, "", "multi", "single"):
            raise RefusalError(400, "serviceType allows only multi or single")
        if kind is None and cni not in ("canal", "kilo"):
            raise RefusalError(400, "Network-cni allows only canal or kilo")
        if kind == "multi" and cni not in ("canal", "kilo"):
            raise RefusalError(400, "Network-cni allows only canal or kilo in Multi-Cloud type")
        if kind == "single" and cni not in ("flannel", "calico"):
            raise RefusalError(400, "Network-cni allows only flannel or calico in Single-Cloud type")
        # The default of etcd stands behind a test of loadbalancer, which has one by then.
        if self.release.etcd and kubernetes.get("etcd") not in ("local", "external"):
            raise RefusalError(400, "etcd allows only local or external")
        if not request.get("name"):
            raise RefusalError(400, "Cluster name is empty")
        if not _NAME.fullmatch(request["name"]):
            raise RefusalError(400, f"Cluster name '{request['name']}' is invalid")
        for key in ("podCidr", "serviceCidr"):
            if kubernetes.get(key) and not _CIDR.match(kubernetes[key]):
                raise RefusalError(400, f"{key} '{kubernetes[key]}' is invalid")
        for group in (*request["controlPlane"], *request["worker"]):
            if not group.get("connection"):
                raise RefusalError(400, "Connection is empty")
            if not group.get("spec"):
                raise RefusalError(400, "Machine specification is empty")

    def version(self, query: dict[str, list[str]], request: dict[str, Any]) -> str:
        if self.release.version == "fixed":
            return "1.18.9-00"
        if self.release.version == "query":
            minor, patch = (
                query.get(key, [default])[0] for key, default in (("minorversion", "1.18"), ("patchversion", "1"))
            )
            return f"{minor}.{patch}-00"
        return f"{request['config']['kubernetes'].get('version') or '1.23.13'}-00"

    def create(self, namespace: str, request: dict[str, Any], query: dict[str, list[str]]) -> Iterator[str]:
        """Make a cluster; yields the gates that it stops at. The cluster itself is then in `clusters`."""
        self.verify_namespace(namespace)
        if any(group.get("count", 0) < 1 for group in request["controlPlane"]):
            raise RefusalError(500, "Control-Plane count must be at least one.")
        for group in request["worker"]:
            if group.get("count", 0) < 1:
                raise RefusalError(500, f"Worker count must be at least one. (connection={group['connection']})")
        name = request["name"]
        if name in self.clusters:
            if self.clusters[name]["status"]["phase"] != "Failed":
                raise RefusalError(500, f"The cluster '{name}' already exists. (namespace={namespace})")
            del self.clusters[name]
        cluster = self.clusters[name] = self._entity(namespace, request, self.version(query, request))
        yield "machines"
        unknown = next((each for each in self._groups(request) if each["connection"] not in CONNECTIONS), None)
        if unknown is not None:
            self._failed(cluster, "GetWorkerConnectionInfoFailedReason", f"{unknown['connection']} does not exist")
        if self.fail in BEFORE_MACHINES:
            self._failed(cluster, self.fail, "no quota")
        cluster["mcis"] = name
        cluster["nodes"] = self._machines(request["controlPlane"], "control-plane", [])
        cluster["nodes"] += self._machines(request["worker"], "worker", [])
        cluster["cpLeader"] = cluster["nodes"][0]["name"]
        if self.release.subgroups:
            cluster["cpGroup"] = cluster["cpLeader"].rpartition("-")[0]
        yield "kubernetes"
        if self.release.service_type and not request.get("serviceType"):
            self._clean_up(cluster)
            self._failed(cluster, "SetupBoostrapFailedReason", "There are mandatory fields. (servicetype=)")
        if self.fail:
            self._clean_up(cluster)
            self._failed(cluster, self.fail, f"Process exited with status 1: kubeadm join --token {SECRET}.x")
        cluster["clusterConfig"] = _kubeconfig(cluster["nodes"][0]["publicIp"])
        self._joined(cluster["nodes"])
        cluster["createdTime"] = self._now()
        cluster["status"]["phase"] = "Provisioned"

    def add(self, namespace: str, name: str, request: dict[str, Any]) -> Iterator[str]:
        """Add workers; yields the gates that it stops at."""
        if request.get("controlPlane"):
            raise RefusalError(400, "Control plane node is not supported")
        if not request.get("worker"):
            raise RefusalError(400, "Worker node must be at least one")
        self.verify_namespace(namespace)
        cluster = self.clusters.get(name)
        if cluster is None:
            raise RefusalError(500, f"Could not be found a cluster '{name}'. (namespace={namespace})")
        if cluster["status"]["phase"] != "Provisioned":
            raise RefusalError(500, f"Unable to add a node. status is '{cluster['status']['phase']}'.")
        yield "machines"
        new = self._machines(request["worker"], "worker", cluster["nodes"])
        cluster["nodes"] = [*cluster["nodes"], *new]
        yield "kubernetes"
        if self.fail_adding:
            for node in new:
                node["credential"] = node["publicIp"] = ""
            raise RefusalError(500, f"Fail to worker-node join. (node={new[0]['name']})")
        self._joined(cluster["nodes"])  # all of them get a new time

    def delete(self, namespace: str, name: str) -> Iterator[str]:
        self.verify_namespace(namespace)
        self.clusters[name]["status"] = {"phase": "Deleting", "reason": "", "message": ""}
        yield "deleted"
        if self.stuck:
            raise RefusalError(500, f"Failed to terminate a MCIS (mcis={name}, cause='timeout')")
        self.clusters.pop(name, None)

    def remove(self, namespace: str, name: str, node: str) -> Iterator[str]:
        self.verify_namespace(namespace)
        cluster = self.clusters.get(name)
        if cluster is None:
            raise RefusalError(500, f"Could not be found a cluster. (namespace={namespace}, cluster={name})")
        if cluster["status"]["phase"] != "Provisioned":
            raise RefusalError(500, f"Unable to remove a node. status is '{cluster['status']['phase']}'.")
        if node == cluster["cpLeader"]:
            raise RefusalError(500, "Could not be delete a control-plane leader node.")
        if node not in [each["name"] for each in cluster["nodes"]]:
            raise RefusalError(404, f"Could not be found a node-entity '{node}'")
        yield "deleted"
        cluster["nodes"] = [each for each in cluster["nodes"] if each["name"] != node]

    # ------------------------------------------------------------------ parts

    def _entity(self, namespace: str, request: dict[str, Any], version: str) -> dict[str, Any]:
        kubernetes = request["config"]["kubernetes"]
        monitored = (request["config"] if self.release.version == "body" else request).get("installMonAgent") or "no"
        cluster = {
            "name": request["name"],
            "kind": "Cluster",
            "status": {"phase": "Provisioning", "reason": "", "message": ""},
            "mcis": "",
            "namespace": namespace,
            "clusterConfig": "",
            "cpLeader": "",
            "networkCni": kubernetes["networkCni"],
            "label": request.get("label", ""),
            "installMonAgent": monitored,
            "description": request.get("description", ""),
            "createdTime": "",
            "nodes": [],
        }
        if self.release.version != "fixed":
            cluster["k8sVersion"] = version
        if self.release.etcd:
            cluster |= {"cpGroup": "", "loadbalancer": kubernetes.get("loadbalancer") or "haproxy"}
            cluster["etcd"] = kubernetes["etcd"]
        if self.release.service_type:
            cluster["serviceType"] = request.get("serviceType", "")
        return cluster

    def _groups(self, request: dict[str, Any]) -> Iterator[dict[str, Any]]:
        yield from (*request["controlPlane"], *request["worker"])

    def _machines(self, groups: list[dict[str, Any]], role: str, there: list[dict[str, Any]]) -> list[dict[str, Any]]:
        made: list[dict[str, Any]] = []
        index = len([node for node in there if node["role"] == role])
        for group in groups:
            csp, region, zone, public, private = CONNECTIONS[group["connection"]]
            shared = self._suffix()
            for number in range(1, group["count"] + 1):
                index += 1
                grouped = self.release.subgroups and role == "control-plane"
                name = f"{role[0]}-1-{shared}" if grouped else f"{role[0]}-{index}-{self._suffix()}"
                host = 10 + len(there) + len(made)
                node = {
                    "name": f"{name}-{number if grouped else 1}" if self.release.subgroups else name,
                    "kind": "Node",
                    "credential": _private_key(group["connection"]),
                    "publicIp": f"{public}.{host}",
                    "role": role,
                    "spec": group["spec"],
                    "csp": csp,
                    "createdTime": "",
                    "cspLabel": f"topology.cloud-barista.github.io/csp={csp}",
                    "regionLabel": f"topology.kubernetes.io/region={region}",
                    "zoneLabel": f"topology.kubernetes.io/zone={zone}",
                }
                if self.release.private_ip:
                    node["privateIp"] = f"{private}.{host}"
                made.append(node)
        return made

    def _suffix(self) -> str:
        return "".join(self._random.choices(string.ascii_lowercase + string.digits, k=5))

    def _now(self) -> str:
        return f"2022-01-02T12:{next(self._clock):02}:00Z"

    def _joined(self, nodes: list[dict[str, Any]]) -> None:
        now = self._now()
        for node in nodes:
            node["createdTime"] = now

    def _clean_up(self, cluster: dict[str, Any]) -> None:
        for node in cluster["nodes"]:
            node["credential"] = node["publicIp"] = ""

    def _failed(self, cluster: dict[str, Any], reason: str, message: str) -> None:
        cluster["status"] = {"phase": "Failed", "reason": reason, "message": message}
        raise RefusalError(500, message)


def _private_key(connection: str) -> str:
    """One key a connection, without an end to its last line."""
    return f"-----BEGIN RSA PRIVATE KEY-----\n{SECRET}{connection}\n-----END RSA PRIVATE KEY-----"


def _kubeconfig(address: str) -> str:
    """As kubeadm writes it, with haproxy's port."""
    return f"""\
apiVersion: v1
clusters:
- cluster:
    certificate-authority-data: Y2E=
    server: https://{address}:9998
  name: kubernetes
contexts:
- context:
    cluster: kubernetes
    user: kubernetes-admin
  name: kubernetes-admin@kubernetes
current-context: kubernetes-admin@kubernetes
kind: Config
preferences: {{}}
users:
- name: kubernetes-admin
  user:
    client-certificate-data: Y2VydA==
    client-key-data: {SECRET}
"""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # an answer in one piece
    double: McksDouble

    def log_message(self, *_: object) -> None:
        pass

    def do_GET(self) -> None:
        self._answer()

    do_POST = do_DELETE = do_PUT = do_GET  # noqa: N815

    def _answer(self) -> None:
        double = self.double
        address = urlsplit(self.path)
        data = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        try:
            body = json.loads(data) if data else None
        except ValueError:
            body = data.decode()
        query = parse_qs(address.query)
        double.asked.append((self.command, address.path, query, body))
        if address.path == "/swagger/doc.json" and double.documented:
            return self._send(200, json.dumps(description(double.release.name, double.release.base)))
        if address.path == f"{double.release.base}/healthy":
            return self._send(200, f"cb-barista {double.release.product}", "GET /healthy", kind="text/plain")
        path = re.fullmatch(
            rf"{double.release.base}/ns/([^/]*)/clusters(?:/([^/]+)(/nodes)?(?:/([^/]+))?)?", address.path
        )
        if path is None:
            return self._send(404, '{"message":"Not Found"}', f"{self.command} elsewhere")
        namespace, cluster, nodes, node = (unquote(part) if part else "" for part in path.groups())
        route = "/ns/{namespace}/clusters" + ("/{cluster}" if cluster else "") + nodes + ("/{node}" if node else "")
        try:
            self._route(f"{self.command} {route}", namespace, cluster, node, query, body)
        except RefusalError as refusal:
            self._status(refusal.status, refusal.message, f"{self.command} {route}")
        return None

    def _route(self, route: str, namespace: str, cluster: str, node: str, query: Any, body: Any) -> None:
        double = self.double
        clusters = double.clusters
        if not namespace:
            return self._send(401, json.dumps({"message": "'Namespace' is a mandatory parameter."}), route)
        match route.split("/ns/{namespace}/clusters"):
            case ["GET ", ""] if double.broken:
                return self._send(200, double.broken)
            case ["GET ", ""]:
                self._verify(namespace, 400)
                return self._json({"kind": "ClusterList", "items": list(clusters.values())}, route)
            case ["POST ", ""]:
                self._bound(body)
                double.validate(body)
                return self._slow(route, double.create(namespace, body, query), lambda: clusters[body["name"]])
            case ["GET ", "/{cluster}"]:
                self._verify(namespace, 404)
                if cluster not in clusters:
                    raise RefusalError(404, f"Could not be found a cluster '{cluster}' (namespace={namespace})")
                return self._json(clusters[cluster], route)
            case ["DELETE ", "/{cluster}"]:
                self._verify(namespace, 500)
                if cluster not in clusters:  # HTTP 200 all the same
                    absent = f"Could not be found cluster '{cluster}'. (namespace={namespace})"
                    return self._json({"kind": "Status", "code": 404, "message": absent}, route)
                done = {"kind": "Status", "code": 200, "message": f"Cluster '{cluster}' has been deleted"}
                return self._slow(route, double.delete(namespace, cluster), lambda: done)
            case ["GET ", "/{cluster}/nodes"]:
                self._verify(namespace, 400)
                items = clusters[cluster]["nodes"] if cluster in clusters else []
                return self._json({"kind": "NodeList", "items": items}, route)
            case ["POST ", "/{cluster}/nodes"]:
                self._bound(body)
                all_of_them = lambda: {"kind": "NodeList", "items": clusters[cluster]["nodes"]}  # noqa: E731
                return self._slow(route, double.add(namespace, cluster, body), all_of_them)
            case ["GET ", "/{cluster}/nodes/{node}"]:
                self._verify(namespace, 404)
                found = [each for each in clusters.get(cluster, {"nodes": []})["nodes"] if each["name"] == node]
                if not found:
                    where = f"(namespace={namespace}, cluster={cluster})"
                    raise RefusalError(404, f"Could not be found a node '{node}' {where}")
                return self._json(found[0], route)
            case ["DELETE ", "/{cluster}/nodes/{node}"]:
                done = {"kind": "Status", "code": 200, "message": f"Node '{node}' has been deleted"}
                return self._slow(route, double.remove(namespace, cluster, node), lambda: done)
        return self._send(405, '{"message":"Method Not Allowed"}', route)

    def _verify(self, namespace: str, status: int) -> None:
        try:
            self.double.verify_namespace(namespace)
        except LookupError as absent:
            raise RefusalError(status, str(absent)) from None

    def _bound(self, body: Any) -> None:
        if not self.headers.get("Content-Type", "").startswith("application/json"):
            raise RefusalError(400, "code=415, message=Unsupported Media Type")
        if not isinstance(body, dict):
            raise RefusalError(400, "code=400, message=Syntax error: offset=1, error=invalid character")

    def _slow(self, route: str, work: Iterator[str], result: Callable[[], object]) -> None:
        """Answer when the work is done, as MCKS does; what drops the connection does not stop the work."""
        drop, self.double.drop = self.double.drop, ""
        if drop == "before":
            return self._hang_up()
        try:
            for passed, gate in enumerate(work):
                if drop == "after" and not passed:
                    self._hang_up()
                elif drop == "gateway" and not passed:
                    self.close_connection = True
                    self._send(504, "<html>504 Gateway Time-out</html>")
                self.double.pass_gate(gate)
        except LookupError as absent:
            raise RefusalError(500, str(absent)) from None
        except RefusalError:
            if drop:
                return None
            self.double.pass_gate("answer")
            raise
        if not drop:
            self.double.pass_gate("answer")
            self._json(result(), route)
        return None

    def _hang_up(self) -> None:
        with suppress(OSError):
            self.connection.shutdown(socket.SHUT_RDWR)
        self.close_connection = True

    def _status(self, status: int, message: str, route: str) -> None:
        self._send(status, json.dumps({"kind": "Status", "code": status, "message": message}), route)

    def _json(self, answer: object, route: str) -> None:
        self._send(200, json.dumps(answer), route)

    def _send(self, status: int, text: str, route: str = "", kind: str = "application/json; charset=UTF-8") -> None:
        if route:
            self.double.answered.append(Answered(route, status, text))
        data = text.encode()
        with suppress(OSError):  # who asked may be gone
            self.send_response(status)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(data)))
            if self.close_connection:
                self.send_header("Connection", "close")
            self.end_headers()
            self.wfile.write(data)
            self.wfile.flush()


@contextmanager
def serving(double: McksDouble) -> Iterator[McksDouble]:
    """The double on a port of its own, until the block ends."""
    handler = type("Handler", (_Handler,), {"double": double})
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        server.daemon_threads = True
        double.url = f"http://127.0.0.1:{server.server_port}"
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield double
        finally:
            double.open(*double.gates)
            server.shutdown()
            thread.join()
