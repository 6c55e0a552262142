"""The command line: what it refuses before anything starts, what a report leaves, and what Ctrl-C does not leave."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import nbformat
import pytest

from calico_lab import run
from calico_lab.cli import main
from calico_lab.page import Language, catalogue
from calico_lab.recording import Recording
from calico_lab.scenario import names

ROOT = Path(__file__).parents[1]
HERE = "--set", "internet.latency_ms=0"
"""On this machine's own kernel, which may lack netem."""


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What a report needs of this checkout, with outputs of its own."""
    there = tmp_path_factory.mktemp("checkout")
    for name in ("calico_lab", "notebooks", "params"):
        shutil.copytree(ROOT / name, there / name, ignore=shutil.ignore_patterns("__pycache__"))
    (there / "outputs").mkdir()
    return there


def start(checkout: Path, *arguments: str) -> subprocess.Popen[str]:
    """The command in a session of its own: what it leaves can be told from everything else."""
    return subprocess.Popen(
        [sys.executable, "-m", "calico_lab", *arguments],
        cwd=checkout,
        env=os.environ | {"PYTHONPATH": str(checkout), "COLUMNS": "200"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def bytes_below(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# ---------------------------------------------------------------------- what is refused


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        pytest.param(["report"], 2, f"SCENARIO: no scenario is named; allowed: {', '.join(names())}", id="no-scenario"),
        pytest.param(
            ["report", "cross-vxln"],
            2,
            "SCENARIO: no scenario has that name, did you mean cross-vxlan?; seen: cross-vxln; "
            f"allowed: {', '.join(names())}",
            id="misspelled-scenario",
        ),
        pytest.param(
            ["report", "cross-vxlan", "--set", "probes.ping_count"],
            2,
            "SET: not KEY=VALUE; seen: probes.ping_count; write for example probes.ping_count=5",
            id="set-without-a-value",
        ),
        pytest.param(
            ["report", "cross-vxlan", "--set", "probes.ping_cnt=5"],
            2,
            "params/cross-vxlan.yaml: probes.ping_cnt: unknown key, did you mean ping_count?; seen: 5; "
            "allowed: ping_count, ping_interval_s, ping_timeout_s, command_timeout_s",
            id="set-of-a-misspelled-key",
        ),
        pytest.param(
            ["report", "cross-vxlan", "--set", "probes.ping_count=[1"],
            2,
            "SET: the value is not YAML; seen: probes.ping_count=[1; write for example probes.ping_count=5",
            id="set-of-no-yaml",
        ),
        pytest.param(
            ["report", "cross-vxlan", "--provider", "replay", "--set", "probes.ping_count=5"],
            2,
            "SET: a recording's parameters cannot be changed; seen: probes.ping_count=5; "
            "leave SET out, or record with PROVIDER=lab",
            id="set-on-a-replay",
        ),
        pytest.param(
            ["report", "--recording", "nowhere"],
            5,
            "nowhere: no recording here; seen: no manifest.json; name a recording's folder",
            id="no-recording",
        ),
        pytest.param(
            ["report", "cross-vxlan", "--provider", "ssh"],
            2,
            "INVENTORY: not given; PROVIDER=ssh INVENTORY=hosts.yaml",
            id="ssh-without-an-inventory",
        ),
        pytest.param(
            ["report", "cross-vxlan", "--provider", "kube"],
            2,
            "KUBECONFIG: not given; PROVIDER=kube KUBECONFIG=~/.kube/config",
            id="kube-without-a-kubeconfig",
        ),
        pytest.param(
            ["capture", "cross-vxlan", "--provider", "kube", "--kubeconfig", "nowhere"],
            2,
            "nowhere: not a usable kubeconfig; seen: [Errno 2] No such file or directory: 'nowhere'; "
            "try: kubectl --kubeconfig nowhere get nodes",
            id="kubeconfig-missing",
        ),
        pytest.param(
            ["capture", "cross-vxlan", "--inventory", "hosts.yaml"],
            2,
            "INVENTORY: this is for PROVIDER=ssh or kube; seen: PROVIDER=lab; leave INVENTORY out, "
            "or name that provider",
            id="inventory-for-the-lab",
        ),
        pytest.param(
            ["report", "--recording", "nowhere", "--provider", "ssh"],
            2,
            "PROVIDER: a recording is read, and nothing is asked; seen: ssh; leave PROVIDER out",
            id="provider-for-a-recording",
        ),
        pytest.param(
            ["restore", "--kubeconfig", "somewhere"],
            2,
            "JOURNAL: not given; make restore JOURNAL=outputs/<scenario>/changes.jsonl KUBECONFIG=<file>",
            id="restore-nothing",
        ),
        pytest.param(
            ["restore", "--journal", "somewhere"],
            2,
            "KUBECONFIG: not given; make restore JOURNAL=outputs/<scenario>/changes.jsonl KUBECONFIG=<file>",
            id="restore-nowhere",
        ),
        pytest.param(
            ["predict"], 2, f"SCENARIO: no scenario is named; allowed: {', '.join(names())}", id="predict-nothing"
        ),
        pytest.param(
            ["predict", "cross-vxln"],
            2,
            "SCENARIO: no scenario has that name, did you mean cross-vxlan?; seen: cross-vxln; "
            f"allowed: {', '.join(names())}",
            id="predict-a-misspelled-scenario",
        ),
        pytest.param(
            ["publish", "cross-vxlan"],
            2,
            "WIKI: not given; make publish SCENARIO=<name> WIKI=<git address or folder>",
            id="publish-nowhere",
        ),
        pytest.param(
            ["publish", "--wiki", "somewhere"],
            2,
            "SCENARIO: not given; make publish SCENARIO=<name> WIKI=<git address or folder>",
            id="publish-nothing",
        ),
    ],
)
def test_a_mistake_is_one_line_and_an_exit_code(
    capsys: pytest.CaptureFixture[str], arguments: list[str], code: int, message: str
) -> None:
    assert main(arguments) == code
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", f"calico_lab: {message}\n")


def test_list_names_every_scenario_with_its_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["list"]) == 0
    listed = capsys.readouterr().out
    assert re.findall(r"^([a-z][a-z0-9-]+) +[A-Z]", listed, flags=re.MULTILINE) == names()


@pytest.mark.parametrize(
    ("language", "first", "last"),
    [
        ("ko", "예측 — 설치 O · Pod 간 ping O · 원인: 없음", "시나리오만으로 예측한 것이며, 아무것도 실행하지 않았다."),
        (
            "en",
            "Predicted — installed O · pod ping O · cause: none",
            "This follows from the scenario alone; nothing was run.",
        ),
    ],
)
def test_predict_takes_a_change_and_leaves_nothing_behind(
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    language: Language,
    first: str,
    last: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(["predict", "cross-vxlan", "--set", "cni.plugin=canal", "--lang", language]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert (lines[0], lines[-1]) == (first, last)
    assert list(tmp_path.iterdir()) == []


# ---------------------------------------------------------------------- reports


@pytest.fixture(scope="module")
def korean(checkout: Path) -> Path:
    """The folder of a report of cross-vxlan, recorded on the local lab."""
    command = start(checkout, "report", "cross-vxlan", *HERE)
    out, error = command.communicate(timeout=120)
    assert (command.returncode, error) == (0, "")
    assert out.splitlines() == [
        "Calico(VXLAN) Cross-CSP 설치 검토",
        *out.splitlines()[1:2],
        "outputs/cross-vxlan/report.html",
        "outputs/cross-vxlan/report.md",
    ]
    return checkout / "outputs/cross-vxlan"


@pytest.mark.lab
class TestReport:
    @pytest.fixture(params=["ko", "en"])
    def folder(self, request: pytest.FixtureRequest, checkout: Path, korean: Path) -> tuple[Language, Path]:
        """First as it was recorded, in Korean; then the same recording in English."""
        if request.param == "en":
            command = start(checkout, "report", "--recording", str(korean / "recording"), "--lang", "en")
            _, error = command.communicate(timeout=120)
            assert (command.returncode, error) == (0, "")
        return request.param, korean

    def test_a_report_is_whole(self, folder: tuple[Language, Path]) -> None:
        language, made = folder
        assert sorted(path.name for path in made.iterdir()) == [
            "comparison",
            "recording",
            "report.html",
            "report.ipynb",
            "report.md",
            "report_files",
            "summary.json",
        ]
        notebook = nbformat.read(made / "report.ipynb", as_version=4)
        outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
        assert [output for output in outputs if output.output_type in ("error", "stream")] == []
        html, markdown = ((made / f"report.{kind}").read_text(encoding="utf-8") for kind in ("html", "md"))
        assert f'<html lang="{language}">' in html
        for text in (html, markdown):
            assert catalogue(language)["cause.outer-source"] in text
            assert re.findall(r"\b(?:finding|conclusion|cause|caption|section|value)\.[a-z-]+\b", text) == []
        summary = json.loads((made / "summary.json").read_text(encoding="utf-8"))
        assert (summary["installed"], summary["ping"], summary["cause"], summary["agrees"]) == (
            True,
            False,
            "outer-source",
            True,
        )
        named = {place.partition(":")[0] for finding in summary["findings"] for place in finding["evidence"]}
        assert named
        assert sorted(place for place in named if not (made / "recording" / place).is_file()) == []


# ---------------------------------------------------------------------- Ctrl-C


def test_a_review_of_machines_that_is_stopped_speaks_of_no_lab(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(run, "observe_on", stopped)
    hosts = tmp_path / "hosts.yaml"
    nodes = "[{name: c-1-h43jk, address: 127.0.0.1}, {name: w-1-36384, address: 127.0.0.1}]"
    hosts.write_text(f"user: me\nnodes: {nodes}\n", encoding="utf-8")
    assert main(["capture", "cross-vxlan", "--provider", "ssh", "--inventory", str(hosts)]) == 130
    assert capsys.readouterr().err == "calico_lab: stopped; an older recording is as it was\n"


def processes_of(session: int) -> list[str]:
    """Command lines of the processes of that session that are alive."""
    alive = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, its_session = stat.read_text().rpartition(")")[2].split()[:4]
            if int(its_session) == session and state != "Z":
                alive.append((stat.parent / "cmdline").read_text().replace("\0", " "))
        except (FileNotFoundError, ProcessLookupError):
            continue
    return alive


def awaited(condition: Callable[[], object], command: subprocess.Popen[str], limit_s: float = 60.0) -> None:
    deadline = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < deadline
        with contextlib.suppress(subprocess.TimeoutExpired):
            command.wait(0.01)
            pytest.fail(f"it ended by itself: {command.communicate()}")


@pytest.mark.lab
@pytest.mark.parametrize("everyone", [True, False], ids=["from-the-terminal", "to-the-command-alone"])
def test_ctrl_c_leaves_an_older_recording_and_nothing_else(
    recordings: Callable[[str], Recording], checkout: Path, everyone: bool
) -> None:
    outputs = checkout / "outputs/cross-vxlan"
    shutil.rmtree(outputs, ignore_errors=True)
    shutil.copytree(recordings("cross-vxlan").folder, outputs / "recording")
    before = bytes_below(outputs)
    command = start(checkout, "report", "cross-vxlan", *HERE)
    awaited(lambda: list(outputs.glob(".recording-*/captures/*/*.txt")), command)
    (os.killpg if everyone else os.kill)(command.pid, signal.SIGINT)
    out, error = command.communicate(timeout=30)
    assert (command.returncode, out, error) == (
        130,
        "",
        "calico_lab: stopped; the lab is gone and an older recording is as it was\n",
    )
    assert processes_of(command.pid) == []
    assert [path.name for path in outputs.iterdir()] == ["recording"]
    assert bytes_below(outputs) == before
