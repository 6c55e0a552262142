"""A Kubernetes API server: objects as plain JSON, in the form that manifests have, and refusals as one line.

The kubernetes client reads the kubeconfig and makes the TLS and the credentials of each request. Kinds are looked up
in the server's discovery, as kubectl does, so that a manifest may hold any.
"""

from __future__ import annotations

import json
import logging
import math
import shutil
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import urllib3
import yaml
from kubernetes.client import ApiClient, Configuration
from kubernetes.config import ConfigException, load_kube_config

from ...errors import ClusterError, InputError
from .. import OUTPUT_LIMIT_BYTES, Result
from . import channels

__all__ = ["MANAGER", "Api", "ApiError", "ConflictError", "Ref"]

MANAGER = "calico-lab"
"""The field manager of what this tool applies."""

Object = dict[str, Any]

# Many commands at once need more connections than the pool keeps, which is no trouble.
logging.getLogger("urllib3.connectionpool").setLevel(logging.ERROR)

_NO_KUBECONFIG = (ConfigException, yaml.YAMLError, OSError, TypeError, AttributeError, KeyError, ValueError)
"""What the client raises for a file that is none: it looks into it before it knows what it is."""
_TRIES = 4
"""How often a request is sent that the server is too busy for."""
_RETRY_AFTER_MAX_S = 10.0
_WATCH_S = 2
"""How long a watch goes on without a look at what else may have changed."""


@dataclass(frozen=True, slots=True)
class Ref:
    """Which object: as a person would name it for kubectl.

    Attributes
    ----------
    api_version, kind, name : str
    namespace : str or None
        None where the kind has none.
    """

    api_version: str
    kind: str
    name: str
    namespace: str | None = None

    def __str__(self) -> str:
        return f"{self.kind} {f'{self.namespace}/' if self.namespace else ''}{self.name}"

    @classmethod
    def of(cls, thing: Mapping[str, Any]) -> Ref:
        """The object that this manifest describes."""
        about = thing["metadata"]
        return cls(thing["apiVersion"], thing["kind"], about["name"], about.get("namespace"))


class ApiError(ClusterError):
    """A request that the API server refused; `status` is HTTP's."""

    def __init__(self, what: str, status: int, *, where: str, seen: str, todo: str | None = None) -> None:
        super().__init__(what, where=where, seen=seen, todo=todo)
        self.status = status


class ConflictError(ApiError):
    """Fields that another manager owns."""


class Api:
    """An API server, as one user. Any number of threads may use it.

    Parameters
    ----------
    configuration : kubernetes.client.Configuration
    timeout_s : float
        For each request but watches and commands.
    """

    def __init__(self, configuration: Configuration, *, timeout_s: float = 30.0) -> None:
        self._configuration, self._timeout_s = configuration, timeout_s
        # Its pool has the kubeconfig's certificates and proxy; its own requests would hide why one failed.
        self._pool: urllib3.PoolManager = ApiClient(configuration).rest_client.pool_manager
        self._lock = threading.Lock()
        self._kinds: dict[str, dict[str, tuple[str, bool]]] = {}

    @classmethod
    def open(cls, kubeconfig: Path, context: str | None = None, *, timeout_s: float = 30.0) -> Api:
        """The API server of a kubeconfig's context, by default its current one.

        Raises
        ------
        InputError
            If the kubeconfig is no kubeconfig, has no such context, or needs a program that is not here.
        """
        kubeconfig = kubeconfig.expanduser()
        configuration = Configuration()
        with _Complaints() as complaints:
            try:
                _require_plugin(kubeconfig, context)
                load_kube_config(str(kubeconfig), context, configuration, persist_config=False)
            except _NO_KUBECONFIG as problem:
                raise InputError(
                    "not a usable kubeconfig",
                    where=str(kubeconfig),
                    seen=str(problem),
                    todo=f"try: kubectl --kubeconfig {kubeconfig} get nodes",
                ) from None
        if complaints:
            raise InputError(
                "its program for credentials failed",
                where=str(kubeconfig),
                seen=complaints[0],
                todo=f"try: kubectl --kubeconfig {kubeconfig} get nodes",
            )
        return cls(configuration, timeout_s=timeout_s)

    @property
    def host(self) -> str:
        return str(self._configuration.host)

    def close(self) -> None:
        self._pool.clear()

    # ------------------------------------------------------------------ objects

    def serves(self, api_version: str, kind: str) -> bool:
        """Whether the server has that kind."""
        return kind in self._discovered(api_version)

    def get(self, ref: Ref) -> Object | None:
        """The object, or None where there is none."""
        try:
            return self._json("GET", self._path(ref.api_version, ref.kind, ref.namespace, ref.name))
        except ApiError as error:
            if error.status != 404:
                raise
            return None

    def find(
        self, api_version: str, kind: str, namespace: str | None = None, *, labels: str = "", fields: str = ""
    ) -> list[Object]:
        """All objects of a kind, in one namespace or in all."""
        return self._find(self._path(api_version, kind, namespace), labels, fields)[0]

    def apply(self, thing: Mapping[str, Any], *, force: bool = False, dry_run: bool = False) -> Object:
        """Server-side apply: `thing` has the fields that this tool wants to own.

        Raises
        ------
        ConflictError
            If others own some of them, with other values; not with `force`.
        """
        ref = Ref.of(thing)
        query = {"fieldManager": MANAGER, "force": str(force).lower()} | ({"dryRun": "All"} if dry_run else {})
        path = self._path(ref.api_version, ref.kind, ref.namespace, ref.name)
        return self._json("PATCH", path, query, thing, content="application/apply-patch+yaml", about=ref)

    def merge(self, ref: Ref, patch: Mapping[str, Any]) -> Object:
        """Change some fields of an object; None removes one."""
        path = self._path(ref.api_version, ref.kind, ref.namespace, ref.name)
        query = {"fieldManager": MANAGER}
        return self._json("PATCH", path, query, patch, content="application/merge-patch+json", about=ref)

    def create(self, thing: Mapping[str, Any]) -> Object:
        ref = Ref.of(thing)
        return self._json("POST", self._path(ref.api_version, ref.kind, ref.namespace), body=thing, about=ref)

    def replace(self, thing: Mapping[str, Any]) -> Object:
        ref = Ref.of(thing)
        return self._json("PUT", self._path(ref.api_version, ref.kind, ref.namespace, ref.name), body=thing, about=ref)

    def delete(self, ref: Ref) -> None:
        """Delete an object with what depends on it; one that is not there is no error."""
        try:
            path = self._path(ref.api_version, ref.kind, ref.namespace, ref.name)
            self._json("DELETE", path, body={"propagationPolicy": "Background"}, about=ref)
        except ApiError as error:
            if error.status != 404:
                raise

    def log(self, namespace: str, pod: str, container: str) -> str:
        """What a container has printed since it started, as far as it is kept."""
        path = self._path("v1", "Pod", namespace, f"{pod}/log")
        query = {"container": container, "limitBytes": str(OUTPUT_LIMIT_BYTES)}
        return self._send("GET", path, query).data.decode(errors="replace")

    def states(
        self, api_version: str, kind: str, namespace: str, *, labels: str = "", until: float
    ) -> Iterator[dict[str, Object]]:
        """All objects of a kind by name, again at each change and every other second, until the clock says `until`.

        `until` is of the monotonic clock. A server forgets old versions (410): what is there is then listed again.
        """
        path = self._path(api_version, kind, namespace)
        while time.monotonic() < until:
            listed, version = self._find(path, labels, "")
            here = {each["metadata"]["name"]: each for each in listed}
            try:
                while time.monotonic() < until:
                    yield dict(here)
                    for event, thing in self._events(path, labels, version, until):
                        version = thing["metadata"]["resourceVersion"]
                        if event == "BOOKMARK":
                            continue
                        here.pop(thing["metadata"]["name"], None)
                        if event != "DELETED":
                            here[thing["metadata"]["name"]] = thing
                        yield dict(here)
            except ApiError as error:
                if error.status != 410:
                    raise

    def _find(self, path: str, labels: str, fields: str) -> tuple[list[Object], str]:
        query = {"labelSelector": labels, "fieldSelector": fields}
        found = self._json("GET", path, {key: value for key, value in query.items() if value})
        # Only the list says what its items are.
        about = {"apiVersion": found["apiVersion"], "kind": found["kind"].removesuffix("List")}
        return [about | item for item in found["items"]], found["metadata"]["resourceVersion"]

    def _events(self, path: str, labels: str, version: str, until: float) -> Iterator[tuple[str, Object]]:
        """What changed since that version, until the server or the connection ends it."""
        left_s = max(1, min(math.ceil(until - time.monotonic()), _WATCH_S))
        query = {"watch": "1", "resourceVersion": version, "allowWatchBookmarks": "true", "timeoutSeconds": str(left_s)}
        response = self._send("GET", path, query | ({"labelSelector": labels} if labels else {}), timeout_s=left_s + 5)
        try:
            rest = b""
            for chunk in response.stream(None):
                *whole, rest = (rest + chunk).split(b"\n")
                for line in whole:
                    event = json.loads(line)
                    if event["type"] == "ERROR":
                        raise self._refusal(event["object"]["code"], line.decode(), "GET", path)
                    yield event["type"], event["object"]
        except (urllib3.exceptions.HTTPError, OSError):
            return  # a connection that broke is made again from the last version
        finally:
            response.close()

    def run(self, namespace: str, pod: str, container: str, command: list[str], timeout_s: float) -> Result:
        """Run a command in a container, whatever comes of it; see `channels.run`."""
        query = [("container", container), ("stdout", "true"), ("stderr", "true")]
        query += [("command", word) for word in command]
        address = f"{self.host}{self._path('v1', 'Pod', namespace, f'{pod}/exec')}?{urlencode(query)}"
        return channels.run(self._configuration, address, self._credentials(), timeout_s)

    # ------------------------------------------------------------------ requests

    def _path(self, api_version: str, kind: str, namespace: str | None, name: str = "") -> str:
        try:
            plural, namespaced = self._discovered(api_version)[kind]
        except KeyError:
            raise ClusterError(
                f"this API server has no {kind} of {api_version}",
                where=self.host,
                todo="the manifest is for another version of Kubernetes: take a Calico that fits it",
            ) from None
        words = [_root(api_version), *(["namespaces", namespace] if namespaced and namespace else []), plural, name]
        return "/".join(word for word in words if word)

    def _discovered(self, api_version: str) -> dict[str, tuple[str, bool]]:
        """The kinds of an API version: their path's word, and whether they live in namespaces."""
        with self._lock:
            if found := self._kinds.get(api_version):
                return found
        try:
            resources = self._json("GET", _root(api_version))["resources"]
        except ApiError as error:
            if error.status != 404:
                raise
            return {}  # and asked for again: a manifest may be about to bring it
        kinds = {each["kind"]: (each["name"], each["namespaced"]) for each in resources if "/" not in each["name"]}
        with self._lock:
            self._kinds[api_version] = kinds
        return kinds

    def _credentials(self) -> dict[str, str]:
        settings: Any = self._configuration.auth_settings()
        return {each["key"]: each["value"] for each in settings.values() if each["value"]}

    def _json(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        *,
        content: str = "application/json",
        about: Ref | None = None,
    ) -> Object:
        response = self._send(method, path, query or {}, body, content=content, about=about)
        try:
            found: Object = json.loads(response.data)
        except ValueError:
            what, seen = "its answer is no JSON: is this an API server?", response.data[:80].decode(errors="replace")
            raise ClusterError(what, where=f"{method} {self.host}{path}", seen=seen) from None
        return found

    def _send(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        body: Mapping[str, Any] | None = None,
        *,
        content: str = "application/json",
        about: Ref | None = None,
        timeout_s: float | None = None,
    ) -> urllib3.BaseHTTPResponse:
        """Send a request, again as long as the server says that it is too busy."""
        url = f"{self.host}{path}" + (f"?{urlencode(query)}" if query else "")
        headers = self._credentials() | {"accept": "application/json", "user-agent": MANAGER}
        data = None if body is None else json.dumps(body)
        wait = urllib3.Timeout(connect=self._timeout_s, read=timeout_s or self._timeout_s)
        for left in reversed(range(_TRIES)):
            try:
                response = self._pool.request(
                    method,
                    url,
                    body=data,
                    headers=headers | ({} if data is None else {"content-type": content}),
                    timeout=wait,
                    retries=False,
                    preload_content=timeout_s is None,
                )
            except (urllib3.exceptions.HTTPError, OSError) as problem:
                raise self._out_of_reach(problem, wait) from None
            if response.status == 429 and left:
                time.sleep(_retry_after_s(response.headers.get("Retry-After")))
                continue
            if response.status >= 400:
                text = response.data.decode(errors="replace")
                raise self._refusal(response.status, text, method, path, about)
            return response
        raise AssertionError("the last try returns or raises")

    def _out_of_reach(self, problem: Exception, wait: urllib3.Timeout) -> ClusterError:
        kinds = urllib3.exceptions
        if isinstance(problem, kinds.SSLError):
            todo = "the kubeconfig's certificate-authority-data has to be of the cluster that answers there"
            return ClusterError("its certificate is not trusted", where=self.host, seen=str(problem), todo=todo)
        # To urllib3 a connection that is refused is a kind of timeout.
        timeouts = kinds.ConnectTimeoutError | kinds.ReadTimeoutError
        if isinstance(problem, timeouts) and not isinstance(problem, kinds.NewConnectionError):
            seen = f"no answer within {wait.connect_timeout:g} s"
        else:
            seen = str(problem).rpartition(": ")[2]
        todo = "check the address in the kubeconfig, and whether this machine reaches it"
        return ClusterError("the API server cannot be reached", where=self.host, seen=seen, todo=todo)

    def _refusal(self, status: int, text: str, method: str, path: str, about: Ref | None = None) -> ApiError:
        """The refusal in the server's own words, and what to do."""
        try:
            said = json.loads(text)
            said = said.get("object", said)
            message, details = said["message"], said.get("details") or {}
        except (ValueError, KeyError, AttributeError):
            message, details = text[:200], {}
        where = str(about) if about else f"{method} {path}"
        conflicts = [cause for cause in details.get("causes", []) if cause.get("reason") == "FieldManagerConflict"]
        if status == 409 and conflicts:
            owned = ", ".join(f"{cause['message']}: {cause['field']}" for cause in conflicts[:3])
            more = f" and {len(conflicts) - 3} more" if len(conflicts) > 3 else ""
            todo = "undo what they did, or take these fields over with force"
            return ConflictError("others manage what would change", status, where=where, seen=owned + more, todo=todo)
        what, advice = _REFUSALS.get(status, ("the API server failed" if status >= 500 else "refused", None))
        return ApiError(what, status, where=where, seen=f"{status} {message}", todo=advice)


_REFUSALS: dict[int, tuple[str, str | None]] = {
    401: ("these credentials are not accepted", "they have expired or are of another cluster: get a new kubeconfig"),
    403: ("not allowed", "give this user a role that allows it, or name another context"),
    404: ("not there", None),
    409: ("it was changed meanwhile", "run it again"),
    410: ("the server has forgotten that version", "run it again"),
    422: ("the API server finds it invalid", None),
    429: ("the API server is too busy", "run it again later"),
}
"""HTTP status to what is wrong and what to do (Kubernetes API conventions, "HTTP Status codes")."""


def _root(api_version: str) -> str:
    return f"/api/{api_version}" if "/" not in api_version else f"/apis/{api_version}"


def _retry_after_s(header: str | None) -> float:
    try:
        return min(float(header or 1), _RETRY_AFTER_MAX_S)
    except ValueError:  # HTTP allows a date, too
        return 1.0


def _require_plugin(kubeconfig: Path, context: str | None) -> None:
    """Refuse a kubeconfig whose program for credentials is not here: the client would go on without credentials."""
    raw = yaml.safe_load(kubeconfig.read_text(encoding="utf-8"))
    wanted = context or raw.get("current-context")
    user = next((each["context"].get("user") for each in raw.get("contexts") or [] if each["name"] == wanted), None)
    for each in raw.get("users") or []:
        command = (each.get("user") or {}).get("exec", {}).get("command")
        if each["name"] == user and command and not shutil.which(command):
            raise InputError(
                "the program that gets its credentials is not on this machine",
                where=f"{kubeconfig}: user {user}",
                seen=command,
                todo="install it, or use a kubeconfig with a token or a certificate",
            )


class _Complaints(logging.Handler):
    """What the client only logs while it reads a kubeconfig: a program for credentials that failed."""

    def __enter__(self) -> list[str]:
        self._said: list[str] = []
        self._root = logging.getLogger()
        self._root.addHandler(self)
        return self._said

    def __exit__(self, *_: object) -> None:
        self._root.removeHandler(self)

    def emit(self, record: logging.LogRecord) -> None:
        if record.levelno >= logging.ERROR and record.module == "kube_config":
            self._said.append(record.getMessage())
