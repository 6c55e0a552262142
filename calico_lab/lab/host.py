"""Where the lab's kernel comes from: private namespaces of this machine's own.

`Host` starts the agent program and talks to it. When the process that holds a `Host` ends, in any way, the kernel
ends the agent and with it everything in the lab; see `agent`.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import HostError, LabError
from .settings import Settings

__all__ = ["Done", "Host"]


@dataclass(frozen=True, slots=True)
class Done:
    """A command that ran: `code` is None where it was stopped after its time."""

    code: int | None
    stdout: str
    stderr: str
    seconds: float


class Host:
    """A running lab kernel with namespaces in it.

    Parameters
    ----------
    rootless : bool, optional
        Use a user namespace. By default so for everyone but root.

    Raises
    ------
    HostError
        If this machine cannot hold a lab.
    LabError
        If the agent ends, or answers that something failed.
    """

    def __init__(self, *, rootless: bool | None = None) -> None:
        self.rootless = os.geteuid() != 0 if rootless is None else rootless
        self._control, control = socket.socketpair()
        self._fds, fds = socket.socketpair()
        self._numbers = itertools.count(1)
        self._replies: dict[int, Future[dict[str, Any]]] = {0: Future()}
        self._keeper: Future[subprocess.Popen[bytes]] = Future()
        self._sending, self._connecting = threading.Lock(), threading.Lock()
        hello = self._replies[0]
        threading.Thread(target=self._live, args=(control, fds), name="lab keeper", daemon=True).start()
        threading.Thread(target=self._listen, name="lab replies", daemon=True).start()
        try:
            _unless_error(hello.result())
        except LabError as refused:
            self.close()
            raise HostError(
                f"a lab cannot start here ({refused.what})",
                where="this machine",
                todo="run as root, or allow user namespaces (sysctl kernel.unprivileged_userns_clone=1, "
                "kernel.apparmor_restrict_unprivileged_userns=0); PROVIDER=replay works without",
            ) from None

    def _live(self, control: socket.socket, fds: socket.socket) -> None:
        """Start the keeper and stay until it ends.

        The parent-death signal of a child is sent when the *thread* that started it ends, so that thread has to be one
        that lives as long as this process.
        """
        with control, fds:
            keeper = subprocess.Popen(
                [
                    *(sys.executable, "-I", "-S", str(Path(__file__).with_name("agent.py"))),
                    *(str(control.fileno()), str(fds.fileno()), str(os.getpid())),
                    *(["rootless"] if self.rootless else []),
                ],
                pass_fds=(control.fileno(), fds.fileno()),
                stdin=subprocess.DEVNULL,
                start_new_session=True,  # Ctrl-C is for whoever holds the Host to handle
            )
        self._keeper.set_result(keeper)
        keeper.wait()

    def _listen(self) -> None:
        with self._control.makefile(encoding="utf-8") as lines, contextlib.suppress(ConnectionResetError):
            for line in lines:
                reply = json.loads(line)
                self._replies.pop(reply["id"]).set_result(reply)
        with self._sending:  # so that no request slips in after the last look
            self._control.close()
            for reply in self._replies.values():
                reply.set_result({"error": "the lab ended"})
            self._replies.clear()

    def _request(self, op: str, **arguments: Any) -> dict[str, Any]:
        number = next(self._numbers)
        reply: Future[dict[str, Any]] = Future()
        with self._sending:
            self._replies[number] = reply
            try:
                self._control.sendall(json.dumps({"id": number, "op": op, **arguments}).encode() + b"\n")
            except OSError:
                raise LabError("the lab ended", where="lab", todo="start it again") from None
        return _unless_error(reply.result())

    # ------------------------------------------------------------------ what a lab is built with

    @property
    def pid(self) -> int:
        """The keeper's process ID: the one process whose end is the lab's end."""
        return self._keeper.result().pid

    def spaces(self, networks: Sequence[str], nodes: Mapping[str, Mapping[str, Any]]) -> None:
        """Make network namespaces; those that are nodes get a mount namespace, files and their pods' names too."""
        self._request("spaces", networks=list(networks), nodes=dict(nodes))

    def run(self, space: str, argv: Sequence[str], stdin: str = "", timeout_s: float = 60) -> Done:
        """Run a command in a namespace (``""`` is the lab's own), whatever its exit code."""
        reply = self._request("run", space=space, argv=list(argv), stdin=stdin, timeout_s=timeout_s)
        return Done(reply["code"], reply["stdout"], reply["stderr"], reply["seconds"])

    def do(self, space: str, argv: Sequence[str], stdin: str = "") -> str:
        """Run a command that must work, and return what it printed.

        Raises
        ------
        LabError
            With the command's own words, where its exit code is not 0.
        """
        done = self.run(space, argv, stdin)
        if done.code != 0:
            raise LabError(f"{' '.join(argv)} failed", where=space or "lab", seen=done.stderr.strip())
        return done.stdout

    def apply(self, space: str, settings: Settings) -> None:
        """Set a namespace's kernel up: one process for each tool that has something to say, none for each setting."""
        for argv, stdin in settings.batches():
            self.do(space, argv, stdin)
        if settings.sysctl:
            self._request("sysctl", space=space, values=settings.sysctl)

    def spawn(self, space: str, argv: Sequence[str]) -> None:
        """Start a program that stays until the lab ends."""
        self._request("spawn", space=space, argv=list(argv))

    def health(self, space: str, port: int, codes: Mapping[str, int]) -> None:
        """Answer HTTP on that port of the namespace's loopback: these statuses for these paths."""
        self._request("health", space=space, port=port, codes=dict(codes))

    def connect(self, space: str, port: int) -> socket.socket:
        """A TCP connection made inside the namespace to its own loopback, for use out here."""
        with self._connecting:
            self._request("connect", space=space, port=port)
            _, descriptors, _, _ = socket.recv_fds(self._fds, 1, 1)
        return socket.socket(fileno=descriptors[0])

    def close(self) -> None:
        """End the lab and wait until it is gone."""
        with contextlib.suppress(OSError):
            self._control.shutdown(socket.SHUT_RDWR)
        self._fds.close()
        self._keeper.result().wait()


def _unless_error(reply: dict[str, Any]) -> dict[str, Any]:
    if "error" in reply:
        raise LabError(reply["error"], where="lab")
    return reply
