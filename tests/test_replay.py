"""The recording that comes with the tool: what a machine without namespaces and network tools can do."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest

from calico_lab.calico import counterpart
from calico_lab.errors import InputError
from calico_lab.recording import Recording, redact
from calico_lab.review import Review
from calico_lab.run import BUNDLED, replay
from calico_lab.scenario import Scenario, names

ROOT = Path(__file__).parents[1]
BUNDLES = sorted(BUNDLED.glob("*/*/manifest.json"))

# The limits are those of a user namespace of its own, so that this machine keeps its.
WITHOUT_NAMESPACES = """
for kind in net mnt pid user; do echo 0 >/proc/sys/user/max_${kind}_namespaces || exit; done
PATH=/nowhere exec "$@"
"""
REPORT = """
import sys
from pathlib import Path
from calico_lab import cli, run
run.OUTPUTS = Path(sys.argv[1])
sys.exit(cli.main(sys.argv[2:]))
"""


def texts(recording: Path) -> list[str]:
    return [path.read_text(encoding="utf-8") for path in recording.rglob("*") if path.is_file()]


@pytest.mark.lab
@pytest.mark.parametrize(
    ("language", "heading"),
    [("ko", "# Calico(VXLAN) Cross-CSP 설치 검토"), ("en", "# Cross-CSP installation review of Calico (VXLAN)")],
    ids=["ko", "en"],
)
def test_a_report_needs_neither_namespaces_nor_network_tools(language: str, heading: str, tmp_path: Path) -> None:
    bare = ["unshare", "--user", "--map-root-user", "sh", "-c", WITHOUT_NAMESPACES, "sh"]
    command = ["report", "cross-vxlan", "--provider", "replay", "--lang", language]
    made = subprocess.run(
        [*bare, sys.executable, "-c", REPORT, str(tmp_path), *command],
        cwd=ROOT,
        capture_output=True,
        text=True,
        env=os.environ | {"COLUMNS": "200"},
    )
    assert (made.returncode, made.stderr.strip()) == (0, "")
    assert (tmp_path / "cross-vxlan/report.md").read_text(encoding="utf-8").splitlines()[0] == heading
    summary = json.loads((tmp_path / "cross-vxlan/summary.json").read_text(encoding="utf-8"))
    assert (summary["installed"], summary["ping"], summary["cause"]) == (True, False, "outer-source")


def test_the_verdict_is_that_of_a_fresh_recording(recordings: Callable[[str | Scenario], Recording]) -> None:
    fresh = Review(recordings("cross-vxlan"))
    bundled = Review(replay(Scenario.load("cross-vxlan")).recording)
    assert bundled.verdict == fresh.verdict
    assert bundled.agrees


def test_the_recording_is_of_the_scenario_as_it_stands() -> None:
    scenario = Scenario.load("cross-vxlan")
    observed = replay(scenario)
    assert observed.comparison is not None
    assert Recording(observed.recording).scenario == scenario
    assert Recording(observed.comparison).scenario == counterpart(scenario)


@pytest.mark.parametrize("manifest", BUNDLES, ids=lambda path: path.parent.relative_to(BUNDLED).as_posix())
class TestBundled:
    def test_every_capture_is_read(self, manifest: Path) -> None:
        captures = Review(manifest.parent).tables.captures
        assert captures.loc[~captures["status"].isin(["read", "empty"]), "command"].to_list() == []

    def test_holds_nothing_to_redact(self, manifest: Path) -> None:
        for text in texts(manifest.parent):
            assert redact(text) == text

    def test_names_no_folder_of_the_machine_that_made_it(self, manifest: Path) -> None:
        folders = [str(folder) for folder in (Path.home(), ROOT, tempfile.gettempdir())]
        for text in texts(manifest.parent):
            assert [folder for folder in folders if folder in text] == []

    def test_has_no_file_that_its_manifest_does_not_list(self, manifest: Path) -> None:
        listed = {capture.path for capture in Recording(manifest.parent).captures}
        found = {path.relative_to(manifest.parent).as_posix() for path in manifest.parent.rglob("*.txt")}
        assert found == listed


def test_the_bundled_recordings_are_small() -> None:
    assert sum(path.stat().st_size for path in BUNDLED.rglob("*") if path.is_file()) < 400_000


def test_a_scenario_without_a_recording_names_those_with_one() -> None:
    with pytest.raises(InputError) as refused:
        replay(Scenario.load("single-vxlan"))
    assert str(refused.value) == (
        "PROVIDER=replay: no recording of this scenario comes with calico_lab; seen: single-vxlan; "
        "name one with RECORDING=<folder>, or take one of: cross-vxlan, review-2022"
    )


def test_a_recording_of_another_scenario_is_refused() -> None:
    folder = BUNDLED / "cross-vxlan" / "recording"
    with pytest.raises(InputError) as refused:
        replay(Scenario.load("single-vxlan"), folder)
    assert str(refused.value) == (
        f"RECORDING={folder}: the recording is of cross-vxlan; seen: SCENARIO=single-vxlan; "
        "leave SCENARIO out, or name the other recording"
    )


def test_every_bundled_scenario_exists() -> None:
    assert {path.name for path in BUNDLED.iterdir()} <= set(names())
