"""The API server that these tests run on: the one of `--kubeconfig`, or the double."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from calico_lab.cluster.kube.api import Api, Ref
from tests.cluster.kube_double import KubeDouble


@pytest.fixture(scope="session")
def kubeconfig(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    given = request.config.getoption("--kubeconfig")
    if given:
        yield Path(given)
        return
    with closing(KubeDouble(tmp_path_factory.mktemp("double"))) as double:
        yield double.kubeconfig


@pytest.fixture(scope="session")
def api(kubeconfig: Path) -> Iterator[Api]:
    with closing(Api.open(kubeconfig)) as opened:
        yield opened


@pytest.fixture
def unique() -> str:
    """A name that nothing else has."""
    return f"calico-lab-e2e-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def namespace(api: Api, unique: str) -> Iterator[str]:
    api.create({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": unique}})
    yield unique
    # Without a controller manager nobody empties a namespace.
    api.delete(Ref("v1", "ConfigMap", "settings", unique))
    api.delete(Ref("v1", "Namespace", unique))


@pytest.fixture
def node(api: Api, unique: str) -> Iterator[str]:
    """A node that is only an object: no machine stands behind it."""
    annotations = {"projectcalico.org/IPv4Address": "10.0.0.5/24", "kept": "as it is"}
    about = {"name": unique, "annotations": annotations}
    api.create({"apiVersion": "v1", "kind": "Node", "metadata": about, "spec": {"unschedulable": True}})
    yield unique
    api.delete(Ref("v1", "Node", unique))
