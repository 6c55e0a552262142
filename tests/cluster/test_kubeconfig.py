"""Kubeconfigs: of its own names, merged into a person's file as cbctl does, with less harm."""

from __future__ import annotations

import stat
from pathlib import Path
from typing import Any

import pytest
import yaml
from kubernetes import config as kubernetes_config

from calico_lab.cluster.mcks.kubeconfig import merge, merge_target, renamed
from calico_lab.errors import ClusterError, InputError

ADMIN = """\
apiVersion: v1
kind: Config
current-context: kubernetes-admin@kubernetes
preferences: {}
clusters:
- {name: kubernetes, cluster: {server: "https://52.199.85.152:9998"}}
- {name: unused, cluster: {server: "https://192.0.2.1"}}
contexts:
- {name: kubernetes-admin@kubernetes, context: {cluster: kubernetes, user: kubernetes-admin}}
users:
- {name: kubernetes-admin, user: {token: c2VjcmV0}}
"""
OWN = {
    "apiVersion": "v1",
    "kind": "Config",
    "clusters": [{"name": "a-cluster", "cluster": {"server": "https://52.199.85.152:9998"}}],
    "users": [{"name": "a-user", "user": {"token": "c2VjcmV0"}}],
    "contexts": [{"name": "a", "context": {"cluster": "a-cluster", "user": "a-user"}}],
    "current-context": "a",
}
THEIRS = """\
# mine
apiVersion: v1
kind: Config
current-context: home
extensions: []
clusters:
- {name: home, cluster: {server: "https://home"}}
- {name: a-cluster, cluster: {server: "https://old"}}
contexts:
- {name: home, context: {cluster: home, user: home, namespace: mine}}
users: null
"""


def read(path: Path) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return found


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_only_the_current_context_is_kept_under_names_of_its_own() -> None:
    assert yaml.safe_load(renamed(ADMIN, "a")) == OWN


NONE = {
    "empty": "",
    "text": "no kubeconfig",
    "no-context": ADMIN.replace("current-context", "other"),
    "no-user": ADMIN.replace("name: kubernetes-admin,", "name: somebody,"),
    "no-yaml": "{c2VjcmV0",
}


@pytest.mark.parametrize("text", NONE.values(), ids=NONE)
def test_what_is_no_kubeconfig_is_refused_without_quoting_it(text: str) -> None:
    with pytest.raises(ClusterError) as error:
        renamed(text, "a")
    assert str(error.value) == "cluster a: what MCKS holds as kubeconfig is none; look at the cluster's phase"


@pytest.mark.parametrize("key", ["exec", "auth-provider"])
def test_one_that_runs_a_program_is_refused(key: str) -> None:
    with pytest.raises(ClusterError) as error:
        renamed(ADMIN.replace("token: c2VjcmV0", f"{key}: {{command: sh}}"), "a")
    assert str(error.value) == "cluster a: the kubeconfig that MCKS holds runs a program, so it is not used"


@pytest.mark.parametrize("there", [None, THEIRS], ids=["new", "merged"])
def test_the_kubernetes_client_reads_it(tmp_path: Path, there: str | None) -> None:
    target = tmp_path / "config"
    if there:
        target.write_text(there, encoding="utf-8")
    merge(renamed(ADMIN, "a"), target)
    client = kubernetes_config.new_client_from_config(str(target))
    assert (client.configuration.host, [*client.configuration.api_key.values()]) == (
        "https://52.199.85.152:9998",
        ["Bearer c2VjcmV0"],
    )


def test_merging_adds_three_entries_and_changes_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "config"
    target.write_text(THEIRS, encoding="utf-8")
    target.chmod(0o644)
    backup = merge(renamed(ADMIN, "a"), target)
    assert read(target) == yaml.safe_load(THEIRS) | {
        "current-context": "a",
        "clusters": [{"name": "home", "cluster": {"server": "https://home"}}, *OWN["clusters"]],
        "contexts": [*yaml.safe_load(THEIRS)["contexts"], *OWN["contexts"]],
        "users": OWN["users"],
    }
    assert backup is not None
    assert (backup.read_text(encoding="utf-8"), mode(backup), mode(target)) == (THEIRS, 0o600, 0o600)


def test_a_file_that_is_not_there_is_made_for_its_owner_alone(tmp_path: Path) -> None:
    target = tmp_path / ".kube" / "config"
    assert merge(renamed(ADMIN, "a"), target) is None
    assert (read(target), mode(target)) == (OWN, 0o600)


def test_merging_twice_changes_nothing_more(tmp_path: Path) -> None:
    target = tmp_path / "config"
    for _ in range(2):
        merge(renamed(ADMIN, "a"), target)
    assert read(target) == OWN


def test_a_link_stays_one(tmp_path: Path) -> None:
    real, link = tmp_path / "real", tmp_path / "config"
    real.write_text(THEIRS, encoding="utf-8")
    link.symlink_to(real)
    merge(renamed(ADMIN, "a"), link)
    assert (link.is_symlink(), read(real)["current-context"]) == (True, "a")


NOT_ONE = {"list": "- a", "entries": "clusters: [home]", "no-yaml": "{", "bytes": b"\xff"}


@pytest.mark.parametrize("there", NOT_ONE.values(), ids=NOT_ONE)
def test_a_file_that_is_no_kubeconfig_stays_as_it_is(tmp_path: Path, there: str | bytes) -> None:
    target = tmp_path / "config"
    data = there if isinstance(there, bytes) else there.encode()
    target.write_bytes(data)
    with pytest.raises(InputError) as error:
        merge(renamed(ADMIN, "a"), target)
    assert str(error.value) == f"{target}: not a kubeconfig; mend it, or leave out --merge"
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [data]


TARGETS = {
    "none": ([], "home/.kube/config"),
    "one": (["a"], "a"),
    "first": (["a", "b"], "a"),
    "first-that-is-there": (["a", "there", "b"], "there"),
}


@pytest.mark.parametrize(("listed", "expected"), TARGETS.values(), ids=TARGETS)
def test_it_goes_where_kubectl_would_write(tmp_path: Path, listed: list[str], expected: str) -> None:
    (tmp_path / "there").touch()
    environment = {"KUBECONFIG": ":".join(str(tmp_path / each) for each in listed)}
    assert merge_target(environment, tmp_path / "home") == tmp_path / expected
