"""Sweeps: which parameter is meant, which values, and the table, page and figure that come of them."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from calico_lab.errors import InputError, LabError, ScenarioError
from calico_lab.sweep import folder_of, key_of, sweep, values_of


def answered(name: str, param: str, value: float, folder: str) -> list[dict[str, Any]]:
    """Stands in for `measure_one`: no reply from 50 on, and nothing measured at 99."""
    if value == 99:
        raise LabError("the lab ended", where="lab")
    pair = {"value": value, "src": "a", "dst": "b"}
    rest = {"ping": value < 50, "installed": True, "cause": None, "error": None}
    lost = {"rtt_ms": None, "loss_percent": 100.0}
    overlay = {"rtt_ms": 2 * value + 1, "loss_percent": 0.0} if value < 50 else lost
    return [
        pair | {"layer": "underlay", "rtt_ms": 2.0 * value, "loss_percent": 0.0} | rest,
        pair | {"layer": "overlay"} | overlay | rest,
    ]


@pytest.mark.parametrize(
    ("param", "key"),
    [
        ("latency_ms", "internet.latency_ms"),
        ("node_ip", "cni.node_ip"),
        ("ping_count", "probes.ping_count"),
        ("public_ip_alias", "public_ip_alias"),
        ("internet.latency_ms", "internet.latency_ms"),
        ("sites.0.latency_ms", "sites.0.latency_ms"),
    ],
)
def test_a_bare_name_is_looked_up_in_the_parts(param: str, key: str) -> None:
    assert key_of(param) == key


def test_an_unknown_name_is_refused_with_the_nearest() -> None:
    with pytest.raises(InputError) as error:
        key_of("latency_s")
    assert str(error.value) == (
        "PARAM: no key has that name, did you mean latency_ms?; seen: latency_s; "
        "write it as in the scenario file, for example internet.latency_ms"
    )


@pytest.mark.parametrize(
    ("text", "values"),
    [("1,5,20.5", [1, 5, 20.5]), ("private,public", ["private", "public"]), ("true,false", [True, False])],
)
def test_values_are_read_as_in_a_scenario_file(text: str, values: list[object]) -> None:
    assert values_of(text) == values


@pytest.mark.parametrize("text", ["", "1,1", "[", "1,{"])
def test_other_lists_are_refused(text: str) -> None:
    with pytest.raises(InputError) as error:
        values_of(text)
    assert str(error.value) == (
        f"VALUES: not a list of different values; seen: {text}; write for example VALUES=1,5,20"
    )


def test_a_wrong_value_stops_all_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(ScenarioError, match=r"internet\.latency_ms"):
        sweep("cross-canal", "latency_ms", [1, -5], outputs=tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_table_a_page_and_a_figure(tmp_path: Path) -> None:
    with ThreadPoolExecutor(2) as here:
        table = sweep(
            "cross-canal",
            "latency_ms",
            [1, 20, 80, 99],
            outputs=tmp_path,
            executor=here,
            language="en",
            unit=answered,
        )
    assert table["value"].tolist() == [1, 1, 20, 20, 80, 80, 99]
    assert table["rtt_ms"].tolist()[:5] == [2, 3, 40, 41, 160]
    assert table["rtt_ms"].isna().tolist() == [False] * 5 + [True, True]
    assert table["error"].fillna("").tolist() == [""] * 6 + ["lab: the lab ended"]
    folder = tmp_path / folder_of("cross-canal", "internet.latency_ms")
    assert folder.name == "sweep-cross-canal-latency_ms"
    assert pd.read_csv(folder / "sweep.csv")["rtt_ms"].tolist()[:5] == [2, 3, 40, 41, 160]
    page = (folder / "sweep.md").read_text(encoding="utf-8").splitlines()
    assert page[0] == "# cross-canal by `internet.latency_ms`"
    assert page[4] == "| 1 | a | b | underlay | 2 | 0 | O | O | . | . |"
    assert page[-1].startswith("![Median round trip of ping by internet.latency_ms: 1 a → b underlay 2 ms; ")
    assert (folder / "sweep.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.lab
def test_a_sweep_measures(tmp_path: Path) -> None:
    table = sweep("single-vxlan", "node_ip", ["private", "public"], outputs=tmp_path, language="en")
    pings = table[table["layer"] == "overlay"].groupby("value", sort=False)
    assert pings["ping"].first().to_dict() == {"private": True, "public": False}
    assert pings["loss_percent"].max().to_dict() == {"private": 0.0, "public": 100.0}
    assert table["cause"].dropna().unique().tolist() == ["outer-source"]
    recordings = tmp_path / "sweep-single-vxlan-node_ip/recordings"
    assert sorted(path.name for path in recordings.glob("*/recording")) == ["recording"] * 2
