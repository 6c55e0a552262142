"""Bundles of calicoctl, laid out as its sources say and filled with what the lab's nodes print, become recordings."""

from __future__ import annotations

import io
import shutil
import tarfile
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import pytest

from calico_lab import bundles
from calico_lab.checks import check, gaps
from calico_lab.cluster.lab import LabCluster
from calico_lab.errors import InputError
from calico_lab.imports import import_outputs
from calico_lab.page import LANGUAGES, Language
from calico_lab.recording import Recording
from calico_lab.review import Review
from calico_lab.scenario import Scenario
from calico_lab.tables import Tables

SCENARIO = Scenario.load("single-vxlan")
A, B = (node.name for node in SCENARIO.nodes)
TOP = "calico-diagnostics-20251124_101112"
PODS = {A: "calico-node-x7k2p", B: "calico-node-q9z4d"}
CLUSTER = {
    "iptables-legacy-save": "iptables-legacy-save -c",
    "iptables-nft-save": "iptables-nft-save -c",
    "ip-route": "ip route show table all",
    "ip-rule": "ip rule",
    "ip-addr": "ip addr",
    "ip-link": "ip link",
    "ip-neigh": "ip neigh",
    "ipset-list": "ipset list",
}
OLDER = {
    "iptables-save": "iptables-save -c",
    "iproute": "ip route",
    "iproute-all-table": "ip route show table all",
    "iprule": "ip rule",
    "ipaddr": "ip addr",
    "iplink": "ip link",
    "ipneigh": "ip neigh",
    "ipsetlist": "ipset list",
}
NODE = {
    "ipv4_route": "ip -4 route",
    "ipv4_addr": "ip -4 addr",
    "ipv4_tables": "iptables-save -c",
    "ipsets": "ipset list",
    "hostname": "hostname",
}
"""What each layout has of a node, by its file's name: `bundles` says where that was read."""

SHOWN = {
    "ip-addr": "ip addr",
    "ip-link": "ip link",
    "ip-neigh": "ip neigh",
    "ip-route": "ip route show table all",
    "ip-rule": "ip rule",
    "ipset-list": "ipset list",
}
"""What both layouts of a cluster's bundle give of a node: capture and line."""

pytestmark = pytest.mark.lab


@pytest.fixture(scope="module")
def printed() -> Callable[[str, str], str]:
    """What a command prints on a node, both outputs in one, asked of a lab once."""
    lines = {*CLUSTER.values(), *OLDER.values(), *NODE.values()}
    texts: dict[tuple[str, str], str] = {}
    with closing(LabCluster(SCENARIO)) as cluster:
        for node in (A, B):
            for line in (*lines, cluster.node_log):
                result = cluster.run(node, f"{line} 2>&1", 20)
                assert result.code == 0, line
                texts[node, line if line in lines else "log"] = result.stdout
    return lambda node, line: texts[node, line]


@pytest.fixture(scope="module")
def collected(tmp_path_factory: pytest.TempPathFactory, printed: Callable[[str, str], str]) -> Path:
    """An unpacked bundle of ``calicoctl cluster diags``, with a few of the files that nobody reads."""
    top = tmp_path_factory.mktemp("collected") / TOP
    for node, pod in PODS.items():
        folder = top / "nodes" / node
        (folder / "calico-system").mkdir(parents=True)
        for name, line in CLUSTER.items():
            (folder / f"{name}.txt").write_text(printed(node, line))
        (folder / "tc-qdisc.txt").write_text("qdisc noqueue 0: dev lo root refcnt 2\n")
        log = folder / "calico-system" / f"{pod}.log"
        log.write_text(f"2025-11-24 10:00:00.001 [INFO][1] cni-installer/<nil> <nil>: Done\n{printed(node, 'log')}")
        link = top / "links" / "calico-system" / log.name
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(f"../../nodes/{node}/calico-system/{log.name}")
    (top / "cluster" / "kubernetes").mkdir(parents=True)
    (top / "cluster" / "kubernetes" / "nodes.txt").write_text("NAME STATUS\n")
    return top


@pytest.fixture
def cluster_bundle(collected: Path, tmp_path: Path) -> Path:
    """A copy of it to spoil."""
    return Path(shutil.copytree(collected, tmp_path / TOP, symlinks=True))


def packed(folder: Path) -> Path:
    """The folder as ``tar cfz <name>.tar.gz -C <above> <name>`` packs it."""
    archive = folder.parent / f"{folder.name}.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(folder, folder.name)
    return archive


def imported(source: Path, folder: Path) -> Recording:
    return import_outputs(SCENARIO, source, folder / "recording")


def lines_of(recording: Recording, node: str) -> dict[str, str]:
    return {capture.command: capture.line for capture in recording.captures if capture.node == node}


# ---------------------------------------------------------------------- calicoctl cluster diags


@pytest.fixture(scope="module", params=["folder", "archive"])
def form(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def recording(form: str, collected: Path, tmp_path_factory: pytest.TempPathFactory) -> Recording:
    return imported(packed(collected) if form == "archive" else collected, tmp_path_factory.mktemp(form))


class TestClusterDiags:
    def test_each_file_is_the_capture_of_its_command(self, recording: Recording) -> None:
        for node, pod in PODS.items():
            assert lines_of(recording, node) == SHOWN | {
                "iptables-legacy-save": "iptables-legacy-save -c",
                "iptables-save": "iptables-nft-save -c",
                "node-log": f"kubectl logs {pod}",
            }

    def test_every_text_can_be_read_and_is_as_it_was(
        self, recording: Recording, printed: Callable[[str, str], str]
    ) -> None:
        assert set(Tables(recording).captures["status"]) <= {"read", "empty"}
        for capture in recording.captures:
            if capture.command != "node-log":
                assert recording.text(capture) == printed(capture.node, capture.line)

    def test_files_that_nobody_reads_are_named(self, recording: Recording, form: str) -> None:
        below = f"{TOP}/" if form == "archive" else ""
        assert recording.manifest["facts"] == {
            "imported": f"{TOP}.tar.gz" if form == "archive" else TOP,
            "bundle": "calicoctl cluster diags",
            "ignored": [
                f"{below}cluster/kubernetes/nodes.txt",
                f"{below}nodes/{A}/tc-qdisc.txt",
                f"{below}nodes/{B}/tc-qdisc.txt",
            ],
        }

    def test_what_it_shows_is_judged_and_no_probe_of_ours_is_taken_for_a_pod(self, recording: Recording) -> None:
        results: dict[str, set[str]] = {}
        for finding in check(Tables(recording)):
            results.setdefault(finding.id, set()).add(finding.case)
        shown = ("device-present", "route-to-block", "block-owner", "duplicate-address", "iptables-backend")
        assert {rule: results[rule] for rule in shown} == {rule: {"pass"} for rule in shown}
        assert "pod-route" not in results
        assert Tables(recording).pods.empty

    def test_what_it_leaves_out_is_asked_for(self, recording: Recording) -> None:
        tables = Tables(recording)
        found = check(tables)
        without = {finding.id for finding in found if finding.case == "no-details"}
        assert without >= {"local-address", "outer-source", "allow-list", "vni-port", "stale-device", "parent-device"}
        asked = gaps(found, tables).set_index("run")["rules"]
        assert asked.index[0] == "ip -d link show"
        assert {"bridge fdb show", "tcpdump -nn -i any udp port 4789"} <= set(asked.index)
        assert "outer-source" in asked["ip -d link show"]
        assert "fdb-destination" in asked["bridge fdb show"]

    @pytest.mark.parametrize("language", LANGUAGES)
    def test_the_report_says_so(self, recording: Recording, language: Language, form: str) -> None:
        review = Review(recording, language)
        assert review.words("review.ignored", bundle="calicoctl cluster diags", ignored=3) in str(review.notes().data)
        first, second, *_ = gaps(review.findings, review.tables)["run"]
        most = review.words("gaps.most", commands=f"`{first}` · `{second}`")
        assert most in review.conclusion().data["text/markdown"]
        assert review.words("review.no-pings") == review.latency_figure().data["text/plain"]


def test_a_node_that_the_scenario_does_not_have_is_left_out_and_named(cluster_bundle: Path, tmp_path: Path) -> None:
    shutil.copytree(cluster_bundle / "nodes" / A, cluster_bundle / "nodes" / "w-9")
    recording = imported(cluster_bundle, tmp_path)
    assert {capture.node for capture in recording.captures} == {A, B}
    assert "nodes/w-9/ip-link.txt" in recording.manifest["facts"]["ignored"]


def test_a_bundle_of_another_cluster_is_refused(cluster_bundle: Path, tmp_path: Path) -> None:
    for node in (A, B):
        (cluster_bundle / "nodes" / node).rename(cluster_bundle / "nodes" / f"other-{node}")
    with pytest.raises(InputError) as error:
        imported(cluster_bundle, tmp_path)
    assert str(error.value) == (
        f"{cluster_bundle}: no node of the scenario is in the bundle; seen: other-{A}, other-{B}; "
        f"name a scenario with these nodes; single-vxlan has {A}, {B}"
    )
    assert not (tmp_path / "recording").exists()


@pytest.mark.parametrize("backend", ["legacy", "nft"])
def test_the_backend_with_calicos_chains_decides_and_the_others_rules_are_a_finding(
    cluster_bundle: Path, tmp_path: Path, printed: Callable[[str, str], str], backend: str
) -> None:
    other = {"legacy": "nft", "nft": "legacy"}[backend]
    folder = cluster_bundle / "nodes" / A
    (folder / f"iptables-{backend}-save.txt").write_text(printed(A, "iptables-nft-save -c"))
    (folder / f"iptables-{other}-save.txt").write_text(
        "*filter\n:INPUT ACCEPT [0:0]\n[0:0] -A INPUT -p tcp --dport 22 -j ACCEPT\nCOMMIT\n"
    )
    tables = Tables(imported(cluster_bundle, tmp_path))
    assert lines_of(tables.recording, A)["iptables-save"] == f"iptables-{backend}-save -c"
    assert not tables.iptables[tables.iptables["chain"] == "cali-INPUT"].empty
    (found,) = [each for each in check(tables) if (each.id, each.node) == ("iptables-backend", A)]
    assert (found.case, found.values) == ("fail", {"backend": other})
    assert found.evidence == (f"captures/{A}/iptables-{other}-save.txt",)


@pytest.mark.parametrize(
    ("text", "status", "detail"),
    [
        pytest.param(
            "ipset v7.11: Kernel error received: Operation not permitted\ncommand terminated with exit code 1\n",
            "failed",
            "command terminated with exit code 1",
            id="failed-in-the-pod",
        ),
        pytest.param(
            'Error from server (NotFound): pods "calico-node-x7k2p" not found\n',
            "unreachable",
            'Error from server (NotFound): pods "calico-node-x7k2p" not found',
            id="no-such-pod",
        ),
        pytest.param(
            "\n=== calicoctl cluster diags: no output for 1m0s; command killed. "
            "Re-run with a larger --command-timeout to wait longer. ===\n",
            "timeout",
            "=== calicoctl cluster diags: no output for 1m0s; command killed. "
            "Re-run with a larger --command-timeout to wait longer. ===",
            id="given-up",
        ),
        pytest.param(
            "Name: cali40all-vxlan-net\nwhat is this\n",
            "unreadable",
            f"{A}, ipset-list, line 2: unknown line of a set; seen: what is this",
            id="unreadable",
        ),
    ],
)
def test_an_error_in_a_files_place_is_that_commands_outcome(
    cluster_bundle: Path, tmp_path: Path, text: str, status: str, detail: str
) -> None:
    (cluster_bundle / "nodes" / A / "ipset-list.txt").write_text(text)
    (capture,) = Tables(imported(cluster_bundle, tmp_path)).where("captures", node=A, command="ipset-list")
    assert (capture.status, capture.detail) == (status, detail)


# ---------------------------------------------------------------------- its older layout, and calicoctl node diags


@pytest.fixture
def older_bundle(tmp_path: Path, printed: Callable[[str, str], str]) -> Path:
    for node, pod in PODS.items():
        folder = tmp_path / "calico-diagnostics" / "nodes" / pod
        folder.mkdir(parents=True)
        for name, line in OLDER.items():
            (folder / f"{name}.txt").write_text(printed(node, line))
        (folder / f"{pod}.log").write_text(printed(node, "log"))
        (folder / f"{pod}-describe.txt").write_text(f"Name:         {pod}\nNode:         {node}/192.168.10.28\n")
    return tmp_path / "calico-diagnostics"


def test_folders_named_after_pods_are_their_nodes(older_bundle: Path, tmp_path: Path) -> None:
    recording = imported(packed(older_bundle), tmp_path)
    for node, pod in PODS.items():
        assert lines_of(recording, node) == SHOWN | {
            "iptables-save": "iptables-save -c",
            "node-log": f"kubectl logs {pod}",
        }
    assert set(Tables(recording).captures["status"]) <= {"read", "empty"}
    assert recording.manifest["facts"]["ignored"] == [
        f"calico-diagnostics/nodes/{pod}/iproute.txt" for pod in sorted(PODS.values())
    ]


def test_a_pod_of_an_unknown_node_is_one_line(older_bundle: Path, tmp_path: Path) -> None:
    pod = PODS[A]
    (older_bundle / "nodes" / pod / f"{pod}-describe.txt").unlink()
    with pytest.raises(InputError) as error:
        imported(older_bundle, tmp_path)
    assert str(error.value) == (
        f"nodes/{pod}: which node this pod ran on is not in the bundle; seen: no {pod}-describe.txt; "
        "rename the folder to the node's name"
    )


@pytest.mark.parametrize("source", ["one-node", "archives-of-all-nodes"])
def test_calicoctl_node_diags_tells_of_its_host(
    tmp_path: Path, printed: Callable[[str, str], str], source: str
) -> None:
    nodes = (A,) if source == "one-node" else (A, B)
    for node in nodes:
        folder = tmp_path / node / "diagnostics"
        folder.mkdir(parents=True)
        for name, line in NODE.items():
            (folder / name).write_text(printed(node, line))
        (folder / "date").write_text("Mon Nov 24 10:11:12 UTC 2025\n")
        with tarfile.open(tmp_path / f"diags-{node}.tar.gz", "w:gz") as tar:
            tar.add(folder, "diagnostics")
    recording = imported(tmp_path / f"diags-{A}.tar.gz" if source == "one-node" else tmp_path, tmp_path / "out")
    assert {capture.node for capture in recording.captures} == set(nodes)
    for node in nodes:
        assert lines_of(recording, node) == {
            "ip-addr": "ip -4 addr",
            "ip-route": "ip -4 route",
            "ipset-list": "ipset list",
            "iptables-save": "iptables-save -c",
        }
    assert set(Tables(recording).captures["status"]) == {"read"}
    assert recording.manifest["facts"]["bundle"] == "calicoctl node diags"
    below = "" if source == "one-node" else f"diags-{A}.tar.gz/"
    assert recording.manifest["facts"]["ignored"][0] == f"{below}diagnostics/date"


def test_two_bundles_of_one_node_are_refused(tmp_path: Path, printed: Callable[[str, str], str]) -> None:
    for day in (1, 2):
        folder = tmp_path / f"day-{day}" / "diagnostics"
        folder.mkdir(parents=True)
        (folder / "hostname").write_text(printed(A, "hostname"))
        (folder / "ipsets").write_text(printed(A, "ipset list"))
    with pytest.raises(InputError) as error:
        imported(tmp_path, tmp_path / "out")
    assert str(error.value) == (
        f"{tmp_path}: two bundles of the node {A}; seen: day-1/diagnostics/ipsets, day-2/diagnostics/ipsets; "
        "remove one of them"
    )


# ---------------------------------------------------------------------- what is no bundle


def member(name: str, *, kind: bytes = tarfile.REGTYPE, link: str = "") -> tarfile.TarInfo:
    found = tarfile.TarInfo(name)
    found.type, found.linkname = kind, link
    return found


LEADS_OUT = "a member of the archive leads out of it"


@pytest.mark.parametrize(
    ("strange", "problem", "seen"),
    [
        pytest.param(member("/etc/passwd"), LEADS_OUT, "/etc/passwd", id="absolute"),
        pytest.param(member(f"{TOP}/../../x"), LEADS_OUT, f"{TOP}/../../x", id="dots"),
        pytest.param(
            member(f"{TOP}/x", kind=tarfile.SYMTYPE, link="../../x"), LEADS_OUT, f"{TOP}/x -> ../../x", id="symlink"
        ),
        pytest.param(
            member(f"{TOP}/x", kind=tarfile.SYMTYPE, link="/etc/passwd"),
            LEADS_OUT,
            f"{TOP}/x -> /etc/passwd",
            id="absolute-symlink",
        ),
        pytest.param(
            member(f"{TOP}/x", kind=tarfile.LNKTYPE, link="../x"), LEADS_OUT, f"{TOP}/x -> ../x", id="hard-link"
        ),
        pytest.param(
            member(f"{TOP}/x", kind=tarfile.FIFOTYPE),
            "a member of the archive is neither a file nor a folder",
            f"{TOP}/x",
            id="pipe",
        ),
    ],
)
def test_an_archive_that_reaches_out_is_refused(
    cluster_bundle: Path, tmp_path: Path, strange: tarfile.TarInfo, problem: str, seen: str
) -> None:
    archive = tmp_path / "strange.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(cluster_bundle, TOP)
        tar.addfile(strange)
    with pytest.raises(InputError) as error:
        imported(archive, tmp_path)
    assert str(error.value) == f"{archive}: {problem}; seen: {seen}; do not use this archive; calicoctl makes no such"
    assert not (tmp_path / "recording").exists()


def test_a_file_or_an_archive_that_is_too_large_is_refused(
    cluster_bundle: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    archive = packed(cluster_bundle)
    monkeypatch.setattr(bundles, "_LARGEST_BYTES", 50)
    with pytest.raises(InputError, match=rf"{archive}: {TOP}/nodes/{A}/ip-link.txt: the file is too large; seen: \d+ "):
        imported(archive, tmp_path)
    monkeypatch.setattr(bundles, "_UNPACKED_BYTES", 100)
    with pytest.raises(InputError) as error:
        imported(archive, tmp_path)
    assert str(error.value) == (
        f"{archive}: the archive is too large; seen: more than 100 bytes in it; unpack it and name the folder"
    )


def test_an_archive_that_was_cut_is_one_line(cluster_bundle: Path, tmp_path: Path) -> None:
    archive = packed(cluster_bundle)
    archive.write_bytes(archive.read_bytes()[:-200])
    with pytest.raises(InputError, match=r"not a complete tar archive; .*copy it again, or unpack it yourself$"):
        imported(archive, tmp_path)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        pytest.param(
            lambda path: path.write_text("hello"),
            "neither a folder nor a tar archive; name a folder, or calicoctl's .tar.gz",
            id="text",
        ),
        pytest.param(lambda path: None, "no such file or folder; FROM=<bundle, or folder with outputs>", id="nothing"),
        pytest.param(
            lambda path: path.write_bytes(_other_archive()),
            "not a bundle of calicoctl cluster diags or calicoctl node diags; seen: notes.txt; "
            "name such a bundle, or a folder with a folder a node",
            id="another-archive",
        ),
    ],
)
def test_what_is_no_bundle_is_one_line(tmp_path: Path, make: Callable[[Path], object], message: str) -> None:
    source = tmp_path / "source"
    make(source)
    with pytest.raises(InputError) as error:
        imported(source, tmp_path)
    assert str(error.value) == f"{source}: {message}"


def _other_archive() -> bytes:
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w:gz") as tar:
        tar.addfile(member("notes.txt"))
    return archive.getvalue()
