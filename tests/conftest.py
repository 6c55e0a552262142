"""Recordings of the local lab, made once a session, and copies of them to spoil."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from functools import cache
from pathlib import Path

import pytest

from calico_lab.capture import record
from calico_lab.cluster.lab import LabCluster
from calico_lab.doctor import require_lab, survey
from calico_lab.errors import HostError
from calico_lab.recording import Recording
from calico_lab.scenario import Scenario


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "lab: brings the local lab up; skipped where this machine cannot")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "recordings" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.lab)


def pytest_runtest_setup(item: pytest.Item) -> None:
    if item.get_closest_marker("lab") and (lacking := _what_the_lab_lacks()):
        pytest.skip(lacking)


@cache
def _what_the_lab_lacks() -> str | None:
    try:
        require_lab(survey())
    except HostError as lacking:
        return str(lacking)
    return None


@pytest.fixture(scope="session")
def recordings(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str | Scenario], Recording]:
    """What the local lab leaves of a scenario, by name or as a `Scenario`: recorded when first asked for.

    By name without the internet's delay: many kernels have no netem, and the lab's other kernel takes longer to start.
    """
    made: dict[str, Recording] = {}

    def recording_of(wanted: str | Scenario) -> Recording:
        scenario = Scenario.load(wanted, {"internet.latency_ms": 0}) if isinstance(wanted, str) else wanted
        key = scenario.model_dump_json()
        if key not in made:
            folder: Path = tmp_path_factory.mktemp(scenario.name) / "recording"
            with closing(LabCluster(scenario)) as cluster:
                made[key] = record(cluster, scenario, folder)
        return made[key]

    return recording_of
