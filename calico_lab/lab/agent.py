"""The program inside a lab: makes namespaces, runs commands in them, hands out connections to them.

Standard library only, because it also has to start quickly where Python starts slowly. `host` starts it as
``agent.py MODE CONTROL_FD …``, and it becomes a small tree::

    keeper        the process `host` started; dies with `host` (parent-death signal); makes the namespaces
    └── init      PID 1 of a PID namespace; dies with the keeper; reaps; when it ends, the kernel ends everything below
        └── agent     `main`: one JSON line in, one JSON line out, each request in a thread of its own
            └── …     sshd, and the commands that run

With MODE ``here`` or ``rootless`` (a user namespace besides) the agent serves in that PID namespace. With MODE
``uml`` what stands there is user-mode Linux, a kernel as a process, and its first program is this one again with MODE
``guest``.

Nothing here cleans up, on purpose: all that a lab makes is a process in that PID namespace, a mount or a tmpfs in its
mount namespace, or a namespace that one of these holds.

Requests (``{"id", "op", …}``) and what their replies hold beside ``id``, or ``error``:

===========  =====================================================  ==========================================
op           arguments                                              reply
===========  =====================================================  ==========================================
``spaces``   ``networks``: names; ``nodes``: name to {``files``:    –
             path to text, ``netns``: names of its pods}
``run``      ``space``, ``argv``, ``stdin``, ``timeout_s``          ``code``, ``stdout``, ``stderr``, ``seconds``
                                                                    (code null: timed out)
``sysctl``   ``space``, ``values``: key to value                    –
``spawn``    ``space``, ``argv``                                    –
``health``   ``space``, ``port``, ``codes``: path to HTTP status    –
``connect``  ``space``, ``port``, ``line``                          a connection: a socket by SCM_RIGHTS on FDS_FD,
                                                                    or from a guest, its serial line of that number
``end``      –                                                      none: the lab ends
===========  =====================================================  ==========================================
"""

from __future__ import annotations

import contextlib
import ctypes
import io
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
import tty
from collections.abc import Callable
from pathlib import Path
from typing import Any

CLONE_FS, CLONE_NEWNS, CLONE_NEWUTS = 0x200, 0x20000, 0x4000000
CLONE_NEWUSER, CLONE_NEWPID, CLONE_NEWNET = 0x10000000, 0x20000000, 0x40000000
MS_REC, MS_BIND, MS_PRIVATE = 0x4000, 0x1000, 0x40000
PR_SET_PDEATHSIG = 1
POWER_OFF = 0x4321FEDC
SYS_FINIT_MODULE = 313  # x86-64, the only machine that user-mode Linux runs on

PATH = "/run/bin:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
ENVIRONMENT = {"PATH": PATH, "LC_ALL": "C.UTF-8", "HOME": "/root"}

CONTINUED, MORE = b"\\", -1
"""A request that ends so goes on in the next line, once the reply of that id has been seen.

A serial line of user-mode Linux loses what does not fit into its terminal's 4096 bytes of input.
"""

UML_MODULES = Path("/usr/lib/uml/modules")
GUEST_MODULES = (
    *("veth", "vxlan", "ipip", "sch_netem"),
    *("ip_set_hash_net", "iptable_raw", "iptable_filter", "iptable_nat", "iptable_mangle"),
    *("xt_addrtype", "xt_comment", "xt_conntrack", "xt_CT", "xt_mark", "xt_MASQUERADE", "xt_multiport", "xt_nat"),
    *("xt_set", "xt_tcpudp", "ipt_rpfilter", "af_packet"),
)
"""What a guest's kernel loads at the start, as far as it has it: it finds none by itself without modprobe."""

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


def _write(path: str, text: str) -> None:
    Path(path).write_text(text, encoding="utf-8")


# ---------------------------------------------------------------------- becoming the lab


def isolate(parent: int, *, rootless: bool) -> None:
    """Return in a child only, in new namespaces with an empty /run; the keeper and init end in here."""
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
    _stay_and_reap()


def _stay_and_reap() -> None:
    """Return in a child; the parent stays as init, and ends when that child does."""
    child = os.fork()
    if child:
        while os.wait()[0] != child:
            pass
        if "guest" in sys.argv:
            _libc.reboot(POWER_OFF)
        os._exit(0)


def boot_uml(control: int, lines: list[int], memory_mb: int) -> None:
    """Become user-mode Linux on this machine's files, read only, with a serial line for each descriptor.

    Its memory is a file in the private /run, and it has no network but what it makes itself.
    """
    serial = [f"ssl{number}=fd:{line},fd:{line}" for number, line in enumerate([control, *lines])]
    for descriptor in (control, *lines):
        os.set_inheritable(descriptor, True)
    os.environ.update(HOME="/run", TMPDIR="/run")
    program = shutil.which("linux.uml", path=PATH) or "linux.uml"
    os.execv(
        program,
        [
            *(program, f"mem={memory_mb}M", "rootfstype=hostfs", "root=/dev/root", "ro", "quiet", "panic=-1"),
            *("con=null", "con0=null,fd:2", *serial, f"init={sys.executable}"),
            *("--", "-I", "-S", os.path.abspath(__file__), "guest"),  # noqa: PTH100
        ],
    )


def start_guest() -> io.BufferedRWPair:
    """Make a bare kernel a machine; return its control line. This process stays as init."""
    for source, target in (("proc", "/proc"), ("sysfs", "/sys"), ("devtmpfs", "/dev"), ("tmpfs", "/run")):
        if not os.path.ismount(target):
            mount(source, target, source)
    load_modules(GUEST_MODULES)
    # Otherwise ipip puts a tunl0 into every namespace, also where no daemon asked for one.
    _write("/proc/sys/net/core/fb_tunnels_only_for_init_net", "1")
    _stay_and_reap()
    line = _serial_line(0)
    return io.BufferedRWPair(io.FileIO(line, "r"), io.FileIO(line, "w", closefd=False))


def load_modules(names: tuple[str, ...]) -> None:
    """What modprobe does: each module after those it needs."""
    folder = UML_MODULES / os.uname().release
    needs, files = {}, {}
    for line in (folder / "modules.dep").read_text(encoding="ascii").splitlines():
        file, _, others = line.partition(":")
        needs[file] = others.split()
        files[Path(file).stem.replace("-", "_")] = file
    for name in names:
        if name in files:
            for file in (*reversed(needs[files[name]]), files[name]):
                with (folder / file).open("rb") as module:
                    _libc.syscall(SYS_FINIT_MODULE, module.fileno(), b"", 0)  # refused where it is loaded already


def _serial_line(number: int) -> int:
    line = os.open(f"/dev/ttyS{number}", os.O_RDWR | os.O_NOCTTY)
    tty.setraw(line)
    return line


# ---------------------------------------------------------------------- what a request does


class Agent:
    """What each operation does; the table above says with which arguments.

    Every request has a thread of its own, which goes into the namespaces that the request names and never comes back:
    what it starts is there too.

    Parameters
    ----------
    fds : socket or None
        Where connections are handed out; None in a guest, which has serial lines for them.
    """

    def __init__(self, fds: socket.socket | None) -> None:
        self.fds = fds
        self.held: dict[str, list[tuple[int, int]]] = {}
        """For each namespace that requests name, descriptors and kinds of what to enter."""
        self.codes: dict[tuple[str, int], dict[str, int]] = {}

    def enter(self, space: str) -> None:
        """Put this thread into a namespace; the lab's own is called ``""``."""
        if space and space not in self.held:
            raise OSError("no such namespace")
        for descriptor, kind in self.held[space] if space else []:
            if kind == CLONE_NEWNS:
                _call("unshare", CLONE_FS)  # only a thread with a root directory of its own may change its mounts
            _call("setns", descriptor, kind)

    def spaces(self, networks: list[str], nodes: dict[str, dict[str, Any]]) -> dict[str, Any]:
        lines = "".join(f"netns add {name}\n" for name in networks)
        done = subprocess.run(["ip", "-batch", "-"], input=lines, capture_output=True, text=True, env=ENVIRONMENT)
        if done.returncode:
            raise OSError(done.stderr.strip())
        for name in networks:
            self.held[name] = [(os.open(f"/run/netns/{name}", os.O_RDONLY), CLONE_NEWNET)]
        problems: list[OSError] = []
        for name, node in nodes.items():
            # A thread of its own, for it never leaves the namespaces that it makes.
            maker = threading.Thread(target=self._make_node, args=(name, node["files"], node["netns"], problems))
            maker.start()
            maker.join()
        if problems:
            raise problems[0]
        return {}

    def _make_node(self, name: str, files: dict[str, str], netns: list[str], problems: list[OSError]) -> None:
        """A network namespace becomes a node: mounts with a /run of its own, and a host name.

        Only the node's own pods stand in its /run/netns, as on a real node.
        """
        try:
            self.enter(name)
            _call("unshare", CLONE_FS | CLONE_NEWNS | CLONE_NEWUTS)
            _call("sethostname", name.encode(), len(name.encode()))
            programs = os.open("/run/bin", os.O_RDONLY)
            mount("tmpfs", "/run", "tmpfs", options="mode=755")
            for folder in ("/run/netns", "/run/sshd", "/run/bin"):
                os.mkdir(folder, 0o755)  # noqa: PTH102
            mount(f"/proc/self/fd/{programs}", "/run/bin", flags=MS_BIND)
            for pod in netns:
                _write(f"/run/netns/{pod}", "")
                mount(f"/proc/self/fd/{self.held[pod][0][0]}", f"/run/netns/{pod}", flags=MS_BIND)
            for path, text in files.items():
                put_file(path, text)
            for file, kind in (("uts", CLONE_NEWUTS), ("mnt", CLONE_NEWNS)):
                self.held[name].append((os.open(f"/proc/thread-self/ns/{file}", os.O_RDONLY), kind))
        except OSError as problem:
            problems.append(OSError(problem.errno, f"node {name}: {problem}"))

    def run(self, space: str, argv: list[str], stdin: str, timeout_s: float) -> dict[str, Any]:
        self.enter(space)
        start = time.monotonic()
        process = subprocess.Popen(
            argv,
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
        self.enter(space)
        for key, value in values.items():
            _write("/proc/sys/" + key.replace(".", "/"), value)
        return {}

    def spawn(self, space: str, argv: list[str]) -> dict[str, Any]:
        self.enter(space)
        nowhere = subprocess.DEVNULL
        subprocess.Popen(argv, stdin=nowhere, stdout=nowhere, stderr=nowhere, env=ENVIRONMENT, start_new_session=True)
        return {}

    def connect(self, space: str, port: int, line: int) -> dict[str, Any]:
        self.enter(space)
        connection = socket.create_connection(("127.0.0.1", port))
        if self.fds:
            with connection:
                socket.send_fds(self.fds, [b"."], [connection.fileno()])
        else:
            relay(connection, _serial_line(line))
        return {}

    def health(self, space: str, port: int, codes: dict[str, int]) -> dict[str, Any]:
        known = (space, port) in self.codes
        self.codes[space, port] = codes
        if not known:
            self.enter(space)
            server = socket.create_server(("127.0.0.1", port))
            threading.Thread(target=self._serve_health, args=(server, space, port), daemon=True).start()
        return {}

    def _serve_health(self, server: socket.socket, space: str, port: int) -> None:
        while True:
            connection, _ = server.accept()
            with connection, contextlib.suppress(OSError, IndexError):
                path = connection.recv(4096).split()[1].decode()
                code = self.codes[space, port].get(path, 404)
                connection.sendall(f"HTTP/1.1 {code} -\r\nContent-Length: 0\r\nConnection: close\r\n\r\n".encode())

    def end(self) -> dict[str, Any]:
        os._exit(0)

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """Do what a request asks; what goes wrong is its reply."""
        operations: dict[str, Callable[..., dict[str, Any]]] = {
            "spaces": self.spaces,
            "run": self.run,
            "sysctl": self.sysctl,
            "spawn": self.spawn,
            "health": self.health,
            "connect": self.connect,
            "end": self.end,
        }
        number, operation = request.pop("id"), request.pop("op")
        try:
            return {"id": number, **operations[operation](**request)}
        except (OSError, subprocess.SubprocessError) as problem:
            return {"id": number, "error": f"{operation} {request.get('space', '')}: {problem}"}


def put_file(path: str, text: str) -> None:
    """Write a file of this mount namespace's own; outside /run it lies over the machine's file of that name."""
    own = Path(path if path.startswith("/run/") else f"/run/over{path}")
    own.parent.mkdir(parents=True, exist_ok=True)
    own.write_text(text, encoding="utf-8")
    over = str(own) != path
    own.chmod(0o644 if over else 0o600)
    if over and Path(path).exists():
        mount(str(own), path, flags=MS_BIND)


def relay(connection: socket.socket, line: int) -> None:
    """Carry bytes between a connection and a serial line, until the connection ends."""

    def to_line() -> None:
        while data := connection.recv(4096):
            view = memoryview(data)
            while view:
                view = view[os.write(line, view) :]
        os.close(line)

    def to_connection() -> None:
        with contextlib.suppress(OSError):
            while data := os.read(line, 4096):
                connection.sendall(data)

    for way in (to_line, to_connection):
        threading.Thread(target=way, daemon=True).start()


# ---------------------------------------------------------------------- the loop


def choose_iptables() -> None:
    """Put the iptables that this kernel serves in front of PATH: nf_tables, or the legacy one where it is missing.

    The commands of a node then find it under its usual name, as on a machine whose administrator chose one.
    """
    os.mkdir("/run/bin")  # noqa: PTH102
    for variant in ("nft", "legacy"):
        program = shutil.which(f"xtables-{variant}-multi", path=PATH)
        if program and not subprocess.run([program, "iptables", "-S"], capture_output=True, env=ENVIRONMENT).returncode:
            for name in ("iptables", "iptables-save", "iptables-restore"):
                os.symlink(program, f"/run/bin/{name}")  # noqa: PTH211
            return
    raise OSError("no iptables works on this kernel: neither nf_tables nor legacy")


def add_user() -> None:
    """The login that MCKS makes on its machines, in this lab's /etc/passwd only; an alias of root."""
    text = Path("/etc/passwd").read_text(encoding="utf-8")
    put_file("/etc/passwd", text + "cb-user:*:0:0::/root:/bin/sh\n")


def serve(control: io.BufferedRWPair, fds: socket.socket | None, *, login: bool) -> None:
    """Answer requests until the other side is gone."""
    reply_lock = threading.Lock()

    def reply(message: dict[str, Any]) -> None:
        with reply_lock:
            control.write(json.dumps(message).encode() + b"\n")
            control.flush()

    try:
        choose_iptables()
        if login:
            add_user()
    except OSError as problem:
        reply({"id": 0, "error": str(problem)})
        return
    reply({"id": 0})
    agent = Agent(fds)

    def answer(line: bytes) -> None:
        reply(agent.answer(json.loads(line)))

    request = b""
    for line in control:
        request += line.rstrip(b"\n")
        if request.endswith(CONTINUED):
            request = request[: -len(CONTINUED)]
            reply({"id": MORE})
        else:
            threading.Thread(target=answer, args=(request,), daemon=True).start()
            request = b""


def main() -> None:
    """Read the command line, become what it says, and serve."""
    mode, *rest = sys.argv[1:]
    if mode == "guest":
        serve(start_guest(), None, login=True)
        return
    control, fds, parent, *more = map(int, rest)
    try:
        isolate(parent, rootless=os.geteuid() != 0 or mode == "rootless")
    except OSError as refused:
        os.write(control, json.dumps({"id": 0, "error": str(refused)}).encode() + b"\n")
        os._exit(1)
    if mode == "uml":
        memory_mb, *lines = more
        boot_uml(control, lines, memory_mb)
    with socket.socket(fileno=control).makefile("rwb") as stream:
        serve(stream, socket.socket(fileno=fds), login=mode == "here")


if __name__ == "__main__":
    main()
    os._exit(0)
