"""Clusters that are there, by the name of their provider, for as long as they are recorded."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ..errors import InputError
from ..scenario import Scenario
from . import Cluster
from .inventory import Inventory, Machine
from .kube.cluster import open_kube
from .kube.install import OtherCni
from .kube.journal import JOURNAL
from .machines import SshCluster
from .mcks.client import SSH_USER, ClusterAccess, Mcks
from .mcks.config import find_server
from .ssh import Shells

__all__ = ["Connect", "Options", "provider"]

Connect = Callable[[Scenario, Callable[[str], None]], AbstractContextManager[Cluster]]
"""Gives the cluster of a scenario; the second argument is called with a catalogue key or a line at each step."""


@dataclass(frozen=True, kw_only=True)
class Options:
    """What says which cluster is meant, and how to get at it.

    Attributes
    ----------
    journal_folder : Path
        Where changes of a cluster are written down.
    inventory : Path or None
        ssh: the machines. kube: the nodes, in place of the tool's own privileged pods.
    trust_first_use : bool
        Whether SSH takes host keys that are not known yet.
    kubeconfig, context
        kube: of the cluster.
    force, other_cni
        kube and mcks: see `open_kube`.
    cluster : str or None
        mcks: a cluster's name; the scenario's where none is given.
    """

    journal_folder: Path
    inventory: Path | None = None
    trust_first_use: bool = False
    kubeconfig: Path | None = None
    context: str | None = None
    force: bool = False
    other_cni: OtherCni = "refuse"
    cluster: str | None = None


def provider(name: str, options: Options) -> Connect:
    """How to get a cluster of that provider.

    Raises
    ------
    InputError
        If an option is missing, or an inventory cannot be read; nothing has been asked then.
    """
    if name == "ssh":
        if options.inventory is None:
            raise InputError("not given", where="INVENTORY", todo="PROVIDER=ssh INVENTORY=hosts.yaml")
        return partial(_ssh, Inventory.load(options.inventory), options)
    if name == "kube":
        if options.kubeconfig is None:
            raise InputError("not given", where="KUBECONFIG", todo="PROVIDER=kube KUBECONFIG=~/.kube/config")
        inventory = Inventory.load(options.inventory) if options.inventory else None
        return partial(_kube, "kube", options.kubeconfig, inventory, options)
    return partial(_mcks, options)


@contextmanager
def _ssh(
    inventory: Inventory, options: Options, scenario: Scenario, step: Callable[[str], None]
) -> Iterator[SshCluster]:
    cluster = SshCluster(scenario, inventory, trust_first_use=options.trust_first_use, progress=step)
    with closing(cluster):
        yield cluster


@contextmanager
def _kube(
    name: str,
    kubeconfig: Path,
    inventory: Inventory | None,
    options: Options,
    scenario: Scenario,
    step: Callable[[str], None],
) -> Iterator[Cluster]:
    logins = inventory.logins(trust_first_use=options.trust_first_use) if inventory else {}
    with closing(Shells(logins)) as shells:
        cluster = open_kube(
            scenario,
            kubeconfig,
            options.journal_folder / JOURNAL,
            context=options.context,
            provider=name,
            shells=shells if inventory else None,
            force=options.force,
            other_cni=options.other_cni,
            progress=step,
        )
        with closing(cluster):
            yield cluster


@contextmanager
def _mcks(options: Options, scenario: Scenario, step: Callable[[str], None]) -> Iterator[Cluster]:
    """A cluster of MCKS: its kubeconfig and its nodes' keys come from there, the rest is as with `kube`."""
    step("mcks")
    access = Mcks(find_server(place=scenario.mcks)).access(options.cluster or scenario.name)
    inventory = _inventory(access)
    with _kube("mcks", access.kubeconfig, inventory, options, scenario, step) as cluster:
        yield cluster


def _inventory(access: ClusterAccess) -> Inventory:
    """A cluster's machines as an inventory; their host keys are kept beside their keys."""
    machines = [
        Machine(name=each.name, address=each.public_ip, user=SSH_USER, key=each.key) for each in access.machines
    ]
    return Inventory(nodes=tuple(machines), known_hosts=access.kubeconfig.with_name("known_hosts"))
