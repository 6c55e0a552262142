"""Predictions from scenarios alone: they are what labs then measure, and never what the scenarios expect."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from calico_lab.checks import check, verdict
from calico_lab.page import Page
from calico_lab.predict import Prediction, predict, shown
from calico_lab.recording import Recording
from calico_lab.scenario import Scenario, names
from calico_lab.tables import Tables

KEPT = {path.name: path for path in (Path(__file__).parent / "recordings").iterdir()}
"""What labs in user-mode Linux left: too slow to be recorded for every run."""

MEASURED = [name for name in names() if name != "review-2022"]
"""All but the review document's own outputs, which have no measurement."""

FEW = {"internet.latency_ms": 0, "probes.ping_count": 2}


def with_sites(name: str, **changes: Any) -> list[dict[str, Any]]:
    return [site.model_dump(mode="json", exclude_none=True) | changes for site in Scenario.load(name).sites]


def unchecked(name: str) -> dict[str, Any]:
    return {"sites": with_sites(name, source_check=False)}


DIRECT = "single-vxlan-private-crosssubnet"
VARIANTS = {
    "no-tunnel-and-nobody-checks": ("single-vxlan", {"public_ip_alias": False, **unchecked("single-vxlan")}),
    "crosssubnet-where-nobody-checks": (DIRECT, unchecked(DIRECT)),
    "the-nat-has-no-mapping-for-what-nobody-checks": ("cross-vxlan", unchecked("cross-vxlan")),
    "canal-without-the-public-addresses": ("cross-canal", {"cni.node_ip": "private", "internet.exact_latency": False}),
}


def said(prediction: Prediction) -> tuple[bool, bool | None, str | None]:
    return prediction.installed, prediction.ping, prediction.cause


def measured(recording: Recording) -> tuple[bool | None, bool | None, str | None]:
    tables = Tables(recording)
    found = verdict(check(tables), tables)
    return found.installed, found.ping, found.cause


@pytest.mark.parametrize("name", MEASURED)
def test_a_prediction_is_what_the_lab_measures(recordings: Callable[[str], Recording], name: str) -> None:
    recording = Recording(KEPT[name]) if name in KEPT else recordings(name)
    assert said(predict(Scenario.load(name))) == measured(recording)


@pytest.mark.parametrize("variant", VARIANTS)
def test_so_is_that_of_a_scenario_that_nobody_wrote_down(
    recordings: Callable[[Scenario], Recording], variant: str
) -> None:
    name, changes = VARIANTS[variant]
    scenario = Scenario.load(name, FEW | changes)
    assert said(predict(scenario)) == measured(recordings(scenario))


@pytest.mark.parametrize("name", names())
def test_what_is_expected_never_goes_into_it(name: str) -> None:
    wrong = {"installed": False, "ping": True, "cause": "wire", "source": "nobody"}
    parameters = Scenario.load(name).parameters()
    assert predict(Scenario.of(parameters | {"expected": wrong})) == predict(
        Scenario.of({key: value for key, value in parameters.items() if key != "expected"})
    )


def test_one_session_makes_a_node_ready_and_the_pair_without_one_shows_the_cause() -> None:
    nodes = [
        {"name": "a-1", "site": "aws-tokyo"},
        {"name": "a-2", "site": "aws-tokyo"},
        {"name": "g-1", "site": "gcp-tokyo"},
        {"name": "g-2", "site": "gcp-tokyo"},
    ]
    sites = with_sites("cross-bgp-private")
    for number, site in enumerate(sites):
        site["public"] = f"203.0.113.{32 * number}/27"
    prediction = predict(Scenario.load("cross-bgp-private", {"nodes": nodes, "sites": sites}))
    assert said(prediction) == (True, False, "bgp-reachable")
    assert (prediction.source, prediction.target) == ("a-1", "g-1")


def test_it_is_shown_with_the_way_that_explains_it() -> None:
    headline, way, request, note = shown(predict(Scenario.load("cross-vxlan-noalias")), Page("en").words)
    assert headline == "Predicted — installed O · pod ping X · cause: the tunnel device is missing"
    assert way == "a packet from the pod of c-1-h43jk to the pod of w-1-36384"
    assert isinstance(request, pd.DataFrame)
    assert request.to_dict("split", index=False) == {
        "columns": ["request", "Place", "What decides", "Predicted"],
        "data": [
            ["pod", "c-1-h43jk", "10.244.122.1 → 10.244.124.1", "passes"],
            ["cali* interface", "c-1-h43jk", "caliab50587c633", "passes"],
            ["route", "c-1-h43jk", "default via 192.168.10.1 dev eth0", "goes astray"],
            ["NIC", "c-1-h43jk", "eth0", "passes"],
            ["source check", "aws-tokyo", "10.244.122.1 ≠ 192.168.10.28", "ends"],
        ],
    }
    assert note == "This follows from the scenario alone; nothing was run."


def test_where_all_arrives_the_way_back_is_shown_too() -> None:
    parts = list(shown(predict(Scenario.load("single-bgp-private")), Page("en").words))
    request, reply = (part for part in parts if isinstance(part, pd.DataFrame))
    assert (
        request["request"].tolist()
        == reply["reply"].tolist()
        == [
            *("pod", "cali* interface", "route", "outer header", "SNAT", "NIC", "source check"),
            *("peer's NIC", "allow-list, firewall", "decapsulation", "peer's pod"),
        ]
    )
