"""``python -m calico_lab cluster …``: clusters of MCKS, each verb one call of `cluster.mcks`."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from .cluster.mcks import kubeconfig
from .cluster.mcks.client import SSH_USER, Mcks, McksCluster
from .cluster.mcks.config import find_server
from .cluster.mcks.request import CNI, KUBERNETES
from .errors import InputError
from .scenario import Scenario

__all__ = ["add_verbs"]

_OUT = Console()
_ERR = Console(stderr=True)


def add_verbs(parser: argparse.ArgumentParser) -> None:
    """Add the verbs below ``cluster``, each with what says which MCKS is meant."""
    parser.set_defaults(verb=_nothing)
    verbs = parser.add_subparsers(metavar="ACTION")

    def verb(
        name: str, action: Callable[[argparse.Namespace], None], text: str, *words: str
    ) -> argparse.ArgumentParser:
        added = verbs.add_parser(name, help=text, description=text)
        added.set_defaults(verb=action)
        for word in words:
            added.add_argument(word.strip("?").lower(), metavar=word.strip("?"), nargs="?" if "?" in word else None)
        added.add_argument("--scenario", help="a name from `list`, or a .yaml file")
        added.add_argument("--url", help="address of MCKS; else MCKS_URL, the scenario's, or cbctl's")
        added.add_argument("--namespace", help="else MCKS_NAMESPACE, the scenario's, or cbctl's")
        added.add_argument("--context", help="of cbctl's file; else MCKS_CONTEXT, the scenario's, or the current one")
        return added

    create = verb("create", _create, "make the scenario's cluster, and wait until it is complete", "NAME?")
    create.add_argument("--cni", default=CNI, help="what MCKS installs (%(default)s)")
    create.add_argument("--kubernetes", default=KUBERNETES, metavar="VERSION", help="(%(default)s)")
    verb("list", _list, "all clusters of the namespace")
    verb("show", _show, "a cluster", "NAME")
    verb("nodes", _nodes, "a cluster's nodes", "NAME")
    verb("key", _key, "save the private key of a node, or of all", "NAME", "NODE?")
    config = verb("kubeconfig", _kubeconfig, "save a cluster's kubeconfig", "NAME")
    config.add_argument("--merge", action="store_true", help="also put it into $KUBECONFIG or ~/.kube/config")
    add = verb("add", _add, "add workers to a cluster, and wait until they have joined", "NAME")
    add.add_argument("--connection", required=True)
    add.add_argument("--spec", required=True)
    add.add_argument("--count", type=int, default=1)
    remove = verb("remove", _remove, "remove a node that this tool made", "NAME", "NODE")
    delete = verb("delete", _delete, "delete a cluster that this tool made", "NAME")
    delete.add_argument("--unfinished", action="store_true", help="also one that MCKS was stopped in making")
    for each in (remove, delete):
        each.add_argument("--yes", action="store_true", help="do not ask")


def _nothing(_: argparse.Namespace) -> None:
    raise InputError("not given", where="DO", todo='for example: make cluster DO="list"')


def _create(options: argparse.Namespace) -> None:
    if not options.scenario:
        raise InputError("not given", where="SCENARIO", todo='make cluster DO="create" SCENARIO=<name>')
    scenario = Scenario.load(options.scenario)
    name = options.name or scenario.name
    with _mcks(options) as mcks:
        cluster = mcks.create(scenario, name, cni=options.cni, kubernetes=options.kubernetes)
    _print_nodes(cluster)
    if scenario.cni.plugin == "calico" and cluster.cni == CNI:
        _say(f"its CNI is {CNI}: MCKS installs no Calico across clouds; a review replaces it")
    _say(f'now: make cluster DO="kubeconfig {name}", DO="key {name}"; at the end: DO="delete {name}"')


def _list(options: argparse.Namespace) -> None:
    with _mcks(options) as mcks:
        clusters = mcks.clusters()
        ours = {cluster.name for cluster in clusters if mcks.made_here(cluster)}
    _print(
        ("cluster", "phase", "CNI", "Kubernetes", "nodes", "created", "made here"),
        (
            (
                *(cluster.name, cluster.phase, cluster.cni, cluster.kubernetes, len(cluster.nodes)),
                *(cluster.created_time, "yes" if cluster.name in ours else "no"),
            )
            for cluster in clusters
        ),
    )


def _show(options: argparse.Namespace) -> None:
    with _mcks(options) as mcks:
        cluster = mcks.cluster(options.name)
        rows = {
            "MCKS": f"{mcks.address} ({mcks.generation.versions}), namespace {cluster.namespace}",
            "phase": cluster.phase,
            "reason": cluster.reason,
            "message": cluster.message,
            "CNI": cluster.cni,
            "Kubernetes": cluster.kubernetes,
            "description": cluster.description,
            "created": cluster.created_time,
            "leader": cluster.leader,
            "made here": "yes" if mcks.made_here(cluster) else "no",
        }
    _print(("cluster", cluster.name), ((key, value) for key, value in rows.items() if value))


def _nodes(options: argparse.Namespace) -> None:
    with _mcks(options) as mcks:
        _print_nodes(mcks.cluster(options.name))


def _key(options: argparse.Namespace) -> None:
    with _mcks(options) as mcks:
        nodes = {node.name: node.public_ip for node in mcks.cluster(options.name).nodes}
        for node in [options.node] if options.node else nodes:
            path = mcks.save_key(options.name, node)
            _say(f"ssh -i {_shortest(path)} {SSH_USER}@{nodes[node]}")


def _kubeconfig(options: argparse.Namespace) -> None:
    with _mcks(options) as mcks:
        path = mcks.save_kubeconfig(options.name)
    if not options.merge:
        _say(f"export KUBECONFIG={_shortest(path)}")
        return
    target = kubeconfig.merge_target()
    backup = kubeconfig.merge(path.read_text(encoding="utf-8"), target)
    _say(f"{target}: context {options.name}" + (f"; as it was before: {backup}" if backup else ""))


def _add(options: argparse.Namespace) -> None:
    with _mcks(options) as mcks:
        new = mcks.add(options.name, connection=options.connection, spec=options.spec, count=options.count)
    _say(f"added: {', '.join(new)}")


def _remove(options: argparse.Namespace) -> None:
    with _mcks(options) as mcks:
        node = mcks.removable(options.name, options.node)
        _ask(options.yes, f"node {node.name} ({node.public_ip}) of cluster {options.name}")
        mcks.remove(options.name, options.node)
    _say(f"removed: {options.node}")


def _delete(options: argparse.Namespace) -> None:
    with _mcks(options) as mcks:
        cluster = mcks.deletable(options.name, unfinished=options.unfinished)
        if cluster is not None:
            _ask(options.yes, f"cluster {cluster.name} with {len(cluster.nodes)} nodes at {mcks.address}")
        gone_already = not mcks.delete(options.name, unfinished=options.unfinished)
    _say(f"gone already: {options.name}" if gone_already else f"deleted: {options.name}")


# ---------------------------------------------------------------------- asking and showing


@contextmanager
def _mcks(options: argparse.Namespace) -> Iterator[Mcks]:
    """The MCKS that is meant; what it is waited for shows on a line, or in a log as lines."""
    place = Scenario.load(options.scenario).mcks if options.scenario else None
    server = find_server(url=options.url, namespace=options.namespace, context=options.context, place=place)
    status = _ERR.status("")

    def progress(text: str) -> None:
        if _ERR.is_terminal:
            status.update(escape(text))
            status.start()
        else:
            _ERR.print(text, markup=False, highlight=False, soft_wrap=True)

    try:
        yield Mcks(server, progress=progress)
    finally:
        status.stop()


def _ask(yes: bool, what: str) -> None:
    if yes:
        return
    if not sys.stdin.isatty():
        raise InputError(f"deleting {what} has to be confirmed", where="DO", todo="add --yes")
    if _OUT.input(f"Delete {what}? Type yes: ", markup=False).strip() != "yes":
        raise InputError("not confirmed; nothing was deleted", where="DO")


def _print_nodes(cluster: McksCluster) -> None:
    _print(
        ("node", "role", "cloud", "region", "zone", "public IP", "private IP", "spec"),
        (
            (node.name, node.role, node.csp, node.region, node.zone, node.public_ip, node.private_ip, node.spec)
            for node in cluster.nodes
        ),
    )


def _print(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """A table; a dot is what MCKS does not say."""
    table = Table(*columns, box=None, pad_edge=False)
    for row in rows:
        table.add_row(*(Text("." if value in (None, "") else str(value)) for value in row))
    _OUT.print(table)


def _say(line: str) -> None:
    _OUT.print(line, markup=False, highlight=False, soft_wrap=True)


def _shortest(path: Path) -> str:
    return str(path.relative_to(Path.cwd())) if path.is_relative_to(Path.cwd()) else str(path)
