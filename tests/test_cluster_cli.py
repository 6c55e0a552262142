"""``make cluster``: what each verb says and leaves, asked of an MCKS that makes no machines."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from calico_lab import cluster_cli
from calico_lab.cli import main
from calico_lab.cluster.mcks import ownership
from tests.cluster.mcks_double import NAMESPACE, RELEASES, SECRET, McksDouble, serving

Run = Callable[..., tuple[int, str, str]]
ROOT = Path(__file__).parents[1]
WORKERS = ["--connection", "config-gcp-tokyo", "--spec", "e2-highcpu-4"]


@pytest.fixture
def double() -> Iterator[McksDouble]:
    with serving(McksDouble(RELEASES["v0.7.2"])) as double:
        yield double


@pytest.fixture
def run(double: McksDouble, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Run:
    """Run a verb; returns its exit code, what it said, and its errors."""
    monkeypatch.setattr(ownership, "CLUSTERS", tmp_path / "outputs" / "clusters")
    monkeypatch.setenv("MCKS_URL", double.url)
    monkeypatch.setenv("MCKS_NAMESPACE", NAMESPACE)
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "mine"))
    monkeypatch.chdir(tmp_path)
    for console in (cluster_cli._OUT, cluster_cli._ERR):
        monkeypatch.setattr(console, "_width", 200)

    def run(*words: str) -> tuple[int, str, str]:
        code = main(["cluster", *words])
        said = capsys.readouterr()
        assert SECRET not in said.out + said.err
        return code, said.out, said.err

    return run


@pytest.fixture
def created(run: Run, double: McksDouble) -> dict[str, Any]:
    assert run("create", "cb-cluster", "--scenario", "cross-vxlan")[0] == 0
    return double.clusters["cb-cluster"]


def table(text: str) -> list[list[str]]:
    return [re.split(r" {2,}", line.strip()) for line in text.splitlines()]


def test_create_shows_the_nodes_and_what_is_next(run: Run, double: McksDouble) -> None:
    code, out, _ = run("create", "--scenario", "cross-vxlan")
    leader, worker = (node["name"] for node in double.clusters["cross-vxlan"]["nodes"])
    assert code == 0
    assert table(out) == [
        ["node", "role", "cloud", "region", "zone", "public IP", "private IP", "spec"],
        [
            *(leader, "control-plane", "aws", "ap-northeast-1", "ap-northeast-1a"),
            *("52.199.85.10", "192.168.10.10", "t2.medium"),
        ],
        [
            *(worker, "worker", "gcp", "asia-northeast1", "asia-northeast1-a"),
            *("34.146.125.10", "192.168.29.10", "e2-highcpu-4"),
        ],
        ["its CNI is canal: MCKS installs no Calico across clouds; a review replaces it"],
        ['now: make cluster DO="kubeconfig cross-vxlan", DO="key cross-vxlan"; at the end: DO="delete cross-vxlan"'],
    ]


def test_list_says_which_were_made_here(run: Run, double: McksDouble, created: dict[str, Any]) -> None:
    double.clusters["theirs"] = {**created, "name": "theirs"}
    assert table(run("list")[1]) == [
        ["cluster", "phase", "CNI", "Kubernetes", "nodes", "created", "made here"],
        ["cb-cluster", "Provisioned", "canal", "1.23.13-00", "2", created["createdTime"], "yes"],
        ["theirs", "Provisioned", "canal", "1.23.13-00", "2", created["createdTime"], "no"],
    ]


def test_show_says_why_it_failed(run: Run, double: McksDouble) -> None:
    double.fail = "SetupHaproxyFailedReason"
    assert run("create", "--scenario", "cross-canal")[0] == 4
    shown = dict(row for row in table(run("show", "cross-canal")[1]))
    assert shown == {
        "cluster": "cross-canal",
        "MCKS": f"{double.url}/ladybug (v0.7.2 or later), namespace {NAMESPACE}",
        "phase": "Failed",
        "reason": "SetupHaproxyFailedReason",
        "message": "Process exited with status 1: kubeadm join --token [redacted]",
        "CNI": "canal",
        "Kubernetes": "1.23.13-00",
        "description": double.clusters["cross-canal"]["description"],
        "leader": double.clusters["cross-canal"]["cpLeader"],
        "made here": "yes",
    }


def test_nodes_are_listed(run: Run, created: dict[str, Any]) -> None:
    assert [row[0] for row in table(run("nodes", "cb-cluster")[1])[1:]] == [node["name"] for node in created["nodes"]]


def test_key_says_how_to_log_in_and_never_the_key(run: Run, created: dict[str, Any], tmp_path: Path) -> None:
    names = [node["name"] for node in created["nodes"]]
    lines = [
        f"ssh -i outputs/clusters/cb-cluster/{name}.pem cb-user@{address}"
        for name, address in zip(names, ("52.199.85.10", "34.146.125.10"), strict=True)
    ]
    assert run("key", "cb-cluster")[1].splitlines() == lines
    assert run("key", "cb-cluster", names[1])[1].splitlines() == lines[1:]
    assert (tmp_path / f"outputs/clusters/cb-cluster/{names[0]}.pem").is_file()


def test_kubeconfig_is_a_file_of_its_own_unless_merged(run: Run, created: dict[str, Any], tmp_path: Path) -> None:
    assert run("kubeconfig", "cb-cluster")[1] == "export KUBECONFIG=outputs/clusters/cb-cluster/kubeconfig\n"
    mine = tmp_path / "mine"
    assert not mine.exists()
    assert run("kubeconfig", "cb-cluster", "--merge")[1] == f"{mine}: context cb-cluster\n"
    before = mine.read_bytes()
    out = run("kubeconfig", "cb-cluster", "--merge")[1]
    said = re.fullmatch(rf"{mine}: context cb-cluster; as it was before: (\S+)\n", out)
    assert said
    assert Path(said[1]).read_bytes() == before


def test_nodes_are_added_and_removed(run: Run, created: dict[str, Any]) -> None:
    out = run("add", "cb-cluster", *WORKERS)[1]
    new = created["nodes"][2]["name"]
    assert out == f"added: {new}\n"
    assert run("remove", "cb-cluster", new, "--yes")[1] == f"removed: {new}\n"


def test_deleting_has_to_be_confirmed(run: Run, double: McksDouble, created: dict[str, Any]) -> None:
    """Nobody can be asked where there is no terminal."""
    assert run("delete", "cb-cluster") == (
        2,
        "",
        f"calico_lab: DO: deleting cluster cb-cluster with 2 nodes at {double.url}/ladybug has to be confirmed; "
        "add --yes\n",
    )
    worker = created["nodes"][1]["name"]
    assert run("remove", "cb-cluster", worker)[2] == (
        f"calico_lab: DO: deleting node {worker} (34.146.125.10) of cluster cb-cluster has to be confirmed; add --yes\n"
    )
    assert double.clusters


@pytest.mark.parametrize(("answer", "deleted"), [("yes", True), ("y", False), ("", False)])
def test_who_is_asked_has_to_say_yes(
    run: Run,
    double: McksDouble,
    created: dict[str, Any],
    monkeypatch: pytest.MonkeyPatch,
    answer: str,
    deleted: bool,
) -> None:
    monkeypatch.setattr("sys.stdin.isatty", lambda: True)
    monkeypatch.setattr("builtins.input", lambda *_: answer)
    code = run("delete", "cb-cluster")[0]
    assert (code, "cb-cluster" not in double.clusters) == (0 if deleted else 2, deleted)


def test_deleting_says_what_became_of_it(run: Run, double: McksDouble, created: dict[str, Any]) -> None:
    assert run("delete", "cb-cluster", "--yes")[:2] == (0, "deleted: cb-cluster\n")
    assert run("create", "cb-cluster", "--scenario", "cross-vxlan")[0] == 0
    double.clusters.clear()
    assert run("delete", "cb-cluster", "--yes")[:2] == (0, "gone already: cb-cluster\n")


MISTAKES = {
    "nothing": ([], 2, 'DO: not given; for example: make cluster DO="list"'),
    "no-scenario": (["create"], 2, 'SCENARIO: not given; make cluster DO="create" SCENARIO=<name>'),
    "not-ours": (
        ["delete", "theirs", "--yes"],
        4,
        "cluster theirs: this tool did not make it, and deletes only what it made; "
        "seen: there is no record that it did",
    ),
    "no-namespace": (
        ["list", "--namespace", "absent"],
        4,
        "GET {url}/ladybug/ns/absent/clusters: Could not be found a namespace. (namespace=absent); seen: HTTP 400; "
        "make it in Tumblebug, or name another with MCKS_NAMESPACE",
    ),
}


@pytest.mark.parametrize(("words", "code", "message"), MISTAKES.values(), ids=MISTAKES)
def test_a_mistake_is_one_line(run: Run, double: McksDouble, words: list[str], code: int, message: str) -> None:
    assert run(*words) == (code, "", f"calico_lab: {message.format(url=double.url)}\n")


HERE = """\
import pathlib, sys
from calico_lab.cluster.mcks import ownership
ownership.CLUSTERS = pathlib.Path("clusters")
from calico_lab.cli import main
sys.exit(main(["cluster", "create", "left-alone", "--scenario", "cross-vxlan"]))
"""


def test_ctrl_c_says_what_goes_on(double: McksDouble, tmp_path: Path) -> None:
    double.hold("kubernetes")
    environment = os.environ | {"PYTHONPATH": str(ROOT), "MCKS_URL": double.url, "MCKS_NAMESPACE": NAMESPACE}
    with subprocess.Popen(
        [sys.executable, "-c", HERE],
        cwd=tmp_path,
        env=environment,
        stdin=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as command:
        assert command.stderr is not None
        lines = []
        for line in command.stderr:
            lines.append(line)
            if line.startswith("Provisioning"):
                command.send_signal(signal.SIGINT)
    assert (command.returncode, lines[-1]) == (
        130,
        "calico_lab: stopped waiting; MCKS goes on making cluster left-alone; "
        'to look: make cluster DO="show left-alone"; '
        'to wait on: DO="create left-alone" SCENARIO=cross-vxlan; '
        'when it is complete or failed: DO="delete left-alone"\n',
    )
    assert double.clusters["left-alone"]["status"]["phase"] == "Provisioning"
    assert (tmp_path / "clusters/left-alone/made.json").is_file()
