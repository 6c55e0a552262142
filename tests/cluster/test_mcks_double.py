"""The double against what MCKS publishes: each answer has the shape that the contract says, except what is listed.

The contract was generated from comments in MCKS's code, and the code does otherwise in some places; the double does as
the code. Each of these is listed by a name, and has to be met: a line that is no longer needed fails too.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

import pytest
import urllib3

from tests.cluster.mcks_contract import RELEASES, violations
from tests.cluster.mcks_double import NAMESPACE, REASONS, McksDouble

DISAGREEMENTS = {
    "health is text, not JSON": r"GET /healthy 200: no JSON",
    "adding nodes answers with all nodes": r"POST .*/nodes 200: answer additionalProperties",
    "an unknown node is 404": r"DELETE .*/\{node\} 404: not published",
    "deleting an absent cluster is 200 with 404 inside": r"DELETE .*/\{cluster\} 200: code 404",
    "Deleting is a phase": r"GET .* 200: (items\[\]\.)?status\.phase enum",
    "echo answers 401 without a namespace": r".* 401: not published",
    "echo answers 404 elsewhere": r"GET elsewhere 404: not published",
    "echo answers 405": r"PUT .* 405: not published",
    "errors have kind and code before v0.6.0 too": r".* (400|404|500): answer additionalProperties",
    "a cluster in one cloud has other CNIs": r".* 200: (items\[\]\.)?networkCni enum",
}
ONLY_IN = {
    "errors have kind and code before v0.6.0 too": ["v0.5.1"],
    "a cluster in one cloud has other CNIs": ["v0.7.2"],
}

REQUEST: dict[str, Any] = {
    "name": "cb-cluster",
    "serviceType": "multi",
    "controlPlane": [{"connection": "config-aws-tokyo", "count": 1, "spec": "t2.medium"}],
    "worker": [{"connection": "config-gcp-tokyo", "count": 1, "spec": "e2-highcpu-4"}],
    "config": {"kubernetes": {"networkCni": "canal", "podCidr": "10.244.0.0/16", "etcd": "local"}},
}
CLUSTERS = f"/ns/{NAMESPACE}/clusters"
ONE = f"{CLUSTERS}/cb-cluster"


class Raw:
    """Requests as they are, with no client in between."""

    def __init__(self, double: McksDouble) -> None:
        self.double, self._pool = double, urllib3.PoolManager(retries=False)

    def __call__(self, method: str, path: str, body: object = None, base: str | None = None, **headers: str) -> Any:
        base = self.double.release.base if base is None else base
        given = {"Content-Type": "application/json", **headers}
        data = body if isinstance(body, bytes) else json.dumps(body).encode() if body is not None else None
        answer = self._pool.request(method, f"{self.double.url}{base}{path}", body=data, headers=given, timeout=10)
        return answer.status, answer.json() if answer.data[:1] in (b"{", b"[") else answer.data.decode()


@pytest.fixture(params=RELEASES)
def raw(request: pytest.FixtureRequest, start_double: Callable[[str], McksDouble]) -> Raw:
    return Raw(start_double(request.param))


def changed(**values: Any) -> dict[str, Any]:
    """A create request with some keys changed; None leaves one out; what belongs to Kubernetes's config goes there."""
    request = json.loads(json.dumps(REQUEST))
    for key, value in values.items():
        where = request if key in ("name", "serviceType", "controlPlane", "worker") else request["config"]["kubernetes"]
        where.pop(key, None) if value is None else where.update({key: value})
    return request


def use_everything(raw: Raw) -> None:
    """Each route, with success and with each kind of error."""
    double = raw.double
    raw("GET", "/healthy")
    raw("GET", CLUSTERS)
    raw("POST", CLUSTERS, REQUEST)
    raw("POST", CLUSTERS, REQUEST)  # there already
    raw("POST", CLUSTERS, changed(name="Cluster_1"))
    raw("GET", CLUSTERS)
    raw("GET", ONE)
    raw("GET", f"{CLUSTERS}/absent")
    raw("GET", f"{ONE}/nodes")
    raw("POST", f"{ONE}/nodes", {"worker": REQUEST["worker"]})
    raw("POST", f"{ONE}/nodes", {"controlPlane": REQUEST["controlPlane"]})
    leader, worker = (node["name"] for node in double.clusters["cb-cluster"]["nodes"][:2])
    raw("GET", f"{ONE}/nodes/{worker}")
    raw("GET", f"{ONE}/nodes/absent")
    for node in (leader, "absent", worker):
        raw("DELETE", f"{ONE}/nodes/{node}")
    raw("PUT", ONE)
    raw("GET", "/ns//clusters")
    raw("GET", "/elsewhere")
    raw("GET", "/ns/absent/clusters")
    double.stuck = True
    raw("DELETE", ONE)
    raw("GET", ONE)
    double.stuck = False
    raw("DELETE", ONE)
    raw("DELETE", ONE)
    if double.release.service_type:
        raw("POST", CLUSTERS, changed(serviceType="single", networkCni="flannel"))


def test_every_answer_is_as_published_or_listed(raw: Raw) -> None:
    use_everything(raw)
    release = raw.double.release.name
    found = {each for a in raw.double.answered for each in violations(release, a.route, a.status, a.text)}
    listed = {name: pattern for name, pattern in DISAGREEMENTS.items() if release in ONLY_IN.get(name, RELEASES)}
    assert sorted(each for each in found if not any(re.fullmatch(p, each) for p in listed.values())) == []
    assert [name for name, pattern in listed.items() if not any(re.fullmatch(pattern, each) for each in found)] == []


def test_a_release_describes_itself(raw: Raw) -> None:
    status, document = raw("GET", "/swagger/doc.json", base="")
    assert (status, document["basePath"]) == (200, raw.double.release.base)


@pytest.mark.parametrize("reason", REASONS)
def test_a_create_fails_with_each_reason(double: McksDouble, reason: str) -> None:
    raw = Raw(double)
    double.fail = reason
    status, answer = raw("POST", CLUSTERS, REQUEST)
    cluster = raw("GET", ONE)[1]
    assert (status, answer["message"]) == (500, cluster["status"]["message"])
    assert (cluster["status"]["phase"], cluster["status"]["reason"]) == ("Failed", reason)
    assert [node["credential"] + node["publicIp"] for node in cluster["nodes"]] == [""] * len(cluster["nodes"])


CNI = {
    "v0.5.1": (400, "Network-cni allows only canal or kilo"),
    "v0.6.0": (400, "Network-cni allows only canal or kilo"),
    "v0.7.0": (400, "Network-cni allows only canal or kilo"),
    "v0.7.2": (400, "Network-cni allows only canal or kilo in Multi-Cloud type"),
}


def refusal(answer: tuple[int, Any]) -> tuple[int, str]:
    return answer[0], answer[1].get("message", answer[1].get("name"))


def test_the_documents_own_request_is_refused_for_its_cni(raw: Raw) -> None:
    answer = raw("POST", CLUSTERS, changed(networkCni="calico"))
    assert refusal(answer) == CNI[raw.double.release.name]


def test_no_cni_is_kilo_or_an_error(raw: Raw) -> None:
    answer = raw("POST", CLUSTERS, changed(networkCni=None))
    if raw.double.release.default_cni:
        assert answer[1]["networkCni"] == "kilo"
    else:
        assert refusal(answer) == (400, "Network-cni allows only canal or kilo")


def test_etcd_has_no_default_though_one_is_published(raw: Raw) -> None:
    answer = raw("POST", CLUSTERS, changed(etcd=None))
    expected = (400, "etcd allows only local or external") if raw.double.release.etcd else (200, "cb-cluster")
    assert refusal(answer) == expected


def test_no_service_type_fails_when_machines_are_paid_for(raw: Raw) -> None:
    answer = raw("POST", CLUSTERS, changed(serviceType=None))
    if raw.double.release.service_type:
        assert refusal(answer) == (500, "There are mandatory fields. (servicetype=)")
        assert raw.double.clusters["cb-cluster"]["nodes"]
    else:
        assert answer[0] == 200


VERSIONS = {"v0.5.1": None, "v0.6.0": "1.18.1-00", "v0.7.0": "1.23.13-00", "v0.7.2": "1.23.13-00"}


def test_kubernetes_has_the_release_that_mcks_takes_by_itself(raw: Raw) -> None:
    assert raw("POST", CLUSTERS, REQUEST)[1].get("k8sVersion") == VERSIONS[raw.double.release.name]


NAMES = {
    "v0.5.1": [r"c-1-\w{5}", r"c-2-\w{5}", r"c-3-\w{5}", r"w-1-\w{5}"],
    "v0.6.0": [r"c-1-\w{5}", r"c-2-\w{5}", r"c-3-\w{5}", r"w-1-\w{5}"],
    "v0.7.0": [r"c-1-(\w{5})-1", r"c-1-\w{5}-2", r"c-1-\w{5}-3", r"w-1-\w{5}-1"],
    "v0.7.2": [r"c-1-(\w{5})-1", r"c-1-\w{5}-2", r"c-1-\w{5}-3", r"w-1-\w{5}-1"],
}


def test_nodes_are_called_as_the_release_calls_them(raw: Raw) -> None:
    three = [{**REQUEST["controlPlane"][0], "count": 3}]
    nodes = raw("POST", CLUSTERS, changed(controlPlane=three))[1]["nodes"]
    names = [node["name"] for node in nodes]
    patterns = NAMES[raw.double.release.name]
    assert [name for name, pattern in zip(names, patterns, strict=True) if not re.fullmatch(pattern, name)] == []
    assert {("privateIp" in node) for node in nodes} == {raw.double.release.private_ip}


def test_a_failed_cluster_is_deleted_by_asking_for_its_name_again(raw: Raw) -> None:
    raw.double.fail = "JoinWorkerFailedReason"
    raw("POST", CLUSTERS, changed())
    raw.double.fail = ""
    assert raw("POST", CLUSTERS, REQUEST)[1]["status"]["phase"] == "Provisioned"


REFUSED = {
    "text": ({"Content-Type": "text/plain"}, b"name: x", "code=415, message=Unsupported Media Type"),
    "no-json": ({}, b"name: x", "code=400, message=Syntax error: offset=1, error=invalid character"),
}


@pytest.mark.parametrize(("headers", "body", "message"), REFUSED.values(), ids=REFUSED)
def test_a_body_that_echo_cannot_bind_is_400(raw: Raw, headers: dict[str, str], body: bytes, message: str) -> None:
    assert refusal(raw("POST", CLUSTERS, body, **headers)) == (400, message)


def test_behind_a_tumblebug_that_is_down_nothing_is_found(raw: Raw) -> None:
    raw.double.tumblebug_down = True
    statuses = [raw(*asked)[0] for asked in (("GET", CLUSTERS), ("GET", ONE), ("POST", CLUSTERS, REQUEST))]
    assert statuses == [400, 404, 500]
