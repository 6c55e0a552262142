"""An MCKS or an API server for a test, and a client of it."""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from calico_lab.cluster.kube.api import Api
from calico_lab.cluster.mcks.client import Mcks
from calico_lab.cluster.mcks.config import Server
from calico_lab.cluster.mcks.ownership import Records
from calico_lab.cluster.mcks.waiting import Patience
from tests.cluster.kube_double import KubeDouble
from tests.cluster.mcks_double import NAMESPACE, RELEASES, McksDouble, serving

Client = Callable[..., Mcks]


@pytest.fixture
def start_double() -> Iterator[Callable[[str], McksDouble]]:
    """Start an MCKS of a release."""
    with ExitStack() as ends:
        yield lambda release: ends.enter_context(serving(McksDouble(RELEASES[release])))


@pytest.fixture
def double(start_double: Callable[[str], McksDouble]) -> McksDouble:
    """The latest release."""
    return start_double("v0.7.2")


@pytest.fixture
def client(tmp_path: Path) -> Client:
    """A client of a double, with its records in the test's folder: ``client(double, progress)``."""

    def make(
        double: McksDouble,
        progress: Callable[[str], None] = lambda text: None,
        *,
        url: str | None = None,
        namespace: str = NAMESPACE,
        whole_s: float = 20.0,
    ) -> Mcks:
        server = Server(url or double.url, namespace)
        patience = Patience(poll_s=0.01, whole_s=whole_s, silent_s=5.0, settle_s=0.05)
        return Mcks(server, Records(tmp_path / "clusters"), patience=patience, progress=progress)

    return make


@pytest.fixture
def unused_port() -> int:
    """A port of 127.0.0.1 where nothing listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


@pytest.fixture
def kube(tmp_path: Path) -> Iterator[KubeDouble]:
    """An API server with no nodes yet."""
    with closing(KubeDouble(tmp_path)) as server:
        yield server


@pytest.fixture
def api(kube: KubeDouble) -> Iterator[Api]:
    with closing(Api.open(kube.kubeconfig, timeout_s=5)) as opened:
        yield opened
