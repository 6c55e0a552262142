"""One request to MCKS and its answer, over plain HTTP: the error bodies of all its versions become one line.

MCKS answers an error as ``{"kind": "Status", "code": 500, "message": "..."}``; echo, the framework below it, answers
``{"message": "Not Found"}`` by itself; and deleting what is not there is HTTP 200 with ``code: 404`` inside
(cb-ladybug, src/core/app/ack.go, src/core/service/cluster.go). Private keys, kubeconfigs and join tokens pass through
here: what a message quotes of an answer is only its ``message``, with secrets blacked out.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any
from urllib.parse import quote, urlencode

import urllib3

from ...errors import ClusterError
from ...recording import redact
from .config import Server

__all__ = ["BASE_PATHS", "Generation", "RefusedError", "Rest", "UnansweredError", "without_secrets"]

BASE_PATHS = ("/ladybug", "/mcks")
"""What MCKS answers under, from v0.7.2 on and before; its flag ``-root-url`` or ``BASE_URL`` may say otherwise."""

_HEALTHY = "cb-barista"
"""What ``/healthy`` starts with: ``cb-barista cb-ladybug``, ``cb-barista cb-mcks``."""

_CONNECT_S = 10.0
_READ_S = 60.0
_MESSAGE_LIMIT = 400
_JOIN_SECRETS = re.compile(r"(--(?:token|discovery-token-ca-cert-hash|certificate-key)[ =])\S+")


class UnansweredError(ClusterError):
    """No answer came, so it is not known whether MCKS took the request."""


class RefusedError(ClusterError):
    """MCKS answered with an error.

    Attributes
    ----------
    code : int
        The body's own where it has one, else HTTP's.
    """

    def __init__(self, code: int, what: str, **about: Any) -> None:
        super().__init__(what, **about)
        self.code = code


@dataclass(frozen=True, slots=True)
class Generation:
    """What an MCKS says that it can do, in its own description of its API.

    Attributes
    ----------
    versions : str
        The releases whose API looks like that.
    cnis : tuple of str or None
        What it installs in a cluster that spans clouds; None where it does not say.
    """

    versions: str
    cnis: tuple[str, ...] | None


def without_secrets(text: str) -> str:
    """What MCKS says, on one short line without keys and join tokens: it quotes commands that failed."""
    line = _JOIN_SECRETS.sub(r"\1[redacted]", redact(" ".join(text.split())))
    return line[:_MESSAGE_LIMIT] + "..." if len(line) > _MESSAGE_LIMIT else line


class Rest:
    """The REST API of one MCKS."""

    def __init__(self, server: Server) -> None:
        self.server = server
        # No proxy, no redirect, no retry: whether a request was sent twice matters.
        self._pool = urllib3.PoolManager(retries=False, maxsize=4)

    @cached_property
    def base(self) -> str:
        """The address that all paths follow: as it was given, or with the path of another generation.

        cbctl's default is ``/mcks``, where releases from v0.7.2 on do not answer.

        Raises
        ------
        ClusterError
            If something else answers there, or nothing.
        """
        own = [self.server.path] if self.server.path else []
        seen = []
        for path in dict.fromkeys([*own, *BASE_PATHS]):
            status, text = self._send("GET", f"{self.server.origin}{path}/healthy", None, _READ_S)
            if status == 200 and text.startswith(_HEALTHY):
                return f"{self.server.origin}{path}"
            seen.append(f"{path}/healthy: HTTP {status}")
        raise ClusterError(
            "no MCKS answers here",
            where=self.server.origin,
            seen=", ".join(seen),
            todo="set MCKS_URL to its address, with its path if it was started under another",
        )

    @cached_property
    def generation(self) -> Generation:
        """What the description under ``/swagger/doc.json`` says; unknown where there is none."""
        status, text = self._send("GET", f"{self.server.origin}/swagger/doc.json", None, _READ_S)
        try:
            return _generation(json.loads(text)) if status == 200 else _UNKNOWN
        except (ValueError, KeyError, TypeError, AttributeError):
            return _UNKNOWN

    def call(
        self,
        method: str,
        *path: str,
        body: Mapping[str, Any] | None = None,
        query: Mapping[str, str] | None = None,
        read_s: float | None = _READ_S,
    ) -> dict[str, Any]:
        """Send a request below the namespace; returns the JSON object that it is answered with.

        Parameters
        ----------
        method : str
        *path : str
            Segments after ``/ns/<namespace>``.
        body, query : mapping, optional
        read_s : float or None
            How long to wait for the answer; None is for ever.

        Raises
        ------
        UnansweredError
            If there is no answer, or one of a gateway that waited no longer for MCKS.
        RefusedError
            If the answer is an error, whatever its HTTP status.
        ClusterError
            If it is no JSON object.
        """
        segments = "/".join(quote(each, safe="") for each in ("ns", self.server.namespace, *path))
        where = f"{method} {self.base}/{segments}"
        address = f"{self.base}/{segments}" + (f"?{urlencode(query)}" if query else "")
        status, text = self._send(method, address, body, read_s)
        if status in (502, 503, 504):
            raise UnansweredError("no answer from MCKS", where=where, seen=f"HTTP {status}", todo=_IS_IT_THERE)
        try:
            answer = json.loads(text)
        except ValueError:
            answer = None
        code = _code(status, answer)
        if code >= 400:
            raise RefusedError(
                code,
                _message(answer),
                where=where,
                seen=f"HTTP {status}" + (f" with code {code} inside" if code != status else ""),
                todo=_hint(_message(answer)),
            )
        if not isinstance(answer, dict):
            raise ClusterError(
                "the answer is no JSON object", where=where, seen=f"HTTP {status}", todo="is this an MCKS?"
            )
        return answer

    def _send(self, method: str, address: str, body: Mapping[str, Any] | None, read_s: float | None) -> tuple[int, str]:
        try:
            answer = self._pool.request(
                method,
                address,
                json=body,
                redirect=False,
                timeout=urllib3.Timeout(connect=_CONNECT_S, read=read_s),
            )
        except urllib3.exceptions.HTTPError as problem:
            raise UnansweredError(
                "no answer from MCKS",
                where=f"{method} {address.partition('?')[0]}",
                seen=type(problem).__name__,
                todo=_IS_IT_THERE,
            ) from None
        return answer.status, answer.data.decode(errors="replace")


_IS_IT_THERE = "is it running there? MCKS_URL says where it is"
_UNKNOWN = Generation("unknown: it does not describe itself", None)


def _code(status: int, answer: object) -> int:
    """The answer's error code, or its HTTP status where it is no error."""
    if status < 400 and isinstance(answer, dict) and answer.get("kind") == "Status":
        inside = answer.get("code")
        if isinstance(inside, int) and not 200 <= inside < 300:
            return inside if inside >= 400 else 500
    return status if status >= 400 or 200 <= status < 300 else 502


def _message(answer: object) -> str:
    said = answer.get("message") if isinstance(answer, dict) else None
    return without_secrets(said) if isinstance(said, str) and said.strip() else "MCKS gives no reason"


def _hint(message: str) -> str | None:
    if message.startswith("Could not be found a namespace"):
        return "make it in Tumblebug, or name another with MCKS_NAMESPACE"
    return None


def _generation(description: Mapping[str, Any]) -> Generation:
    """Each release added something by which it can be told."""
    definitions = description["definitions"]
    request = next(part for name, part in definitions.items() if name.endswith(".ClusterReq"))["properties"]
    kubernetes = next(
        part for name, part in definitions.items() if name.endswith((".ClusterConfigKubernetesReq", ".Kubernetes"))
    )["properties"]
    create = description["paths"]["/ns/{namespace}/clusters"]["post"]["parameters"]
    if "serviceType" in request:
        # Its enum has four, two of which are for clusters in one cloud.
        return Generation("v0.7.2 or later", ("canal", "kilo"))
    cnis = tuple(kubernetes["networkCni"]["enum"])
    if "version" in kubernetes:
        return Generation("v0.6.4 to v0.7.1", cnis)
    if any(parameter["name"] == "minorversion" for parameter in create):
        return Generation("v0.6.0 to v0.6.3", cnis)
    return Generation("before v0.6.0", cnis)
