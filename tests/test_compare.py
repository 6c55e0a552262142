"""Two recordings side by side: how they are named, what the page and the terminal say, and what is refused."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from calico_lab import run
from calico_lab.cli import main
from calico_lab.errors import RecordingError
from calico_lab.facts import STATUSES
from calico_lab.page import LANGUAGES, Language
from calico_lab.run import BUNDLED, find_recording, open_comparison

OWN = BUNDLED / "cross-vxlan"


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Outputs with a recording of cross-vxlan, as `make report` leaves it."""
    folder = tmp_path_factory.mktemp("outputs")
    shutil.copytree(OWN, folder / "cross-vxlan")
    return folder


class TestWhatIsCompared:
    @pytest.mark.parametrize(
        ("text", "folder", "called"),
        [
            pytest.param("cross-vxlan", "{outputs}/cross-vxlan/recording", "cross-vxlan", id="name-in-the-outputs"),
            pytest.param("review-2022", "{bundled}/review-2022/recording", "review-2022", id="name-that-comes-along"),
            pytest.param(
                "{outputs}/cross-vxlan/recording", "{outputs}/cross-vxlan/recording", "cross-vxlan", id="recording"
            ),
            pytest.param("{outputs}/cross-vxlan", "{outputs}/cross-vxlan/recording", "cross-vxlan", id="folder-above"),
            pytest.param(
                "{outputs}/cross-vxlan/comparison",
                "{outputs}/cross-vxlan/comparison",
                "cross-vxlan-comparison",
                id="comparison",
            ),
        ],
    )
    def test_a_recording_is_a_folder_or_a_scenarios(
        self, outputs: Path, monkeypatch: pytest.MonkeyPatch, text: str, folder: str, called: str
    ) -> None:
        monkeypatch.setattr(run, "OUTPUTS", outputs)
        places = {"outputs": outputs, "bundled": BUNDLED}
        assert find_recording(text.format(**places)) == (Path(folder.format(**places)), called)

    def test_a_name_without_a_recording_is_answered_with_those_that_have_one(
        self, outputs: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(run, "OUTPUTS", outputs)
        with pytest.raises(RecordingError) as error:
            find_recording("cross-bgp")
        assert str(error.value) == (
            "cross-bgp: no recording here; seen: no manifest.json; "
            "name a recording's folder, or a scenario that has one: cross-vxlan, review-2022"
        )

    def test_a_damaged_recording_is_one_line_and_leaves_nothing(self, outputs: Path, tmp_path: Path) -> None:
        broken = shutil.copytree(OWN / "recording", tmp_path / "broken")
        path = broken / "captures/c-1-h43jk/ip-link.txt"
        path.write_text("changed")
        with pytest.raises(RecordingError) as error:
            run.compare("cross-vxlan", str(broken), tmp_path / "outputs")
        assert str(error.value) == (
            f"{path}: a captured file was changed after it was recorded; seen: another sha256; "
            "restore it or record again"
        )
        assert not (tmp_path / "outputs").exists()

    @pytest.mark.parametrize("side", ["a", "b"])
    def test_both_have_to_be_named(self, capsys: pytest.CaptureFixture[str], side: str) -> None:
        other = {"a": "b", "b": "a"}[side]
        assert main(["compare", f"--{other}", "cross-vxlan"]) == 2
        assert capsys.readouterr().err == (
            f"calico_lab: {side.upper()}: not given; make compare A=<folder or scenario> B=<folder or scenario>\n"
        )


class TestThePage:
    @pytest.mark.parametrize("language", LANGUAGES)
    def test_every_fact_is_counted_and_shown_once(self, language: Language) -> None:
        comparison = open_comparison(str(OWN / "recording"), str(OWN / "comparison"), language)
        counts = comparison.table["status"].value_counts()
        assert comparison.counts[list(STATUSES)].sum().to_dict() == counts.reindex(list(STATUSES)).to_dict()
        assert sum(len(comparison.shown(status)) for status in STATUSES) == len(comparison.table)
        for status in STATUSES:
            assert comparison.page.table(comparison.shown(status)).data["text/markdown"]
        assert comparison.page.table(comparison.summary).data["text/markdown"].count("\n") == 6

    def test_a_value_stands_above_its_evidence(self) -> None:
        comparison = open_comparison(str(OWN / "recording"), str(OWN / "comparison"))
        shown = comparison.shown("differs").set_index(["subject", "fact"]).loc[("c-1-h43jk", "tunnel device")]
        assert shown["a"].splitlines()[0] == "vxlan.calico"
        assert shown["b"].splitlines()[0] == "flannel.1"
        assert shown["b"].splitlines()[1].startswith("`captures/c-1-h43jk/ip-link.txt:")

    def test_the_same_twice_is_allowed_and_differs_in_nothing(self) -> None:
        comparison = open_comparison("review-2022", "review-2022", "en")
        assert (
            comparison.headline == f"**Result** — all {len(comparison.table)} facts of the two recordings are the same."
        )

    def test_when_an_import_was_recorded_is_not_known(self) -> None:
        comparison = open_comparison("review-2022", str(OWN / "recording"))
        assert comparison.sources["dated"].isna().tolist() == [True, False]


def test_make_compare_leaves_a_document_and_prints_what_differs(
    outputs: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(run, "OUTPUTS", outputs)
    comparison = str(outputs / "cross-vxlan" / "comparison")
    assert main(["compare", "--a", "cross-vxlan", "--b", comparison, "--lang", "en"]) == 0
    folder = outputs / "compare-cross-vxlan-cross-vxlan-comparison"
    assert {path.name for path in folder.iterdir()} == {"compare.html", "compare.ipynb", "compare.md"}
    page = (folder / "compare.md").read_text(encoding="utf-8")
    assert page.startswith("# Recordings compared: A cross-vxlan, B cross-vxlan-comparison\n")
    assert "| c-1-h43jk | tunnel local | 54.64.9.64<br>`captures/c-1-h43jk/ip-link.txt:" in page
    printed = capsys.readouterr().out
    assert "tunnel local" in printed
    assert printed.splitlines()[-3].startswith("Result — ")
