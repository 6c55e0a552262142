"""The journal: written before each change, so that whatever happens there is a way back. `tests/e2e` has the rest."""

from __future__ import annotations

import json
import stat
from pathlib import Path
from typing import Any

import pytest

from calico_lab.cli import main
from calico_lab.cluster.kube.api import Api, ApiError
from calico_lab.cluster.kube.changes import Changes, restore
from calico_lab.errors import InputError, RecordingError
from tests.cluster.kube_double import KubeDouble

Object = dict[str, Any]


def config_map(name: str, **data: str) -> Object:
    about = {"name": name, "namespace": "default"}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": about, "data": data}


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    return tmp_path / "run" / "changes.jsonl"


def entries(journal: Path) -> list[Object]:
    return [json.loads(line) for line in journal.read_text().splitlines()]


def undone(api: Api, journal: Path) -> list[str]:
    lines: list[str] = []
    restore(api, journal, lines.append)
    return lines


def test_a_change_is_written_down_before_the_server_hears_of_it(kube: KubeDouble, api: Api, journal: Path) -> None:
    kube.add(config_map("a", backend="bird"))
    written: list[Object] = []
    whole = kube.apply

    def applying(*arguments: Any) -> Object:
        written.extend(entries(journal))
        return whole(*arguments)

    kube.apply = applying  # type: ignore[method-assign]
    Changes(api, journal).apply(config_map("a", more="1"))
    ((entry),) = written
    assert {key: entry[key] for key in ("change", "do", "kind", "namespace", "name", "server")} == {
        "change": 1,
        "do": "apply",
        "kind": "ConfigMap",
        "namespace": "default",
        "name": "a",
        "server": kube.url,
    }
    assert entry["before"]["data"] == {"backend": "bird"}


def test_nobody_else_may_read_what_was_there(kube: KubeDouble, api: Api, journal: Path) -> None:
    Changes(api, journal).apply(config_map("a"))
    assert stat.filemode(journal.stat().st_mode) == "-rw-------"


def test_what_a_refused_change_would_have_made_is_not_missed(kube: KubeDouble, api: Api, journal: Path) -> None:
    kube.denied.add(("patch", "configmaps"))
    with pytest.raises(ApiError):
        Changes(api, journal).apply(config_map("a"))
    assert undone(api, journal) == ["ConfigMap default/a: gone"]


def test_what_was_made_just_before_a_crash_is_known_by_its_manager(kube: KubeDouble, api: Api, journal: Path) -> None:
    """The object is there, and its uid never reached the journal."""
    Changes(api, journal).apply(config_map("a", backend="vxlan"))
    journal.write_text(journal.read_text().splitlines(keepends=True)[0])
    assert undone(api, journal) == ["ConfigMap default/a: deleted"]
    assert kube.get("configmaps", "a", "default") is None


def test_a_line_that_a_crash_cut_announced_nothing(kube: KubeDouble, api: Api, journal: Path) -> None:
    Changes(api, journal).apply(config_map("a", backend="vxlan"))
    with journal.open("a") as file:
        file.write('{"change": 2, "do": "app')
    Changes(api, journal).apply(config_map("b", backend="vxlan"))
    assert [entry.get("name") for entry in entries(journal)] == ["a", None, "b", None]
    assert undone(api, journal) == ["ConfigMap default/b: deleted", "ConfigMap default/a: deleted"]


def test_an_interrupted_way_back_goes_on_where_it_was(kube: KubeDouble, api: Api, journal: Path) -> None:
    changes = Changes(api, journal)
    for name in ("a", "b", "c"):
        changes.apply(config_map(name, backend="vxlan"))
    kube.fail("DELETE", "/api/v1/namespaces/default/configmaps/b", 500)
    with pytest.raises(ApiError):
        restore(api, journal)
    assert undone(api, journal) == ["ConfigMap default/b: deleted", "ConfigMap default/a: deleted"]


def test_what_was_there_and_is_gone_is_made_again(kube: KubeDouble, api: Api, journal: Path) -> None:
    kube.add(config_map("a", backend="bird"))
    Changes(api, journal).apply(config_map("a", more="1"))
    kube.remove(("configmaps", "default", "a"))
    assert undone(api, journal) == ["ConfigMap default/a: as before"]
    assert kube.get("configmaps", "a", "default")["data"] == {"backend": "bird"}


def test_a_node_that_has_left_is_no_error(kube: KubeDouble, api: Api, journal: Path) -> None:
    kube.add_node("w-1", "203.0.113.5")
    Changes(api, journal).annotate("w-1", {"projectcalico.org/IPv4Address": "203.0.113.5"})
    kube.remove(("nodes", None, "w-1"))
    assert undone(api, journal) == ["Node w-1: gone"]


def test_annotations_of_others_are_none_of_its_business(kube: KubeDouble, api: Api, journal: Path) -> None:
    kube.add_node("w-1", "203.0.113.5")
    Changes(api, journal).annotate("w-1", {"projectcalico.org/IPv4Address": "203.0.113.5"})
    node = kube.get("nodes", "w-1")
    kube.add(node | {"metadata": node["metadata"] | {"annotations": {"theirs": "1"}}}, "somebody")
    undone(api, journal)
    assert kube.get("nodes", "w-1")["metadata"]["annotations"] == {"theirs": "1"}


def test_a_journal_of_another_cluster_is_refused(kube: KubeDouble, api: Api, journal: Path) -> None:
    journal.parent.mkdir()
    line = json.dumps({"change": 1, "server": "https://192.0.2.1:6443", "do": "apply"})
    journal.write_text(f"{line}\n")
    with pytest.raises(InputError) as caught:
        restore(api, journal)
    assert str(caught.value) == (
        f"{journal}: the journal is of another cluster; seen: https://192.0.2.1:6443; name that cluster's kubeconfig"
    )
    with pytest.raises(InputError) as caught:
        Changes(api, journal)
    assert str(caught.value) == (
        f"{journal}: the journal is of another cluster; seen: https://192.0.2.1:6443; undo it first: make restore "
        f"JOURNAL={journal}"
    )


def test_the_command_says_what_it_did(
    kube: KubeDouble, api: Api, journal: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    kube.add_node("w-1", "203.0.113.5")
    changes = Changes(api, journal)
    changes.annotate("w-1", {"projectcalico.org/IPv4Address": "203.0.113.5"})
    changes.apply(config_map("a", backend="vxlan"))
    assert main(["restore", "--journal", str(journal), "--kubeconfig", str(kube.kubeconfig)]) == 0
    assert capsys.readouterr().out == "ConfigMap default/a: deleted\nNode w-1: annotations as before\n"


def test_no_journal_is_one_line(api: Api, journal: Path) -> None:
    with pytest.raises(InputError) as caught:
        restore(api, journal)
    assert str(caught.value) == (
        f"{journal}: there is no journal; name a run's changes.jsonl: make restore JOURNAL=<file>"
    )


def test_a_damaged_journal_is_one_line(api: Api, journal: Path) -> None:
    journal.parent.mkdir()
    journal.write_text("what?\n{}\n")
    with pytest.raises(RecordingError) as caught:
        restore(api, journal)
    assert str(caught.value) == f"{journal}, line 1: the journal is damaged; seen: what?; mend that line"
