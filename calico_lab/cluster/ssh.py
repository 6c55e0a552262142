"""Commands on a node over SSH (paramiko): the same code for the lab's OpenSSH servers and for a cloud's."""

from __future__ import annotations

import logging
import shlex
import socket
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import paramiko

from ..errors import ClusterError, LabError
from . import OUTPUT_LIMIT_BYTES, TOO_MUCH, Result

__all__ = ["Jump", "Login", "Shells", "SshNode", "UnknownHostKey", "why"]

# Whatever goes wrong is in a Result; paramiko's threads would also print it, with tracebacks.
logging.getLogger("paramiko").setLevel(logging.CRITICAL)

_CHUNK_BYTES = 32768
_POLL_S = 0.05
_AT_ONCE = 5
"""OpenSSH lets ten sessions share a connection (MaxSessions), and may count each one that ended besides its successor.
Who asks for more waits here."""

_CONNECTING = threading.BoundedSemaphore(8)
"""Logins at the same time: each costs this machine a key exchange, and sshd refuses some of many that come at once."""

_CONNECT_S = 10.0
"""How long a login may take, whatever the time of the command that needs it."""

_KEEPALIVE_S = 15

_ENDED, _SILENT = "the connection ended", "no answer in time"

_GRACE_S = 1.0
"""How much longer than a command's time to wait for the word from its node that it was killed."""

_NO_STATUS = -1
"""What paramiko gives as exit status of a command that a signal ended, or whose connection ended before it."""


class UnknownHostKey(paramiko.SSHException):
    """A server whose key nobody has vouched for."""


@dataclass(frozen=True, kw_only=True)
class Login:
    """How to reach a machine's sshd, what its key must be, and who logs in.

    Parameters
    ----------
    address : str
    port : int
    user : str
    key : paramiko.PKey, optional
        None tries what ssh-agent holds, then ``~/.ssh/id_*``.
    known_hosts : Path, optional
        Keys that servers may have, in OpenSSH's form.
    host_key : paramiko.PKey, optional
        The one key that the server may have, where no file says so.
    trust_first_use : bool
        Take the key of a server that `known_hosts` does not have, and write it there.
    dial : callable, optional
        Makes the connection that SSH runs over, in place of TCP to `address`.
    jump : Jump, optional
        Connects through another machine.
    """

    address: str
    port: int = 22
    user: str
    key: paramiko.PKey | None = field(default=None, repr=False)
    known_hosts: Path | None = None
    host_key: paramiko.PKey | None = field(default=None, repr=False)
    trust_first_use: bool = False
    dial: Callable[[], socket.socket] | None = None
    jump: Jump | None = None

    def connect(self, timeout_s: float) -> paramiko.SSHClient:
        """Log in; a failure is paramiko's own exception, or an `OSError`."""
        client = paramiko.SSHClient()
        client.set_missing_host_key_policy(_FirstUse(self))
        if self.host_key is not None:
            client.get_host_keys().add(self._known_as, self.host_key.get_name(), self.host_key)
        if self.known_hosts is not None and self.known_hosts.is_file():
            client.load_host_keys(str(self.known_hosts))
        start = time.monotonic()
        try:
            client.connect(
                self.address,
                self.port,
                self.user,
                pkey=self.key,
                sock=self._socket(timeout_s),
                allow_agent=self.key is None,
                look_for_keys=self.key is None,
                timeout=timeout_s,
                banner_timeout=timeout_s,
                auth_timeout=timeout_s,
                channel_timeout=timeout_s,
            )
        except BaseException as problem:
            client.close()
            # paramiko has a type for a handshake that takes too long in some of its steps only.
            if isinstance(problem, paramiko.SSHException) and time.monotonic() - start >= timeout_s:
                raise TimeoutError from problem
            raise
        transport = client.get_transport()
        assert transport is not None
        transport.set_keepalive(_KEEPALIVE_S)
        return client

    @property
    def _known_as(self) -> str:
        return self.address if self.port == 22 else f"[{self.address}]:{self.port}"

    def _socket(self, timeout_s: float) -> Any:
        if self.jump is not None:
            return self.jump.channel(self.address, self.port, timeout_s)
        return self.dial() if self.dial is not None else None


class _FirstUse(paramiko.MissingHostKeyPolicy):
    """Refuse a server that nobody knows, or write its key down where that is wanted."""

    _writing = threading.Lock()

    def __init__(self, login: Login) -> None:
        self._login = login

    def missing_host_key(self, client: paramiko.SSHClient, hostname: str, key: paramiko.PKey) -> None:
        file = self._login.known_hosts
        if not self._login.trust_first_use or file is None:
            raise UnknownHostKey(f"its host key {_named(key)} is not in {file or 'any list of known ones'}")
        with self._writing:
            file.parent.mkdir(parents=True, exist_ok=True)
            with file.open("a", encoding="utf-8") as known:
                known.write(f"{hostname} {key.get_name()} {key.get_base64()}\n")


class Jump:
    """A machine through which others are reached: one connection for all of them, opened when first needed."""

    def __init__(self, login: Login) -> None:
        self.login = login
        self._lock = threading.Lock()
        self._client: paramiko.SSHClient | None = None

    def channel(self, address: str, port: int, timeout_s: float) -> paramiko.Channel:
        with self._lock:
            transport = self._client.get_transport() if self._client else None
            if transport is None or not transport.is_active():
                try:
                    self._client = self.login.connect(timeout_s)
                except (paramiko.SSHException, OSError, EOFError) as problem:
                    raise paramiko.SSHException(f"jump host {self.login.address}: {why(problem)}") from problem
                transport = self._client.get_transport()
        assert transport is not None
        try:
            return transport.open_channel("direct-tcpip", (address, port), ("127.0.0.1", 0), timeout=timeout_s)
        except paramiko.ChannelException as refused:
            raise paramiko.SSHException(f"jump host {self.login.address} cannot reach it: {refused.text}") from refused

    def close(self) -> None:
        with self._lock:
            if self._client:
                self._client.close()


def why(problem: BaseException) -> str:
    """What stopped a connection, for a person."""
    match problem:
        case paramiko.BadHostKeyException():
            return f"its host key has changed: {_named(problem.key)}, expected {_named(problem.expected_key)}"
        case paramiko.AuthenticationException():
            return "it refuses the login: no key that was tried is accepted for this user"
        case paramiko.ssh_exception.NoValidConnectionsError():
            return ", ".join(dict.fromkeys(str(each.args[-1]).lower() for each in problem.errors.values()))
        case TimeoutError():
            return _SILENT
        case EOFError() | ConnectionResetError():
            return _ENDED
        case OSError() if problem.strerror:
            return problem.strerror.lower()
    return str(problem) or type(problem).__name__


def _named(key: paramiko.PKey) -> str:
    return f"{key.get_name()} {key.fingerprint}"


class _NoConnectionError(Exception):
    """There is none, for the reason that is its text."""


_FOR_GOOD = (paramiko.AuthenticationException, paramiko.BadHostKeyException, UnknownHostKey, TimeoutError)
"""What does not pass by trying again."""


class SshNode:
    """One node's SSH connection, opened at its first command and opened again if it broke.

    A login that was refused, a server with a wrong key and one that did not answer in time are not tried again: each
    later command fails at once, with the same words.

    Parameters
    ----------
    name : str
    login : Login
    """

    def __init__(self, name: str, login: Login) -> None:
        self.name, self.login = name, login
        self._lock, self._sessions = threading.Lock(), threading.BoundedSemaphore(_AT_ONCE)
        self._client: paramiko.SSHClient | None = None
        self._given_up: _NoConnectionError | None = None
        self._sudo = self._closed = False

    def run(self, line: str, timeout_s: float) -> Result:
        """Run a shell line as root: through ``sudo -n`` where the login is not root.

        Raises
        ------
        ClusterError
            If the connection was closed on purpose: whoever did so wants no more results.
        """
        with self._sessions:
            return self._run(line, timeout_s)

    def _run(self, line: str, timeout_s: float) -> Result:
        start = time.monotonic()
        stdout, stderr = bytearray(), bytearray()
        try:
            with self._session(timeout_s) as channel:
                channel.settimeout(_POLL_S)
                end = time.monotonic() + timeout_s
                _begin(channel, self._bounded(line, timeout_s), timeout_s)
                ended = _drain(channel, stdout, stderr, end + _GRACE_S) and time.monotonic() < end
                code = channel.recv_exit_status() if ended else None
        except TimeoutError:
            return Result("unreachable", None, "", str(self._silent()), time.monotonic() - start)
        except (_NoConnectionError, paramiko.SSHException, OSError, EOFError) as problem:
            self._raise_if_closed()
            # Of a connection that breaks paramiko says many things, by what it was just about to do.
            said = str(problem) if isinstance(problem, _NoConnectionError) else _ENDED
            return Result("unreachable", None, _text(stdout), said, time.monotonic() - start)
        if code == _NO_STATUS and not channel.eof_received:
            self._raise_if_closed()
            return Result("unreachable", None, _text(stdout), _ENDED, time.monotonic() - start)
        return Result("done" if ended else "timeout", code, _text(stdout), _text(stderr), time.monotonic() - start)

    def _bounded(self, line: str, timeout_s: float) -> str:
        """The line as root, killed on its node after its time: sshd counts a session until its command has ended."""
        sudo = "sudo -n " if self._sudo else ""
        return f"exec {sudo}timeout -s KILL {timeout_s:g} sh -c {shlex.quote(line)}"

    @property
    def host_key(self) -> str | None:
        """The server's key as OpenSSH names it; None as long as it has not answered."""
        transport = self._active()
        return _named(transport.get_remote_server_key()) if transport else None

    def close(self) -> None:
        self._closed = True
        if self._client:
            self._client.close()
        if self.login.jump:
            self.login.jump.close()

    def _raise_if_closed(self) -> None:
        if self._closed:
            raise ClusterError("the connection was closed", where=self.name)

    def _session(self, timeout_s: float) -> paramiko.Channel:
        transport = self._connected()
        try:
            return transport.open_session(timeout=timeout_s)
        except paramiko.ChannelException as refused:
            raise _NoConnectionError(f"its sshd opens no session: {refused.text}") from refused
        except paramiko.SSHException as problem:
            # paramiko has no type for it. A server that does not even open a session is not there any more.
            if "Timeout" not in str(problem):
                raise
            raise self._silent() from problem

    def _silent(self) -> _NoConnectionError:
        self._given_up = _NoConnectionError(_SILENT)
        return self._given_up

    def _connected(self) -> paramiko.Transport:
        with self._lock:
            self._raise_if_closed()
            if self._given_up:
                raise self._given_up
            return self._active() or self._connect()

    def _active(self) -> paramiko.Transport | None:
        transport = self._client.get_transport() if self._client else None
        return transport if transport and transport.is_active() else None

    def _connect(self) -> paramiko.Transport:
        self._client = None
        with _CONNECTING:
            try:
                self._client = self.login.connect(_CONNECT_S)
            except (paramiko.SSHException, OSError, EOFError, LabError) as problem:
                found = _NoConnectionError(why(problem))
                if isinstance(problem, _FOR_GOOD):
                    self._given_up = found
                raise found from problem
        transport = self._client.get_transport()
        assert transport is not None
        if self._closed:  # meanwhile
            transport.close()
            self._raise_if_closed()
        self._sudo = _ask(transport, "id -u", _CONNECT_S) != "0"
        return transport


class Shells:
    """SSH to several machines, by their names.

    Parameters
    ----------
    logins : mapping of str to Login
    """

    def __init__(self, logins: Mapping[str, Login]) -> None:
        self._nodes = {name: SshNode(name, login) for name, login in logins.items()}

    @property
    def host_keys(self) -> dict[str, str]:
        """Host keys of those who have answered."""
        return {name: node.host_key for name, node in self._nodes.items() if node.host_key}

    def run(self, where: str, line: str, timeout_s: float) -> Result:
        """See `SshNode.run`; a machine that is not among them is unreachable."""
        if where not in self._nodes:
            return Result("unreachable", None, "", "it is not in the inventory", 0.0)
        return self._nodes[where].run(line, timeout_s)

    def close(self) -> None:
        for node in self._nodes.values():
            node.close()


def _begin(channel: paramiko.Channel, line: str, timeout_s: float) -> None:
    """Have the server start a command. paramiko waits for its word on that for ever, or until the channel closes."""
    end = time.monotonic() + timeout_s
    closing = threading.Timer(timeout_s, channel.close)
    closing.start()
    try:
        channel.exec_command(line)
    except paramiko.SSHException as problem:
        if time.monotonic() < end:
            raise
        raise TimeoutError from problem
    finally:
        closing.cancel()


def _ask(transport: paramiko.Transport, line: str, timeout_s: float) -> str:
    with transport.open_session(timeout=timeout_s) as channel:
        channel.settimeout(timeout_s)
        _begin(channel, line, timeout_s)
        return channel.makefile().read().decode().strip()


def _drain(channel: paramiko.Channel, stdout: bytearray, stderr: bytearray, deadline: float) -> bool:
    """Read both streams until they end and the exit status is there; False where the deadline or the limit came first.

    The status alone is not the end: a server may send it before the last of the output.
    """
    while time.monotonic() < deadline and max(len(stdout), len(stderr)) <= OUTPUT_LIMIT_BYTES:
        try:
            data: bytes | None = channel.recv(_CHUNK_BYTES)
        except TimeoutError:
            data = None
        stdout += data or b""
        while channel.recv_stderr_ready() and len(stderr) <= OUTPUT_LIMIT_BYTES:
            stderr += channel.recv_stderr(_CHUNK_BYTES)
        if data == b"" and channel.status_event.wait(_POLL_S):
            return True
    if max(len(stdout), len(stderr)) > OUTPUT_LIMIT_BYTES:
        del stdout[OUTPUT_LIMIT_BYTES:]
        stderr[OUTPUT_LIMIT_BYTES:] = TOO_MUCH.encode()
    return False


def _text(data: bytearray) -> str:
    return data.decode(errors="replace")
