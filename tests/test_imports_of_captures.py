"""What others captured becomes a recording: the review document's own outputs, and folders with something wrong."""

from __future__ import annotations

import re
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

    @pytest.mark.parametrize("language", LANGUAGES)
    def test_the_conclusion_says_what_they_prove_what_they_cannot_decide_and_what_would(
        self, language: Language
    ) -> None:
        review = Review(DOCUMENT, language)
        concluded = review.conclusion().data["text/markdown"].splitlines()
        proven = "`route-to-block`, `device-present`, `stale-device`, `mac-agreement`, `vni-port`, `fdb-destination`"
        suspected = ", ".join(review.words(f"cause.{rule}") for rule in ("local-address", "outer-source"))
        commands = "`ip addr show` · `tcpdump -nn -i any udp port 4789`"
        deciding = review.words("gaps.suspected", commands=commands, causes=suspected)
        assert f"* {review.words('conclusion.proven.pass', rules=proven)}" in concluded
        assert f"* {review.words('conclusion.proven.fail', rules='`mtu-between`')}" in concluded
        assert f"* {deciding}" in concluded
        assert deciding in next(review.gaps()).data["text/markdown"]
        (undecided,) = [line for line in concluded if "`outer-source`" in line]
        assert not {"mac-agreement", "fdb-destination"} & set(re.findall(r"`([a-z-]+)`", undecided))

    def test_what_is_not_known_is_not_said_to_be_not_ready(self) -> None:
        review = Review(DOCUMENT, "en")
        assert review.result["note"].tolist() == ["not decided: some node's readiness is unknown"]

    def test_figures_of_pings_that_were_not_made_are_a_sentence(self) -> None:
        review = Review(DOCUMENT, "en")
        assert str(review.latency_figure()) == "This recording has no `ping`."
        assert str(review.mtu_figure()) == "This recording has no `ping` between pods, and so no path."

    def test_nothing_is_said_to_have_been_measured_with_remedies(self) -> None:
        review = Review(DOCUMENT, "en")
        shown = next(review.recommendation()).data["text/markdown"]
        assert shown == review.words("section.remedies-not-measured", scenario="review-2022")

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


@pytest.mark.parametrize(
    ("name", "command"),
    [
        ("ip -d link show.txt", "ip-link"),
        ("IP_D_LINK.log", "ip-link"),
        ("ip_addr.out", "ip-addr"),
        ("ip route show table all.txt", "ip-route"),
        ("bridge_fdb_show.txt", "bridge-fdb"),
        ("iptables-save -c.txt", "iptables-save"),
        ("uname -a.txt", "uname"),
    ],
)
def test_a_file_may_be_called_as_its_command(tmp_path: Path, name: str, command: str) -> None:
    folder = tmp_path / "outputs" / A
    folder.mkdir(parents=True)
    (folder / name).write_text("")
    made = from_folder(Scenario.load("review-2022"), tmp_path / "outputs", tmp_path / "recording")
    assert [capture.command for capture in made.captures] == [command]


def test_two_files_of_one_command_are_refused(outputs: Path, tmp_path: Path) -> None:
    shutil.copy(outputs / A / "ip-link.txt", outputs / A / "ip -d link.txt")
    with pytest.raises(InputError) as error:
        from_folder(Scenario.load("review-2022"), outputs, tmp_path / "recording")
    assert str(error.value) == (
        f"{outputs}/{A}: two files of one command, ip-link; seen: ip -d link.txt, ip-link.txt; remove one of them"
    )


@pytest.mark.parametrize(
    ("below", "message"),
    [
        pytest.param(
            "recording",
            "this is a recording already; make report RECORDING={source}, or FROM={source}/captures",
            id="recording",
        ),
        pytest.param(
            f"recording/captures/{A}",
            "no folder of a node with outputs in it; seen: nothing; FROM={above}",
            id="one-node",
        ),
    ],
)
def test_a_folder_beside_the_right_one_leads_to_it(tmp_path: Path, below: str, message: str) -> None:
    source = DOCUMENT.parent / below
    with pytest.raises(InputError) as error:
        from_folder(Scenario.load("review-2022"), source, tmp_path / "recording")
    assert str(error.value) == f"{source}: {message.format(source=source, above=source.parent)}"


def test_a_text_in_another_encoding_is_one_line(outputs: Path, tmp_path: Path) -> None:
    path = outputs / A / "ip-link.txt"
    path.write_bytes(path.read_text(encoding="utf-8").encode("utf-16"))
    with pytest.raises(InputError, match=rf"^{path}: not UTF-8 text; seen: .*; save it as UTF-8$"):
        from_folder(Scenario.load("review-2022"), outputs, tmp_path / "recording")
    assert not (tmp_path / "recording").exists()


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
