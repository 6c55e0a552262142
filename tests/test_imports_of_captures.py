"""What others captured becomes a recording: the review document's own outputs, and folders with something wrong."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from calico_lab.checks import check, gaps
from calico_lab.errors import InputError
from calico_lab.imports import from_folder
from calico_lab.page import LANGUAGES, Language
from calico_lab.recording import Recording
from calico_lab.review import Review
from calico_lab.run import BUNDLED
from calico_lab.scenario import Scenario

A, G = "c-1-h43jk", "w-1-36384"
DOCUMENT = BUNDLED / "review-2022" / "recording"


@pytest.fixture
def outputs(tmp_path: Path) -> Path:
    """The document's outputs as a folder a node."""
    return Path(shutil.copytree(DOCUMENT / "captures", tmp_path / "outputs"))


class TestTheDocumentsOutputs:
    def test_every_text_can_be_read(self) -> None:
        assert set(Review(DOCUMENT).tables.captures["status"]) == {"read"}

    def test_nothing_is_said_of_what_they_do_not_tell(self) -> None:
        found = Review(DOCUMENT).verdict
        assert (found.installed, found.ready, found.ping, found.cause) == (None, {}, None, None)

    @pytest.mark.parametrize(
        "rule", ["device-present", "route-to-block", "mac-agreement", "vni-port", "fdb-destination", "stale-device"]
    )
    def test_they_prove_what_the_document_checked(self, rule: str) -> None:
        results = [finding.result for finding in Review(DOCUMENT).findings if finding.id == rule]
        assert results == ["pass", "pass"]

    def test_two_commands_would_decide_what_they_cannot(self) -> None:
        review = Review(DOCUMENT)
        asked = gaps(check(review.tables), review.tables)
        assert list(asked["run"][:2]) == ["ip addr show", "tcpdump -nn -i any udp port 4789"]
        assert list(asked["suspects"]) == [2, 2, *[0] * (len(asked) - 2)]
        assert {rule for rules in asked["rules"][:2] for rule in rules.split(", ")} >= {"local-address", "outer-source"}

    @pytest.mark.parametrize("language", LANGUAGES)
    def test_the_report_asks_for_them_and_says_that_it_was_imported(self, language: Language) -> None:
        review = Review(DOCUMENT, language)
        shown = "".join(str(block.data) for block in review.gaps())
        assert "ip addr show" in shown
        assert review.words("review.imported") in str(review.notes().data)

    def test_they_are_of_the_scenario_that_comes_along(self) -> None:
        assert Recording(DOCUMENT).scenario == Scenario.load("review-2022")


def test_a_folder_becomes_a_recording_with_the_same_texts(outputs: Path, tmp_path: Path) -> None:
    made = from_folder(Scenario.load("review-2022"), outputs, tmp_path / "recording")
    assert made.manifest["provider"] == "import"
    assert {(each.node, each.command) for each in made.captures} == {
        (node, command) for node in (A, G) for command in ("bridge-fdb", "ip-link", "ip-neigh", "route")
    }
    for each in made.captures:
        assert made.text(each) == (outputs / each.node / f"{each.command}.txt").read_text(encoding="utf-8")


def test_a_file_that_is_no_known_command_s_is_named_and_nothing_is_written(outputs: Path, tmp_path: Path) -> None:
    (outputs / A / "dmesg.txt").write_text("hello")
    (outputs / "somebody").mkdir()
    (outputs / "somebody" / "route.txt").write_text("")
    with pytest.raises(InputError) as error:
        from_folder(Scenario.load("review-2022"), outputs, tmp_path / "recording")
    assert f"{A}/dmesg.txt, somebody/route.txt" in str(error.value)
    assert not (tmp_path / "recording").exists()


@pytest.mark.parametrize("name", ["empty", "missing"])
def test_a_folder_without_a_node_is_refused(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="no folder of a node"):
        from_folder(Scenario.load("review-2022"), tmp_path / name, tmp_path / "recording")


def test_an_older_recording_stays_where_an_import_fails(outputs: Path, tmp_path: Path) -> None:
    made = from_folder(Scenario.load("review-2022"), outputs, tmp_path / "recording")
    (outputs / A / "dmesg.txt").write_text("hello")
    with pytest.raises(InputError):
        from_folder(made.scenario, outputs, tmp_path / "recording")
    assert Recording(tmp_path / "recording").manifest == made.manifest
