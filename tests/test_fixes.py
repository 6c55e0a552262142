"""The catalogue of remedies, and what they do to real labs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from calico_lab import remedies
from calico_lab.capture import record
from calico_lab.cluster.lab import LabCluster
from calico_lab.errors import InputError, LabError
from calico_lab.fixes import FIXES, Fix, applicable, changed, pairs
from calico_lab.page import LANGUAGES, Language, catalogue
from calico_lab.recording import Recording
from calico_lab.review import Review
from calico_lab.scenario import Scenario, names

FEW = {"internet.latency_ms": 0, "probes.ping_count": 2}


def ids(scenario: str) -> list[str]:
    return [fix.id for fix in applicable(Scenario.load(scenario))]


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_remedy_says_what_it_changes_and_risks_and_how_felix_treats_it(language: Language) -> None:
    written = {key for key in catalogue(language) if key.startswith("fix.")}
    assert written == {f"fix.{name}.{part}" for name in FIXES for part in ("title", "changes", "risk", "felix")}


@pytest.mark.parametrize(
    ("scenario", "wanted"),
    [
        ("cross-vxlan", ["snat-vxlan", "snat-alias", "canal", "source-check-off", "mtu", "wireguard"]),
        ("cross-vxlan-private", ["canal", "dnat", "external-nodes", "source-check-off", "mtu", "wireguard"]),
        (
            "cross-vxlan-noalias",
            ["snat-vxlan", "snat-alias", "canal", "public-on-lo", "source-check-off", "mtu", "wireguard"],
        ),
        ("cross-bgp", ["snat-alias", "canal", "source-check-off", "wireguard"]),
        ("cross-canal", []),
    ],
)
def test_remedies_are_for_the_scenarios_that_they_could_mend(scenario: str, wanted: list[str]) -> None:
    assert ids(scenario) == wanted


@pytest.mark.parametrize("name", names())
def test_every_remedy_has_commands_with_the_scenarios_own_addresses(name: str) -> None:
    scenario = Scenario.load(name)
    for fix in applicable(scenario):
        assert fix.commands(scenario)
        for node in scenario.nodes:
            for line in fix.on_node(node, scenario):
                assert node.public_ip in line or any(peer.public_ip in line for peer in scenario.peers(node))


def test_what_is_changed_is_a_scenario_that_could_stand_in_a_file() -> None:
    scenario = Scenario.load("cross-vxlan")
    for fix in applicable(scenario):
        other = changed(scenario, [fix.id])
        assert Scenario.of(json.loads(json.dumps(other.parameters()))) == other
        assert other.expected is None


def test_pairs_leave_out_what_helps_no_other_and_what_includes_it() -> None:
    assert pairs(["snat-vxlan", "snat-alias", "canal", "public-on-lo", "mtu"]) == [
        ("snat-vxlan", "public-on-lo"),
        ("snat-alias", "public-on-lo"),
    ]


@pytest.mark.parametrize(
    ("scenario", "together", "ping", "cause"),
    [
        pytest.param("cross-vxlan", ["snat-vxlan"], True, None, id="snat"),
        pytest.param("cross-vxlan", ["snat-alias"], True, None, id="snat-of-all"),
        pytest.param("cross-vxlan", ["canal"], True, None, id="canal"),
        pytest.param("cross-vxlan", ["source-check-off"], False, "outer-source", id="check-off-across-clouds"),
        pytest.param("single-vxlan", ["source-check-off"], False, "outer-source", id="check-off-within-one-cloud"),
        pytest.param("single-vxlan-private-crosssubnet", ["source-check-off"], True, None, id="check-off-for-pods"),
        pytest.param("cross-vxlan-private", ["dnat"], False, "allow-list", id="dnat-alone"),
        pytest.param("cross-vxlan-private", ["external-nodes"], False, "fdb-reachable", id="allow-list-alone"),
        pytest.param("cross-vxlan-private", ["dnat", "external-nodes"], True, None, id="dnat-and-allow-list"),
        pytest.param("cross-vxlan-noalias", ["public-on-lo"], False, "outer-source", id="lo-alone"),
        pytest.param("cross-vxlan-noalias", ["snat-vxlan", "public-on-lo"], True, None, id="lo-and-snat"),
    ],
)
def test_a_remedy_does_what_is_known_of_it(
    tmp_path: Path, scenario: str, together: list[str], ping: bool, cause: str | None
) -> None:
    works = remedies.apply(Scenario.load(scenario, FEW), together, tmp_path / "recording")
    found = Review(tmp_path / "recording").verdict
    assert (works, found.ping, found.cause) == (ping, ping, cause)


def test_one_mtu_is_what_pods_and_tunnels_get(tmp_path: Path) -> None:
    scenario = Scenario.load("cross-vxlan", FEW)
    remedies.apply(scenario, ["snat-vxlan", "mtu"], tmp_path / "recording")
    review = Review(tmp_path / "recording")
    links = review.tables.links
    mtus = set(links[links["name"].str.match("cali|vxlan")]["mtu_bytes"])
    assert mtus == {min(node.mtu_bytes for node in scenario.nodes) - 50}
    assert {finding.result for finding in review.findings if finding.id == "mtu-between"} == {"pass"}


def test_without_a_mapping_nothing_leaves_the_cloud_and_the_fabric_says_so(tmp_path: Path) -> None:
    remedies.apply(Scenario.load("cross-vxlan", FEW), ["source-check-off"], tmp_path / "recording")
    cases = {finding.case for finding in Review(tmp_path / "recording").findings if finding.result == "fail"}
    assert {"fail-unmapped", "fail-no-mapping"} <= cases


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str], list[Path]]:
    scenario = Scenario.load("cross-vxlan", FEW)
    folder: Path = tmp_path_factory.mktemp("measured")
    cluster = LabCluster(scenario)
    try:
        record(cluster, scenario, folder / "recording")
    finally:
        cluster.close()
    seen: list[str] = []
    paths = remedies.measure(scenario, folder, started=seen.append)
    return folder, seen, paths


class TestMeasure:
    def test_each_is_measured_alone_but_what_no_kernel_here_has(
        self, measured: tuple[Path, list[str], list[Path]]
    ) -> None:
        folder, seen, paths = measured
        assert seen[:5] == ["snat-vxlan", "snat-alias", "canal", "source-check-off", "mtu"]
        assert all((path / "manifest.json").is_file() for path in paths)
        assert {path.parent.parent for path in paths} == {folder / "remedies"}

    def test_a_recording_says_what_was_applied(self, measured: tuple[Path, list[str], list[Path]]) -> None:
        assert Recording(measured[2][0]).manifest["facts"]["remedies"] == ["snat-vxlan"]

    def test_the_report_tells_before_and_after(self, measured: tuple[Path, list[str], list[Path]]) -> None:
        table = Review(measured[0] / "recording", "en").remedies.set_index("remedy")
        assert list(table["before"].unique()) == [False]
        assert table.loc["SNAT of the VTEP's traffic", "after"] is True
        assert table.loc["source check off", "after"] is False
        assert table.loc["WireGuard", "after"] is None

    def test_what_is_there_is_not_measured_again(self, measured: tuple[Path, list[str], list[Path]]) -> None:
        path = measured[2][0]
        written = (path / "manifest.json").stat().st_mtime_ns
        remedies.apply(Scenario.load("cross-vxlan", FEW), ["snat-vxlan"], path)
        assert (path / "manifest.json").stat().st_mtime_ns == written

    def test_what_was_measured_of_another_scenario_is_not_told(
        self, measured: tuple[Path, list[str], list[Path]], edited: Callable[..., Recording], tmp_path: Path
    ) -> None:
        alone = edited(Recording(measured[0] / "recording"), [])
        assert set(Review(alone, "en").remedies["after"]) == {None}


def test_nothing_is_mended_where_pods_reach_each_other(
    recordings: Callable[[str | Scenario], Recording],
) -> None:
    recording = recordings("single-vxlan-private")
    with pytest.raises(InputError, match="there is nothing to mend"):
        remedies.measure(recording.scenario, recording.folder.parent)


def test_a_line_that_fails_names_the_remedy_and_the_node(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(FIXES, "broken", Fix("broken", lambda scenario: True, lambda node, scenario: ["false"]))
    with pytest.raises(LabError, match="remedy broken failed") as error:
        remedies.apply(Scenario.load("cross-vxlan", FEW), ["broken"], tmp_path / "recording")
    assert "c-1-h43jk: false" in str(error.value)
    assert not (tmp_path / "recording").exists()
