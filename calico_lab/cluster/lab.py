"""The provider `lab`: a cluster in private namespaces of this machine, on its real kernel."""

from __future__ import annotations

import json
import os
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from io import StringIO
from pathlib import Path
from typing import Any, Literal

import paramiko
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from ..calico import BIRD_SOCKET, READINESS_PORT
from ..commands import Command
from ..doctor import require_lab, survey
from ..errors import LabError
from ..lab import bird, fabric, felix, flannel, node as lab_node
from ..lab.host import Host, lacking
from ..lab.settings import Settings
from ..parsers import bird_protocols
from ..scenario import Node, Pod, Scenario
from . import Result
from .ssh import Login, SshNode

__all__ = ["LabCluster", "kernel_for", "needs"]

_SSHD_START_S = 10.0
_BGP_LOOK_S = 0.2
_BGP_SETTLE_S = 9.0
"""Calico's timers let a session take this long: connect delay 2 s, and once more after connect retry 5 s."""


class LabCluster:
    """Bring a scenario's cluster up and hold it until `close`.

    Parameters
    ----------
    scenario : Scenario
    host : Host, optional
        Where its kernel is; by default a new `Host`.
    prepare : callable, optional
        Shell lines to run on a node before its CNI is installed.
    progress : callable, optional
        Called with a catalogue key at each step.

    Raises
    ------
    HostError, LabError
        See `Host`.
    """

    provider = "lab"
    node_log = "cat /run/log/calico-node.log"
    asks: tuple[Command, ...] = ()

    def __init__(
        self,
        scenario: Scenario,
        *,
        host: Host | None = None,
        prepare: Callable[[Node], list[str]] = lambda node: [],
        progress: Callable[[str], None] = lambda step: None,
    ) -> None:
        self.scenario = scenario
        if host is None:
            require_lab(survey())
        # sshd may have to be asked more than once until it answers.
        self.host = host or Host(kernel_for(scenario), connections=2 * len(scenario.nodes))
        self._delays = self.host.kernel == "uml" or not lacking(frozenset({"netem"}))
        self._ssh: dict[str, SshNode] = {}
        # sshd drops privileges, which needs more than one user: not to be had in a rootless user namespace.
        root = not self.host.rootless or self.host.kernel == "uml"
        self._has_sshd = root and Path(lab_node.SSHD[0]).exists()
        self._pool = ThreadPoolExecutor(max_workers=2 * (os.cpu_count() or 1))
        try:
            progress("fabric")
            self._build()
            for node in scenario.nodes:
                for line in prepare(node):
                    self.host.do(node.name, ["sh", "-c", line])
            progress("cni")
            self._install()
            progress("ssh")
            if self._has_sshd:
                self._each(self._await_sshd, scenario.nodes)
        except BaseException:
            self.close()
            raise

    @property
    def nodes(self) -> tuple[Node, ...]:
        return self.scenario.nodes

    @property
    def pods(self) -> tuple[Pod, ...]:
        return tuple(pod for node in self.nodes for pod in node.pods)

    @property
    def fabric(self) -> tuple[str, ...]:
        return (*(fabric.router(site.name) for site in self.scenario.sites), fabric.INTERNET)

    @property
    def facts(self) -> dict[str, Any]:
        return {
            "transport": "ssh" if self._ssh else "direct",
            "kernel": self.host.do("", ["uname", "-r"]).strip(),
            "machine": "user-mode-linux" if self.host.kernel == "uml" else "namespaces",
            "stand_ins": self._stand_ins(),
            "latency_left_out": _has_latency(self.scenario) and not self._delays,
        }

    def _stand_ins(self) -> list[str]:
        if self.scenario.cni.plugin == "canal":
            return ["flannel", "fabric"]
        return ["felix", *(["bird"] if self.scenario.cni.backend == "bird" else []), "fabric"]

    def run(self, where: str, line: str, timeout_s: float) -> Result:
        if where in self._ssh:
            return self._ssh[where].run(line, timeout_s)
        done = self.host.run(where, ["sh", "-c", line], timeout_s=timeout_s)
        return Result("timeout" if done.code is None else "done", done.code, done.stdout, done.stderr, done.seconds)

    def inside(self, pod: Pod) -> str:
        return f"ip netns exec {pod.name}"

    def close(self) -> None:
        for connection in self._ssh.values():
            connection.close()
        self._pool.shutdown(wait=False, cancel_futures=True)
        self.host.close()

    # ------------------------------------------------------------------ bringing it up

    def _each(self, work: Callable[..., None], *arguments: Any) -> None:
        """In parallel; the first failure is raised when all have ended."""
        list(self._pool.map(work, *arguments))

    def _build(self) -> None:
        """Namespaces, the wires between them, the clouds' networks, and nodes that are reachable."""
        links, routers = fabric.build(self.scenario, delays=self._delays)
        login = Ed25519PrivateKey.generate()
        files = {}
        for node in self.nodes:
            host_key = Ed25519PrivateKey.generate()
            files[node.name] = lab_node.name_files(node) | lab_node.ssh_files(_private(host_key), _public(login))
            if self.scenario.cni.backend == "bird":
                files[node.name][bird.FILE] = bird.configuration(node, self.scenario)
            if self._has_sshd:
                self._ssh[node.name] = self._connection(node.name, login, host_key)
        self.host.spaces(
            [*routers, *(node.name for node in self.nodes), *(pod.name for pod in self.pods)],
            {node.name: {"files": files[node.name], "netns": [pod.name for pod in node.pods]} for node in self.nodes},
        )
        self.host.apply("", Settings(ip=[*links, *lab_node.veths(self.scenario)]))
        self._each(self.host.apply, routers.keys(), routers.values())
        self._each(self._set_up_node, self.nodes)

    def _set_up_node(self, node: Node) -> None:
        settings = lab_node.nic(node, public_ip_alias=self.scenario.public_ip_alias)
        for pod in node.pods:
            on_node, in_pod = lab_node.pod(pod)
            settings.add(on_node)
            self.host.apply(pod.name, in_pod)
        self.host.apply(node.name, settings)
        if node.name in self._ssh:
            self.host.spawn(node.name, lab_node.SSHD)

    def _install(self) -> None:
        if self.scenario.cni.plugin == "canal":
            self._each(lambda node: self.host.apply(node.name, flannel.device(node, self.scenario)), self.nodes)
            macs = {node.name: self._mac(node.name, "flannel.1") for node in self.nodes}
            self._each(lambda node: self.host.apply(node.name, flannel.peers(node, self.scenario, macs)), self.nodes)
            self._each(lambda node: self._report(node, (), felix.READY), self.nodes)
        else:
            self._each(self._program_felix, self.nodes)
        if self.scenario.cni.backend == "bird":
            self._each(self._start_bird, self.nodes)
            self._each(self._write_learned, self.nodes)

    def _program_felix(self, node: Node) -> None:
        links = json.loads(self.host.do(node.name, ["ip", "-json", "addr"]))
        plan = felix.dataplane(node, self.scenario, links)
        self.host.apply(node.name, plan.settings)
        self._report(node, plan.log, plan.health)

    def _report(self, node: Node, log: tuple[str, ...], health: dict[str, int]) -> None:
        """Leave the daemon's log on the node, and its health endpoint answering."""
        script = ["sh", "-c", "mkdir -p /run/log && cat > /run/log/calico-node.log"]
        self.host.do(node.name, script, "".join(f"{line}\n" for line in log))
        self.host.health(node.name, READINESS_PORT, health)

    def _start_bird(self, node: Node) -> None:
        self.host.apply(node.name, bird.accept_mapped(node, self.scenario))
        self.host.spawn(node.name, bird.BIRD)

    def _write_learned(self, node: Node) -> None:
        """Give the sessions the time that they may take, then do what Calico's BIRD does with what it learned."""
        deadline = time.monotonic() + _BGP_SETTLE_S
        while not all(state == "Established" for state in self._sessions(node)) and time.monotonic() < deadline:
            time.sleep(_BGP_LOOK_S)
        learned = self._birdcl(node, "show route all")
        self.host.apply(node.name, Settings(ip=bird.tunnel_routes(node, self.scenario, learned)))

    def _sessions(self, node: Node) -> list[str]:
        """State of each BGP session; a BIRD that has only just been started may not answer yet."""
        rows = bird_protocols.parse(self._birdcl(node, "show protocols"))
        return [(row.info or "").split(" ")[0] for row in rows if row.proto == "BGP"] or ["none yet"]

    def _birdcl(self, node: Node, request: str) -> str:
        return self.host.run(node.name, ["birdcl", "-s", BIRD_SOCKET, *request.split()]).stdout

    def _mac(self, node: str, device: str) -> str:
        link = json.loads(self.host.do(node, ["ip", "-json", "link", "show", device]))[0]
        return str(link["address"])

    # ------------------------------------------------------------------ SSH

    def _connection(self, node: str, login: Ed25519PrivateKey, host_key: Ed25519PrivateKey) -> SshNode:
        def dial() -> socket.socket:
            return self.host.connect(node, 22)

        return SshNode(
            node, Login(address=node, user="cb-user", key=_paramiko(login), host_key=_paramiko(host_key), dial=dial)
        )

    def _await_sshd(self, node: Node) -> None:
        deadline = time.monotonic() + _SSHD_START_S
        while (result := self.run(node.name, "true", _SSHD_START_S)).code != 0:
            if time.monotonic() > deadline:
                log = self.host.run(node.name, ["cat", "/run/sshd.log"]).stdout
                raise LabError("its sshd does not answer", where=node.name, seen=log or result.stderr)
            time.sleep(0.02)


def needs(scenario: Scenario) -> frozenset[str]:
    """What a kernel must have for this scenario: keys of `lab.host.TRIALS`."""
    internet = scenario.internet
    netem = internet.jitter_ms or internet.loss_percent or (internet.exact_latency and _has_latency(scenario))
    return frozenset({"ipip" if scenario.cni.backend == "bird" else "vxlan", *(["netem"] if netem else [])})


def _has_latency(scenario: Scenario) -> bool:
    """Whether the scenario's sites are apart."""
    return any(scenario.latency_share_ms(site) for site in scenario.sites)


def kernel_for(scenario: Scenario) -> Literal["here", "uml"]:
    """This machine's own kernel where it has all that the scenario needs, else user-mode Linux.

    Raises
    ------
    HostError
        If this machine cannot even make namespaces.
    """
    return "uml" if lacking(needs(scenario)) else "here"


def _private(key: Ed25519PrivateKey) -> str:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.OpenSSH, serialization.NoEncryption()
    ).decode()


def _public(key: Ed25519PrivateKey) -> str:
    form = (serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH)
    return key.public_key().public_bytes(*form).decode() + "\n"


def _paramiko(key: Ed25519PrivateKey) -> paramiko.Ed25519Key:
    return paramiko.Ed25519Key(file_obj=StringIO(_private(key)))
