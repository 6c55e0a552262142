"""The provider `ssh`: machines with a CNI that somebody installed. Nothing on them is changed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from ipaddress import IPv4Address
from typing import Any

from ..commands import CONTAINER_LOG, Command
from ..errors import ClusterError, InputError
from ..scenario import Found, Node, Pod, Scenario
from . import Result, found
from .inventory import Inventory, Machine
from .ssh import Shells

__all__ = ["SshCluster"]

_AT_ONCE = 16
"""Machines that are looked at together."""


class SshCluster:
    """The machines of an inventory in the place of a scenario's nodes.

    A machine that does not answer stays in the cluster: what is known of it is what the inventory and the scenario say,
    and each command on it is a failure of that machine alone.

    Parameters
    ----------
    scenario : Scenario
    inventory : Inventory
    trust_first_use : bool
        Take host keys that the inventory's known_hosts does not have, and write them there.
    progress : callable, optional
        Called with a catalogue key at each step.

    Raises
    ------
    InputError
        If nothing says in which site a machine is, or a key cannot be read.
    ClusterError
        If no machine answers.
    """

    provider = "ssh"
    asks: tuple[Command, ...] = ()
    fabric: tuple[str, ...] = ()

    def __init__(
        self,
        scenario: Scenario,
        inventory: Inventory,
        *,
        trust_first_use: bool = False,
        progress: Callable[[str], None] = lambda step: None,
    ) -> None:
        sites = {machine.name: _site(machine, scenario) for machine in inventory.nodes}
        self.node_log = inventory.node_log or CONTAINER_LOG
        self._ssh = Shells(inventory.logins(trust_first_use=trust_first_use))
        progress("ssh")
        try:
            seen = self._look(inventory, scenario)
            self._silent = {name: str(answer) for name, answer in seen.items() if isinstance(answer, ClusterError)}
            if len(self._silent) == len(seen):
                raise next(answer for answer in seen.values() if isinstance(answer, ClusterError))
            self._answers = {name: answer for name, answer in seen.items() if isinstance(answer, found.Machine)}
            machines = [
                _found(machine, sites[machine.name], self._answers.get(machine.name), scenario)
                for machine in inventory.nodes
            ]
            self.scenario = scenario.on(machines)
            self.pods = tuple(pod for machine in inventory.nodes for pod in self._pods(machine))
        except BaseException:
            self.close()
            raise

    @property
    def nodes(self) -> tuple[Node, ...]:
        return self.scenario.nodes

    @property
    def facts(self) -> dict[str, Any]:
        return {
            "transport": "ssh",
            "kernel": ", ".join(dict.fromkeys(answer.kernel for answer in self._answers.values())),
            "host_keys": self._ssh.host_keys,
            "silent": self._silent,
        }

    def run(self, where: str, line: str, timeout_s: float) -> Result:
        return self._ssh.run(where, line, timeout_s)

    def inside(self, pod: Pod) -> str:
        return found.inside(pod)

    def close(self) -> None:
        self._ssh.close()

    def _look(self, inventory: Inventory, scenario: Scenario) -> Mapping[str, found.Machine | ClusterError]:
        def look(machine: Machine) -> found.Machine | ClusterError:
            public = _public_ip(machine, scenario)
            timeout_s = scenario.probes.command_timeout_s
            try:
                return found.look(self.run, machine.name, scenario.cni, public_ip=public, timeout_s=timeout_s)
            except ClusterError as silent:
                return silent

        with ThreadPoolExecutor(_AT_ONCE) as several:
            return dict(zip([each.name for each in inventory.nodes], several.map(look, inventory.nodes), strict=True))

    def _pods(self, machine: Machine) -> tuple[Pod, ...]:
        if machine.pods:
            return tuple(Pod(pod.name, machine.name, str(pod.address), pod.namespace) for pod in machine.pods)
        answer = self._answers.get(machine.name)
        return answer.pods if answer else ()


def _site(machine: Machine, scenario: Scenario) -> str:
    """Where a machine is: as the inventory says, or the scenario's node of that name; one site leaves no doubt."""
    said = {node.name: node.site for node in scenario.nodes}
    names = [site.name for site in scenario.sites]
    site = machine.site or said.get(machine.name) or (names[0] if len(names) == 1 else None)
    if site not in names:
        raise InputError(
            "in which of the scenario's sites is this machine?",
            where=f"inventory: {machine.name}",
            seen=site,
            todo=f"add site: one of {', '.join(names)}",
        )
    return site


def _public_ip(machine: Machine, scenario: Scenario) -> str | None:
    """As the inventory says, or the address that it is reached at if that is one of the internet's."""
    if machine.public_ip:
        return str(machine.public_ip)
    said = next((node.public_ip for node in scenario.nodes if node.name == machine.name), None)
    try:
        return machine.address if IPv4Address(machine.address).is_global else said
    except ValueError:  # a name
        return said


def _found(machine: Machine, site: str, answer: found.Machine | None, scenario: Scenario) -> Found:
    """What the machine says of itself; what the inventory says goes before it."""
    said = next((node for node in scenario.nodes if node.name == machine.name), None)
    own = Found(
        name=machine.name,
        role=machine.role or (said.role if said else "worker"),
        site=site,
        public_ip=_public_ip(machine, scenario),
    )
    seen = ("private_ip", "nic", "mtu_bytes", "prefix_len", "block") if answer else ()
    values: dict[str, Any] = {key: getattr(answer, key) for key in seen}
    values |= {key: str(value) for key in ("private_ip", "block") if (value := getattr(machine, key)) is not None}
    return replace(own, **values)
