"""Kill labs at random moments of their lives, and look for what they leave.

    python tests/lab/kill_labs.py 200
    python tests/lab/kill_labs.py 20 cross-bgp

Everything happens in a lab of its own, a machine with no other processes, mounts and files: whatever is in there
after a lab's end and was not before its start is that lab's.
"""

from __future__ import annotations

import contextlib
import os
import random
import re
import select
import signal
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT))

from calico_lab.cluster.lab import LabCluster  # noqa: E402
from calico_lab.errors import HostError, LabError  # noqa: E402
from calico_lab.lab.host import Host  # noqa: E402
from calico_lab.scenario import Scenario  # noqa: E402

ROLES = ("holder", "keeper", "init", "agent")
"""Each the parent of the next; the first one is this script's child."""

DEADLINE_S = 20.0

TEMPORARY = "/run/tmp"


def main(count: int, scenario: str) -> None:
    with closing(Host()) as machine:
        machine.do("", ["mkdir", TEMPORARY])
        machine.do("", ["mount", "-n", "-t", "tmpfs", "tmpfs", "/dev/shm"])
        again = [sys.executable, str(Path(__file__).resolve()), "inside", str(count), scenario]
        done = machine.run("", ["env", f"TMPDIR={TEMPORARY}", *again], timeout_s=60 + 10 * count)
    sys.stdout.write(done.stdout)
    sys.stderr.write(done.stderr)
    sys.exit(done.code)


def inside(count: int, scenario: Scenario) -> None:
    life_s = rehearse(scenario)
    empty = state()
    for number in range(count):
        role, moment_s = ROLES[number % len(ROLES)], random.uniform(0, life_s)  # noqa: S311
        holder = os.fork()
        if not holder:
            os._exit(live(scenario))
        victim = await_process(holder, ROLES.index(role))
        # The moment is no condition: it is what is random here. A holder that ends before it is fine.
        ended = os.pidfd_open(holder)
        select.select([ended], [], [], moment_s)
        with contextlib.suppress(ProcessLookupError):
            os.kill(victim, signal.SIGKILL)
        what = f"{role} after {moment_s:.3f} s"
        if not select.select([ended], [], [], DEADLINE_S)[0]:
            sys.exit(f"the holder hangs: {what}")
        os.close(ended)
        _, status = os.waitpid(holder, 0)
        if not within_deadline(lambda: state() == empty):
            sys.exit(f"left by a lab: {what}: {difference(empty, state())}")
        print(f"{what}: holder ended with {os.waitstatus_to_exitcode(status)}", flush=True)
    print(f"{count} labs killed, nothing left")


def rehearse(scenario: Scenario) -> float:
    """Seconds that a life takes. The first one also tries the kernel, in labs that no later one needs."""
    for _ in range(2):
        start = time.monotonic()
        if live(scenario) != 0:
            sys.exit("a lab that nobody killed broke")
        life_s = time.monotonic() - start
    if not within_deadline(lambda: threading.active_count() == 1):
        sys.exit("a closed lab left a thread")
    return life_s


def live(scenario: Scenario) -> int:
    """A lab's life, of which everything in it is a part; 1 where the lab broke."""
    try:
        with closing(LabCluster(scenario)) as cluster:
            for node in cluster.nodes:
                cluster.run(node.name, "ping -c 3 -i 0.05 127.0.0.1", 5)
    except (HostError, LabError):
        return 1
    return 0


def await_process(holder: int, generation: int) -> int:
    """The keeper, its child or its grandchild, as soon as there is one; the holder if it ended before."""
    family = [holder]

    def born() -> bool:
        family[1:] = lineage(holder)
        return len(family) > generation or stat(holder)[0] == "Z"

    within_deadline(born)
    return family[generation] if len(family) > generation else holder


def lineage(holder: int) -> list[int]:
    """The processes of a lab that each have one child: keeper, init, agent."""
    parent_of = parents()
    line = [pid for pid, parent in parent_of.items() if parent == holder and "agent.py" in command(pid)]
    while line and len(line) < len(ROLES) - 1:
        children = [pid for pid, parent in parent_of.items() if parent == line[-1]]
        if not children:
            break
        line.append(children[0])
    return line


def parents() -> dict[int, int]:
    return {pid: int(fields[1]) for pid in processes() if (fields := stat(pid))}


def stat(pid: int) -> list[str]:
    """Fields of /proc/<pid>/stat from the state on; empty where the process is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []


def processes() -> list[int]:
    return sorted(int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit())


def namespaces() -> set[str]:
    found = set()
    for pid in processes():
        with contextlib.suppress(OSError):
            found |= {str(entry.readlink()) for entry in Path(f"/proc/{pid}/ns").iterdir()}
    return found


def state() -> dict[str, list[str]]:
    """All that a lab could leave, in lines."""
    return {
        "processes": [f"{pid} {command(pid)}" for pid in processes()],
        "namespaces": sorted(namespaces()),
        "mounts": Path("/proc/self/mountinfo").read_text().splitlines(),
        "files": sorted(str(path) for folder in ("/run", "/dev/shm") for path in Path(folder).rglob("*")),
        "devices": sorted(re.findall(r"\S+(?=:)", Path("/proc/self/net/dev").read_text())),
    }


def command(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode()
    except (FileNotFoundError, ProcessLookupError):
        return ""


def difference(before: dict[str, list[str]], after: dict[str, list[str]]) -> dict[str, list[str]]:
    return {kind: sorted(set(after[kind]) - set(before[kind])) for kind in before if after[kind] != before[kind]}


def within_deadline(condition: Callable[[], bool]) -> bool:
    """Whether it comes true: a kernel needs a moment to end a PID namespace."""
    deadline = time.monotonic() + DEADLINE_S
    while not condition():
        time.sleep(0.002)
        if time.monotonic() > deadline:
            return False
    return True


if __name__ == "__main__":
    mode, *arguments = sys.argv[1:]
    if mode == "inside":
        inside(int(arguments[0]), Scenario.load(arguments[1]))
    else:
        main(int(mode), arguments[0] if arguments else "single-vxlan")
