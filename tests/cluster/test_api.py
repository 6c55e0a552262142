"""An API server that refuses, hangs, forgets or is not there: one clear line each. Commands in containers."""

from __future__ import annotations

import shutil
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
import yaml

from calico_lab.cluster import OUTPUT_LIMIT_BYTES, TOO_MUCH, Result
from calico_lab.cluster.kube.api import Api, ApiError, Ref
from calico_lab.errors import ClusterError, InputError
from tests.cluster.kube_double import KubeDouble, certify

CONFIG_MAP = {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "namespace": "default"}, "data": {}}
DAEMON = {
    "apiVersion": "apps/v1",
    "kind": "DaemonSet",
    "metadata": {"name": "agent", "namespace": "default"},
    "spec": {
        "selector": {"matchLabels": {"app": "agent"}},
        "template": {
            "metadata": {"labels": {"app": "agent"}},
            "spec": {"containers": [{"name": "agent", "image": "busybox"}]},
        },
    },
}


# ---------------------------------------------------------------------- what the server says


@pytest.mark.parametrize(
    ("status", "line"),
    [
        pytest.param(
            500,
            "GET /api/v1/nodes: the API server failed; seen: 500 Internal error occurred: etcdserver: request timed "
            "out",
            id="500",
        ),
        pytest.param(
            503,
            "GET /api/v1/nodes: the API server failed; seen: 503 the server is currently unable to handle the request",
            id="503",
        ),
        pytest.param(
            429,
            "GET /api/v1/nodes: the API server is too busy; seen: 429 the server has received too many requests and "
            "has "
            "asked us to try again later; run it again later",
            id="429-for-ever",
        ),
    ],
)
def test_a_server_in_trouble_is_one_line(kube: KubeDouble, api: Api, status: int, line: str) -> None:
    kube.fail("GET", "/api/v1/nodes", status, times=99, headers={"Retry-After": "0"})
    with pytest.raises(ApiError) as caught:
        api.find("v1", "Node")
    assert str(caught.value) == line


def test_a_server_that_is_busy_for_a_while_is_asked_again(kube: KubeDouble, api: Api) -> None:
    kube.add_node("w-1", "203.0.113.5")
    kube.fail("GET", "/api/v1/nodes", 429, times=3, headers={"Retry-After": "0"})
    assert [each["metadata"]["name"] for each in api.find("v1", "Node")] == ["w-1"]


def test_it_waits_as_long_as_the_server_says(kube: KubeDouble, api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    waits: list[float] = []
    monkeypatch.setattr("calico_lab.cluster.kube.api.time.sleep", waits.append)
    for header in ("3", "9999", "Wed, 21 Oct 2026 07:28:00 GMT"):
        kube.fail("GET", "/api/v1/nodes", 429, headers={"Retry-After": header})
    api.find("v1", "Node")
    assert waits == [3.0, 10.0, 1.0]


def test_a_denial_says_who_may_not_do_what_where(kube: KubeDouble, api: Api) -> None:
    kube.denied.add(("patch", "configmaps"))
    with pytest.raises(ApiError) as caught:
        api.apply(CONFIG_MAP)
    assert str(caught.value) == (
        'ConfigMap default/a: not allowed; seen: 403 configmaps "a" is forbidden: User "admin" cannot patch resource '
        '"configmaps" in API group "" in the namespace "default"; give this user a role that allows it, or name '
        "another "
        "context"
    )


def test_a_token_that_expired_is_one_line(kube: KubeDouble, api: Api) -> None:
    api.find("v1", "Node")
    kube.token = "second-token"
    with pytest.raises(ApiError) as caught:
        api.find("v1", "Node")
    assert str(caught.value) == (
        "GET /api/v1/nodes: these credentials are not accepted; seen: 401 Unauthorized; they have expired or are of "
        "another cluster: get a new kubeconfig"
    )


def test_an_invalid_object_is_shown_as_the_server_says_it(kube: KubeDouble, api: Api) -> None:
    kube.fail("PATCH", "/api/v1/namespaces/default/configmaps", 422)
    with pytest.raises(ApiError) as caught:
        api.apply(CONFIG_MAP)
    assert str(caught.value) == "ConfigMap default/a: the API server finds it invalid; seen: 422 broken"


# ---------------------------------------------------------------------- a server that is not there


def test_nothing_listens(kube: KubeDouble) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"https://127.0.0.1:{free.getsockname()[1]}"
    with pytest.raises(ClusterError) as caught:
        Api.open(kube.write_kubeconfig("elsewhere", server=url)).find("v1", "Node")
    assert str(caught.value) == (
        f"{url}: the API server cannot be reached; seen: [Errno 111] Connection refused; check the address in the "
        "kubeconfig, and whether this machine reaches it"
    )


def test_it_does_not_answer(kube: KubeDouble) -> None:
    kube.hang("GET", "/api/v1")
    with pytest.raises(ClusterError) as caught:
        Api.open(kube.kubeconfig, timeout_s=0.2).find("v1", "Node")
    assert str(caught.value) == (
        f"{kube.url}: the API server cannot be reached; seen: no answer within 0.2 s; check the address in the "
        "kubeconfig, and whether this machine reaches it"
    )


def test_its_certificate_is_of_another_authority(kube: KubeDouble, tmp_path: Path) -> None:
    certify(tmp_path)  # the server keeps the one that it was started with
    with pytest.raises(ClusterError) as caught:
        Api.open(kube.write_kubeconfig("other-authority")).find("v1", "Node")
    assert str(caught.value).startswith(f"{kube.url}: its certificate is not trusted; seen: ")
    assert str(caught.value).endswith(
        "; the kubeconfig's certificate-authority-data has to be of the cluster that answers there"
    )


def test_what_answers_is_no_api_server(kube: KubeDouble, api: Api) -> None:
    kube.page = b"<html>log in</html>"
    with pytest.raises(ClusterError) as caught:
        api.find("v1", "Node")
    assert str(caught.value) == (
        f"GET {kube.url}/api/v1: its answer is no JSON: is this an API server?; seen: <html>log in</html>"
    )


# ---------------------------------------------------------------------- kubeconfigs


def broken(kube: KubeDouble, tmp_path: Path, **changes: object) -> Path:
    config = yaml.safe_load(kube.kubeconfig.read_text()) | changes
    path = tmp_path / "broken"
    path.write_text(yaml.safe_dump(config))
    return path


def refused(path: Path, context: str | None = None) -> str:
    with pytest.raises(InputError) as caught:
        Api.open(path, context)
    return str(caught.value).replace(str(path), "FILE")


TRY = "try: kubectl --kubeconfig FILE get nodes"


def test_no_such_kubeconfig(tmp_path: Path) -> None:
    assert refused(tmp_path / "absent") == (
        f"FILE: not a usable kubeconfig; seen: [Errno 2] No such file or directory: 'FILE'; {TRY}"
    )


def test_not_yaml(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("a: [")
    assert refused(tmp_path / "file").startswith("FILE: not a usable kubeconfig; seen: while parsing a flow node")


@pytest.mark.parametrize("text", ["", "words", "[1, 2]", "a: b"])
def test_no_kubeconfig_at_all(tmp_path: Path, text: str) -> None:
    (tmp_path / "file").write_text(text)
    assert refused(tmp_path / "file").startswith("FILE: not a usable kubeconfig; seen: ")


def test_an_unknown_context(kube: KubeDouble) -> None:
    assert refused(kube.kubeconfig, "production") == (
        "FILE: not a usable kubeconfig; seen: Invalid kube-config file. Expected object with name production in "
        f"FILE/contexts list; {TRY}"
    )


def test_a_program_for_credentials_that_is_not_here(kube: KubeDouble, tmp_path: Path) -> None:
    exec_ = {"apiVersion": "client.authentication.k8s.io/v1", "command": "cloud-login", "interactiveMode": "Never"}
    path = kube.write_kubeconfig("plugin", user={"exec": exec_})
    assert refused(path) == (
        "FILE: user admin: the program that gets its credentials is not on this machine; seen: cloud-login; install "
        "it, "
        "or use a kubeconfig with a token or a certificate"
    )


def plugin(kube: KubeDouble, *lines: str) -> Path:
    """A kubeconfig whose token comes from a program."""
    program = kube.folder / "login"
    program.write_text("\n".join(["#!/bin/sh", *lines, ""]))
    program.chmod(0o755)
    exec_ = {"apiVersion": "client.authentication.k8s.io/v1", "command": str(program), "interactiveMode": "Never"}
    return kube.write_kubeconfig("plugin", user={"exec": exec_})


def test_a_program_for_credentials_that_fails(kube: KubeDouble) -> None:
    path = plugin(kube, "echo 'no such account' >&2", "exit 1")
    assert refused(path) == (
        f"FILE: its program for credentials failed; seen: exec: process returned 1. no such account; {TRY}"
    )


def test_a_program_for_credentials_that_works(kube: KubeDouble) -> None:
    answer = '{"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": {"token": "%s"}}'
    with closing(Api.open(plugin(kube, f"echo '{answer % kube.token}'"))) as api:
        assert api.find("v1", "Node") == []


# ---------------------------------------------------------------------- watching


def test_a_version_that_the_server_forgot_is_listed_again(kube: KubeDouble, api: Api) -> None:
    """410 in a watch: what happened meanwhile is in the new list."""
    kube.add(CONFIG_MAP)
    states = api.states("v1", "ConfigMap", "default", until=time.monotonic() + 20)
    assert list(next(states)) == ["a"]
    kube.add({**CONFIG_MAP, "metadata": {"name": "b", "namespace": "default"}})
    kube.forget()
    assert list(next(states)) == ["a", "b"]
    lists = [path for method, path in kube.requests if path == "/api/v1/namespaces/default/configmaps"]
    assert len(lists) == 2


def test_a_watch_that_breaks_goes_on_where_it_was(kube: KubeDouble, api: Api, monkeypatch: pytest.MonkeyPatch) -> None:
    broken_once = iter([True])
    whole = kube.watch

    def breaking(*arguments: Any) -> Iterator[Any]:
        if next(broken_once, False):
            raise ConnectionResetError
        yield from whole(*arguments)

    monkeypatch.setattr(kube, "watch", breaking)
    states = api.states("v1", "ConfigMap", "default", until=time.monotonic() + 20)
    assert next(states) == {}
    kube.add(CONFIG_MAP)
    assert next(state for state in states if state)["a"]["kind"] == "ConfigMap"
    lists = [path for method, path in kube.requests if path == "/api/v1/namespaces/default/configmaps"]
    assert len(lists) == 1


def test_a_watch_that_is_denied_is_an_error(kube: KubeDouble, api: Api) -> None:
    kube.denied.add(("watch", "configmaps"))
    with pytest.raises(ApiError, match='cannot watch resource "configmaps"'):
        list(api.states("v1", "ConfigMap", "default", until=time.monotonic() + 20))


# ---------------------------------------------------------------------- commands


@pytest.fixture
def run(kube: KubeDouble, api: Api) -> Callable[..., Result]:
    """Run a shell line in a pod."""
    kube.add_node("w-1", "203.0.113.5")
    kube.add(DAEMON)
    (pod,) = api.find("v1", "Pod", "default")

    def in_pod(line: str, timeout_s: float = 10) -> Result:
        return api.run("default", pod["metadata"]["name"], "agent", ["sh", "-c", line], timeout_s)

    return in_pod


@pytest.mark.parametrize("protocol", ["v5.channel.k8s.io", "v4.channel.k8s.io"])
def test_output_errors_and_exit_code_are_told_apart(
    kube: KubeDouble, run: Callable[..., Result], protocol: str
) -> None:
    kube.subprotocols = [protocol]
    done = run("echo out; echo err >&2; exit 3")
    assert (done.outcome, done.code, done.stdout, done.stderr) == ("done", 3, "out\n", "err\n")


def test_a_command_without_output_has_ended(run: Callable[..., Result]) -> None:
    assert (run("true").outcome, run("true").code) == ("done", 0)


def test_output_that_is_no_utf8_is_kept_as_far_as_it_is_text(run: Callable[..., Result]) -> None:
    assert run(r"printf 'a\377b'").stdout == "a\ufffdb"


def test_a_lot_of_output_arrives_whole(run: Callable[..., Result]) -> None:
    assert run("seq 200000").stdout == "".join(f"{n}\n" for n in range(1, 200001))


def test_too_much_output_is_cut(run: Callable[..., Result]) -> None:
    done = run(f"head -c {OUTPUT_LIMIT_BYTES + 1} /dev/zero")
    assert (done.outcome, len(done.stdout), done.stderr) == ("timeout", OUTPUT_LIMIT_BYTES, TOO_MUCH)


def test_a_command_that_was_killed_after_its_time_timed_out(run: Callable[..., Result]) -> None:
    done = run("echo so far; exec timeout -s KILL 0.2 sleep 60", timeout_s=0.2)
    assert (done.outcome, done.code, done.stdout) == ("timeout", None, "so far\n")


def test_a_command_that_says_nothing_is_not_waited_for_without_end(
    kube: KubeDouble, run: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("calico_lab.cluster.kube.channels._GRACE_S", 0.1)
    over = threading.Event()
    kube.execute = lambda node, command: (over.wait(30), (0, b"", b""))[1]
    done = run("never", timeout_s=0.1)
    over.set()
    assert (done.outcome, done.code) == ("timeout", None)


def test_a_denied_command_never_reached_the_node(kube: KubeDouble, run: Callable[..., Result]) -> None:
    kube.denied.add(("create", "pods/exec"))
    done = run("true")
    assert done.outcome == "unreachable"
    assert 'User "admin" cannot create resource "pods/exec"' in done.stderr


def test_a_program_that_the_image_lacks_is_said(kube: KubeDouble, run: Callable[..., Result]) -> None:
    def lacking(node: str, command: list[str]) -> tuple[int, bytes, bytes]:
        raise FileNotFoundError("exec: nsenter: executable file not found in $PATH")

    kube.execute = lacking
    done = run("true")
    assert (done.outcome, done.stderr) == ("unreachable", "exec: nsenter: executable file not found in $PATH")


def test_a_pod_that_is_gone_is_unreachable(kube: KubeDouble, api: Api) -> None:
    done = api.run("default", "absent", "agent", ["true"], 5)
    assert (done.outcome, done.stderr) == ("unreachable", '404 pods "absent" not found')


def test_many_commands_at_once_do_not_mix(run: Callable[..., Result]) -> None:
    with ThreadPoolExecutor(8) as several:
        said = list(several.map(lambda n: run(f"echo {n}").stdout, range(40)))
    assert said == [f"{n}\n" for n in range(40)]


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not installed here")
def test_kubectl_reads_the_double(kube: KubeDouble, api: Api) -> None:
    """The double is held to a client that is not this project's."""
    kube.add(CONFIG_MAP)
    kubectl = ["kubectl", "--kubeconfig", str(kube.kubeconfig), "--cache-dir", str(kube.folder / "cache")]
    printed = subprocess.run([*kubectl, "-n", "default", "get", "configmap", "-o", "name"], capture_output=True)
    assert (printed.returncode, printed.stdout) == (0, b"configmap/a\n")
    assert api.get(Ref("v1", "ConfigMap", "a", "default")) is not None
