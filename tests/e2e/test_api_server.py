"""What this project relies on of any API server. It needs no nodes, keeps to its own names and cleans up.

`make test-e2e KUBECONFIG=file` runs it on a real one; `make test` holds the double to the same.
"""

from __future__ import annotations

import re
import threading
import time
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes import client, config

from calico_lab.cluster.kube.api import MANAGER, Api, ApiError, ConflictError, Ref
from calico_lab.cluster.kube.changes import Changes, restore
from calico_lab.errors import ClusterError

PATIENCE_S = 30.0

Object = dict[str, Any]


def config_map(namespace: str, data: dict[str, str]) -> Object:
    about = {"name": "settings", "namespace": namespace}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": about, "data": data}


def data_of(api: Api, namespace: str) -> dict[str, str] | None:
    found = api.get(Ref("v1", "ConfigMap", "settings", namespace))
    return found and found["data"]


@pytest.fixture
def official(kubeconfig: Path) -> client.CoreV1Api:
    """The client that Kubernetes generates from the API's own description, with models that check each answer."""
    return client.CoreV1Api(config.new_client_from_config(str(kubeconfig)))


@pytest.fixture
def somebody(official: client.CoreV1Api, namespace: str) -> Object:
    """A ConfigMap that another manager made."""
    made = config_map(namespace, {"backend": "bird", "mtu": "0"})
    official.create_namespaced_config_map(namespace, made, field_manager="somebody")
    return made


# ---------------------------------------------------------------------- reading


def test_a_node_is_found_by_name_and_in_the_list(api: Api, node: str) -> None:
    assert api.get(Ref("v1", "Node", node))["spec"]["unschedulable"] is True
    assert node in [each["metadata"]["name"] for each in api.find("v1", "Node")]


def test_a_field_selector_finds_one(api: Api, node: str) -> None:
    found = api.find("v1", "Node", fields=f"metadata.name={node}")
    assert [(each["kind"], each["metadata"]["name"]) for each in found] == [("Node", node)]


def test_what_is_not_there_is_none(api: Api, namespace: str) -> None:
    assert api.get(Ref("v1", "ConfigMap", "absent", namespace)) is None


def test_a_kind_that_the_server_does_not_have_is_one_clear_line(api: Api) -> None:
    assert not api.serves("example.calico-lab/v1", "Teapot")
    with pytest.raises(ClusterError) as caught:
        api.find("example.calico-lab/v1", "Teapot")
    assert str(caught.value) == (
        f"{api.host}: this API server has no Teapot of example.calico-lab/v1; the manifest is for another version of "
        "Kubernetes: take a Calico that fits it"
    )


def test_the_official_client_reads_the_same(api: Api, official: client.CoreV1Api, node: str, somebody: Object) -> None:
    read = official.read_node(node)
    assert read.metadata.annotations == api.get(Ref("v1", "Node", node))["metadata"]["annotations"]
    assert node in [each.metadata.name for each in official.list_node().items]
    namespace = somebody["metadata"]["namespace"]
    assert official.read_namespaced_config_map("settings", namespace).data == {"backend": "bird", "mtu": "0"}
    managers = official.read_namespaced_config_map("settings", namespace).metadata.managed_fields
    assert [(each.manager, each.operation) for each in managers] == [("somebody", "Update")]


def test_credentials_that_it_does_not_know_are_refused(kubeconfig: Path, tmp_path: Path) -> None:
    known = yaml.safe_load(kubeconfig.read_text())
    for user in known["users"]:
        user["user"] = {"token": "of-nobody"}
    (tmp_path / "kubeconfig").write_text(yaml.safe_dump(known))
    with pytest.raises(ApiError) as caught:
        Api.open(tmp_path / "kubeconfig").find("v1", "Node")
    assert str(caught.value) == (
        "GET /api/v1: these credentials are not accepted; seen: 401 Unauthorized; they have expired or are of another "
        "cluster: get a new kubeconfig"
    )


# ---------------------------------------------------------------------- server-side apply


def test_applying_makes_an_object_and_again_changes_nothing(api: Api, namespace: str) -> None:
    made = api.apply(config_map(namespace, {"backend": "vxlan"}))
    again = api.apply(config_map(namespace, {"backend": "vxlan"}))
    assert again["metadata"]["resourceVersion"] == made["metadata"]["resourceVersion"]
    assert [each["manager"] for each in again["metadata"]["managedFields"]] == [MANAGER]


def test_what_is_no_longer_applied_goes(api: Api, namespace: str) -> None:
    api.apply(config_map(namespace, {"backend": "vxlan", "mtu": "1410"}))
    api.apply(config_map(namespace, {"backend": "vxlan"}))
    assert data_of(api, namespace) == {"backend": "vxlan"}


def test_what_others_set_stays(api: Api, namespace: str, somebody: Object) -> None:
    api.apply(config_map(namespace, {"other": "1"}))
    assert data_of(api, namespace) == {"backend": "bird", "mtu": "0", "other": "1"}


def test_fields_of_another_manager_are_a_conflict_that_names_it(api: Api, namespace: str, somebody: Object) -> None:
    with pytest.raises(ConflictError) as caught:
        api.apply(config_map(namespace, {"backend": "vxlan"}))
    assert re.fullmatch(
        f"ConfigMap {namespace}/settings: others manage what would change; "
        r'seen: conflict with "somebody" using v1( at \S+)?: \.data\.backend; '
        "undo what they did, or take these fields over with force",
        str(caught.value),
    )
    assert data_of(api, namespace) == {"backend": "bird", "mtu": "0"}


def test_the_same_value_is_no_conflict(api: Api, namespace: str, somebody: Object) -> None:
    api.apply(config_map(namespace, {"backend": "bird"}))
    assert data_of(api, namespace) == {"backend": "bird", "mtu": "0"}


def test_force_takes_fields_over(api: Api, namespace: str, somebody: Object) -> None:
    api.apply(config_map(namespace, {"backend": "vxlan"}), force=True)
    assert data_of(api, namespace) == {"backend": "vxlan", "mtu": "0"}


def test_a_dry_run_changes_nothing(api: Api, namespace: str) -> None:
    api.apply(config_map(namespace, {"backend": "vxlan"}), dry_run=True)
    assert data_of(api, namespace) is None


def test_a_dry_run_finds_conflicts(api: Api, namespace: str, somebody: Object) -> None:
    with pytest.raises(ConflictError):
        api.apply(config_map(namespace, {"backend": "vxlan"}), dry_run=True)


def test_an_object_changed_meanwhile_is_not_replaced(api: Api, namespace: str) -> None:
    old = api.apply(config_map(namespace, {"backend": "vxlan"}))
    api.apply(config_map(namespace, {"backend": "bird"}))
    with pytest.raises(ApiError) as caught:
        api.replace(old)
    assert caught.value.status == 409
    assert data_of(api, namespace) == {"backend": "bird"}


def test_a_definition_brings_a_kind(api: Api, unique: str) -> None:
    group = f"{unique}.calico-lab"
    names = {"kind": "Probe", "listKind": "ProbeList", "plural": "probes", "singular": "probe"}
    schema = {"openAPIV3Schema": {"type": "object", "x-kubernetes-preserve-unknown-fields": True}}
    version = {"name": "v1", "served": True, "storage": True, "schema": schema}
    definition = {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"probes.{group}"},
        "spec": {"group": group, "names": names, "scope": "Cluster", "versions": [version]},
    }
    assert not api.serves(f"{group}/v1", "Probe")
    api.apply(definition)
    try:
        until = time.monotonic() + PATIENCE_S
        while not api.serves(f"{group}/v1", "Probe"):
            assert time.monotonic() < until
        api.apply({"apiVersion": f"{group}/v1", "kind": "Probe", "metadata": {"name": "one"}, "spec": {"count": 3}})
        assert [each["spec"] for each in api.find(f"{group}/v1", "Probe")] == [{"count": 3}]
    finally:
        api.delete(Ref.of(definition))


# ---------------------------------------------------------------------- watching


def test_changes_are_seen_as_they_happen(api: Api, namespace: str) -> None:
    seen: list[list[str]] = []
    ready = threading.Event()

    def watch() -> None:
        for state in api.states(
            "v1", "ConfigMap", namespace, labels="watched=yes", until=time.monotonic() + PATIENCE_S
        ):
            values = [each["data"]["n"] for each in state.values()]
            if not seen or seen[-1] != values:
                seen.append(values)
            ready.set()
            if seen[-3:] == [["1"], ["2"], []]:
                return

    watcher = threading.Thread(target=watch)
    watcher.start()
    assert ready.wait(PATIENCE_S)
    for number in ("1", "2"):
        thing = config_map(namespace, {"n": number})
        thing["metadata"]["labels"] = {"watched": "yes"}
        api.apply(thing)
    api.delete(Ref("v1", "ConfigMap", "settings", namespace))
    watcher.join(PATIENCE_S)
    assert seen == [[], ["1"], ["2"], []]


# ---------------------------------------------------------------------- changes, and undoing them


def test_annotations_are_set_and_put_back(api: Api, node: str, tmp_path: Path) -> None:
    def annotations() -> dict[str, str]:
        return api.get(Ref("v1", "Node", node))["metadata"]["annotations"]

    before = annotations()
    wanted = {"projectcalico.org/IPv4Address": "203.0.113.5", "flannel.alpha.coreos.com/public-ip-overwrite": "x"}
    Changes(api, tmp_path / "changes.jsonl").annotate(node, wanted)
    assert annotations() == before | wanted
    api.merge(Ref("v1", "Node", node), {"metadata": {"annotations": {"projectcalico.org/IPv4VXLANTunnelAddr": "y"}}})
    assert restore(api, tmp_path / "changes.jsonl") == []
    assert annotations() == before


def test_what_was_made_is_deleted_and_what_was_there_is_put_back(
    api: Api, namespace: str, somebody: Object, tmp_path: Path
) -> None:
    changes = Changes(api, tmp_path / "changes.jsonl")
    changes.apply(config_map(namespace, {"backend": "vxlan", "more": "1"}), force=True)
    account = {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "made", "namespace": namespace}}
    changes.apply(account)
    done: list[str] = []
    assert restore(api, tmp_path / "changes.jsonl", done.append) == []
    assert done == [f"ServiceAccount {namespace}/made: deleted", f"ConfigMap {namespace}/settings: as before"]
    assert api.get(Ref.of(account)) is None
    assert data_of(api, namespace) == {"backend": "bird", "mtu": "0"}


def test_undoing_twice_is_undoing_once(api: Api, namespace: str, tmp_path: Path) -> None:
    Changes(api, tmp_path / "changes.jsonl").apply(config_map(namespace, {"backend": "vxlan"}))
    restore(api, tmp_path / "changes.jsonl")
    done: list[str] = []
    restore(api, tmp_path / "changes.jsonl", done.append)
    assert done == []


def test_what_others_made_since_is_left(api: Api, official: client.CoreV1Api, namespace: str, tmp_path: Path) -> None:
    Changes(api, tmp_path / "changes.jsonl").apply(config_map(namespace, {"backend": "vxlan"}))
    api.delete(Ref("v1", "ConfigMap", "settings", namespace))
    official.create_namespaced_config_map(namespace, config_map(namespace, {"theirs": "1"}), field_manager="somebody")
    left = restore(api, tmp_path / "changes.jsonl")
    assert left == [f"ConfigMap {namespace}/settings: was made by others since, and is left"]
    assert data_of(api, namespace) == {"theirs": "1"}


def test_what_is_gone_by_itself_is_no_error(api: Api, namespace: str, tmp_path: Path) -> None:
    Changes(api, tmp_path / "changes.jsonl").apply(config_map(namespace, {"backend": "vxlan"}))
    api.delete(Ref("v1", "ConfigMap", "settings", namespace))
    done: list[str] = []
    assert restore(api, tmp_path / "changes.jsonl", done.append) == []
    assert done == [f"ConfigMap {namespace}/settings: gone"]


def test_a_second_run_goes_back_to_before_the_first(api: Api, namespace: str, somebody: Object, tmp_path: Path) -> None:
    for backend in ("vxlan", "none"):
        Changes(api, tmp_path / "changes.jsonl").apply(config_map(namespace, {"backend": backend}), force=True)
    restore(api, tmp_path / "changes.jsonl")
    assert data_of(api, namespace) == {"backend": "bird", "mtu": "0"}
