"""Clusters of the local lab, brought up when first asked for and kept for the session."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing

import pytest

from calico_lab.cluster.lab import LabCluster
from calico_lab.scenario import Scenario


@pytest.fixture(scope="session")
def cluster_of() -> Iterator[Callable[[str | Scenario], LabCluster]]:
    """The cluster of a scenario, by name or as a `Scenario`. Tests only look at it, or undo what they do."""
    made: dict[str, LabCluster] = {}
    with ExitStack() as ends:

        def cluster(wanted: str | Scenario) -> LabCluster:
            scenario = Scenario.load(wanted) if isinstance(wanted, str) else wanted
            key = scenario.model_dump_json()
            if key not in made:
                made[key] = ends.enter_context(closing(LabCluster(scenario)))
            return made[key]

        yield cluster
