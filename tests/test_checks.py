"""What the lab's real recordings amount to, and what each rule says of a recording that is spoiled for it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest

from calico_lab.calico import veth_name
from calico_lab.checks import CAUSES, RULES, Finding, check, findings_table, gaps, verdict
from calico_lab.clouds import CLOUDS
from calico_lab.page import Page
from calico_lab.recording import Recording
from calico_lab.remedies import apply
from calico_lab.scenario import Scenario
from calico_lab.tables import Tables
from tests.test_faults import FAULTS

A, G = "c-1-h43jk", "w-1-36384"
"""The review document's nodes, on AWS and on GCP."""

A_MAC, G_MAC = "66:41:93:12:10:73", "66:ec:be:c5:a8:a3"
TO_G = f"ping-node-probe-1-{G}"
SNAT = (
    A,
    "iptables-save",
    r"^:cali-nat-outgoing .*$",
    r"\g<0>\n[0:0] -A POSTROUTING -s 54.64.9.64/32 -o eth0 -p udp -m udp --dport 4789 "
    "-j SNAT --to-source 192.168.10.28",
)


def findings(recording: Recording) -> list[Finding]:
    return check(Tables(recording))


@pytest.fixture(scope="module")
def judged(recordings: Callable[[str], Recording]) -> Callable[[str], list[Finding]]:
    """Findings of a scenario's recording as it is."""
    return cache(lambda scenario: findings(recordings(scenario)))


def of(found: list[Finding], rule: str, node: str) -> list[tuple[str, str]]:
    """Result and case of that rule's findings about a node."""
    return [(finding.result, finding.case) for finding in found if (finding.id, finding.node) == (rule, node)]


# ---------------------------------------------------------------------- what the lab's recordings amount to


@pytest.mark.parametrize(
    ("scenario", "installed", "ping", "cause"),
    [
        pytest.param("cross-vxlan", True, False, "outer-source", id="cross-vxlan"),
        pytest.param("cross-vxlan-private", True, False, "fdb-reachable", id="cross-vxlan-private"),
        pytest.param("cross-vxlan-noalias", True, False, "device-present", id="cross-vxlan-noalias"),
        pytest.param("cross-canal", True, True, None, id="cross-canal"),
        pytest.param("single-vxlan", True, False, "outer-source", id="single-vxlan"),
        pytest.param("single-vxlan-private", True, True, None, id="single-vxlan-private"),
        pytest.param(
            "cross-vxlan-private-crosssubnet", True, False, "fdb-reachable", id="cross-vxlan-private-crosssubnet"
        ),
        pytest.param(
            "single-vxlan-private-crosssubnet", True, False, "pod-source", id="single-vxlan-private-crosssubnet"
        ),
    ],
)
def test_a_measurement_comes_out_as_known_and_as_the_scenario_expects(
    recordings: Callable[[str], Recording], scenario: str, installed: bool, ping: bool | None, cause: str | None
) -> None:
    tables = Tables(recordings(scenario))
    found = verdict(check(tables), tables)
    assert (found.installed, found.ping, found.cause) == (installed, ping, cause)
    expected = Scenario.load(scenario).expected
    assert expected is not None
    assert (expected.installed, expected.ping, expected.cause) == (installed, ping, cause)


@pytest.mark.parametrize("scenario", ["cross-vxlan", "cross-canal", "single-vxlan-private"])
def test_the_documents_cross_check_passes_whether_pods_reach_each_other_or_not(
    judged: Callable[[str], list[Finding]], scenario: str
) -> None:
    found = judged(scenario)
    by_hand = [
        finding.result
        for finding in found
        if finding.id in ("mac-agreement", "fdb-destination", "vni-port", "route-to-block")
    ]
    assert by_hand == ["pass"] * 8


@pytest.mark.parametrize("scenario", ["cross-canal", "single-vxlan-private"])
def test_no_rule_fails_where_everything_works(judged: Callable[[str], list[Finding]], scenario: str) -> None:
    # The two clouds' NICs differ in MTU, and each tunnel takes its own NIC's.
    known = {"mtu-between"} if scenario == "cross-canal" else set()
    assert {finding.id for finding in judged(scenario) if finding.result not in ("pass", "skip")} == known


def test_ready_counts_the_containers_of_a_pod(recordings: Callable[[str], Recording]) -> None:
    tables = Tables(recordings("cross-canal"))
    assert verdict(check(tables), tables).ready == {A: "2/2", G: "2/2"}


# ---------------------------------------------------------------------- what passes


@pytest.mark.parametrize(
    ("rule", "scenario", "case"),
    [
        pytest.param("ready", "cross-vxlan", "pass", id="ready"),
        pytest.param("pod-ping", "cross-canal", "pass", id="pod-ping"),
        pytest.param("device-present", "cross-vxlan", "pass", id="device-present"),
        pytest.param("route-to-block", "cross-vxlan", "pass", id="route-to-block"),
        pytest.param("mac-agreement", "cross-vxlan", "pass", id="mac-agreement"),
        pytest.param("vni-port", "cross-vxlan", "pass", id="vni-port"),
        pytest.param("fdb-destination", "cross-vxlan", "pass", id="fdb-destination"),
        pytest.param("local-address", "cross-vxlan", "pass", id="local-address"),
        pytest.param("outer-source", "cross-canal", "pass", id="outer-source"),
        pytest.param("fdb-reachable", "cross-vxlan", "pass", id="fdb-reachable"),
        pytest.param("wire", "cross-canal", "pass", id="wire"),
    ],
)
def test_a_rule_passes(judged: Callable[[str], list[Finding]], rule: str, scenario: str, case: str) -> None:
    found = of(judged(scenario), rule, A)
    assert found
    assert set(found) == {("pass", case)}


def test_dropped_probes_alone_are_no_failure(judged: Callable[[str], list[Finding]]) -> None:
    found = judged("cross-canal")
    assert of(found, "fabric-drops", "fabric.internet") == [("pass", "pass-only-probes")]


def test_the_recording_passes_in_silence(judged: Callable[[str], list[Finding]]) -> None:
    assert [finding for finding in judged("cross-vxlan") if finding.id == "recording"] == []


def test_a_source_that_is_rewritten_on_the_way_out_passes(
    recordings: Callable[[str], Recording], edited: Callable[..., Recording]
) -> None:
    found = findings(edited(recordings("cross-vxlan"), [SNAT]))
    assert of(found, "outer-source", A) == [("pass", "pass-snat")]
    assert of(found, "outer-source", G) == [("fail", "fail")]


@pytest.mark.parametrize(
    ("pattern", "replacement"),
    [
        pytest.param("-s 54.64.9.64/32", "-s 192.0.2.1/32", id="of-another-source"),
        pytest.param("-o eth0", "-o eth1", id="on-another-nic"),
        pytest.param("--dport 4789", "--dport 8472", id="of-another-port"),
        pytest.param("-p udp -m udp", "-p tcp -m tcp", id="of-another-protocol"),
        pytest.param("--to-source 192.168.10.28", "--to-source 192.0.2.1", id="to-another-address"),
        pytest.param("-s 54.64.9.64/32", "! -s 54.64.9.64/32", id="of-everything-else"),
    ],
)
def test_a_rewrite_of_something_else_does_not_help(
    recordings: Callable[[str], Recording], edited: Callable[..., Recording], pattern: str, replacement: str
) -> None:
    node, command, where, rule = SNAT
    assert pattern in rule
    recording = edited(recordings("cross-vxlan"), [(node, command, where, rule.replace(pattern, replacement))])
    assert of(findings(recording), "outer-source", A) == [("fail", "fail")]


@pytest.mark.parametrize(
    ("nat", "wanted"),
    [
        pytest.param(False, ("pass", "pass-unchecked"), id="public-addresses-on-the-nic"),
        pytest.param(True, ("fail", "fail-unmapped"), id="no-mapping-of-that-source"),
    ],
)
def test_without_a_check_the_source_still_has_to_have_a_way_out(
    recordings: Callable[[str], Recording], monkeypatch: pytest.MonkeyPatch, nat: bool, wanted: tuple[str, str]
) -> None:
    monkeypatch.setitem(CLOUDS, "aws", replace(CLOUDS["aws"], source_check=False, nat=nat))
    assert of(findings(recordings("cross-vxlan")), "outer-source", A) == [wanted]


# ---------------------------------------------------------------------- what fails, and what it says


NO_ALIAS = (A, "ip-addr", r"^ +inet 54\.64\.9\.64/32.*\n.*\n", "")


def no_device(node: str) -> tuple[str, str, str, str]:
    return (node, "ip-link", r"^\d+: vxlan\.calico.*\n.*\n.*\n", "")


def lost(node: str, ping: str) -> list[tuple[str, str, str, str]]:
    return [(node, ping, r"^64 bytes.*\n|^rtt.*", ""), (node, ping, "40 received, 0%", "0 received, 100%")]


def spoiled(scenario: str, edits: list[tuple[str, str, str, str]], **more: Any) -> dict[str, Any]:
    return {"scenario": scenario, "edits": edits, **more}


FAILING = [
    pytest.param(
        spoiled("cross-vxlan", [], outcomes={(A, "ip-rule"): {"exit_code": 127, "stderr": "sh: 1: ip: not found"}}),
        "recording",
        A,
        "error",
        "error-failed",
        "`ip-rule` 명령이 실패했다: sh: 1: ip: not found",
        "`ip-rule` failed: sh: 1: ip: not found",
        id="recording-failed",
    ),
    pytest.param(
        spoiled("cross-vxlan", [], outcomes={(A, "ip-rule"): {"outcome": "timeout", "exit_code": None}}),
        "recording",
        A,
        "error",
        "error-timeout",
        "`ip-rule` 명령이 제한 시간 안에 끝나지 않았다.",
        "`ip-rule` did not end in time.",
        id="recording-timeout",
    ),
    pytest.param(
        spoiled("cross-vxlan", [], outcomes={(A, "ip-rule"): {"outcome": "unreachable", "stderr": "no route to host"}}),
        "recording",
        A,
        "error",
        "error-unreachable",
        "`ip-rule` 명령을 노드에 전달하지 못했다: no route to host",
        "`ip-rule` did not reach the node: no route to host",
        id="recording-unreachable",
    ),
    pytest.param(
        spoiled("cross-vxlan", [(A, "ip-rule", r"\A", "what is this\n")]),
        "recording",
        A,
        "error",
        "error-unreadable",
        "`ip-rule` 출력을 해석할 수 없다: c-1-h43jk, ip-rule, line 1: not a rule: no priority; seen: what is this",
        "The output of `ip-rule` cannot be read: c-1-h43jk, ip-rule, line 1: not a rule: no priority; seen: what "
        "is this",
        id="recording-unreadable",
    ),
    pytest.param(
        spoiled("cross-vxlan", [(A, "readiness", "200", "503")]),
        "ready",
        A,
        "fail",
        "fail",
        "Felix가 준비되지 않았다고 응답했다 (HTTP 503).",
        "Felix answered that it is not ready (HTTP 503).",
        id="ready-not",
    ),
    pytest.param(
        spoiled("cross-vxlan", [], without={(A, "readiness")}),
        "ready",
        A,
        "skip",
        "no-data",
        "판정할 수 없음: `readiness` 출력이 없다 (missing).",
        "Cannot decide: there is no output of `readiness` (missing).",
        id="ready-unknown",
    ),
    pytest.param(
        spoiled("cross-vxlan", []),
        "pod-ping",
        A,
        "fail",
        "fail",
        "w-1-36384의 Pod(10.244.124.1)가 응답하지 않았다 (0/40).",
        "Pod 10.244.124.1 on w-1-36384 did not answer (0/40).",
        id="pod-ping-lost",
    ),
    pytest.param(
        spoiled(
            "cross-vxlan",
            [(A, TO_G, r"(?s).+", "")],
            outcomes={(A, TO_G): {"exit_code": 2, "stderr": "ping: connect: Network is unreachable"}},
        ),
        "pod-ping",
        A,
        "skip",
        "skip",
        "w-1-36384의 Pod(10.244.124.1)로 `ping`을 보낼 수 없었다: ping: connect: Network is unreachable",
        "`ping` to pod 10.244.124.1 on w-1-36384 could not be sent: ping: connect: Network is unreachable",
        id="pod-ping-not-sent",
    ),
    pytest.param(
        spoiled("cross-vxlan", [no_device(A)]),
        "device-present",
        A,
        "fail",
        "fail",
        "터널 장치(`vxlan.calico`)가 없다.",
        "The tunnel device `vxlan.calico` is missing.",
        id="device-removed",
    ),
    pytest.param(
        spoiled("cross-vxlan-noalias", []),
        "device-present",
        A,
        "fail",
        "fail-no-parent",
        "터널 장치(`vxlan.calico`)가 없다. 노드 IP(54.64.9.64)를 가진 인터페이스가 없어 Felix가 장치를 만들지 "
        "못했다고 로그에 남겼다.",
        "The tunnel device `vxlan.calico` is missing. No interface has the node IP 54.64.9.64, so Felix could "
        "not make the device, as its log says.",
        id="device-without-a-parent",
    ),
    pytest.param(
        spoiled("cross-vxlan", [(A, "ip-route", r"^10\.244\.124\.0/24 .*\n", "")]),
        "route-to-block",
        A,
        "fail",
        "fail",
        "w-1-36384의 Pod 대역(10.244.124.0/24)이 터널 장치(`vxlan.calico`)로 라우팅되지 않는다.",
        "The pod block 10.244.124.0/24 of w-1-36384 is not routed into `vxlan.calico`.",
        id="route-removed",
    ),
    pytest.param(
        spoiled("cross-vxlan", [(A, "ip-route", r"^(10\.244\.124\.0/24) .*", r"\1 via 192.168.10.1 dev eth0 ")]),
        "route-to-block",
        A,
        "fail",
        "fail-elsewhere",
        "w-1-36384의 Pod 대역(10.244.124.0/24)이 터널 장치(`vxlan.calico`)가 아닌 다른 곳으로 라우팅된다: "
        "`10.244.124.0/24 via 192.168.10.1 dev eth0`.",
        "The pod block 10.244.124.0/24 of w-1-36384 is not routed into `vxlan.calico`, but: "
        "`10.244.124.0/24 via 192.168.10.1 dev eth0`.",
        id="route-by-the-nic",
    ),
    pytest.param(
        spoiled("cross-vxlan", [(G, "ip-link", G_MAC, "66:09:ac:35:3b:2d")]),
        "mac-agreement",
        A,
        "fail",
        "fail",
        "w-1-36384의 MAC이 서로 다르다: 상대 장치 66:09:ac:35:3b:2d, ARP 66:ec:be:c5:a8:a3, FDB 66:ec:be:c5:a8:a3.",
        "The MACs of w-1-36384 differ: own device 66:09:ac:35:3b:2d, ARP 66:ec:be:c5:a8:a3, FDB 66:ec:be:c5:a8:a3.",
        id="mac-of-the-peer-swapped",
    ),
    pytest.param(
        spoiled("cross-vxlan", [(A, "ip-neigh", G_MAC, A_MAC)]),
        "mac-agreement",
        A,
        "fail",
        "fail",
        "w-1-36384의 MAC이 서로 다르다: 상대 장치 66:ec:be:c5:a8:a3, ARP 66:41:93:12:10:73, FDB 66:ec:be:c5:a8:a3.",
        "The MACs of w-1-36384 differ: own device 66:ec:be:c5:a8:a3, ARP 66:41:93:12:10:73, FDB 66:ec:be:c5:a8:a3.",
        id="mac-in-arp-swapped",
    ),
    pytest.param(
        spoiled("cross-vxlan", [(A, "ip-neigh", r"(?s).+", "")]),
        "mac-agreement",
        A,
        "fail",
        "fail",
        "w-1-36384의 MAC이 서로 다르다: 상대 장치 66:ec:be:c5:a8:a3, ARP –, FDB 66:ec:be:c5:a8:a3.",
        "The MACs of w-1-36384 differ: own device 66:ec:be:c5:a8:a3, ARP –, FDB 66:ec:be:c5:a8:a3.",
        id="mac-not-in-arp",
    ),
    pytest.param(
        spoiled("cross-vxlan", [], without={(A, "ip-neigh")}),
        "mac-agreement",
        A,
        "skip",
        "no-data",
        "판정할 수 없음: `ip-neigh` 출력이 없다 (missing).",
        "Cannot decide: there is no output of `ip-neigh` (missing).",
        id="mac-in-arp-unknown",
    ),
    pytest.param(
        spoiled("cross-vxlan", [(G, "ip-link", "vxlan id 4096", "vxlan id 4097")]),
        "vni-port",
        A,
        "fail",
        "fail",
        "상대 노드(w-1-36384)와 VNI/포트가 다르다: 이 노드 4096/4789, 상대 4097/4789.",
        "VNI/port differ from those of w-1-36384: 4096/4789 here, 4097/4789 there.",
        id="vni-changed",
    ),
    pytest.param(
        spoiled("cross-vxlan", [(G, "ip-link", "dstport 4789", "dstport 8472")]),
        "vni-port",
        A,
        "fail",
        "fail",
        "상대 노드(w-1-36384)와 VNI/포트가 다르다: 이 노드 4096/4789, 상대 4096/8472.",
        "VNI/port differ from those of w-1-36384: 4096/4789 here, 4096/8472 there.",
        id="port-changed",
    ),
    pytest.param(
        spoiled("cross-vxlan", [(A, "bridge-fdb", "35.189.140.156", "192.168.29.28")]),
        "fdb-destination",
        A,
        "fail",
        "fail",
        "상대 노드(w-1-36384)로 가는 FDB 목적지(192.168.29.28)가 상대의 노드 IP(35.189.140.156)와 다르다.",
        "The FDB destination 192.168.29.28 for w-1-36384 is not its node IP 35.189.140.156.",
        id="fdb-sends-elsewhere",
    ),
    pytest.param(
        spoiled("cross-vxlan", [NO_ALIAS]),
        "local-address",
        A,
        "fail",
        "fail",
        "`vxlan.calico`의 local 주소(54.64.9.64)를 가진 인터페이스가 이 노드에 없다. 측정하는 동안 carrier "
        "오류가 0번 늘었다.",
        "No interface of this node has 54.64.9.64, the local address of `vxlan.calico`. Its carrier errors grew "
        "by 0 during the measurement.",
        id="local-address-removed",
    ),
    pytest.param(
        spoiled("cross-vxlan", [NO_ALIAS], without={(A, "ip-link-stats-before")}),
        "local-address",
        A,
        "fail",
        "fail",
        "`vxlan.calico`의 local 주소(54.64.9.64)를 가진 인터페이스가 이 노드에 없다. 측정하는 동안 carrier "
        "오류가 –번 늘었다.",
        "No interface of this node has 54.64.9.64, the local address of `vxlan.calico`. Its carrier errors grew "
        "by – during the measurement.",
        id="local-address-removed-and-nothing-counted",
    ),
    pytest.param(
        spoiled("cross-vxlan", []),
        "outer-source",
        A,
        "fail",
        "fail",
        "외부 헤더의 출발지가 공인 IP(54.64.9.64)다. AWS 클라우드는 이 NIC를 사설 주소(192.168.10.28)로만 알고 "
        "1:1 NAT도 그 주소에만 적용하므로, 이 출발지로 나가는 패킷은 출발지 검사에서 버려진다. 출발지를 바꾸는 "
        "SNAT 규칙도 없다.",
        "The outer source is the public IP 54.64.9.64. AWS knows this NIC by its private address 192.168.10.28 "
        "only, and maps only that one 1:1, so its source check drops what leaves with this source. No SNAT rule "
        "rewrites it.",
        id="outer-source-is-public",
    ),
    pytest.param(
        spoiled("cross-vxlan", lost(A, f"ping-public-{G}")),
        "fdb-reachable",
        A,
        "fail",
        "fail",
        "FDB 목적지(w-1-36384의 35.189.140.156)가 이 노드에서 `ping`에 응답하지 않는다 (0/40).",
        "The FDB destination 35.189.140.156 (w-1-36384) does not answer `ping` from this node (0/40).",
        id="fdb-destination-silent",
    ),
    pytest.param(
        spoiled("cross-vxlan-private", []),
        "fdb-reachable",
        A,
        "fail",
        "fail-private",
        "FDB 목적지(192.168.29.28)는 다른 클라우드에 있는 w-1-36384의 사설 주소여서 여기서 도달할 수 없다. "
        "`ping` 응답이 없다 (0/40).",
        "The FDB destination 192.168.29.28 is a private address of w-1-36384 in another cloud, which has no "
        "route from here. It does not answer `ping` (0/40).",
        id="fdb-destination-private",
    ),
    pytest.param(
        spoiled("cross-vxlan", [], without={(A, f"ping-public-{G}")}),
        "fdb-reachable",
        A,
        "skip",
        "skip",
        "판정할 수 없음: FDB 목적지(w-1-36384의 35.189.140.156)로 보낸 `ping` 기록이 없다.",
        "Cannot decide: no `ping` to the FDB destination 35.189.140.156 (w-1-36384) was recorded.",
        id="fdb-destination-not-probed",
    ),
    pytest.param(
        spoiled("cross-vxlan", []),
        "public-source",
        A,
        "fail",
        "fail",
        "노드끼리도 공인 IP를 출발지로 w-1-36384에 보낸 `ping`은 응답이 없고 (0/40), 사설 주소를 출발지로 보낸 "
        "`ping`은 응답을 받았다.",
        "Even between the nodes, `ping` to w-1-36384 with the public IP as source is not answered (0/40), while "
        "with the private source it is.",
        id="public-source-lost",
    ),
    pytest.param(
        spoiled("cross-vxlan", lost(A, f"ping-public-{G}")),
        "public-source",
        A,
        "fail",
        "fail-both",
        "w-1-36384에 보낸 `ping`은 출발지가 공인 IP든 사설 주소든 응답이 없다.",
        "`ping` to w-1-36384 is not answered, neither with the public nor with the private source.",
        id="public-source-lost-and-private-too",
    ),
    pytest.param(
        spoiled("cross-vxlan", [], without={(A, f"ping-public-{G}")}),
        "public-source",
        A,
        "fail",
        "fail-alone",
        "공인 IP를 출발지로 w-1-36384에 보낸 `ping`은 응답이 없다 (0/40).",
        "`ping` to w-1-36384 with the public IP as source is not answered (0/40).",
        id="public-source-lost-and-nothing-to-compare-with",
    ),
    pytest.param(
        spoiled("cross-vxlan-noalias", []),
        "public-source",
        A,
        "skip",
        "cannot-send",
        "공인 IP를 출발지로 보낼 수 없었다: ping: bind: Cannot assign requested address",
        "Nothing could be sent with the public IP as source: ping: bind: Cannot assign requested address",
        id="public-source-not-there",
    ),
    pytest.param(
        spoiled("cross-vxlan", [(A, "tcpdump", r"(?s)\A((?:[^\n]*\n){4}).*", r"\1")]),
        "wire",
        A,
        "fail",
        "fail",
        "터널 패킷이 이 노드의 NIC에서 2개 나갔으나 (출발지 54.64.9.64) w-1-36384의 NIC에는 하나도 들어오지 않았다.",
        "2 tunnel packets left this node's NIC (source 54.64.9.64), and none came in at the NIC of w-1-36384.",
        id="wire-lost",
    ),
    pytest.param(
        spoiled("cross-vxlan", [(A, "tcpdump", r"(?s).+", "")]),
        "wire",
        A,
        "skip",
        "silent",
        "측정하는 동안 상대 노드(w-1-36384)로 가는 터널 패킷이 NIC에서 나가지 않았다.",
        "No tunnel packet for w-1-36384 left the NIC during the measurement.",
        id="wire-silent",
    ),
    pytest.param(
        spoiled("cross-vxlan", [], outcomes={(G, "tcpdump"): {"outcome": "timeout", "exit_code": None}}),
        "wire",
        A,
        "skip",
        "no-data",
        "판정할 수 없음: `tcpdump` 출력이 없다 (timeout).",
        "Cannot decide: there is no output of `tcpdump` (timeout).",
        id="wire-unknown-at-the-peer",
    ),
    pytest.param(
        spoiled(
            "cross-vxlan", [("fabric.aws-tokyo", "iptables-save", r"^\[\d+:\d+\](.*source-check)", r"[200:16800]\1")]
        ),
        "fabric-drops",
        A,
        "fail",
        "fail-source-check",
        "실험실의 클라우드망이 출발지 검사로 c-1-h43jk의 패킷 200개를 버렸다 (그중 시험용 `ping` 40개).",
        "The source check of the lab's cloud network dropped 200 packets of c-1-h43jk (40 of them were test pings).",
        id="fabric-checks-sources",
    ),
    pytest.param(
        spoiled(
            "cross-vxlan-private", [("fabric.internet", "iptables-save", r"^\[\d+:\d+\](.*192\.168)", r"[200:16800]\1")]
        ),
        "fabric-drops",
        "fabric.internet",
        "fail",
        "fail-no-route",
        "실험실의 인터넷이 경로가 없는 사설 주소(192.168.0.0/16)로 가는 패킷 200개를 버렸다 (그중 시험용 `ping` 80개).",
        "The lab's internet dropped 200 packets to private addresses (192.168.0.0/16), which have no route (80 of "
        "them were test pings).",
        id="fabric-has-no-route",
    ),
    pytest.param(
        spoiled("cross-vxlan-noalias", []),
        "vni-port",
        A,
        "skip",
        "no-device",
        "판정할 수 없음: 노드에 `vxlan.calico` 장치가 없다.",
        "Cannot decide: the node has no device `vxlan.calico`.",
        id="no-device",
    ),
    pytest.param(
        spoiled("cross-vxlan", [no_device(G)]),
        "vni-port",
        A,
        "skip",
        "no-peer-device",
        "판정할 수 없음: 상대 노드(w-1-36384)에 `vxlan.calico` 장치가 없다.",
        "Cannot decide: the peer w-1-36384 has no device `vxlan.calico`.",
        id="no-peer-device",
    ),
    pytest.param(
        spoiled("cross-vxlan", [], without={(G, "ip-link")}),
        "fdb-destination",
        A,
        "skip",
        "no-data",
        "판정할 수 없음: `ip-link` 출력이 없다 (missing).",
        "Cannot decide: there is no output of `ip-link` (missing).",
        id="peer-unknown",
    ),
    pytest.param(
        spoiled("cross-vxlan", [(A, "bridge-fdb", r"^.*vxlan\.calico.*\n", "")]),
        "fdb-destination",
        A,
        "skip",
        "no-entry",
        "판정할 수 없음: 상대 노드(w-1-36384)로 가는 FDB 항목이 `vxlan.calico`에 없다.",
        "Cannot decide: `vxlan.calico` has no FDB entry for the peer w-1-36384.",
        id="no-entry",
    ),
]


@pytest.mark.parametrize(("spoil", "rule", "node", "result", "case", "korean", "english"), FAILING)
def test_a_rule_says_what_is_wrong(
    recordings: Callable[[str], Recording],
    edited: Callable[..., Recording],
    spoil: Mapping[str, Any],
    rule: str,
    node: str,
    result: str,
    case: str,
    korean: str,
    english: str,
) -> None:
    changes = {key: value for key, value in spoil.items() if key != "scenario"}
    found = [
        finding
        for finding in findings(edited(recordings(spoil["scenario"]), **changes))
        if (finding.id, finding.node, finding.case) == (rule, node, case)
    ]
    assert found
    assert {finding.result for finding in found} == {result}
    assert found[0].reason(Page("ko").words) == korean
    assert found[0].reason(Page("en").words) == english


# ---------------------------------------------------------------------- one fault each, and the same without it

V = "single-vxlan-private"
A_VETH = veth_name("default", f"probe-1-{A}")
DROP = "-A INPUT -p udp -m udp --dport 4789 -j DROP"
LEGACY = "# Warning: iptables-legacy tables present, use iptables-legacy-save to see them"

ONE_FAULT = [
    pytest.param(
        V,
        [(G, "ip-addr", r"inet 192\.168\.11\.\d+", "inet 192.168.10.28")],
        "duplicate-address",
        A,
        "fail",
        id="two-nics",
    ),
    pytest.param(
        V, [(A, "sysctl", rf"({A_VETH}\.proxy_arp) = 1", r"\1 = 0")], "proxy-arp", A, "fail", id="no-proxy-arp"
    ),
    pytest.param(V, [(A, "sysctl", r"ip_forward = 1", "ip_forward = 0")], "ip-forward", A, "fail", id="no-forwarding"),
    pytest.param(
        V,
        [(A, "ip-link", rf"({A_VETH}@\S+ <BROADCAST,MULTICAST),UP,LOWER_UP", r"\1")],
        "pod-route",
        A,
        "fail-down",
        id="veth-down",
    ),
    pytest.param(
        V, [(A, "ip-route", rf"^(\S+ dev) {A_VETH} ", r"\1 eth0 ")], "pod-route", A, "fail", id="pod-elsewhere"
    ),
    pytest.param(
        V,
        [(A, "ip-route", r"^(blackhole .*)", r"\1\n10.244.124.0 dev eth0 scope link ")],
        "rp-filter",
        A,
        "fail",
        id="way-back-by-the-nic",
    ),
    pytest.param(
        V,
        [(A, "ip-route", r"^10\.244\.124\.0/24 .*", "blackhole 10.244.124.0/24 ")],
        "route-to-block",
        A,
        "fail-blackhole",
        id="peers-block-thrown-away",
    ),
    pytest.param(
        V,
        [(A, "ip-route", r"^(10\.244\.124\.0/24 via) \S+", r"\1 10.244.99.0")],
        "route-to-block",
        A,
        "fail-gateway",
        id="gateway-of-nobody",
    ),
    pytest.param(V, [(A, "ip-route", r"^blackhole .*\n", "")], "block-owner", A, "fail", id="no-blackhole"),
    pytest.param(
        V,
        [(A, "ip-link", r"^(\d+: vxlan\.calico: <BROADCAST,MULTICAST),UP,LOWER_UP", r"\1")],
        "device-present",
        A,
        "fail-down",
        id="device-down",
    ),
    pytest.param(V, [(A, "ip-link", r"(local \S+ dev) eth0", r"\1 lo")], "parent-device", A, "fail", id="other-parent"),
    pytest.param(
        V, [(A, "ip-link", r"local 192\.168\.10\.28", "local 192.0.2.1")], "stale-device", A, "fail", id="old-local"
    ),
    pytest.param(
        V,
        [
            (
                G,
                "ipset-list",
                r"(Name: cali40all-vxlan-net(?:\n.*)*?\nMembers:\n)192\.168\.10\.28\n",
                r"\g<1>192.0.2.9\n",
            )
        ],
        "allow-list",
        A,
        "fail",
        id="not-on-the-allow-list",
    ),
    pytest.param(
        V,
        [
            (A, "iptables-save", r"^\[\d+:\d+\] -A INPUT -j cali-INPUT", rf"[7:700] {DROP}\n\g<0>"),
            (A, "iptables-save-before", r"^\[\d+:\d+\] -A INPUT -j cali-INPUT", rf"[0:0] {DROP}\n\g<0>"),
        ],
        "node-filter",
        A,
        "fail",
        id="firewall",
    ),
    pytest.param(
        V,
        [(A, "ip-link", r"^(\d+: vxlan\.calico: .* mtu) \d+", r"\1 9001")],
        "mtu-fit",
        A,
        "fail",
        id="device-too-large",
    ),
    pytest.param(
        V,
        [(A, "ip-link", r"^(\d+: vxlan\.calico: .* mtu) \d+", r"\1 9001")],
        "mtu-between",
        A,
        "fail",
        id="mtus-differ",
    ),
]


@pytest.mark.parametrize(("base", "edits", "rule", "node", "case"), ONE_FAULT)
def test_a_rule_fails_for_one_fault_and_passes_without_it(
    recordings: Callable[[str], Recording],
    edited: Callable[..., Recording],
    judged: Callable[[str], list[Finding]],
    base: str,
    edits: list[tuple[str, str, str, str]],
    rule: str,
    node: str,
    case: str,
) -> None:
    assert {result for result, _ in of(judged(base), rule, node)} == {"pass"}
    assert ("fail", case) in of(findings(edited(recordings(base), edits)), rule, node)


def test_a_rewrite_that_is_not_tracked_does_not_help(
    recordings: Callable[[str], Recording], edited: Callable[..., Recording]
) -> None:
    untracked = (A, "iptables-save", r"^:cali-PREROUTING .*$", r"\g<0>\n[0:0] -A OUTPUT -p udp -j CT --notrack")
    assert of(findings(edited(recordings("cross-vxlan"), [SNAT, untracked])), "outer-source", A) == [
        ("fail", "fail-notrack")
    ]


def test_rules_of_the_other_backend_are_told(
    recordings: Callable[[str], Recording], edited: Callable[..., Recording]
) -> None:
    told = edited(recordings(V), [], outcomes={(A, "iptables-save"): {"stderr": LEGACY}})
    assert of(findings(told), "iptables-backend", A) == [("fail", "fail")]
    assert of(findings(told), "iptables-backend", G) == [("pass", "pass")]


class TestChecksumOffload:
    OLD = (A, "uname", r"(Linux \S+) \S+", r"\1 5.4.0-1028-gcp")
    ON = (A, "ethtool", r"\A(?s:.*)\Z", "Features for vxlan.calico:\n\ttx-checksum-ip-generic: on\n")
    OFF = (A, "ethtool", r"\A(?s:.*)\Z", "Features for vxlan.calico:\n\ttx-checksum-ip-generic: off\n")

    @pytest.mark.parametrize(
        ("edits", "wanted"),
        [
            pytest.param([], ("pass", "pass"), id="new-kernel"),
            pytest.param([OLD], ("pass", "pass-plain"), id="nothing-translated"),
            pytest.param([OLD, SNAT, OFF], ("pass", "pass-off"), id="offload-off"),
            pytest.param([OLD, SNAT, ON], ("fail", "fail"), id="offload-on"),
        ],
    )
    def test_it_takes_an_old_kernel_a_translation_and_the_offload(
        self,
        recordings: Callable[[str], Recording],
        edited: Callable[..., Recording],
        edits: list[tuple[str, str, str, str]],
        wanted: tuple[str, str],
    ) -> None:
        assert of(findings(edited(recordings("cross-vxlan"), edits)), "checksum-offload", A) == [wanted]

    def test_it_cannot_be_decided_without_ethtool(
        self, recordings: Callable[[str], Recording], edited: Callable[..., Recording]
    ) -> None:
        unknown = edited(recordings("cross-vxlan"), [self.OLD, SNAT], without={(A, "ethtool")})
        assert of(findings(unknown), "checksum-offload", A) == [("skip", "no-data")]


class TestWholePackets:
    SWEEP = f"mtu-overlay-probe-1-{G}"
    SMALL = f"ping-node-probe-1-{G}"
    VANISHING = (Path(__file__).parent / "parsers/fixtures/mtu_sweep/lab-silent.txt").read_text(encoding="utf-8")
    SILENT = (A, SWEEP, r"(?s)\A.*\Z", VANISHING)

    def test_large_ones_that_are_lost_without_a_word_are_a_cause_of_their_own(
        self, recordings: Callable[[str], Recording], edited: Callable[..., Recording]
    ) -> None:
        recording = edited(recordings(V), [self.SILENT])
        tables = Tables(recording)
        found = check(tables)
        assert (verdict(found, tables).ping, verdict(found, tables).cause) == (True, "path-mtu")
        assert said(recording, "path-mtu", A) == [
            (
                "fail",
                "fail",
                f"{G}의 Pod(10.244.124.1)로 1404바이트 패킷까지는 도착하지만, 1405바이트 패킷은 경로에서 알림 없이 "
                "버려진다. 작은 `ping`으로는 드러나지 않는다.",
                f"Packets of up to 1404 bytes to the pod 10.244.124.1 on {G} arrive, but those of 1405 bytes are lost "
                "on the way without a word. Small pings do not show it.",
            )
        ]

    def test_it_is_not_decided_where_small_ones_are_lost_too(
        self, recordings: Callable[[str], Recording], edited: Callable[..., Recording]
    ) -> None:
        some = (A, self.SMALL, "40 received, 0%", "30 received, 25%")
        lossy = edited(recordings(V), [self.SILENT, some])
        assert said(lossy, "path-mtu", A) == [
            (
                "skip",
                "lossy",
                f"판정할 수 없음: {G}의 Pod(10.244.124.1)로 1405바이트 패킷이 도착하지 않았지만, 작은 패킷도 25% "
                "손실된다.",
                f"Cannot decide: packets of 1405 bytes to the pod 10.244.124.1 on {G} did not arrive, but 25 % of "
                "small ones are lost too.",
            )
        ]

    def test_one_that_is_refused_aloud_is_none(self, judged: Callable[[str], list[Finding]]) -> None:
        assert of(judged("cross-canal"), "path-mtu", A) == [("pass", "pass")]

    def test_one_that_is_refused_with_another_error_is_none(
        self, recordings: Callable[[str], Recording], edited: Callable[..., Recording]
    ) -> None:
        aloud = (
            A,
            self.SWEEP,
            r"^ping: local error: message too long, mtu=\d+",
            "ping: sendmsg: Operation not permitted",
        )
        assert of(findings(edited(recordings(V), [aloud])), "path-mtu", A) == [("pass", "pass-untold")]

    def test_it_is_not_judged_where_nothing_arrives(self, judged: Callable[[str], list[Finding]]) -> None:
        assert of(judged("cross-vxlan"), "path-mtu", A) == [("skip", "no-small")]

    def test_it_is_not_judged_where_nothing_could_be_sent(
        self, recordings: Callable[[str], Recording], edited: Callable[..., Recording]
    ) -> None:
        stderr = "ping: connect: Network is unreachable\n"
        unsent = {(A, self.SWEEP): {"exit_code": 2, "stderr": stderr}}
        found = findings(edited(recordings(V), outcomes=unsent))
        assert of(found, "path-mtu", A) == [("skip", "cannot-send")]
        assert of(found, "recording", A) == []


# ---------------------------------------------------------------------- what would decide


class TestGaps:
    def test_nothing_is_asked_where_all_is_decided(self, recordings: Callable[[str], Recording]) -> None:
        tables = Tables(recordings("cross-vxlan"))
        assert gaps(check(tables), tables).empty

    def test_what_has_something_against_it_is_asked_first(
        self, recordings: Callable[[str], Recording], edited: Callable[..., Recording]
    ) -> None:
        missing = ("ip-addr", "iptables-save", "sysctl", "ipset-list", "tcpdump")
        tables = Tables(edited(recordings("cross-vxlan"), [], without={(n, c) for n in (A, G) for c in missing}))
        asked = gaps(check(tables), tables)
        assert list(asked["run"][:2]) == ["ip addr show", "tcpdump -nn -i any udp port 4789"]
        assert list(asked["suspects"][:2]) == [2, 2]
        assert "sysctl" in list(asked["command"][2:])
        assert asked.loc[0, "nodes"] == f"{A}, {G}"


# ---------------------------------------------------------------------- without a tunnel, and with one that is blocked

CROSS_SUBNET = "single-vxlan-private-crosssubnet"


def said(recording: Recording, rule: str, node: str) -> list[tuple[str, str, str, str]]:
    """Result, case and both sentences of that rule's findings about a node."""
    return [
        (finding.result, finding.case, finding.reason(Page("ko").words), finding.reason(Page("en").words))
        for finding in findings(recording)
        if (finding.id, finding.node) == (rule, node)
    ]


def test_cross_subnet_routes_straight_to_a_peer_in_the_same_subnet_and_by_the_tunnel_to_others(
    recordings: Callable[[str], Recording],
) -> None:
    assert said(recordings(CROSS_SUBNET), "route-to-block", A) == [
        (
            "pass",
            "pass-direct",
            "w-1-36384의 Pod 대역(10.244.124.0/24)이 CrossSubnet에 따라 터널 없이 같은 서브넷의 상대에게 바로 "
            "라우팅된다.",
            "The pod block 10.244.124.0/24 of w-1-36384, in the same subnet, is routed straight to it by CrossSubnet.",
        ),
        (
            "pass",
            "pass",
            "w-2-9fz4q의 Pod 대역(10.244.126.0/24)이 터널 장치(`vxlan.calico`)로 라우팅된다.",
            "The pod block 10.244.126.0/24 of w-2-9fz4q is routed into `vxlan.calico`.",
        ),
    ]


def test_a_straight_route_past_the_peer_is_a_failure(
    recordings: Callable[[str], Recording], edited: Callable[..., Recording]
) -> None:
    by_gateway = (A, "ip-route", r"^(10\.244\.124\.0/24 via) \S+", r"\1 192.168.10.1")
    assert of(findings(edited(recordings(CROSS_SUBNET), [by_gateway])), "route-to-block", A) == [
        ("fail", "fail-elsewhere"),
        ("pass", "pass"),
    ]


def test_pod_addresses_on_the_wire_meet_the_source_check(recordings: Callable[[str], Recording]) -> None:
    assert said(recordings(CROSS_SUBNET), "pod-source", A) == [
        (
            "fail",
            "fail",
            "w-1-36384의 Pod(10.244.124.0/24)로 가는 패킷이 터널 없이(CrossSubnet, 같은 서브넷) Pod 주소 그대로 "
            "`eth0`에서 나간다. AWS 클라우드가 NIC에 준 적이 없는 주소여서 출발지/목적지 검사에서 버려진다.",
            "Packets to the pods of w-1-36384 (10.244.124.0/24) leave `eth0` without a tunnel (CrossSubnet, same "
            "subnet), with pod addresses. AWS gave these to no NIC, so its source/destination check drops them.",
        )
    ]
    assert said(recordings(CROSS_SUBNET), "pod-source", "w-2-9fz4q") == []


def test_pod_addresses_on_the_wire_are_no_failure_where_sources_are_not_checked(
    recordings: Callable[[str], Recording], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(CLOUDS, "aws", replace(CLOUDS["aws"], source_check=False))
    assert said(recordings(CROSS_SUBNET), "pod-source", A) == [
        (
            "pass",
            "pass",
            "w-1-36384의 Pod로 가는 패킷이 터널 없이(CrossSubnet) Pod 주소 그대로 `eth0`에서 나가지만, AWS 클라우드는 "
            "출발지를 검사하지 않는다.",
            "Packets to the pods of w-1-36384 leave `eth0` without a tunnel (CrossSubnet), with pod addresses. AWS "
            "does not check sources.",
        )
    ]


def test_cross_subnet_over_two_subnets_works(recordings: Callable[[str | Scenario], Recording]) -> None:
    tables = Tables(recordings(Scenario.load("single-vxlan-private", {"cni.vxlan": "CrossSubnet"})))
    found = check(tables)
    assert (verdict(found, tables).ping, of(found, "pod-source", A)) == (True, [])


@pytest.fixture(scope="module")
def azure() -> Recording:
    """What the lab in user-mode Linux left of single-bgp-private-azure: too slow to be recorded for every run."""
    return Recording(Path(__file__).parent / "recordings" / "single-bgp-private-azure")


ARRIVED = (
    G,
    "tcpdump",
    r"\A",
    "09:07:16.768180 eth0  In  IP 192.168.30.28 > 192.168.31.28: IP 10.244.122.0 > 10.244.124.1: ICMP echo request, "
    "id 1090, seq 1, length 64\n",
)


def test_on_azure_it_is_installed_and_the_tunnels_protocol_is_the_cause(azure: Recording) -> None:
    tables = Tables(azure)
    found = verdict(check(tables), tables)
    expected = Scenario.load("single-bgp-private-azure").expected
    assert (found.installed, found.ping, found.cause) == (True, False, "outer-protocol")
    assert expected is not None
    assert (expected.installed, expected.ping, expected.cause) == (True, False, "outer-protocol")


def test_a_blocked_tunnel_fails(azure: Recording) -> None:
    assert said(azure, "outer-protocol", A) == [
        (
            "fail",
            "fail",
            "IP 프로토콜 4(IP-in-IP)인 터널 패킷 83개가 상대 노드(w-1-36384) 쪽으로 나갔으나 하나도 들어오지 않았다. "
            "Azure 클라우드망이 이 프로토콜을 막는다.",
            "83 tunnel packets of IP protocol 4 (IP-in-IP) left for w-1-36384 and none came in there. The network of "
            "Azure blocks this protocol.",
        )
    ]


def test_a_tunnel_of_a_protocol_that_nobody_blocks_passes(azure: Recording, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(CLOUDS, "azure", replace(CLOUDS["azure"], blocked_protocols=(47,)))
    assert said(azure, "outer-protocol", A) == [
        (
            "pass",
            "pass",
            "상대 노드(w-1-36384)로 가는 터널의 IP 프로토콜(4)을 막는 클라우드망이 없다.",
            "The tunnel's IP protocol 4 to w-1-36384 is blocked by neither cloud network.",
        )
    ]


def test_a_tunnel_packet_that_arrived_goes_before_what_is_documented(
    azure: Recording, edited: Callable[..., Recording]
) -> None:
    assert said(edited(azure, [ARRIVED]), "outer-protocol", A) == [
        (
            "pass",
            "pass-arrived",
            "Azure 클라우드가 막는다고 알려진 IP 프로토콜(4)이지만, 터널 패킷 1개가 상대 노드(w-1-36384)에 들어왔다.",
            "1 tunnel packets of IP protocol 4 came in at w-1-36384, although Azure is documented to block it.",
        )
    ]


def test_a_tunnel_that_sent_nothing_is_not_judged(azure: Recording, edited: Callable[..., Recording]) -> None:
    assert said(edited(azure, [(A, "tcpdump", r"(?s).+", "")]), "outer-protocol", A) == [
        (
            "skip",
            "silent",
            "측정하는 동안 상대 노드(w-1-36384)로 가는 터널 패킷이 NIC에서 나가지 않았다.",
            "No tunnel packet for w-1-36384 left the NIC during the measurement.",
        )
    ]


@pytest.mark.parametrize(
    ("node", "command"), [(A, "ip-link"), (A, "ip-route"), (A, "tcpdump"), (G, "tcpdump")], ids="-".join
)
def test_a_tunnel_of_which_too_little_is_known_is_not_judged(
    azure: Recording, edited: Callable[..., Recording], node: str, command: str
) -> None:
    assert of(findings(edited(azure, without={(node, command)})), "outer-protocol", A) == [("skip", "no-data")]


def test_the_fabric_names_the_protocol_that_it_dropped(azure: Recording) -> None:
    assert said(azure, "fabric-drops", A) == [
        (
            "fail",
            "fail-blocked-protocol",
            "실험실의 클라우드망이 c-1-h43jk에서 나가거나 들어오는 패킷 83개를, 클라우드가 막는 IP "
            "프로토콜(ipencap)이어서 버렸다 (그중 시험용 `ping` 0개).",
            "The lab's cloud network dropped 83 packets from or to c-1-h43jk (IP protocol ipencap), because the cloud "
            "blocks this protocol (0 of them were test pings).",
        )
    ]


def test_bgp_s_own_packets_do_not_pass_for_the_tunnels(azure: Recording, edited: Callable[..., Recording]) -> None:
    keepalive = (
        "09:07:16.100000 eth0  {} IP 192.168.30.28.179 > 192.168.31.28.40000: Flags [P.], seq 1:20, ack 1, win 502, "
        "length 19: BGP, length: 19\n"
    )
    noisy = edited(
        azure,
        [(A, "tcpdump", r"\A", keepalive.format("Out")), (G, "tcpdump", r"\A", keepalive.format("In "))],
    )
    assert of(findings(noisy), "wire", A) == [("fail", "fail")]


# ---------------------------------------------------------------------- no data is a skip

WITHOUT = [
    "route",
    "ip-link",
    "ip-neigh",
    "bridge-fdb",
    "ip-addr",
    "ip-route",
    "ip-rule",
    "ipset-list",
    "readiness",
    "node-log",
    "ip-link-stats-before",
    "ip-link-stats",
    "iptables-save",
    "tcpdump",
    TO_G,
    f"ping-public-{G}",
    f"ping-from-public-{G}",
]


@pytest.mark.parametrize("command", WITHOUT)
@pytest.mark.parametrize("scenario", ["cross-vxlan", "single-vxlan-private"])
def test_what_is_not_known_neither_passes_nor_fails(
    recordings: Callable[[str], Recording],
    judged: Callable[[str], list[Finding]],
    edited: Callable[..., Recording],
    scenario: str,
    command: str,
) -> None:
    """Without one of a node's captures a finding is what it was, or a skip, or not there."""
    before, after = (
        Counter((finding.id, finding.node, finding.result) for finding in found)
        for found in (judged(scenario), findings(edited(recordings(scenario), without={(A, command)})))
    )
    assert {result for _, _, result in after - before} <= {"skip"}


def test_nothing_passes_of_a_node_that_was_never_asked(
    recordings: Callable[[str], Recording], edited: Callable[..., Recording]
) -> None:
    recording = recordings("single-vxlan-private")
    unasked = {(capture.node, capture.command) for capture in recording.captures if capture.node == A}
    tables = Tables(edited(recording, without=unasked))
    found = check(tables)
    assert {finding.result for finding in found if finding.node == A} == {"skip"}
    assert verdict(found, tables).installed is None
    assert verdict(found, tables).ping is None


def test_a_skip_says_which_command_would_tell(
    recordings: Callable[[str], Recording], edited: Callable[..., Recording]
) -> None:
    found = findings(edited(recordings("cross-vxlan"), without={(A, "ip-neigh")}))
    (skip,) = [finding for finding in found if (finding.id, finding.node) == ("mac-agreement", A)]
    assert (skip.result, skip.next) == ("skip", "ip neigh show")


# ---------------------------------------------------------------------- the verdict


@pytest.mark.parametrize(
    ("edits", "cause"),
    [
        pytest.param([], "outer-source", id="as-recorded"),
        pytest.param([(A, "bridge-fdb", "35.189.140.156", "192.0.2.1")], "fdb-destination", id="fdb-before-source"),
        pytest.param(
            [(A, "bridge-fdb", "35.189.140.156", "192.0.2.1"), (G, "ip-link", "vxlan id 4096", "vxlan id 1")],
            "vni-port",
            id="vni-before-fdb",
        ),
        pytest.param(
            [(G, "ip-link", "vxlan id 4096", "vxlan id 1"), (A, "ip-neigh", G_MAC, A_MAC)],
            "mac-agreement",
            id="mac-before-vni",
        ),
        pytest.param(
            [(A, "ip-neigh", G_MAC, A_MAC), (A, "ip-route", r"^10\.244\.124\.0/24 .*\n", "")],
            "route-to-block",
            id="route-before-mac",
        ),
        pytest.param([(A, "ip-neigh", G_MAC, A_MAC), no_device(G)], "device-present", id="device-before-everything"),
        pytest.param([NO_ALIAS], "local-address", id="address-before-source"),
        pytest.param(
            [
                SNAT,
                (
                    G,
                    *SNAT[1:3],
                    SNAT[3]
                    .replace("54.64.9.64", "35.189.140.156")
                    .replace("192.168.10.28", "192.168.29.28")
                    .replace("eth0", "ens4"),
                ),
            ],
            "wire",
            id="nothing-but-what-did-not-arrive",
        ),
    ],
)
def test_the_first_cause_that_a_packet_meets_wins(
    recordings: Callable[[str], Recording],
    edited: Callable[..., Recording],
    edits: list[tuple[str, str, str, str]],
    cause: str | None,
) -> None:
    tables = Tables(edited(recordings("cross-vxlan"), edits))
    assert verdict(check(tables), tables).cause == cause


def test_there_is_no_cause_where_pods_reach_each_other(
    recordings: Callable[[str], Recording], edited: Callable[..., Recording]
) -> None:
    tables = Tables(edited(recordings("cross-canal"), [(A, "bridge-fdb", "35.189.140.156", "192.0.2.1")]))
    found = check(tables)
    assert ("fail", "fail") in of(found, "fdb-destination", A)
    assert (verdict(found, tables).ping, verdict(found, tables).cause) == (True, None)


def test_where_a_node_is_not_ready_there_is_a_cause_and_ping_is_not_judged(
    recordings: Callable[[str], Recording], edited: Callable[..., Recording]
) -> None:
    tables = Tables(edited(recordings("cross-vxlan"), [(A, "readiness", "200", "503")]))
    found = verdict(check(tables), tables)
    assert (found.installed, found.ready, found.ping, found.cause) == (
        False,
        {A: "0/1", G: "1/1"},
        None,
        "outer-source",
    )


# ---------------------------------------------------------------------- form


NOT_OF_THE_CLUSTER = {"recording"}
"""Says of captures that they cannot be read, which is an error and neither failure nor pass."""


FAIL_IN = {
    "checksum-offload": TestChecksumOffload.test_it_takes_an_old_kernel_a_translation_and_the_offload,
    "iptables-backend": test_rules_of_the_other_backend_are_told,
    **{fault.cause: fault for fault in FAULTS.values()},
}
"""Rules that fail in a specification of their own, or in a running lab."""


@pytest.fixture(scope="module")
def ends(
    judged: Callable[[str], list[Finding]],
    recordings: Callable[[str | Scenario], Recording],
    tmp_path_factory: pytest.TempPathFactory,
) -> set[tuple[str, str]]:
    """Each rule with each result that it has in a recorded scenario, or in one of the spoiled ones above."""
    unchecked = {"internet.latency_ms": 0, "sites.0.source_check": False}
    snat = tmp_path_factory.mktemp("snat") / "recording"
    assert apply(Scenario.load("cross-vxlan", {"internet.latency_ms": 0}), ["snat-alias"], snat)
    kept = [Recording(path) for path in (Path(__file__).parent / "recordings").iterdir()]
    found = [
        *(finding for name in ("cross-vxlan", "cross-canal", "single-vxlan-private") for finding in judged(name)),
        *(finding for name in ("single-vxlan-private-crosssubnet", "cross-vxlan-private") for finding in judged(name)),
        *(finding for recording in kept for finding in findings(recording)),
        *findings(recordings(Scenario.load("single-vxlan-private-crosssubnet", unchecked))),
        *findings(Recording(snat)),
    ]
    spoiled = [(rule, case) for _, rule, _, _, case, *_ in (each.values for each in FAILING)]
    spoiled += [(rule, case) for _, _, rule, _, case in (each.values for each in ONE_FAULT)]
    return {
        *((finding.id, finding.result) for finding in found),
        *((str(rule), Finding("", str(case)).result) for rule, case in spoiled),
        *((rule, "fail") for rule in FAIL_IN),
    }


@pytest.mark.parametrize("rule", sorted(set(RULES) - NOT_OF_THE_CLUSTER))
def test_every_rule_fails_in_one_scenario_and_passes_in_another(ends: set[tuple[str, str]], rule: str) -> None:
    assert {(rule, "fail"), (rule, "pass")} <= ends


def test_causes_are_rules() -> None:
    assert set(CAUSES) < set(RULES)


@pytest.mark.parametrize(
    "scenario",
    ["cross-vxlan", "cross-vxlan-private", "cross-vxlan-noalias", "cross-canal", "single-vxlan-private"],
)
def test_evidence_is_a_line_of_the_recording(recordings: Callable[[str], Recording], scenario: str) -> None:
    recording = recordings(scenario)
    for finding in findings(recording):
        for place in finding.evidence:
            path, _, line = place.partition(":")
            text = (recording.folder / path).read_text(encoding="utf-8")
            assert not line or text.splitlines()[int(line) - 1].strip()


def test_a_failure_has_evidence_and_a_cause_the_next_command(judged: Callable[[str], list[Finding]]) -> None:
    failed = [finding for finding in judged("cross-vxlan") if finding.result == "fail"]
    assert [finding.id for finding in failed if not finding.evidence] == []
    assert [finding.id for finding in failed if finding.id in CAUSES and not finding.next] == []


def test_the_outer_source_points_at_the_device_and_at_the_wire(judged: Callable[[str], list[Finding]]) -> None:
    (found,) = [finding for finding in judged("cross-vxlan") if (finding.id, finding.node) == ("outer-source", A)]
    assert [place.partition(":")[0] for place in found.evidence] == [
        f"captures/{A}/ip-link.txt",
        f"captures/{A}/tcpdump.txt",
    ]
    assert found.next == "tcpdump -ni eth0 udp port 4789"


def test_findings_make_a_table(judged: Callable[[str], list[Finding]]) -> None:
    found = judged("cross-vxlan")
    table = findings_table(found, Page("en").words)
    assert list(table.columns) == ["id", "result", "node", "reason", "evidence", "next"]
    assert len(table) == len(found)
    assert list(findings_table([], Page("en").words).columns) == list(table.columns)
