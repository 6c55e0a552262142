"""Where the lab's kernel comes from: private namespaces of this machine's own, or user-mode Linux.

`Host` starts the agent program and talks to it. When the process that holds a `Host` ends, in any way, the kernel
ends the agent and with it everything in the lab; see `agent`. Which of the two kernels a lab needs is found by trying:
`lacking` asks this machine's kernel for each device or queue that a scenario uses.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
import socket
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

from ..errors import HostError, LabError
from .settings import Settings

__all__ = ["TRIALS", "Done", "Host", "lacking"]


@dataclass(frozen=True, slots=True)
class Done:
    """A command that ran: `code` is None where it was stopped after its time."""

    code: int | None
    stdout: str
    stderr: str
    seconds: float


TRIALS = {
    "vxlan": "ip link add trial type vxlan id 1 dstport 4789",
    "ipip": "ip link add trial type ipip local 192.0.2.1 remote 192.0.2.2",
    "wireguard": "ip link add trial type wireguard",
    "netem": "tc qdisc add dev lo root netem delay 1ms",
}
"""What a scenario may need of a kernel, and the command that shows it."""


@cache
def lacking(needs: frozenset[str]) -> frozenset[str]:
    """Which of these (keys of `TRIALS`) this machine's kernel lacks, by trying each in a private namespace."""
    host = Host()
    try:
        host.spaces(sorted(needs), {})
        return frozenset(need for need in needs if host.run(need, TRIALS[need].split()).code != 0)
    finally:
        host.close()


_START_S = 60
"""A busy machine boots user-mode Linux slowly; namespaces take a tenth of a second."""

_ANSWER_S = 30.0
"""How long a request may take beyond what it asks for, before the lab counts as hung."""


class Host:
    """A running lab kernel with namespaces in it.

    Parameters
    ----------
    kernel : "here" or "uml", optional
        This machine's own kernel, or user-mode Linux as a process.
    rootless : bool, optional
        Use a user namespace. By default so for everyone but root. Inside user-mode Linux the lab has root all the same.
    connections : int, optional
        How many times `connect` can be called in user-mode Linux, which has no more than 63 serial lines for it.

    Raises
    ------
    HostError
        If this machine cannot hold a lab.
    LabError
        If the agent ends, or answers that something failed.
    """

    def __init__(
        self, kernel: Literal["here", "uml"] = "here", *, rootless: bool | None = None, connections: int = 0
    ) -> None:
        self.kernel = kernel
        self.rootless = os.geteuid() != 0 if rootless is None else rootless
        if kernel == "uml" and not shutil.which("linux.uml"):
            raise HostError(
                "user-mode Linux is not installed, and this machine's own kernel lacks what the lab needs",
                where="this machine",
                todo="run: sudo apt-get install user-mode-linux (PROVIDER=replay works without)",
            )
        self._control, control = socket.socketpair()
        self._fds, fds = socket.socketpair()
        self._lines, lines = _pairs(min(connections, _SERIAL_LINES - 1) if kernel == "uml" else 0)
        self._numbers = itertools.count(1)
        self._replies: dict[int, Future[dict[str, Any]]] = {0: Future()}
        self._keeper: Future[subprocess.Popen[bytes]] = Future()
        self._said: deque[str] = deque(maxlen=40)
        self._sending, self._connecting = threading.Lock(), threading.Lock()
        self._more = threading.Semaphore(0)
        hello = self._replies[0]
        threading.Thread(target=self._live, args=(control, fds, lines), name="lab keeper", daemon=True).start()
        threading.Thread(target=self._listen, name="lab replies", daemon=True).start()
        try:
            _unless_error(hello.result(_START_S))
        except (LabError, TimeoutError) as refused:
            self.close()
            why = refused.what if isinstance(refused, LabError) else f"no answer within {_START_S} s"
            raise HostError(
                f"a lab cannot start here ({why})",
                where="this machine" if kernel == "here" else "user-mode Linux",
                seen=self._said[-1] if self._said else None,
                todo="run as root, or allow user namespaces (sysctl kernel.unprivileged_userns_clone=1, "
                "kernel.apparmor_restrict_unprivileged_userns=0); PROVIDER=replay works without",
            ) from None

    def _live(self, control: socket.socket, fds: socket.socket, lines: list[socket.socket]) -> None:
        """Start the keeper and stay until it ends.

        The parent-death signal of a child is sent when the *thread* that started it ends, so that thread has to be one
        that lives as long as this process.
        """
        with contextlib.ExitStack() as theirs:
            for end in (control, fds, *lines):
                theirs.enter_context(end)
            mode = "rootless" if self.rootless and self.kernel == "here" else self.kernel
            numbers = [control.fileno(), fds.fileno(), os.getpid()]
            if self.kernel == "uml":
                numbers += [_memory_mb(len(lines)), *(line.fileno() for line in lines)]
            keeper = subprocess.Popen(
                [sys.executable, "-I", "-S", str(Path(__file__).with_name("agent.py")), mode, *map(str, numbers)],
                pass_fds=[end.fileno() for end in (control, fds, *lines)],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                start_new_session=True,  # Ctrl-C is for whoever holds the Host to handle
            )
        self._keeper.set_result(keeper)
        assert keeper.stderr is not None
        with keeper.stderr:
            self._said.extend(line.decode(errors="replace").strip() for line in keeper.stderr)
        keeper.wait()
        # Serial lines do not end with their kernel: this makes `_listen` see the end in either case.
        with contextlib.suppress(OSError):
            self._control.shutdown(socket.SHUT_RDWR)

    def _listen(self) -> None:
        with self._control.makefile(encoding="utf-8") as lines, contextlib.suppress(OSError):
            for line in lines:
                reply = json.loads(line)
                if reply["id"] == _MORE:
                    self._more.release()
                else:
                    self._replies.pop(reply["id"]).set_result(reply)
        self._more.release(1000)  # a message that was being sent comes to its error
        with self._sending:  # so that no request slips in after the last look
            self._control.close()
            for waiting in self._replies.values():
                waiting.set_result({"error": "the lab ended"})
            self._replies.clear()

    def _send(self, number: int, op: str, arguments: dict[str, Any]) -> Future[dict[str, Any]]:
        reply: Future[dict[str, Any]] = Future()
        message = json.dumps({"id": number, "op": op, **arguments}).encode()
        size = _PART_BYTES if self.kernel == "uml" else len(message)
        *parts, last = (message[start : start + size] for start in range(0, len(message), size))
        with self._sending:
            self._replies[number] = reply
            try:
                for part in parts:
                    self._control.sendall(part + b"\\\n")
                    if not self._more.acquire(timeout=_ANSWER_S):
                        raise _silence(_ANSWER_S)
                self._control.sendall(last + b"\n")
            except OSError:
                del self._replies[number]
                raise LabError("the lab ended", where="lab", todo="start it again") from None
        return reply

    def _request(self, op: str, *, answer_s: float = _ANSWER_S, **arguments: Any) -> dict[str, Any]:
        reply = self._send(next(self._numbers), op, arguments)
        try:
            return _unless_error(reply.result(answer_s))
        except TimeoutError:
            raise _silence(answer_s) from None

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
        answer_s = timeout_s + _ANSWER_S
        reply = self._request("run", answer_s=answer_s, space=space, argv=list(argv), stdin=stdin, timeout_s=timeout_s)
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
            why = done.stderr.strip() or (f"exit code {done.code}" if done.code is not None else "no end in time")
            raise LabError(f"{' '.join(argv)} failed", where=space or "lab", seen=why)
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
            if self.kernel == "uml":
                return self._connect_line(space, port)
            self._request("connect", space=space, port=port, line=0)
            _, descriptors, _, _ = socket.recv_fds(self._fds, 1, 1)
        if not descriptors:
            raise LabError("the lab ended", where=space, todo="start it again")
        return socket.socket(fileno=descriptors[0])

    def _connect_line(self, space: str, port: int) -> socket.socket:
        """A serial line serves once: nothing tells its other end that a connection was closed."""
        number, line = next(((number, line) for number, line in self._lines.items()), (0, None))
        if line is None:
            raise LabError("no serial line is left for another connection", where=space, todo="start the lab again")
        self._request("connect", space=space, port=port, line=number)
        del self._lines[number]
        return line

    def close(self) -> None:
        """End the lab and wait until it is gone."""
        keeper = self._keeper.result()
        with contextlib.suppress(LabError):
            self._send(0, "end", {})
        try:
            keeper.wait(_END_S)
        except subprocess.TimeoutExpired:
            keeper.kill()  # its children's parent-death signals do the rest
            keeper.wait()
        self._fds.close()
        for line in self._lines.values():
            line.close()


def _silence(seconds: float) -> LabError:
    return LabError(f"no answer within {seconds:g} s: its kernel hangs", where="lab", todo="start it again")


_END_S = 5
_MORE = -1
"""Id of the reply that asks for a message's next part; see `agent.MORE`."""

_PART_BYTES = 2000
_SERIAL_LINES = 64  # arch/um/drivers/ssl.c, NR_PORTS


def _memory_mb(nodes: int) -> int:
    """Memory of a guest: about what its sshd processes take. It is taken from the machine only as it is used."""
    return 192 + 24 * nodes


def _pairs(count: int) -> tuple[dict[int, socket.socket], list[socket.socket]]:
    """Socket pairs for serial lines: ours by line number, from 1, and the guest's in that order."""
    pairs = [socket.socketpair() for _ in range(count)]
    return {number: ours for number, (ours, _) in enumerate(pairs, start=1)}, [theirs for _, theirs in pairs]


def _unless_error(reply: dict[str, Any]) -> dict[str, Any]:
    if "error" in reply:
        raise LabError(reply["error"], where="lab")
    return reply
