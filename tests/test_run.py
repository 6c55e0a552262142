"""From a scenario or a recording to its review, and what runs leave behind."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from calico_lab.cluster.kube.journal import JOURNAL, append
from calico_lab.errors import RecordingError, ScenarioError
from calico_lab.recording import Recording
from calico_lab.run import clean, open_review, replay
from calico_lab.scenario import Scenario

NONE: dict[str, Any] = dict.fromkeys(
    ("sites", "nodes", "cni", "public_ip_alias", "internet", "probes", "kubernetes", "expected")
)
"""What a notebook's parameters are where nobody gave them."""


def files(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


# ---------------------------------------------------------------------- what a notebook opens


def test_a_notebook_opens_a_recording_by_its_name_alone(recordings: Callable[[str], Recording]) -> None:
    folder = recordings("cross-vxlan").folder
    review = open_review({"scenario": "cross-vxlan"} | NONE, str(folder), language="en")
    assert (review.verdict.cause, review.comparison) == ("outer-source", None)


def test_a_notebook_opens_a_recording_with_the_parameters_it_was_made_with(
    recordings: Callable[[str], Recording],
) -> None:
    recording = recordings("cross-vxlan")
    assert open_review(recording.scenario.parameters(), str(recording.folder)).scenario == recording.scenario


def test_a_notebook_puts_a_comparison_beside_it(recordings: Callable[[str], Recording]) -> None:
    folders = [str(recordings(name).folder) for name in ("cross-vxlan", "cross-canal")]
    comparison = open_review({"scenario": "cross-vxlan"} | NONE, *folders).comparison
    assert comparison is not None
    assert comparison.scenario.name == "cross-canal"


def test_a_recording_of_other_parameters_is_refused(recordings: Callable[[str], Recording]) -> None:
    folder = recordings("cross-vxlan").folder
    parameters = Scenario.load("cross-vxlan", {"probes.ping_count": 3}).parameters()
    with pytest.raises(RecordingError) as error:
        open_review(parameters, str(folder))
    assert str(error.value) == (
        f"{folder}: the recording is of a scenario with other parameters; seen: cross-vxlan; "
        "record again, or leave the parameters out"
    )


def test_a_misspelled_key_is_refused_before_anything_starts() -> None:
    with pytest.raises(ScenarioError) as error:
        open_review({"scenario": "cross-vxlan", "probes": {"ping_cnt": 3}})
    assert str(error.value).startswith(
        "params/cross-vxlan.yaml: probes.ping_cnt: unknown key, did you mean ping_count?; seen: 3; "
    )


# ---------------------------------------------------------------------- replay


def test_a_folder_is_replayed_with_the_comparison_that_lies_beside_it(
    recordings: Callable[[str], Recording], tmp_path: Path
) -> None:
    (tmp_path / "recording").symlink_to(recordings("cross-vxlan").folder)
    assert replay(None, tmp_path / "recording").comparison is None
    (tmp_path / "comparison").symlink_to(recordings("cross-canal").folder)
    assert replay(None, tmp_path / "recording").comparison == tmp_path / "comparison"


def test_a_folder_that_is_no_recording_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RecordingError) as error:
        replay(None, tmp_path)
    assert str(error.value) == f"{tmp_path}: no recording here; seen: no manifest.json; name a recording's folder"


# ---------------------------------------------------------------------- clean


@pytest.fixture
def outputs(tmp_path: Path) -> Path:
    for name in (
        ".gitignore",
        "cross-vxlan/recording/manifest.json",
        "cross-vxlan/comparison/manifest.json",
        "cross-vxlan/report.html",
        "cross-vxlan/report_files/figure-1.png",
        "matrix/matrix.csv",
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return tmp_path


def test_clean_keeps_recordings(outputs: Path) -> None:
    removed = clean(outputs)
    assert removed == [
        outputs / "cross-vxlan/report.html",
        outputs / "cross-vxlan/report_files",
        outputs / "matrix/matrix.csv",
    ]
    assert files(outputs) == [
        ".gitignore",
        "cross-vxlan/comparison/manifest.json",
        "cross-vxlan/recording/manifest.json",
    ]
    assert not (outputs / "matrix").exists()


def test_clean_removes_recordings_when_told(outputs: Path) -> None:
    clean(outputs, recordings=True)
    assert [path.name for path in outputs.iterdir()] == [".gitignore"]


@pytest.mark.parametrize("recordings", [False, True])
def test_clean_keeps_what_is_known_of_clusters(outputs: Path, recordings: bool) -> None:
    """Without it nobody could delete them."""
    made = outputs / "clusters/cb-cluster/made.json"
    made.parent.mkdir(parents=True)
    made.touch()
    clean(outputs, recordings=recordings)
    assert made.is_file()


@pytest.mark.parametrize(("undone", "kept"), [(False, True), (True, False)], ids=["not-undone", "undone"])
def test_clean_keeps_the_way_back_on_a_cluster(outputs: Path, undone: bool, kept: bool) -> None:
    journal = outputs / "cross-vxlan" / JOURNAL
    append(journal, {"change": 1, "do": "apply"})
    if undone:
        append(journal, {"undone": 1})
    clean(outputs, recordings=True)
    assert journal.exists() is kept


def test_clean_of_what_is_clean_does_nothing(tmp_path: Path) -> None:
    assert clean(tmp_path / "outputs") == []
