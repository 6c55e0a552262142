"""The matrix: each scenario by itself, then all side by side; trouble is a row, and what is current is kept."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from calico_lab.calico import counterpart
from calico_lab.errors import InputError, LabError, ScenarioError
from calico_lab.matrix import is_current, matrix, review_one, scenarios_to_review
from calico_lab.recording import Recording
from calico_lab.run import observe
from calico_lab.scenario import Scenario, names
from calico_lab.workers import dask, each

TWO = ["single-vxlan", "single-vxlan-private"]
"""Scenarios in one cloud, which has no latency: any kernel with VXLAN runs them."""


@pytest.fixture(scope="module")
def reviewed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, pd.DataFrame]:
    """A matrix of two scenarios, measured: its outputs and its table."""
    outputs = tmp_path_factory.mktemp("outputs")
    return outputs, matrix(TWO, outputs=outputs, language="en")


def troubled(name: str, outputs: str, language: str) -> dict[str, Any]:
    """Stands in for `review_one`, and leaves half a recording behind as a process does that is killed."""
    Path(outputs, name, ".recording-half").mkdir(parents=True)
    if name == "cross-vxlan":
        os.kill(os.getpid(), signal.SIGKILL)
    if name == "cross-bgp":
        time.sleep(60)
    raise LabError("the lab ended", where="lab")


def test_a_matrix_is_of_what_expects_an_outcome() -> None:
    assert set(names()) - set(scenarios_to_review()) == {"review-2022"}


@pytest.mark.lab
class TestMatrix:
    def test_a_row_is_the_verdict_beside_what_was_expected(self, reviewed: tuple[Path, pd.DataFrame]) -> None:
        columns = ["topology", "backend", "node_ip", "predicted_ping", "predicted_cause"]
        columns += ["installed", "ping", "note", "cause", "agrees"]
        table = reviewed[1].astype(object).where(reviewed[1].notna(), None)
        assert table.set_index("scenario")[columns].to_dict("index") == {
            "single-vxlan": {
                "topology": "Single-CSP",
                "backend": "VXLAN",
                "node_ip": "public-ip",
                "predicted_ping": False,
                "predicted_cause": "outer-source",
                "installed": True,
                "ping": False,
                "note": "calico-node 1/1 Running",
                "cause": "outer-source",
                "agrees": True,
            },
            "single-vxlan-private": {
                "topology": "Single-CSP",
                "backend": "VXLAN",
                "node_ip": "private-ip",
                "predicted_ping": True,
                "predicted_cause": None,
                "installed": True,
                "ping": True,
                "note": "calico-node 1/1 Running",
                "cause": None,
                "agrees": True,
            },
        }
        assert (reviewed[1]["seconds"] > 0).all()

    def test_each_scenario_has_its_own_report_and_all_have_one(self, reviewed: tuple[Path, pd.DataFrame]) -> None:
        outputs, _ = reviewed
        found = {path.relative_to(outputs).as_posix() for path in outputs.glob("*/*") if path.is_file()}
        reports = {f"{name}/{file}" for name in TWO for file in ("report.html", "report.md", "summary.json")}
        assert reports | {"matrix/matrix.html", "matrix/matrix.md", "matrix/matrix.csv"} <= found

    def test_the_csv_is_the_table(self, reviewed: tuple[Path, pd.DataFrame]) -> None:
        outputs, table = reviewed
        written = pd.read_csv(outputs / "matrix/matrix.csv")
        assert list(written.columns) == list(table.columns)
        assert written["cause"].fillna("").tolist() == ["outer-source", ""]

    def test_the_page_leads_to_the_reports(self, reviewed: tuple[Path, pd.DataFrame]) -> None:
        page = (reviewed[0] / "matrix/matrix.html").read_text(encoding="utf-8")
        assert all(f'href="../{name}/report.html"' in page for name in TWO)

    def test_what_is_current_is_kept_and_trouble_is_a_row(self, reviewed: tuple[Path, pd.DataFrame]) -> None:
        outputs, _ = reviewed
        recorded = {name: (outputs / name / "recording/manifest.json").read_bytes() for name in TWO}
        table = matrix(
            [*TWO, "cross-vxlan", "cross-bgp", "cross-canal"],
            outputs=outputs,
            resume=True,
            timeout_s=6,
            language="en",
            unit=troubled,
        )
        assert table.set_index("scenario")["error"].fillna("").to_dict() == {
            "single-vxlan": "",
            "single-vxlan-private": "",
            "cross-vxlan": "its process died",
            "cross-bgp": "no end within 6 s",
            "cross-canal": "lab: the lab ended",
        }
        assert table["installed"].fillna(False).tolist() == [True, True, False, False, False]
        assert table["seconds"].isna().all()
        assert table["note"].tolist()[2:] == [f"not measured: {error}" for error in table["error"].tolist()[2:]]
        assert {name: (outputs / name / "recording/manifest.json").read_bytes() for name in TWO} == recorded
        assert list(outputs.rglob(".recording-*")) == []

    def test_a_changed_scenario_is_not_current(self, reviewed: tuple[Path, pd.DataFrame]) -> None:
        folder = reviewed[0] / "single-vxlan"
        assert is_current(Scenario.load("single-vxlan"), folder)
        assert not is_current(Scenario.load("single-vxlan", {"probes.ping_count": 3}), folder)

    def test_a_scenario_without_a_recording_is_not_current(self, tmp_path: Path) -> None:
        assert not is_current(Scenario.load("single-vxlan"), tmp_path)

    def test_a_comparison_stays_as_long_as_it_is_one(self, tmp_path: Path) -> None:
        scenario = Scenario.load("single-vxlan")
        observe(scenario, tmp_path)
        manifest = (tmp_path / "comparison/manifest.json").read_bytes()
        kept = observe(scenario, tmp_path, compare=False).comparison
        assert kept == tmp_path / "comparison"
        assert kept.joinpath("manifest.json").read_bytes() == manifest
        assert Recording(kept).scenario == counterpart(scenario)
        changed = Scenario.load("single-vxlan", {"probes.ping_count": 3})
        assert observe(changed, tmp_path, compare=False).comparison is None
        assert not (tmp_path / "comparison").exists()

    def test_dask_reviews_a_scenario(self, tmp_path: Path) -> None:
        from distributed import LocalCluster

        tasks = {"single-vxlan": {"name": "single-vxlan", "outputs": str(tmp_path)}}
        with (
            LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=None, host="127.0.0.1") as cluster,
            dask(cluster.scheduler_address) as (executor, at_once),
        ):
            row = each(review_one, tasks, executor=executor, at_once=at_once, timeout_s=60)["single-vxlan"]
        assert row.pop("seconds") > 0
        assert row == {
            "scenario": "single-vxlan",
            "installed": True,
            "ping": False,
            "cause": "outer-source",
            "agrees": True,
            "error": None,
        }
        assert (tmp_path / "single-vxlan/report.html").is_file()


def test_an_unknown_scenario_stops_all_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(ScenarioError, match="no scenario has that name, did you mean single-vxlan"):
        matrix(["single-vxlan", "single-vxlna"], outputs=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_scenario_named_twice_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError) as error:
        matrix(["single-vxlan", "params/single-vxlan.yaml"], outputs=tmp_path)
    assert str(error.value) == (
        "SCENARIOS: a scenario is named more than once; seen: single-vxlan; name each once: its name is its folder's"
    )


def test_what_cannot_start_is_a_row_of_one_line(tmp_path: Path) -> None:
    row = review_one("cross-vxlna", outputs=str(tmp_path))
    assert row.pop("seconds") >= 0
    assert row.pop("error").startswith("SCENARIO: no scenario has that name, did you mean cross-vxlan?; ")
    assert row == dict.fromkeys(("installed", "ping", "cause", "agrees")) | {"scenario": "cross-vxlna"}
