"""Bundles of ``calicoctl``: which of their files holds what a node printed, and what nobody here reads.

Three layouts, read in projectcalico/calico, ``calicoctl/calicoctl/commands``::

    calico-diagnostics-<time>/nodes/<node>/ip-link.txt ...            cluster/diags.go, 07638680 (2025)
    calico-diagnostics-<time>/nodes/<node>/<namespace>/calico-node-<id>.log
    calico-diagnostics/nodes/<pod of calico-node>/iplink.txt ...      cluster/diags.go before that
    diagnostics/hostname, ipv4_addr, ipv4_tables, ...                 node/diags.go, 10381096: one node a bundle

A cluster's bundle has what ``kubectl exec`` printed on both its outputs, in one file: an error message stands where the
output would be, with kubectl's own last line below it, and a command that calicoctl gave up has a line that says so
(``common/cmd.go``, 0f570687). A node's bundle has no such last line.

What is read are the regular files below; links are not followed, and nothing is unpacked to disk.
"""

from __future__ import annotations

import re
import tarfile
import zlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

from .errors import InputError

__all__ = ["Bundle", "Output", "decoded", "read"]

_LARGEST_BYTES = 64 * 2**20
"""Of a file that is read. A calico-node log of a day at level info has a few MiB."""

_UNPACKED_BYTES = 4 * 2**30
"""Of a whole archive: what is more is no bundle, but something that unpacks without end."""

_Read = Callable[[], str]
"""Gives a file's text."""

_CLUSTER = {
    "ip-link": ("ip-link", "ip link"),
    "ip-addr": ("ip-addr", "ip addr"),
    "ip-neigh": ("ip-neigh", "ip neigh"),
    "ip-route": ("ip-route", "ip route show table all"),
    "ip-rule": ("ip-rule", "ip rule"),
    "ipset-list": ("ipset-list", "ipset list"),
    "iptables-legacy-save": ("iptables-legacy-save", "iptables-legacy-save -c"),
    "iptables-nft-save": ("iptables-nft-save", "iptables-nft-save -c"),
}
_POD = {
    "iplink": ("ip-link", "ip link"),
    "ipaddr": ("ip-addr", "ip addr"),
    "ipneigh": ("ip-neigh", "ip neigh"),
    "iproute-all-table": ("ip-route", "ip route show table all"),
    "iprule": ("ip-rule", "ip rule"),
    "ipsetlist": ("ipset-list", "ipset list"),
    "iptables-save": ("iptables-save", "iptables-save -c"),
}
_NODE = {
    "ipv4_addr": ("ip-addr", "ip -4 addr"),
    "ipv4_route": ("ip-route", "ip -4 route"),
    "ipv4_tables": ("iptables-save", "iptables-save -c"),
    "ipsets": ("ipset-list", "ipset list"),
}
"""File to capture and what was run, in each layout."""

_NODE_POD = re.compile(r"calico-node-[a-z0-9]{5}")
_EXITED = re.compile(r"command terminated with exit code (?P<code>[0-9]+)")
_KUBECTL = re.compile(
    r"error: .*|Error from server.*|Unable to connect to the server.*|The connection to the server .*"
)
_GIVEN_UP = re.compile(r"=== calicoctl cluster diags: no output for .* ===")
_NO_PROGRAM = re.compile(r".*(?:not found|No such file or directory|Permission denied|Operation not permitted).*")


@dataclass(frozen=True, slots=True)
class Output:
    """What one command printed on one node.

    Attributes
    ----------
    node : str
    command : str
        Its capture's name.
    line : str
        What was run.
    text : str
    path : str
        Its file in the bundle.
    outcome : "done", "timeout" or "unreachable"
    exit_code : int or None
    stderr : str
        What is known of an error.
    """

    node: str
    command: str
    line: str
    text: str
    path: str
    outcome: str = "done"
    exit_code: int | None = 0
    stderr: str = ""


@dataclass(frozen=True, slots=True)
class Bundle:
    """What a bundle holds.

    Attributes
    ----------
    command : str
        What made it.
    outputs : tuple of Output
    ignored : tuple of str
        Files that are not read, by their path in the bundle.
    """

    command: str
    outputs: tuple[Output, ...]
    ignored: tuple[str, ...]


def read(source: Path) -> Bundle | None:
    """A bundle, as it is or unpacked, or several bundles of nodes in one folder; None where a folder is no bundle.

    Raises
    ------
    InputError
        If an archive is damaged, is none of calicoctl's, is too large, or has a member that does not stay inside it.
    """
    seen: set[str] = set()
    with _files(source) as stored:
        files = {path: _noted(path, text, seen) for path, text in stored.items()}
        roots = {path[: found.start()] for path in files if (found := re.search(r"(?:^|(?<=/))nodes/[^/]+/ip", path))}
        hosts = {path.removesuffix("hostname") for path in files if re.search(r"(?:^|/)diagnostics/hostname$", path)}
        hosts |= {""} if "hostname" in files and "ipv4_addr" in files else set()
        if len(roots) > 1 or (roots and hosts):
            raise InputError(
                "more than one bundle of a cluster",
                where=str(source),
                seen=", ".join(sorted(found or "." for found in roots | hosts)),
                todo="import one at a time",
            )
        if roots:
            outputs = list(_of_a_cluster(files, roots.pop()))
        else:
            outputs = [output for host in sorted(hosts) for output in _of_a_node(files, host)]
            _refuse_twins(outputs, source)
        ignored = tuple(sorted(set(files) - seen))
    if not outputs:
        if source.is_dir():
            return None
        raise InputError(
            "not a bundle of calicoctl cluster diags or calicoctl node diags",
            where=str(source),
            seen=", ".join(ignored[:3]) or "no files",
            todo="name such a bundle, or a folder with a folder a node",
        )
    command = "calicoctl node diags" if hosts else "calicoctl cluster diags"
    return Bundle(command, tuple(outputs), ignored)


def _refuse_twins(outputs: list[Output], source: Path) -> None:
    paths: dict[tuple[str, str], str] = {}
    for output in outputs:
        other = paths.setdefault((output.node, output.command), output.path)
        if other != output.path:
            raise InputError(
                f"two bundles of the node {output.node}",
                where=str(source),
                seen=f"{other}, {output.path}",
                todo="remove one of them",
            )


def _noted(path: str, text: _Read, seen: set[str]) -> _Read:
    """The same, noting that it was read."""

    def noted() -> str:
        seen.add(path)
        return text()

    return noted


# ---------------------------------------------------------------------- layouts


def _of_a_cluster(files: Mapping[str, _Read], root: str) -> Iterator[Output]:
    inside = [path.removeprefix(f"{root}nodes/") for path in files if path.startswith(f"{root}nodes/")]
    for folder in sorted({path.split("/")[0] for path in inside}):
        below = f"{root}nodes/{folder}/"
        older = _NODE_POD.fullmatch(folder) is not None
        node = _node_of_pod(files, below, folder) if older else folder
        for name, (command, line) in (_POD if older else _CLUSTER).items():
            path = f"{below}{name}.txt"
            if path in files:
                yield _kubectls(Output(node, command, line, files[path](), path))
        logs = [path for path in files if path.startswith(below) and path.endswith(".log")]
        for path in sorted(log for log in logs if _NODE_POD.fullmatch(PurePosixPath(log).stem))[:1]:
            line = f"kubectl logs {PurePosixPath(path).stem}"
            yield _kubectls(Output(node, "node-log", line, files[path](), path))


def _node_of_pod(files: Mapping[str, _Read], below: str, pod: str) -> str:
    """The node of a calico-node pod, as ``kubectl describe`` of it says: ``Node:  c-1/10.0.1.5``."""
    path = f"{below}{pod}-describe.txt"
    text = files[path]() if path in files else ""
    found = re.search(r"^Node:\s+([^/\s]+)", text, re.MULTILINE)
    if found is None:
        raise InputError(
            "which node this pod ran on is not in the bundle",
            where=below.rstrip("/"),
            seen=f"no line Node: in {pod}-describe.txt" if text else f"no {pod}-describe.txt",
            todo="rename the folder to the node's name",
        )
    return found[1]


def _kubectls(output: Output) -> Output:
    """The same with what kubectl or calicoctl said of its end, in the last line."""
    last = output.text.rstrip().rpartition("\n")[2].strip()
    if _GIVEN_UP.fullmatch(last):
        return replace(output, outcome="timeout", exit_code=None, stderr=last)
    if found := _EXITED.fullmatch(last):
        return replace(output, exit_code=int(found["code"]), stderr=output.text)
    if _KUBECTL.fullmatch(last):
        return replace(output, outcome="unreachable", exit_code=None, stderr=output.text)
    return output


def _of_a_node(files: Mapping[str, _Read], below: str) -> Iterator[Output]:
    node = files[f"{below}hostname"]().strip()
    for name, (command, line) in _NODE.items():
        path = f"{below}{name}"
        if path in files:
            output = Output(node, command, line, files[path](), path)
            failed = _NO_PROGRAM.fullmatch(output.text.strip())
            yield replace(output, exit_code=1, stderr=output.text) if failed else output
    logs = [path for path in files if re.fullmatch(rf"{re.escape(below)}logs/k8s_calico-node_[^/]*\.log", path)]
    for path in sorted(logs)[-1:]:  # a name ends with the number of the container's start
        yield Output(node, "node-log", "docker logs", files[path](), path)


# ---------------------------------------------------------------------- files


@contextmanager
def _files(source: Path) -> Iterator[dict[str, _Read]]:
    """The regular files of a folder or an archive by their path in it; archives in a folder are looked into."""
    if source.is_dir():
        archives = sorted(
            path for path in source.iterdir() if path.name.endswith((".tar.gz", ".tgz")) and path.is_file()
        )
        if archives:
            with _archives(archives) as files:
                yield files
            return
        found = (path for path in sorted(source.rglob("*")) if path.is_file() and not path.is_symlink())
        yield {path.relative_to(source).as_posix(): _from_disk(path) for path in found}
    elif source.is_file():
        with _archive(source) as files:
            yield files
    else:
        raise InputError("no such file or folder", where=str(source), todo="FROM=<bundle, or folder with outputs>")


@contextmanager
def _archives(sources: list[Path]) -> Iterator[dict[str, _Read]]:
    with ExitStack() as stack:
        opened = [(source.name, stack.enter_context(_archive(source))) for source in sources]
        yield {f"{name}/{path}": text for name, files in opened for path, text in files.items()}


@contextmanager
def _archive(source: Path) -> Iterator[dict[str, _Read]]:
    if not tarfile.is_tarfile(source):
        raise InputError(
            "neither a folder nor a tar archive", where=str(source), todo="name a folder, or calicoctl's .tar.gz"
        )
    try:
        with tarfile.open(source) as archive:
            yield {
                member.name.removeprefix("./"): _from_archive(archive, member, source)
                for member in _members(archive, source)
            }
    except (tarfile.TarError, EOFError, zlib.error, OSError) as problem:
        raise InputError(
            "not a complete tar archive",
            where=str(source),
            seen=str(problem),
            todo="copy it again, or unpack it yourself",
        ) from None


def _members(archive: tarfile.TarFile, source: Path) -> Iterator[tarfile.TarInfo]:
    """The regular files of an archive none of whose members leads out of it."""
    total = 0
    for member in archive:
        _refuse_outside(member, source)
        total += member.size
        if total > _UNPACKED_BYTES:
            raise InputError(
                "the archive is too large",
                where=str(source),
                seen=f"more than {_UNPACKED_BYTES} bytes in it",
                todo="unpack it and name the folder",
            )
        if member.isreg():
            yield member


def _refuse_outside(member: tarfile.TarInfo, source: Path) -> None:
    """What `tarfile.data_filter` refuses too: names and links that lead out, and what is neither file nor folder."""
    name = PurePosixPath(member.name)
    target = name.parent / member.linkname if member.issym() else PurePosixPath(member.linkname)
    if _leads_out(name) or ((member.issym() or member.islnk()) and _leads_out(target)):
        problem = "a member of the archive leads out of it"
    elif not (member.isreg() or member.isdir() or member.issym() or member.islnk()):
        problem = "a member of the archive is neither a file nor a folder"
    else:
        return
    seen = f"{member.name} -> {member.linkname}" if member.linkname else member.name
    raise InputError(problem, where=str(source), seen=seen, todo="do not use this archive; calicoctl makes no such")


def _leads_out(path: PurePosixPath) -> bool:
    depth = 0
    for part in path.parts:
        depth += -1 if part == ".." else 0 if part == "." else 1
        if depth < 0:
            return True
    return path.is_absolute()


def _from_disk(path: Path) -> _Read:
    def text() -> str:
        _refuse_large(path.stat().st_size, str(path))
        return decoded(path.read_bytes(), str(path))

    return text


def _from_archive(archive: tarfile.TarFile, member: tarfile.TarInfo, source: Path) -> _Read:
    where = f"{source}: {member.name}"

    def text() -> str:
        _refuse_large(member.size, where)
        file = archive.extractfile(member)
        assert file is not None  # only regular files are asked for
        return decoded(file.read(), where)

    return text


def _refuse_large(size_bytes: int, where: str) -> None:
    if size_bytes > _LARGEST_BYTES:
        raise InputError(
            "the file is too large",
            where=where,
            seen=f"{size_bytes} bytes",
            todo=f"shorten it: at most {_LARGEST_BYTES} bytes are read",
        )


def decoded(data: bytes, where: str) -> str:
    """A file's text.

    Raises
    ------
    InputError
        If it is not UTF-8.
    """
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as problem:
        raise InputError("not UTF-8 text", where=where, seen=str(problem), todo="save it as UTF-8") from None
