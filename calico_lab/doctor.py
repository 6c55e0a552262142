"""What this machine has, lacks and can do.

Programs are looked up; what the kernel and the permissions allow is tried, in private namespaces that end with the
command that made them. Only the standard library is imported here: `setup.sh` asks this module which Debian packages
are missing before anything else is installed.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING

from calico_lab.errors import HostError

if TYPE_CHECKING:
    from rich.table import Table

__all__ = [
    "Need",
    "Purpose",
    "Verdict",
    "install_line",
    "missing_packages",
    "render",
    "require_lab",
    "survey",
    "verdict",
]

SBIN = "/usr/local/sbin:/usr/sbin:/sbin"
"""Where Debian keeps network programs; the PATH of `su` and of most users lacks it."""

FONTS = Path("/usr/share/fonts")


class Purpose(StrEnum):
    """What something is needed for."""

    LAB = "lab"
    SSH = "lab over ssh"
    BGP = "lab with BGP"
    LATENCY = "lab with latency"
    KERNEL = "lab in user-mode Linux"
    TESTS = "tests"
    SETUP = "set-up"


class Verdict(StrEnum):
    """What this machine can run, from most to least."""

    LAB_WITH_SSHD = "lab with sshd"
    LAB_WITHOUT_SSHD = "lab without sshd"
    REPLAY_ONLY = "replay only"


@dataclass(frozen=True)
class Need:
    """Something that a part of calico_lab needs from the machine.

    Attributes
    ----------
    name : str
        The program or the ability.
    found : str or None
        Where the program is, or with what the ability was shown; None when it is missing.
    needed_for : Purpose
        The part that needs it.
    package : str or None
        The Debian package that brings it; None for an ability.
    how : str
        The line to run, or what to do, to have it.
    """

    name: str
    found: str | None
    needed_for: Purpose
    package: str | None
    how: str


PROGRAMS = (
    ("ip", "iproute2", Purpose.LAB),
    ("iptables", "iptables", Purpose.LAB),
    ("ipset", "ipset", Purpose.LAB),
    ("ping", "iputils-ping", Purpose.LAB),
    ("ifconfig", "net-tools", Purpose.LAB),
    ("tcpdump", "tcpdump", Purpose.LAB),
    ("curl", "curl", Purpose.LAB),
    ("ps", "procps", Purpose.LAB),
    ("sshd", "openssh-server", Purpose.SSH),
    ("bird", "bird2", Purpose.BGP),
    ("linux.uml", "user-mode-linux", Purpose.KERNEL),
    ("chromium", "chromium", Purpose.TESTS),
    ("git", "git", Purpose.TESTS),
    ("sudo", "sudo", Purpose.TESTS),
)
"""Program, Debian package, purpose."""

ABILITIES = (
    ("vxlan device", "ip link add v0 type vxlan id 4096 dstport 4789", "as root: modprobe vxlan", Purpose.LAB),
    ("veth pair", "ip link add v0 type veth peer name v1", "as root: modprobe veth", Purpose.LAB),
    (
        "ipip device",
        "ip link add t0 type ipip local 192.0.2.1 remote 192.0.2.2",
        "as root: modprobe ipip; or user-mode Linux",
        Purpose.BGP,
    ),
    (
        "netem queue",
        "tc qdisc add dev lo root netem delay 1ms",
        "as root: modprobe sch_netem; or user-mode Linux",
        Purpose.LATENCY,
    ),
)
"""Ability, the command that shows it in a network namespace of its own, what to do without it, purpose."""

IPTABLES = ("iptables-nft", "iptables-legacy")
"""In the order in which the lab takes them."""


def survey(path: str | None = None) -> list[Need]:
    """Look for every program and try every ability.

    Parameters
    ----------
    path : str, optional
        Directories to look in, joined by colons. By default `PATH` and the system directories it may lack.

    Returns
    -------
    list of Need
        Programs first, then abilities. One that depends on a missing program is missing, too.
    """
    host = _Host(path if path is not None else f"{os.environ.get('PATH', '')}:{SBIN}")
    return [*_programs(host), *_abilities(host)]


def verdict(needs: Iterable[Need]) -> Verdict:
    """What `needs`, the result of `survey`, allow to run."""
    missing = {need.needed_for for need in needs if need.found is None}
    if Purpose.LAB in missing:
        return Verdict.REPLAY_ONLY
    return Verdict.LAB_WITHOUT_SSHD if Purpose.SSH in missing else Verdict.LAB_WITH_SSHD


def require_lab(needs: Iterable[Need]) -> None:
    """Refuse a machine that cannot run the local lab.

    Raises
    ------
    HostError
        Something that the lab needs is missing. The message names all of it, and what to do.
    """
    missing = [need for need in needs if need.found is None and need.needed_for is Purpose.LAB]
    if not missing:
        return
    packages = missing_packages(missing, Purpose.LAB)
    # An ability can only be judged once the programs that show it are there.
    todo = f"run: {install_line(packages)}" if packages else missing[0].how
    raise HostError(
        "the local lab cannot run on this machine",
        seen=f"no {', '.join(need.name for need in missing)}",
        todo=f"{todo}; or use PROVIDER=replay, which works anywhere",
    )


def missing_packages(needs: Iterable[Need], *purposes: Purpose) -> list[str]:
    """The Debian packages that are missing for `purposes`, each once, in the order of `needs`."""
    wanted = [need.package for need in needs if need.found is None and need.needed_for in purposes]
    return list(dict.fromkeys(package for package in wanted if package))


def install_line(packages: Iterable[str]) -> str:
    """The line that installs Debian `packages`, as this user has to type it."""
    return f"{'' if _is_root() else 'sudo '}apt-get install {' '.join(packages)}"


def render(needs: Iterable[Need]) -> Table:
    """`needs` as a table for a terminal, the verdict below it."""
    from rich.table import Table

    needs = list(needs)
    table = Table(caption=f"This machine can run: {verdict(needs)}", caption_justify="left")
    for column in ("Needed", "For", "Found", "To do"):
        table.add_column(column, overflow="fold")
    for need in needs:
        style, found, todo = ("red", "missing", need.how) if need.found is None else (None, need.found, "")
        table.add_row(need.name, need.needed_for, found, todo, style=style)
    return table


@dataclass(frozen=True)
class _Host:
    """This machine, seen through one search path."""

    path: str

    def which(self, program: str) -> str | None:
        return shutil.which(program, path=self.path)

    def output(self, *command: str) -> str | None:
        """What `command` printed, or None when it is missing or fails."""
        program = self.which(command[0])
        if program is None:
            return None
        try:
            done = subprocess.run(
                [program, *command[1:]],
                env=os.environ | {"PATH": self.path},
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=5,
                check=True,
            )
        except (OSError, subprocess.SubprocessError):
            return None
        return done.stdout.strip()

    def in_namespace(self, script: str) -> str | None:
        """What a shell script printed in a network and a mount namespace of its own, or None when it failed."""
        user = () if _is_root() else ("--map-root-user",)
        return self.output("unshare", *user, "--net", "--mount", "sh", "-ec", script)


def _is_root() -> bool:
    return os.geteuid() == 0


def _programs(host: _Host) -> list[Need]:
    needs = [
        Need(name, host.which(name), purpose, package, install_line([package])) for name, package, purpose in PROGRAMS
    ]
    font = next(FONTS.glob("**/Nanum*.ttf"), None)
    found = str(font) if font else None
    needs.append(Need("Korean font", found, Purpose.TESTS, "fonts-nanum", install_line(["fonts-nanum"])))
    needs.append(
        Need("apt-get", host.which("apt-get"), Purpose.SETUP, None, "install what is missing in this system's own way"),
    )
    return needs


def _abilities(host: _Host) -> list[Need]:
    def need(name: str, found: str | None, how: str, purpose: Purpose = Purpose.LAB) -> Need:
        return Need(name, found, purpose, None, how)

    kind = "as root" if _is_root() else "in a user namespace"
    needs = [need("namespaces", kind if host.in_namespace("true") is not None else None, "run as root")]
    for name, command, how, purpose in ABILITIES:
        needs.append(need(name, command if host.in_namespace(command) is not None else None, how, purpose))
    backend = next((command for command in IPTABLES if _nat_works(host, command)), None)
    version = host.output(backend, "--version") if backend else None
    needs.append(need("iptables backend", version, "as root: modprobe -a iptable_nat nft_chain_nat"))
    match = (
        "ipset create probe hash:net && "
        f"{backend or IPTABLES[0]} -A INPUT -m set --match-set probe src -j ACCEPT && ipset --version"
    )
    needs.append(need("ipset match", host.in_namespace(match), "as root: modprobe -a ip_set_hash_net xt_set"))
    needs.append(need("sshd start", _sshd(host), "run as root, with openssh-server installed", Purpose.SSH))
    return needs


def _nat_works(host: _Host, iptables: str) -> bool:
    return host.in_namespace(f"{iptables} -t nat -A POSTROUTING -j MASQUERADE") is not None


def _sshd(host: _Host) -> str | None:
    """Have sshd check a host key and an empty configuration. Only root may log others in; /run/sshd has to exist."""
    sshd = host.which("sshd")
    if sshd is None or not _is_root():
        return None
    key = "/run/sshd/key"
    # -n, or mount would first note this in the machine's own /run/mount.
    return host.in_namespace(
        "mount -n -t tmpfs none /run && mkdir -m 755 /run/sshd && "
        f"ssh-keygen -q -t ed25519 -N '' -f {key} && {sshd} -t -f /dev/null -h {key} && echo checked its configuration"
    )


def _main(group: str) -> None:
    """Print the Debian packages that are missing for `group`, `lab` or `tests`, one a line; tests run the lab, too."""
    purposes = {
        "lab": (Purpose.LAB, Purpose.SSH, Purpose.BGP, Purpose.KERNEL),
        "tests": (Purpose.LAB, Purpose.SSH, Purpose.BGP, Purpose.KERNEL, Purpose.TESTS),
    }[group]
    needs = _programs(_Host(f"{os.environ.get('PATH', '')}:{SBIN}"))
    print(*missing_packages(needs, *purposes), sep="\n")


if __name__ == "__main__":
    _main(sys.argv[1])
