"""Recordings of the local lab, made once a session, and copies of them to spoil."""

from __future__ import annotations

import hashlib
import json
import re
import shutil
from collections.abc import Callable, Collection, Iterable, Mapping
from contextlib import closing
from functools import cache
from pathlib import Path
from types import MappingProxyType

import pytest

from calico_lab.capture import record
from calico_lab.cluster.lab import LabCluster
from calico_lab.doctor import require_lab, survey
from calico_lab.errors import HostError
from calico_lab.recording import Recording
from calico_lab.scenario import Scenario


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", "lab: brings the local lab up; skipped where this machine cannot")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--kubeconfig", help="tests/e2e: a real API server; without it they run against the double")


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


Edit = tuple[str, str, str, str]
"""Node, command, a regular expression (``^`` and ``$`` match at lines) and what takes its place."""


@pytest.fixture
def edited(tmp_path: Path) -> Callable[..., Recording]:
    """A copy of a recording with some captured texts changed as if the nodes had printed that.

    ``edited(recording, edits, without={(node, command)}, outcomes={(node, command): {"exit_code": 1}})``: each edit
    has to match; captures in `without` were never made; `outcomes` are laid over a capture's entry in the manifest.
    """

    def edit(
        recording: Recording,
        edits: Iterable[Edit] = (),
        without: Collection[tuple[str, str]] = (),
        outcomes: Mapping[tuple[str, str], Mapping[str, object]] = MappingProxyType({}),
    ) -> Recording:
        folder = tmp_path / "edited"
        shutil.copytree(recording.folder, folder)
        for node, command, pattern, replacement in edits:
            path = folder / "captures" / node / f"{command}.txt"
            text, count = re.subn(pattern, replacement, path.read_text(encoding="utf-8"), flags=re.MULTILINE)
            assert count, f"{pattern} is not in {path}"
            path.write_text(text, encoding="utf-8")
        manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
        manifest["captures"] = [
            entry
            | outcomes.get((entry["node"], entry["command"]), {})
            | {"sha256": hashlib.sha256((folder / entry["path"]).read_bytes()).hexdigest()}
            for entry in manifest["captures"]
            if (entry["node"], entry["command"]) not in without
        ]
        (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
        return Recording(folder)

    return edit
