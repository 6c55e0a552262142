"""What an install mode changes in the official manifests, and what it refuses to change."""

from __future__ import annotations

import copy
import hashlib
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from calico_lab.calico import environment
from calico_lab.cluster.kube import manifests
from calico_lab.errors import HostError, InputError
from calico_lab.scenario import Cni, Scenario

FIXTURES = Path(__file__).parent / "fixtures"
MODES = (
    *("cross-vxlan", "cross-vxlan-private", "cross-vxlan-private-crosssubnet"),
    *("cross-bgp", "cross-bgp-private", "cross-canal"),
)

Object = dict[str, Any]


def official(plugin: str) -> list[Object]:
    return manifests.parse((FIXTURES / f"{plugin}.yaml").read_text(), f"{plugin}.yaml")


def cni_of(scenario: str, **changes: Any) -> Cni:
    cni = Scenario.load(scenario).cni
    return Cni.model_validate(cni.model_dump() | changes)


def installed(scenario: str, **changes: Any) -> list[Object]:
    cni = cni_of(scenario, **changes)
    return manifests.for_mode(official(cni.plugin), cni, f"{cni.plugin}.yaml")


def one(objects: list[Object], kind: str, name: str | None = None) -> Object:
    (found,) = [each for each in objects if each["kind"] == kind and name in (None, each["metadata"]["name"])]
    return found


def daemon(objects: list[Object]) -> Object:
    return one(objects, "DaemonSet")["spec"]["template"]["spec"]["containers"][0]


def variables(objects: list[Object]) -> dict[str, Any]:
    return {each["name"]: each.get("value", each.get("valueFrom")) for each in daemon(objects)["env"]}


# ---------------------------------------------------------------------- modes


@pytest.mark.parametrize("scenario", MODES)
def test_the_environment_is_the_modes(scenario: str) -> None:
    wanted = environment(cni_of(scenario))
    found = variables(installed(scenario))
    if cni_of(scenario).plugin == "calico":
        reference = {"configMapKeyRef": {"name": "calico-config", "key": "calico_backend"}}
        assert found["CALICO_NETWORKING_BACKEND"] == reference
        wanted.pop("CALICO_NETWORKING_BACKEND")
    assert {key: found[key] for key in wanted} == wanted


@pytest.mark.parametrize("scenario", MODES)
def test_no_variable_stands_twice(scenario: str) -> None:
    names = [each["name"] for each in daemon(installed(scenario))["env"]]
    assert sorted(set(names)) == sorted(names)


BACKENDS = {"cross-vxlan": "vxlan", "cross-bgp": "bird"}


@pytest.mark.parametrize(("scenario", "backend"), BACKENDS.items(), ids=BACKENDS)
def test_the_backend_is_in_the_config_map(scenario: str, backend: str) -> None:
    assert one(installed(scenario), "ConfigMap")["data"]["calico_backend"] == backend


PROBES = {
    "cross-vxlan": (["/bin/calico-node", "-felix-live"], ["/bin/calico-node", "-felix-ready"]),
    "cross-bgp": (
        ["/bin/calico-node", "-felix-live", "-bird-live"],
        ["/bin/calico-node", "-felix-ready", "-bird-ready"],
    ),
}


@pytest.mark.parametrize(("scenario", "commands"), PROBES.items(), ids=PROBES)
def test_the_probes_ask_bird_where_there_is_one(scenario: str, commands: tuple[list[str], list[str]]) -> None:
    container = daemon(installed(scenario))
    assert tuple(container[probe]["exec"]["command"] for probe in ("livenessProbe", "readinessProbe")) == commands


def test_flannels_network_is_the_pool() -> None:
    data = one(installed("cross-canal", ip_pool="10.99.0.0/16"), "ConfigMap")["data"]
    assert data["net-conf.json"] == '{"Network": "10.99.0.0/16", "Backend": {"Type": "vxlan"}}'


@pytest.mark.parametrize("scenario", ["cross-vxlan", "cross-canal"])
def test_an_mtu_is_set_where_one_is_wanted(scenario: str) -> None:
    assert one(installed(scenario), "ConfigMap")["data"]["veth_mtu"] == "0"
    assert one(installed(scenario, veth_mtu=1400), "ConfigMap")["data"]["veth_mtu"] == "1400"


@pytest.mark.parametrize("scenario", ["cross-vxlan", "cross-canal"])
def test_the_images_are_of_the_very_version(scenario: str) -> None:
    """The documentation keeps the manifest of the last patch release only."""
    images = [
        container["image"]
        for each in installed(scenario, version="3.22.2")
        if each["kind"] in ("DaemonSet", "Deployment")
        for key in ("initContainers", "containers")
        for container in each["spec"]["template"]["spec"].get(key, [])
    ]
    assert {image.rpartition(":")[2] for image in images if "/calico/" in image} == {"v3.22.2"}
    assert [image for image in images if "/calico/" not in image] == (
        ["quay.io/coreos/flannel:v0.13.0"] if scenario == "cross-canal" else []
    )


@pytest.mark.parametrize("scenario", MODES)
def test_nothing_else_changes(scenario: str) -> None:
    """Beside the daemon, its ConfigMap and the images all is as it was released."""
    cni = cni_of(scenario, version="3.22.5")
    before, after = official(cni.plugin), installed(scenario, version="3.22.5")
    changed = [each["kind"] for old, each in zip(before, after, strict=True) if old != each]
    assert set(changed) <= {"ConfigMap", "DaemonSet"}


def test_what_was_read_is_left_as_it_was() -> None:
    objects = official("calico")
    before = copy.deepcopy(objects)
    manifests.for_mode(objects, cni_of("cross-vxlan"), "calico.yaml")
    assert objects == before


def test_a_manifest_that_is_set_already_stays_so() -> None:
    """As calico-vxlan.yaml, whose probes do not ask BIRD."""
    once = installed("cross-vxlan")
    assert manifests.for_mode(once, cni_of("cross-vxlan"), "calico-vxlan.yaml") == once


# ---------------------------------------------------------------------- another layout is never installed unchanged


def without_variable(name: str) -> Any:
    def change(objects: list[Object]) -> None:
        container = daemon(objects)
        container["env"] = [each for each in container["env"] if each["name"] != name]

    return change


def without_key(key: str) -> Any:
    return lambda objects: one(objects, "ConfigMap")["data"].pop(key)


def without(kind: str, name: str) -> Any:
    return lambda objects: objects.remove(one(objects, kind, name))


def renamed_container(objects: list[Object]) -> None:
    daemon(objects)["name"] = "node"


def fixed_backend(objects: list[Object]) -> None:
    entry = next(each for each in daemon(objects)["env"] if each["name"] == "CALICO_NETWORKING_BACKEND")
    entry.pop("valueFrom")
    entry["value"] = "bird"


def without_probe(objects: list[Object]) -> None:
    daemon(objects).pop("readinessProbe")


def unreleased(objects: list[Object]) -> None:
    daemon(objects)["image"] = "quay.io/calico/node:master"


def felix_probe(objects: list[Object]) -> None:
    daemon(objects)["livenessProbe"]["exec"]["command"].remove("-bird-live")


LAYOUTS = {
    "no-ip": ("cross-vxlan", without_variable("IP"), "container calico-node has no environment variable IP"),
    "no-ipip": (
        "cross-bgp",
        without_variable("CALICO_IPV4POOL_IPIP"),
        "container calico-node has no environment variable CALICO_IPV4POOL_IPIP",
    ),
    "no-backend-variable": (
        "cross-canal",
        without_variable("CALICO_NETWORKING_BACKEND"),
        "container calico-node has no environment variable CALICO_NETWORKING_BACKEND",
    ),
    "fixed-backend": (
        "cross-vxlan",
        fixed_backend,
        "CALICO_NETWORKING_BACKEND is not taken from the ConfigMap's calico_backend",
    ),
    "no-backend": ("cross-vxlan", without_key("calico_backend"), "the ConfigMap has no calico_backend"),
    "no-net-conf": ("cross-canal", without_key("net-conf.json"), "the ConfigMap has no net-conf.json"),
    "no-config-map": ("cross-vxlan", without("ConfigMap", "calico-config"), "no ConfigMap calico-config but none"),
    "no-daemon": ("cross-vxlan", without("DaemonSet", "calico-node"), "no DaemonSet calico-node but none"),
    "no-container": (
        "cross-vxlan",
        renamed_container,
        "DaemonSet calico-node has no container calico-node",
    ),
    "unreleased": ("cross-vxlan", unreleased, "image quay.io/calico/node:master is of no released version"),
    "no-probe": ("cross-vxlan", without_probe, "container calico-node has no readinessProbe with a command"),
    "felix-probe": (
        "cross-bgp",
        felix_probe,
        "livenessProbe does not ask BIRD (-bird-live), as calico.yaml does",
    ),
}


@pytest.mark.parametrize(("scenario", "change", "seen"), LAYOUTS.values(), ids=LAYOUTS)
def test_another_layout_is_refused(scenario: str, change: Any, seen: str) -> None:
    cni = cni_of(scenario)
    objects = official(cni.plugin)
    change(objects)
    with pytest.raises(InputError) as caught:
        manifests.for_mode(objects, cni, "mine.yaml")
    assert str(caught.value) == (
        f"mine.yaml: not laid out as the official manifest is; seen: {seen}; take calico.yaml or canal.yaml of the "
        "version as it was released"
    )


def test_the_other_plugins_manifest_is_refused() -> None:
    with pytest.raises(InputError, match="no DaemonSet calico-node but canal"):
        manifests.for_mode(official("canal"), cni_of("cross-vxlan"), "canal.yaml")


def test_a_manifest_of_another_minor_version_is_refused() -> None:
    with pytest.raises(InputError) as caught:
        manifests.for_mode(official("calico"), cni_of("cross-vxlan", version="3.26.1"), "calico.yaml")
    assert str(caught.value) == (
        "calico.yaml: a manifest of Calico 3.22.5; seen: cni.version is 3.26.1; take the manifest of 3.26, or set "
        "cni.version"
    )


TEXTS = {
    "empty": ("", "x.yaml: an empty manifest; take the manifest again"),
    "page": ("<html>", "x.yaml: not a manifest of Kubernetes objects; seen: <html>; take the manifest again"),
    "values": ("a: 1", "x.yaml: not a manifest of Kubernetes objects; seen: {'a': 1}; take the manifest again"),
}


@pytest.mark.parametrize(("text", "line"), TEXTS.values(), ids=TEXTS)
def test_what_is_no_manifest_is_refused(text: str, line: str) -> None:
    with pytest.raises(InputError) as caught:
        manifests.parse(text, "x.yaml")
    assert str(caught.value) == line


# ---------------------------------------------------------------------- where it comes from


ADDRESSES = {
    "3.22.0": "https://projectcalico.docs.tigera.io/archive/v3.22/manifests/calico.yaml",
    "3.23.5": "https://projectcalico.docs.tigera.io/archive/v3.23/manifests/calico.yaml",
    "3.24.1": "https://raw.githubusercontent.com/projectcalico/calico/v3.24.1/manifests/calico.yaml",
    "3.26.0": "https://raw.githubusercontent.com/projectcalico/calico/v3.26.0/manifests/calico.yaml",
}


@pytest.mark.parametrize(("version", "address"), ADDRESSES.items(), ids=ADDRESSES)
def test_each_version_has_its_address(version: str, address: str) -> None:
    assert manifests.address(cni_of("cross-vxlan", version=version)) == address
    canal = manifests.address(cni_of("cross-canal", version=version))
    assert canal == address.replace("calico.yaml", "canal.yaml")


class Site:
    """A web site on loopback with one page."""

    def __init__(self) -> None:
        self.status, self.body, self.asked = 200, b"", 0
        site = self

        class Handler(BaseHTTPRequestHandler):
            def log_message(self, *_: object) -> None:
                pass

            def do_GET(self) -> None:
                site.asked += 1
                self.send_response(site.status)
                self.send_header("Content-Length", str(len(site.body)))
                self.end_headers()
                self.wfile.write(site.body)

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_address[1]}/calico.yaml"
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02})
        self.thread.start()

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Site]:
    page = Site()
    monkeypatch.setattr(manifests, "address", lambda cni: page.url)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    yield page
    page.close()


def test_a_download_is_kept_and_its_checksum_known(site: Site) -> None:
    site.body = (FIXTURES / "calico.yaml").read_bytes()
    first, second = (manifests.fetch(cni_of("cross-vxlan")) for _ in range(2))
    assert first == second
    assert (first.text.encode(), first.source, site.asked) == (site.body, site.url, 1)
    assert first.sha256 == hashlib.sha256(site.body).hexdigest()


@pytest.mark.parametrize("status", [404, 500])
def test_a_download_that_fails_says_how_to_go_on(site: Site, status: int) -> None:
    site.status = status
    with pytest.raises(HostError) as caught:
        manifests.fetch(cni_of("cross-vxlan"))
    assert str(caught.value) == (
        f"{site.url}: the manifest cannot be downloaded; seen: HTTP {status}; bring the file here and run again with "
        'SET="kubernetes.manifest=calico.yaml"'
    )


def test_a_site_that_is_not_there_says_how_to_go_on(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}/calico.yaml"
    monkeypatch.setattr(manifests, "address", lambda cni: url)
    with pytest.raises(HostError, match=r"Connection refused; bring the file here and run again with"):
        manifests.fetch(cni_of("cross-vxlan"))


def test_a_page_that_is_no_manifest_is_not_kept(site: Site, tmp_path: Path) -> None:
    site.body = b"<html>moved</html>"
    with pytest.raises(InputError, match="not a manifest of Kubernetes objects; seen: <html>moved</html>"):
        manifests.fetch(cni_of("cross-vxlan"))
    assert not (tmp_path / "cache").exists()


def test_a_page_without_end_is_not_read_to_it(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifests, "_LIMIT_BYTES", 10)
    site.body = b"a" * 11
    with pytest.raises(HostError, match="more than 10 bytes"):
        manifests.fetch(cni_of("cross-vxlan"))


def test_a_file_is_taken_instead(site: Site) -> None:
    given = FIXTURES / "calico.yaml"
    fetched = manifests.fetch(cni_of("cross-vxlan"), str(given))
    assert (fetched.text, fetched.source, site.asked) == (given.read_text(), str(given), 0)


def test_a_file_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError) as caught:
        manifests.fetch(cni_of("cross-vxlan"), str(tmp_path / "absent"))
    assert str(caught.value) == (
        "kubernetes.manifest: the manifest cannot be read; seen: [Errno 2] No such file or directory: "
        f"'{tmp_path / 'absent'}'; name another file"
    )
