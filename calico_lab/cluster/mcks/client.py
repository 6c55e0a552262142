"""Clusters of MCKS, Cloud-Barista's service for Kubernetes across clouds: what ``cbctl`` does, over the same REST API.

Making and deleting take MCKS minutes, and it answers only then. So such a request is sent beside looking at the cluster
by its name, and it is what is seen there that counts: a connection that breaks, or a gateway that gives up, changes
nothing. A cluster is asked for again only where it is not there, and MCKS has one of a name, so it is never made twice.

Nothing is deleted that this tool did not make (`ownership`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ...errors import ClusterError, InputError
from ...scenario import Scenario
from .config import Server
from .http import Generation, RefusedError, Rest, UnansweredError, without_secrets
from .kubeconfig import renamed
from .ownership import Made, Records, new_mark
from .request import CNI, KUBERNETES, cluster_request, nodes_request, version_query
from .waiting import Patience, Seen, see_through

__all__ = ["SSH_USER", "ClusterAccess", "MachineAccess", "Mcks", "McksCluster", "McksNode"]

SSH_USER = "cb-user"
"""MCKS's login on every node (cb-ladybug, src/core/tumblebug/types.go)."""


@dataclass(frozen=True, slots=True)
class McksNode:
    """A node as MCKS shows it, without its private key.

    Attributes
    ----------
    name : str
    role : str
        ``control-plane`` or ``worker``.
    csp, region, zone : str
        Region and zone are empty until MCKS has labelled the node.
    spec : str
    public_ip : str or None
        None for a node that is not complete, or whose machine is gone.
    private_ip : str or None
        None from MCKS before v0.7.2, which does not say it.
    created_time : str or None
        None until the node has joined.
    """

    name: str
    role: str
    csp: str
    region: str
    zone: str
    spec: str
    public_ip: str | None
    private_ip: str | None
    created_time: str | None


@dataclass(frozen=True, slots=True)
class McksCluster:
    """A cluster as MCKS shows it, without its kubeconfig.

    Attributes
    ----------
    name, namespace : str
    phase : str
        ``Pending``, ``Provisioning``, ``Provisioned``, ``Failed`` or ``Deleting``.
    reason, message : str
        Why it is Failed; else empty.
    cni : str
    kubernetes : str or None
        None from MCKS before v0.6.0.
    description : str
    created_time : str or None
        None until it is Provisioned.
    leader : str
        The control-plane node that cannot be removed.
    nodes : tuple of McksNode
    """

    name: str
    namespace: str
    phase: str
    reason: str
    message: str
    cni: str
    kubernetes: str | None
    description: str
    created_time: str | None
    leader: str
    nodes: tuple[McksNode, ...]


@dataclass(frozen=True, slots=True)
class MachineAccess:
    """How to reach a node of a cluster.

    Attributes
    ----------
    name : str
        MCKS's, which is Kubernetes's too in a cluster of type multi.
    role, csp, region, zone : str
    public_ip : str
    private_ip : str or None
        See `McksNode`.
    user : str
        May use sudo without a password.
    key : Path
        Private key, mode 0600. Nodes of one connection share it.
    """

    name: str
    role: str
    csp: str
    region: str
    zone: str
    public_ip: str
    private_ip: str | None
    user: str
    key: Path


@dataclass(frozen=True, slots=True)
class ClusterAccess:
    """What a review of a cluster needs: its machines, and the file that opens its API."""

    cluster: str
    machines: tuple[MachineAccess, ...]
    kubeconfig: Path


class Mcks:
    """An MCKS, in one of its namespaces.

    Parameters
    ----------
    server : Server
    records : Records
        What was made, and where files of clusters are.
    patience : Patience
    progress : callable
        Called with what is going on while waiting.

    Raises
    ------
    ClusterError
        From every method: if MCKS does not answer, or answers with an error.
    """

    def __init__(
        self,
        server: Server,
        records: Records | None = None,
        *,
        patience: Patience | None = None,
        progress: Callable[[str], None] = lambda text: None,
    ) -> None:
        self.server, self.records = server, records or Records()
        self._rest, self._patience, self._progress = Rest(server), patience or Patience(), progress

    @property
    def address(self) -> str:
        """The address under which MCKS answers, with its path."""
        return self._rest.base

    @property
    def generation(self) -> Generation:
        return self._rest.generation

    # ------------------------------------------------------------------ looking

    def clusters(self) -> tuple[McksCluster, ...]:
        return tuple(_cluster(each) for each in _items(self._rest.call("GET", "clusters")))

    def find(self, name: str) -> McksCluster | None:
        """The cluster of that name, or None.

        In the list: asked for one, MCKS says "not found" also where the namespace is wrong or Tumblebug is down.
        """
        return next((cluster for cluster in self.clusters() if cluster.name == name), None)

    def cluster(self, name: str) -> McksCluster:
        """The cluster of that name, whoever made it."""
        clusters = self.clusters()
        found = next((cluster for cluster in clusters if cluster.name == name), None)
        if found is None:
            known = ", ".join(cluster.name for cluster in clusters) or "none"
            raise ClusterError("no cluster has that name", where=self._where(), seen=name, todo=f"there are: {known}")
        return found

    def made_here(self, cluster: McksCluster) -> bool:
        """Whether this tool made it, as far as its record says."""
        made = self.records.read(cluster.name)
        return made is not None and made.mark is not None and not self._differences(made, cluster)

    # ------------------------------------------------------------------ files

    def save_key(self, name: str, node: str) -> Path:
        """Write a node's private key to ``<node>.pem`` beside the cluster's record; only its owner can read it.

        Raises
        ------
        ClusterError
            If there is no such node, or MCKS has no key of it: no file is written then.
        """
        nodes = [each.name for each in self.cluster(name).nodes]
        if node not in nodes:
            raise ClusterError(
                "no node has that name", where=f"cluster {name}", seen=node, todo=f"there are: {', '.join(nodes)}"
            )
        key = self._rest.call("GET", "clusters", name, "nodes", node).get("credential")
        if not isinstance(key, str) or "PRIVATE KEY-----" not in key:
            raise ClusterError(
                "MCKS holds no private key of it",
                where=f"cluster {name}, node {node}",
                todo="it keeps none of a node whose machine failed: look at the cluster's phase",
            )
        return self.records.write_secret(name, f"{node}.pem", key.rstrip("\n") + "\n")

    def save_kubeconfig(self, name: str) -> Path:
        """Write the cluster's kubeconfig, under names of its own, beside its record; only its owner can read it."""
        phase = self.cluster(name).phase
        text = self._rest.call("GET", "clusters", name).get("clusterConfig")
        if not isinstance(text, str) or not text.strip():
            raise ClusterError(
                "MCKS holds no kubeconfig of it",
                where=f"cluster {name}",
                seen=f"phase {phase}",
                todo="it has one when the cluster is Provisioned",
            )
        return self.records.write_secret(name, "kubeconfig", renamed(text, name))

    def access(self, name: str) -> ClusterAccess:
        """Everything that a review needs of a complete cluster, with its files written."""
        cluster = self.cluster(name)
        incomplete = [node.name for node in cluster.nodes if node.public_ip is None]
        if cluster.phase != "Provisioned" or incomplete or not cluster.nodes:
            raise ClusterError(
                "the cluster is not complete",
                where=f"cluster {name}",
                seen=f"phase {cluster.phase}" + (f", no public IP: {', '.join(incomplete)}" if incomplete else ""),
            )
        machines = tuple(
            MachineAccess(
                name=node.name,
                role=node.role,
                csp=node.csp,
                region=node.region,
                zone=node.zone,
                public_ip=str(node.public_ip),
                private_ip=node.private_ip,
                user=SSH_USER,
                key=self.save_key(name, node.name),
            )
            for node in cluster.nodes
        )
        return ClusterAccess(name, machines, self.save_kubeconfig(name))

    # ------------------------------------------------------------------ making

    def create(self, scenario: Scenario, name: str, *, cni: str = CNI, kubernetes: str = KUBERNETES) -> McksCluster:
        """Make a scenario's cluster and wait until it is complete.

        One that this tool asked for before, and that is still being made, is waited for.

        Parameters
        ----------
        scenario : Scenario
        name : str
        cni, kubernetes : str
            See `request`.

        Raises
        ------
        InputError
            If the scenario or an argument cannot be one for MCKS; nothing was asked for then.
        ClusterError
            If the name is taken, MCKS cannot install the CNI, or the cluster failed.
        KeyboardInterrupt
            On Ctrl-C, with what goes on at MCKS as its text.
        """
        mark = new_mark()
        body = cluster_request(scenario, name, description=f"{scenario.name} {mark}", cni=cni, kubernetes=kubernetes)
        self._refuse_cni(cni)
        made = self._own_record(name)
        there = self.find(name)
        ask = None
        if there is None:
            count = sum(group["count"] for group in (*body["controlPlane"], *body["worker"]))
            made = Made(name, self.server.namespace, self.server.origin, mark, count)
            self.records.write(made)

            def ask() -> None:
                self._post_cluster(body, version_query(kubernetes), mark)

        elif made is None or there.phase != "Provisioning" or not self.made_here(there):
            raise ClusterError(
                "a cluster has that name already; nothing was changed",
                where=self._where(),
                seen=f"{name}, {there.phase}",
                todo="delete it first, or name another",
            )
        try:
            with _goes_on(
                f"stopped waiting; MCKS goes on making cluster {name}; "
                f'to look: make cluster DO="show {name}"; to wait on: DO="create {name}" SCENARIO={scenario.name}; '
                f'when it is complete or failed: DO="delete {name}"'
            ):
                self._see_through(ask, lambda: self._making(name, made.mark or ""), again=True)
        except RefusedError:
            # Before anything was made: what MCKS began and failed to make is there as Failed, with this tool's mark.
            with suppress(RefusedError, UnansweredError):
                there = self.find(name)
                if there is None or not self.made_here(there):
                    self.records.forget(name)
            raise
        cluster = self.cluster(name)
        self.records.write(
            replace(made, created_time=cluster.created_time, nodes=tuple(node.name for node in cluster.nodes))
        )
        return cluster

    def add(self, name: str, *, connection: str, spec: str, count: int = 1) -> tuple[str, ...]:
        """Add workers to a cluster, whoever made it, and wait until they have joined; returns their names.

        Asked for once only: MCKS would add as many again.
        """
        body = nodes_request(connection, spec, count)
        cluster = self.cluster(name)
        made = self._own_record(name)
        if made is None or self._differences(made, cluster):
            made = Made(name, self.server.namespace, self.server.origin, None, created_time=cluster.created_time)
        made = replace(made, nodes=_own_nodes(made, cluster))
        before = {node.name for node in cluster.nodes}
        self.records.write(replace(made, count=len(made.nodes) + count))
        try:
            with _goes_on(
                f'stopped waiting; MCKS goes on adding to cluster {name}; to look: make cluster DO="nodes {name}"'
            ):
                self._see_through(
                    lambda: self._rest.call("POST", "clusters", name, "nodes", body=body, read_s=None),
                    lambda: self._adding(name, before, count),
                )
        except (RefusedError, UnansweredError):
            self._write_down(made, before, count)  # what MCKS failed to add may stand there all the same
            raise
        return self._write_down(made, before, count)

    def _write_down(self, made: Made, before: set[str], count: int) -> tuple[str, ...]:
        """Record the nodes that have been added, which must not be more than were asked for."""
        new = tuple(node.name for node in self.cluster(made.name).nodes if node.name not in before)
        if len(new) > count:
            self.records.write(replace(made, count=len(made.nodes)))
            raise ClusterError(
                "somebody else added nodes too, so none is written down as made here",
                where=f"cluster {made.name}",
                seen=f"new: {', '.join(new)}; asked for: {count}",
            )
        self.records.write(replace(made, count=len(made.nodes) + len(new), nodes=(*made.nodes, *new)))
        return new

    # ------------------------------------------------------------------ deleting

    def deletable(self, name: str, *, unfinished: bool = False) -> McksCluster | None:
        """The cluster, if this tool made it and every node of it; None if it made it and it is gone already.

        Parameters
        ----------
        name : str
        unfinished : bool
            Whether one that is still being made will do. MCKS knows the machines of such a cluster only when it has
            them all, and so would leave them behind; but one that it was making when it was stopped stays so for ever.

        Raises
        ------
        ClusterError
            If it did not, or the cluster is still being made.
        """
        made = self._own_record(name)
        there = self.find(name)
        if made is None or made.mark is None:
            raise self._not_made_here(f"cluster {name}", "there is no record that it did")
        if there is None:
            return None
        if found := self._differences(made, there):
            raise self._not_made_here(f"cluster {name}", "; ".join(found))
        own = _own_nodes(made, there)
        if others := [node.name for node in there.nodes if node.name not in own]:
            raise self._not_made_here(f"cluster {name}", f"nodes that others added: {', '.join(others)}")
        if there.phase in ("Pending", "Provisioning") and not unfinished:
            raise ClusterError(
                "MCKS is still making it, and could leave machines behind",
                where=f"cluster {name}",
                seen=there.phase,
                todo="wait until it is complete or failed; if MCKS was restarted meanwhile, add --unfinished",
            )
        return there

    def delete(self, name: str, *, unfinished: bool = False) -> bool:
        """Delete a cluster that this tool made, with its record, keys and kubeconfig; False if it was gone already."""
        there = self.deletable(name, unfinished=unfinished)
        if there is not None:
            with _goes_on(
                f'stopped waiting; MCKS goes on deleting cluster {name}; to look: make cluster DO="show {name}"'
            ):
                self._see_through(lambda: self._unless_gone("clusters", name), lambda: self._deleting(name))
        self.records.forget(name)
        return there is not None

    def removable(self, name: str, node: str) -> McksNode:
        """The node, if this tool made it."""
        made = self._own_record(name)
        cluster = self.cluster(name)
        found = ["there is no record that it did"] if made is None else self._differences(made, cluster)
        if made is None or found or node not in _own_nodes(made, cluster):
            raise self._not_made_here(f"cluster {name}, node {node}", "; ".join(found) or "it is not in its record")
        there = next((each for each in cluster.nodes if each.name == node), None)
        if there is None:
            self.records.without(made, node)
            raise ClusterError("the node is gone already", where=f"cluster {name}", seen=node)
        return there

    def remove(self, name: str, node: str) -> None:
        """Remove a node that this tool made from its cluster, with its machine and its key file."""
        self.removable(name, node)
        with _goes_on(f'stopped waiting; MCKS goes on removing node {node}; to look: make cluster DO="nodes {name}"'):
            self._see_through(
                lambda: self._unless_gone("clusters", name, "nodes", node), lambda: self._removing(name, node)
            )
        if made := self.records.read(name):
            self.records.without(made, node)

    # ------------------------------------------------------------------ what a look shows

    def _making(self, name: str, mark: str) -> Seen:
        cluster = self.find(name)
        if cluster is None:
            return Seen("absent", "asked for")
        if mark not in cluster.description:
            raise ClusterError("somebody else made a cluster of that name", where=self._where(), seen=name)
        if cluster.phase == "Failed":
            raise ClusterError(
                f"MCKS could not make it: {cluster.message or 'no message'}",
                where=f"cluster {name}",
                seen=cluster.reason or "no reason",
                todo=f'what MCKS keeps of it goes with: make cluster DO="delete {name}"',
            )
        if cluster.phase == "Deleting":
            raise ClusterError("somebody deletes it", where=f"cluster {name}")
        doing = f"Kubernetes on {len(cluster.nodes)} nodes" if cluster.nodes else "machines"
        return Seen("done" if cluster.phase == "Provisioned" else "going", f"{cluster.phase}: {doing}")

    def _adding(self, name: str, before: set[str], count: int) -> Seen:
        new = [node for node in self.cluster(name).nodes if node.name not in before]
        if not new:
            return Seen("absent", "machines")
        if lost := [node.name for node in new if node.public_ip is None]:
            return Seen("failed", f"MCKS could not add {', '.join(lost)}")
        done = len(new) >= count and all(node.created_time for node in new)
        return Seen("done" if done else "going", f"Kubernetes on {', '.join(node.name for node in new)}")

    def _deleting(self, name: str) -> Seen:
        cluster = self.find(name)
        if cluster is None:
            return Seen("done", "deleted")
        return Seen("going" if cluster.phase == "Deleting" else "absent", cluster.phase)

    def _removing(self, name: str, node: str) -> Seen:
        gone = node not in {each.name for each in self.cluster(name).nodes}
        return Seen("done" if gone else "going", "removed" if gone else f"draining {node}")

    # ------------------------------------------------------------------ asking

    def _post_cluster(self, body: Mapping[str, Any], query: Mapping[str, str], mark: str) -> None:
        """Ask for a cluster. That ours exists is no answer to having asked: what a look shows then counts."""
        try:
            self._rest.call("POST", "clusters", body=body, query=query, read_s=None)
        except RefusedError as refused:
            there = self.find(body["name"])
            if there is not None and mark in there.description:
                raise UnansweredError(refused.what, where=refused.where, seen=refused.seen) from None
            raise

    def _unless_gone(self, *path: str) -> None:
        with _gone_is_deleted():
            self._rest.call("DELETE", *path, read_s=None)

    def _see_through(self, ask: Callable[[], object] | None, look: Callable[[], Seen], *, again: bool = False) -> None:
        see_through(ask, look, again=again, patience=self._patience, progress=self._progress, where=self._where())

    # ------------------------------------------------------------------ whose it is

    def _own_record(self, name: str) -> Made | None:
        """The record under that name, which has to be of this MCKS and namespace."""
        made = self.records.read(name)
        if made and (made.endpoint, made.namespace) != (self.server.origin, self.server.namespace):
            raise InputError(
                "the record under that name is of another MCKS or namespace",
                where=f"cluster {name}",
                seen=f"{made.endpoint}, namespace {made.namespace}",
                todo="name that MCKS, or another cluster",
            )
        return made

    def _differences(self, made: Made, there: McksCluster) -> list[str]:
        """Why a cluster is not the one that a record is of; empty where it is."""
        return made.differences(
            name=there.name,
            namespace=there.namespace,
            endpoint=self.server.origin,
            description=there.description,
            created_time=there.created_time,
        )

    def _not_made_here(self, where: str, why: str) -> ClusterError:
        return ClusterError("this tool did not make it, and deletes only what it made", where=where, seen=why)

    def _refuse_cni(self, cni: str) -> None:
        known = self.generation.cnis
        if known is not None and cni not in known:
            raise ClusterError(
                f"this MCKS ({self.generation.versions}) installs no such CNI across clouds",
                where=self.address,
                seen=cni,
                todo=f"allowed: {', '.join(known)}; Calico comes later, in place of canal",
            )

    def _where(self) -> str:
        return f"{self.address}, namespace {self.server.namespace}"


# ---------------------------------------------------------------------- saying and reading


@contextmanager
def _goes_on(text: str) -> Iterator[None]:
    """Let Ctrl-C say what it does not stop."""
    try:
        yield
    except KeyboardInterrupt:
        raise KeyboardInterrupt(text) from None


@contextmanager
def _gone_is_deleted() -> Iterator[None]:
    try:
        yield
    except RefusedError as refused:
        if refused.code != 404:
            raise


def _items(answer: Mapping[str, Any]) -> list[dict[str, Any]]:
    return answer.get("items") or []


def _cluster(answer: Mapping[str, Any]) -> McksCluster:
    try:
        status = answer["status"]
        return McksCluster(
            name=answer["name"],
            namespace=answer["namespace"],
            phase=status["phase"],
            reason=without_secrets(status["reason"]),
            message=without_secrets(status["message"]),
            cni=answer["networkCni"],
            kubernetes=answer.get("k8sVersion") or None,
            description=answer["description"],
            created_time=answer["createdTime"] or None,
            leader=answer["cpLeader"],
            nodes=tuple(_node(each) for each in answer["nodes"] or []),
        )
    except (KeyError, TypeError, AttributeError):
        raise ClusterError(
            "a cluster is not shown as MCKS from v0.5.1 on shows it", todo="is this an older MCKS?"
        ) from None


def _node(answer: Mapping[str, Any]) -> McksNode:
    return McksNode(
        name=answer["name"],
        role=answer["role"],
        csp=answer["csp"],
        region=_label(answer["regionLabel"]),
        zone=_label(answer["zoneLabel"]),
        spec=answer["spec"],
        public_ip=answer["publicIp"] or None,
        private_ip=answer.get("privateIp") or None,
        created_time=answer["createdTime"] or None,
    )


def _label(text: str) -> str:
    """The value of a label, which MCKS writes as ``key=value``."""
    return text.partition("=")[2]


def _own_nodes(made: Made, cluster: McksCluster) -> tuple[str, ...]:
    """Which of its nodes this tool made: those in the record.

    In a cluster that it made, others too where the record lacks as many names: it was stopped before they showed.
    """
    others = [node.name for node in cluster.nodes if node.name not in made.nodes]
    unnamed = made.count - len(made.nodes) if made.mark is not None else 0
    return (*made.nodes, *others) if len(others) <= unnamed else made.nodes
