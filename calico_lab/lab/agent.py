"""The program inside a lab: makes namespaces, runs commands in them, hands out connections to them.

Started by `host` as ``python agent.py CONTROL_FD FDS_FD PARENT_PID [rootless]``; standard library only, because it also
has to start quickly where Python starts slowly. Its life::

    keeper      the process `host` started; dies with `host` (parent-death signal); makes the namespaces
    └── init    PID 1 of the lab's PID namespace; dies with the keeper; reaps; when it ends, the kernel ends everything
        └── agent   this program's loop: one JSON line in, one JSON line out, each request in a thread of its own
            ├── node    one process a node, holding its mount and UTS namespaces open
            └── …       sshd, and the commands that run

Nothing here cleans up, on purpose: all that the lab makes is a process in that PID namespace, a mount or a tmpfs in
that mount namespace, or a network namespace that one of these holds.

Requests (``{"id", "op", …}``) and what their replies hold beside ``id``, or ``error``:

===========  =====================================================  ==========================================
op           arguments                                              reply
===========  =====================================================  ==========================================
``spaces``   ``networks``: names; ``nodes``: name to {``files``:    –
             path to text, ``netns``: names of its pods}
``run``      ``space``, ``argv``, ``stdin``, ``timeout_s``          ``code``, ``stdout``, ``stderr``, ``seconds``
                                                                    (code null: timed out)
``sysctl``   ``space``, ``values``: key to value                    –
``spawn``    ``space``, ``argv``                                    ``pid``
``health``   ``space``, ``port``, ``codes``: path to HTTP status    –
``connect``  ``space``, ``port``                                    a connected socket, by SCM_RIGHTS on FDS_FD
===========  =====================================================  ==========================================
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET = (
    0x20000,
    0x4000000,
    0x10000000,
    0x20000000,
    0x40000000,
)
MS_REC, MS_BIND, MS_PRIVATE = 0x4000, 0x1000, 0x40000
PR_SET_PDEATHSIG = 1

PATH = "/run/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
ENVIRONMENT = {"PATH": PATH, "LC_ALL": "C.UTF-8", "HOME": "/root"}

_libc = ctypes.CDLL(None, use_errno=True)


# ---------------------------------------------------------------------- system calls that Python 3.11 lacks


def _call(name: str, *arguments: object) -> None:
    if getattr(_libc, name)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")


def mount(source: str, target: str, kind: str = "", flags: int = 0, options: str = "") -> None:
    """mount(2)."""
    _call("mount", source.encode(), target.encode(), kind.encode(), flags, options.encode())


def die_with_parent() -> None:
    """Get SIGKILL when the thread that started this process ends."""
    _call("prctl", PR_SET_PDEATHSIG, signal.SIGKILL)


@contextlib.contextmanager
def in_network(name: str) -> Iterator[None]:
    """This thread alone is in that network namespace meanwhile."""
    with open("/proc/thread-self/ns/net") as home, open(f"/run/netns/{name}") as there:  # noqa: PTH123
        _call("setns", there.fileno(), CLONE_NEWNET)
        try:
            yield
        finally:
            _call("setns", home.fileno(), CLONE_NEWNET)


# ---------------------------------------------------------------------- becoming the lab


def isolate(parent: int, rootless: bool) -> None:
    """Return in the agent only, inside new namespaces; the keeper and init end in here."""
    die_with_parent()
    if os.getppid() != parent:
        os._exit(1)
    uid, gid = os.getuid(), os.getgid()
    _call("unshare", (CLONE_NEWUSER if rootless else 0) | CLONE_NEWNS | CLONE_NEWPID | CLONE_NEWNET | CLONE_NEWUTS)
    if rootless:
        for file, text in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
            _write(f"/proc/self/{file}", text)
    keeper_lives, keeper_end = os.pipe()
    init = os.fork()
    if init:
        os.close(keeper_lives)
        _, status = os.waitpid(init, 0)
        os._exit(os.waitstatus_to_exitcode(status) & 0xFF)
    os.close(keeper_end)
    die_with_parent()
    if select.select([keeper_lives], [], [], 0)[0]:  # the keeper died before the line above
        os._exit(1)
    mount("none", "/", flags=MS_REC | MS_PRIVATE)
    with contextlib.suppress(OSError):  # refused to a user namespace where the machine's own /proc is masked
        mount("proc", "/proc", "proc")
    mount("tmpfs", "/run", "tmpfs", options="mode=755")
    agent = os.fork()
    if agent:
        while os.wait()[0] != agent:
            pass
        os._exit(0)


def _write(path: str, text: str) -> None:
    with open(path, "w") as file:  # noqa: PTH123
        file.write(text)


# ---------------------------------------------------------------------- what a request does


class Agent:
    """What each operation does; the table above says with which arguments."""

    def __init__(self, fds: socket.socket) -> None:
        self.fds = fds
        self.fds_lock = threading.Lock()
        self.holders: dict[str, int] = {}
        self.health: dict[tuple[str, int], dict[str, int]] = {}

    def spaces(self, networks: list[str], nodes: dict[str, dict[str, Any]]) -> dict[str, Any]:
        lines = "".join(f"netns add {name}\n" for name in networks)
        done = subprocess.run(["ip", "-batch", "-"], input=lines, capture_output=True, text=True, env=ENVIRONMENT)
        if done.returncode:
            raise OSError(done.stderr.strip())
        for name, node in nodes.items():
            self.holders[name] = hold_node(name, node["files"], node["netns"])
        return {}

    def _enter(self, space: str) -> list[str]:
        """The words that put a command into a namespace; the lab's own namespace is called ``""``."""
        if space in self.holders:
            return ["nsenter", "-t", str(self.holders[space]), "-n", "-m", "-u", "--"]
        return ["nsenter", f"--net=/run/netns/{space}", "--"] if space else []

    def run(self, space: str, argv: list[str], stdin: str, timeout_s: float) -> dict[str, Any]:
        start = time.monotonic()
        process = subprocess.Popen(
            self._enter(space) + argv,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=ENVIRONMENT,
            start_new_session=True,
        )
        code: int | None
        try:
            stdout, stderr = process.communicate(stdin.encode(), timeout=timeout_s)
            code = process.returncode
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            stdout, stderr = process.communicate()
            code = None
        return {
            "code": code,
            "stdout": stdout.decode(errors="replace"),
            "stderr": stderr.decode(errors="replace"),
            "seconds": time.monotonic() - start,
        }

    def sysctl(self, space: str, values: dict[str, str]) -> dict[str, Any]:
        with in_network(space):
            for key, value in values.items():
                _write("/proc/sys/" + key.replace(".", "/"), value)
        return {}

    def spawn(self, space: str, argv: list[str]) -> dict[str, Any]:
        return {"pid": subprocess.Popen(self._enter(space) + argv, stdin=subprocess.DEVNULL, env=ENVIRONMENT).pid}

    def connect(self, space: str, port: int) -> dict[str, Any]:
        with in_network(space):
            connection = socket.socket()
            connection.connect(("127.0.0.1", port))
        with self.fds_lock, connection:
            socket.send_fds(self.fds, [b"."], [connection.fileno()])
        return {}

    def set_health(self, space: str, port: int, codes: dict[str, int]) -> dict[str, Any]:
        known = (space, port) in self.health
        self.health[space, port] = codes
        if not known:
            with in_network(space):
                server = socket.create_server(("127.0.0.1", port))
            threading.Thread(target=self._serve_health, args=(server, space, port), daemon=True).start()
        return {}

    def _serve_health(self, server: socket.socket, space: str, port: int) -> None:
        while True:
            connection, _ = server.accept()
            with connection, contextlib.suppress(OSError, IndexError):
                path = connection.recv(4096).split()[1].decode()
                code = self.health[space, port].get(path, 404)
                connection.sendall(f"HTTP/1.1 {code} -\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        operations: dict[str, Callable[..., dict[str, Any]]] = {
            "spaces": self.spaces,
            "run": self.run,
            "sysctl": self.sysctl,
            "spawn": self.spawn,
            "health": self.set_health,
            "connect": self.connect,
        }
        number, operation = request.pop("id"), request.pop("op")
        try:
            return {"id": number, **operations[operation](**request)}
        except (OSError, subprocess.SubprocessError, KeyError) as problem:
            return {"id": number, "error": f"{operation} {request.get('space', '')}: {problem}"}


def hold_node(name: str, files: dict[str, str], netns: list[str]) -> int:
    """Fork the process that is a node: its network, a mount namespace with a /run of its own, its host name.

    Only the node's own pods stand in its /run/netns, as on a real node. Returns when the node is complete.
    """
    ready, done = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            with open(f"/run/netns/{name}") as network:  # noqa: PTH123
                _call("setns", network.fileno(), CLONE_NEWNET)
            _call("unshare", CLONE_NEWNS | CLONE_NEWUTS)
            _call("sethostname", name.encode(), len(name.encode()))
            pods = {pod: os.open(f"/run/netns/{pod}", os.O_RDONLY) for pod in netns}
            programs = os.open("/run/bin", os.O_RDONLY)
            mount("tmpfs", "/run", "tmpfs", options="mode=755")
            for folder in ("/run/netns", "/run/sshd", "/run/bin"):
                os.mkdir(folder, 0o755)  # noqa: PTH102
            mount(f"/proc/self/fd/{programs}", "/run/bin", flags=MS_BIND)
            for pod, descriptor in pods.items():
                _write(f"/run/netns/{pod}", "")
                mount(f"/proc/self/fd/{descriptor}", f"/run/netns/{pod}", flags=MS_BIND)
            for path, text in files.items():
                put_file(path, text)
            os.write(done, b"ready")
            os.close(done)
            os.closerange(3, 1024)
            while True:
                signal.pause()
        except OSError as problem:
            os.write(done, str(problem).encode())
        finally:
            os._exit(1)
    os.close(done)
    with open(ready, "rb") as pipe:  # noqa: PTH123
        said = pipe.read().decode()
    if said != "ready":
        raise OSError(f"node {name}: {said}")
    return child


def put_file(path: str, text: str) -> None:
    """Write a file of this mount namespace's own; outside /run it lies over the machine's file of that name."""
    own = path if path.startswith("/run/") else f"/run/over{path}"
    os.makedirs(os.path.dirname(own), exist_ok=True)  # noqa: PTH103, PTH120
    _write(own, text)
    os.chmod(own, 0o600 if own == path else 0o644)  # noqa: PTH101
    if own != path and os.path.exists(path):  # noqa: PTH110
        mount(own, path, flags=MS_BIND)


# ---------------------------------------------------------------------- the loop


def choose_iptables() -> None:
    """Put the iptables that this kernel serves in front of PATH: nf_tables, or the legacy one where it is missing.

    The commands of a node then find it under its usual name, as on a machine whose administrator chose one.
    """
    os.mkdir("/run/bin")  # noqa: PTH102
    for variant in ("nft", "legacy"):
        program = _which(f"xtables-{variant}-multi")
        if (
            program
            and subprocess.run([program, "iptables", "-S"], capture_output=True, env=ENVIRONMENT).returncode == 0
        ):
            for name in ("iptables", "iptables-save", "iptables-restore"):
                os.symlink(program, f"/run/bin/{name}")  # noqa: PTH211
            return
    raise OSError("no iptables works on this kernel: neither nf_tables nor legacy")


def _which(program: str) -> str | None:
    return next(
        (f"{folder}/{program}" for folder in PATH.split(":") if os.access(f"{folder}/{program}", os.X_OK)), None
    )


def add_user() -> None:
    """The login that MCKS makes on its machines, in this lab's /etc/passwd only; an alias of root."""
    with open("/etc/passwd") as passwd:  # noqa: PTH123
        text = passwd.read()
    put_file("/etc/passwd", text + "cb-user:*:0:0::/root:/bin/sh\n")


def main(control: socket.socket, fds: socket.socket, rootless: bool) -> None:
    """Answer requests until the other side is gone."""
    reply_lock = threading.Lock()

    def reply(message: dict[str, Any]) -> None:
        with reply_lock:
            control.sendall(json.dumps(message).encode() + b"\n")

    try:
        choose_iptables()
        if not rootless:
            add_user()
    except OSError as problem:
        reply({"id": 0, "error": str(problem)})
        return
    reply({"id": 0})
    agent = Agent(fds)
    for line in control.makefile():
        threading.Thread(
            target=lambda request: reply(agent.answer(request)), args=(json.loads(line),), daemon=True
        ).start()


if __name__ == "__main__":
    control_socket, fds_socket = (socket.socket(fileno=int(number)) for number in sys.argv[1:3])
    try:
        isolate(int(sys.argv[3]), "rootless" in sys.argv)
    except OSError as refused:
        control_socket.sendall(json.dumps({"id": 0, "error": str(refused)}).encode() + b"\n")
        sys.exit(1)
    main(control_socket, fds_socket, "rootless" in sys.argv)
    os._exit(0)
