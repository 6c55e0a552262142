"""Commands in a container, over the WebSocket that an API server makes to it.

Every message begins with the number of its channel: 1 and 2 are the command's outputs, 3 its status at the end
(Kubernetes, apimachinery, util/remotecommand/constants.go).
"""

from __future__ import annotations

import json
import ssl
import time
from collections.abc import Mapping
from typing import Any, Literal
from urllib.parse import urlsplit

import websocket
from kubernetes.client import Configuration

from .. import OUTPUT_LIMIT_BYTES, TOO_MUCH, Result

__all__ = ["run"]

_GRACE_S = 2.0
"""How much longer than a command's time to wait for the word that it was killed."""
_KILLED = 137
"""What a shell makes of SIGKILL."""
_PROTOCOLS = ["v5.channel.k8s.io", "v4.channel.k8s.io"]
_STDOUT, _STDERR, _STATUS = 1, 2, 3


def run(settings: Configuration, address: str, headers: Mapping[str, str], timeout_s: float) -> Result:
    """Run the command that an address asks for, whatever comes of it.

    Its time is for the command itself to keep: where it does not, the server lets it run on.

    Parameters
    ----------
    settings : kubernetes.client.Configuration
        Certificates and proxy.
    address : str
        Of a pod's ``exec``, with the command in its query.
    headers : mapping
        The credentials.
    timeout_s : float
    """
    start = time.monotonic()
    said: dict[int, bytearray] = {_STDOUT: bytearray(), _STDERR: bytearray(), _STATUS: bytearray()}

    def result(outcome: Literal["done", "timeout", "unreachable"], code: int | None = None, why: str = "") -> Result:
        stderr = why or _text(said[_STDERR])
        return Result(outcome, code, _text(said[_STDOUT]), stderr, time.monotonic() - start)

    try:
        channel = _dial(settings, address, headers, timeout_s)
    except (websocket.WebSocketException, OSError) as problem:
        return result("unreachable", why=_refusal(problem))
    try:
        ended = _drain(channel, said, start + timeout_s + _GRACE_S)
    except (websocket.WebSocketException, OSError) as problem:
        return result("unreachable", why=str(problem))
    finally:
        channel.shutdown()
    if not ended:
        return result("timeout")
    code, why = _exit_code(said[_STATUS])
    if code is None:
        return result("unreachable", why=why)
    if code == _KILLED and time.monotonic() - start >= timeout_s:
        return result("timeout")
    return result("done", code)


def _dial(settings: Configuration, address: str, headers: Mapping[str, str], timeout_s: float) -> websocket.WebSocket:
    tls: dict[str, Any] = {"cert_reqs": ssl.CERT_REQUIRED if settings.verify_ssl else ssl.CERT_NONE}
    tls |= {"check_hostname": settings.verify_ssl, "ca_certs": settings.ssl_ca_cert}
    tls |= {"certfile": settings.cert_file, "keyfile": settings.key_file}
    tls |= {"server_hostname": settings.tls_server_name}
    proxy = urlsplit(settings.proxy) if settings.proxy else None
    channel = websocket.WebSocket(sslopt={key: value for key, value in tls.items() if value is not None})
    channel.connect(
        address.replace("http", "ws", 1),
        header=[f"{key}: {value}" for key, value in headers.items()],
        subprotocols=_PROTOCOLS,
        timeout=timeout_s,
        suppress_origin=True,
        http_proxy_host=proxy.hostname if proxy else None,
        http_proxy_port=proxy.port if proxy else None,
    )
    return channel


def _drain(channel: websocket.WebSocket, said: dict[int, bytearray], end: float) -> bool:
    """Read until the command's status is there; False where the deadline or the limit came first."""
    while (left_s := end - time.monotonic()) > 0:
        channel.settimeout(left_s)
        try:
            opcode, data = channel.recv_data()
        except websocket.WebSocketTimeoutException:
            return False
        if opcode == websocket.ABNF.OPCODE_CLOSE:
            return True
        if data and data[0] in said:
            said[data[0]] += data[1:]
        if data and data[0] == _STATUS:
            return True
        if max(len(said[_STDOUT]), len(said[_STDERR])) > OUTPUT_LIMIT_BYTES:
            del said[_STDOUT][OUTPUT_LIMIT_BYTES:]
            said[_STDERR][OUTPUT_LIMIT_BYTES:] = TOO_MUCH.encode()
            return False
    return False


def _exit_code(status: bytearray) -> tuple[int | None, str]:
    """The exit code, or why there is none."""
    try:
        said = json.loads(status)
    except ValueError:
        return None, "the connection ended before the command did"
    if said.get("status") == "Success":
        return 0, ""
    for cause in (said.get("details") or {}).get("causes") or []:
        if cause.get("reason") == "ExitCode":
            return int(cause["message"]), ""
    return None, str(said.get("message"))


def _refusal(problem: Exception) -> str:
    """Why no command was started, in the server's words where it said any."""
    if isinstance(problem, websocket.WebSocketBadStatusException) and problem.resp_body:
        try:
            return f"{problem.status_code} {json.loads(problem.resp_body)['message']}"
        except (ValueError, KeyError, TypeError):
            return f"{problem.status_code} {problem.resp_body.decode(errors='replace')[:200]}"
    return str(problem)


def _text(data: bytearray) -> str:
    return data.decode(errors="replace")
