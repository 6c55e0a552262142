"""Commands on a node over SSH (paramiko): the same code for the lab's OpenSSH servers and for a cloud's."""

from __future__ import annotations

import logging
import shlex
import socket
import threading
import time
from collections.abc import Callable

import paramiko

from ..errors import ClusterError, LabError
from . import OUTPUT_LIMIT_BYTES, TOO_MUCH, Result

__all__ = ["SshNode"]

# Whatever goes wrong is in a Result; paramiko's threads would also print it, with tracebacks.
logging.getLogger("paramiko").setLevel(logging.CRITICAL)

_CHUNK_BYTES = 32768
_POLL_S = 0.05
_AT_ONCE = 5
"""OpenSSH lets ten sessions share a connection (MaxSessions), and may count each one that ended besides its successor.
Who asks for more waits here."""

_GRACE_S = 1.0
"""How much longer than a command's time to wait for the word from its node that it was killed."""

_NO_STATUS = -1
"""What paramiko gives as exit status of a command that a signal ended, or whose connection ended before it."""


class SshNode:
    """One node's SSH connection, opened at its first command and opened again if it broke.

    Parameters
    ----------
    name : str
    dial : callable
        Makes the TCP connection.
    user : str
    key : paramiko.PKey
        The key to log in with.
    host_key : paramiko.PKey
        The one key that the server may have.
    """

    def __init__(
        self, name: str, dial: Callable[[], socket.socket], *, user: str, key: paramiko.PKey, host_key: paramiko.PKey
    ) -> None:
        self.name = name
        self._dial, self._user, self._key, self._host_key = dial, user, key, host_key
        self._lock, self._sessions = threading.Lock(), threading.BoundedSemaphore(_AT_ONCE)
        self._transport: paramiko.Transport | None = None
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
            channel = self._connected(timeout_s).open_session(timeout=timeout_s)
            with channel:
                channel.settimeout(_POLL_S)
                end = time.monotonic() + timeout_s
                channel.exec_command(self._bounded(line, timeout_s))
                ended = _drain(channel, stdout, stderr, end + _GRACE_S) and time.monotonic() < end
                code = channel.recv_exit_status() if ended else None
        except (paramiko.SSHException, OSError, EOFError, LabError) as problem:
            self._raise_if_closed()
            return Result("unreachable", None, _text(stdout), str(problem), time.monotonic() - start)
        if code == _NO_STATUS and not channel.eof_received:
            self._raise_if_closed()
            return Result("unreachable", None, _text(stdout), "the connection ended", time.monotonic() - start)
        return Result("done" if ended else "timeout", code, _text(stdout), _text(stderr), time.monotonic() - start)

    def _bounded(self, line: str, timeout_s: float) -> str:
        """The line as root, killed on its node after its time: sshd counts a session until its command has ended."""
        sudo = "sudo -n " if self._sudo else ""
        return f"exec {sudo}timeout -s KILL {timeout_s:g} sh -c {shlex.quote(line)}"

    def close(self) -> None:
        with self._lock:
            self._closed = True
            if self._transport:
                self._transport.close()

    def _raise_if_closed(self) -> None:
        if self._closed:
            raise ClusterError("the connection was closed", where=self.name)

    def _connected(self, timeout_s: float) -> paramiko.Transport:
        with self._lock:
            self._raise_if_closed()
            if self._transport is None or not self._transport.is_active():
                self._transport = self._connect(timeout_s)
            return self._transport

    def _connect(self, timeout_s: float) -> paramiko.Transport:
        transport = paramiko.Transport(self._dial())
        transport.banner_timeout = transport.handshake_timeout = transport.auth_timeout = timeout_s
        try:
            transport.connect(self._host_key, self._user, pkey=self._key)
        except BaseException:
            transport.close()
            raise
        self._sudo = _ask(transport, "id -u", timeout_s) != "0"
        return transport


def _ask(transport: paramiko.Transport, line: str, timeout_s: float) -> str:
    with transport.open_session(timeout=timeout_s) as channel:
        channel.settimeout(timeout_s)
        channel.exec_command(line)
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
