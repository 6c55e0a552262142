"""Commands on a node over SSH (paramiko): the same code for the lab's OpenSSH servers and for a cloud's."""

from __future__ import annotations

import shlex
import socket
import threading
import time
from collections.abc import Callable

import paramiko

from ..errors import ClusterError, LabError
from . import Result

__all__ = ["SshNode"]

_CHUNK_BYTES = 32768
_POLL_S = 0.05
_NO_STATUS = -1
"""What paramiko gives as exit status where the connection ended before the command did."""


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
        self._lock = threading.Lock()
        self._transport: paramiko.Transport | None = None
        self._sudo = self._closed = False

    def run(self, line: str, timeout_s: float) -> Result:
        """Run a shell line as root: through ``sudo -n`` where the login is not root.

        Raises
        ------
        ClusterError
            If the connection was closed on purpose: whoever did so wants no more results.
        """
        start = time.monotonic()
        stdout, stderr = bytearray(), bytearray()
        try:
            channel = self._connected(timeout_s).open_session(timeout=timeout_s)
            with channel:
                channel.settimeout(_POLL_S)
                channel.exec_command(f"sudo -n sh -c {shlex.quote(line)}" if self._sudo else line)
                ended = _drain(channel, stdout, stderr, start + timeout_s)
                code = channel.recv_exit_status() if ended else None
        except (paramiko.SSHException, OSError, EOFError, LabError) as problem:
            self._raise_if_closed()
            return Result("unreachable", None, _text(stdout), str(problem), time.monotonic() - start)
        if code == _NO_STATUS:
            self._raise_if_closed()
            return Result("unreachable", None, _text(stdout), "the connection ended", time.monotonic() - start)
        return Result("done" if ended else "timeout", code, _text(stdout), _text(stderr), time.monotonic() - start)

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
    """Read both streams until they end and the exit status is there; False where the deadline came first.

    The status alone is not the end: a server may send it before the last of the output.
    """
    while time.monotonic() < deadline:
        try:
            data: bytes | None = channel.recv(_CHUNK_BYTES)
        except TimeoutError:
            data = None
        stdout += data or b""
        while channel.recv_stderr_ready():
            stderr += channel.recv_stderr(_CHUNK_BYTES)
        if data == b"" and channel.status_event.wait(_POLL_S):
            return True
    return False


def _text(data: bytearray) -> str:
    return data.decode(errors="replace")
