"""A scenario file is read strictly, and what follows from it is settled."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest

from calico_lab.checks import CAUSES
from calico_lab.clouds import CLOUDS
from calico_lab.errors import ScenarioError
from calico_lab.scenario import PARAMS, Cni, Expected, Internet, Kubernetes, NodeGroup, Probes, Scenario, Site, names

ROOM = {"sites.0.public": "198.51.100.0/24"}
"""Public addresses for nodes that name none."""


def refused(overrides: dict[str, Any]) -> str:
    with pytest.raises(ScenarioError) as error:
        Scenario.load("cross-vxlan", overrides)
    return str(error.value)


def keys(part: type) -> str:
    return ", ".join(field.alias or name for name, field in part.model_fields.items())


def counted(count: int, **group: Any) -> list[dict[str, Any]]:
    return [{"name": "n", "site": "aws-tokyo", "count": count} | group]


# ---------------------------------------------------------------------- mistakes


@pytest.mark.parametrize(
    ("key", "nearest", "part"),
    [
        pytest.param("cnii", "cni", Scenario, id="top"),
        pytest.param("sites[0].subnet", "subnets", Site, id="site"),
        pytest.param("nodes[1].pubic_ip", "public_ip", NodeGroup, id="node"),
        pytest.param("cni.node_ipp", "node_ip", Cni, id="cni"),
        pytest.param("internet.mtu", "mtu_bytes", Internet, id="internet"),
        pytest.param("probes.ping_cnt", "ping_count", Probes, id="probes"),
        pytest.param("kubernetes.agent", "agent_image", Kubernetes, id="kubernetes"),
        pytest.param("expected.pings", "ping", Expected, id="expected"),
    ],
)
def test_an_unknown_key_names_the_nearest_and_all_there_are(key: str, nearest: str, part: type) -> None:
    dotted = re.sub(r"\[(\d)\]", r".\1", key)
    assert refused({dotted: "x"}) == (
        f"params/cross-vxlan.yaml: {key}: unknown key, did you mean {nearest}?; seen: x; allowed: {keys(part)}"
    )


def test_an_unknown_key_that_is_near_to_none_names_all_there_are() -> None:
    assert refused({"zzz": 1}) == f"params/cross-vxlan.yaml: zzz: unknown key; seen: 1; allowed: {keys(Scenario)}"


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        pytest.param(
            {"cni.ip_pool": "10.244.0.0/33"},
            "cni.ip_pool: '33' is not a valid netmask, allowed: an IPv4 network such as 192.168.10.0/24; "
            "seen: 10.244.0.0/33",
            id="not-a-network",
        ),
        pytest.param(
            {"sites.0.subnets.0": "192.168.10.1/24"},
            "sites[0].subnets[0]: 192.168.10.1/24 has host bits set, allowed: an IPv4 network such as 192.168.10.0/24; "
            "seen: 192.168.10.1/24",
            id="host-bits",
        ),
        pytest.param(
            {"nodes.0.public_ip": "54.64.9"},
            "nodes[0].public_ip: Input is not a valid IPv4 address; seen: 54.64.9",
            id="not-an-address",
        ),
        pytest.param(
            {"sites.1.subnets": ["192.168.0.0/16"]},
            "sites: 192.168.0.0/16 (site gcp-tokyo) and 192.168.10.0/24 (site aws-tokyo) overlap, each must be its own",
            id="sites-overlap",
        ),
        pytest.param(
            {"cni.ip_pool": "192.168.0.0/16"},
            "sites: 192.168.0.0/16 (cni.ip_pool) and 192.168.10.0/24 (site aws-tokyo) overlap, each must be its own",
            id="pool-overlaps-a-site",
        ),
        pytest.param(
            {"nodes.0.block": "10.245.0.0/24"},
            "nodes: block 10.245.0.0/24 of c-1-h43jk is outside ip_pool 10.244.0.0/16",
            id="block-outside-the-pool",
        ),
        pytest.param(
            {"nodes.1.block": "10.244.122.0/25"},
            "nodes: 10.244.122.0/24 (block of c-1-h43jk) and 10.244.122.0/25 (block of w-1-36384) overlap, "
            "each must be its own",
            id="blocks-overlap",
        ),
        pytest.param(
            {"nodes.0.block": "10.244.122.0/30", "nodes.0.pods": 4},
            "nodes: block 10.244.122.0/30 of c-1-h43jk has room for 3 pods beside the tunnel address, 4 asked for",
            id="block-too-small",
        ),
        pytest.param(
            {"sites.0.cloud": "azur"},
            f"sites[0].cloud: unknown cloud, allowed: {', '.join(CLOUDS)}; seen: azur",
            id="unknown-cloud",
        ),
        pytest.param(
            {"sites.0.cloud": ["aws"]},
            f"sites[0].cloud: unknown cloud, allowed: {', '.join(CLOUDS)}; seen: ['aws']",
            id="cloud-is-a-list",
        ),
        pytest.param(
            {"nodes.0.site": "aws-tokio"},
            "nodes: unknown site aws-tokio, allowed: aws-tokyo, gcp-tokyo",
            id="unknown-site",
        ),
        pytest.param(
            {"sites.1.name": "aws-tokyo"},
            "sites: name aws-tokyo stands more than once, each must be its own",
            id="site-twice",
        ),
        pytest.param(
            {"nodes.1.name": "c-1-h43jk"},
            "nodes: name c-1-h43jk stands more than once, each must be its own",
            id="node-twice",
        ),
        pytest.param(
            {"nodes.0.name": "n-1", "nodes.1": counted(1)[0], **ROOM},
            "nodes: name n-1 stands more than once, each must be its own",
            id="node-named-as-one-of-a-group",
        ),
        pytest.param(
            {"nodes.1.site": "aws-tokyo", "nodes.1.private_ip": "192.168.10.28"},
            "nodes: private_ip 192.168.10.28 stands more than once, each must be its own",
            id="private-ip-twice",
        ),
        pytest.param(
            {"nodes.1.public_ip": "54.64.9.64"},
            "nodes: public_ip 54.64.9.64 stands more than once, each must be its own",
            id="public-ip-twice",
        ),
        pytest.param(
            {"nodes.0.count": 2},
            "nodes[0]: a group with count takes its addresses from its site, remove private_ip, public_ip, block",
            id="count-with-addresses",
        ),
        pytest.param(
            {"nodes": counted(1), **ROOM},
            "nodes: 1 in all, allowed: 2 to 50",
            id="too-few-nodes",
        ),
        pytest.param(
            {"nodes": [*counted(50), *counted(1, name="m")], **ROOM},
            "nodes: 51 in all, allowed: 2 to 50",
            id="too-many-nodes",
        ),
        pytest.param(
            {"nodes.0.count": 51},
            "nodes[0].count: Input should be less than or equal to 50; seen: 51",
            id="too-many-of-a-kind",
        ),
        pytest.param(
            {"nodes": counted(2)},
            "site aws-tokyo has no public address for node n-1, add public: <network>",
            id="no-public-addresses",
        ),
        pytest.param(
            {"nodes": counted(6), "sites.0.public": "198.51.100.0/28"},
            "site aws-tokyo has no public address for node n-6, add public: <network>",
            id="public-addresses-used-up",
        ),
        pytest.param(
            {"nodes": counted(6), "sites.0.subnets": ["192.168.10.0/28"], **ROOM},
            "site aws-tokyo has no private address left",
            id="private-addresses-used-up",
        ),
        pytest.param(
            {"nodes": counted(2), "cni.ip_pool": "10.244.0.0/24", **ROOM},
            "cni.ip_pool 10.244.0.0/24 has no block left",
            id="blocks-used-up",
        ),
        pytest.param(
            {"nodes.0.private_ip": "192.168.11.28"},
            "nodes: private_ip 192.168.11.28 of c-1-h43jk is no free host of site aws-tokyo, "
            "allowed: 192.168.10.0/24 without first, gateway and last address",
            id="private-ip-outside-its-site",
        ),
        pytest.param(
            {"nodes.0.private_ip": "192.168.10.1"},
            "nodes: private_ip 192.168.10.1 of c-1-h43jk is no free host of site aws-tokyo, "
            "allowed: 192.168.10.0/24 without first, gateway and last address",
            id="private-ip-of-the-gateway",
        ),
        pytest.param(
            {"nodes.0.role": "master"},
            "nodes[0].role: Input should be 'control-plane' or 'worker'; seen: master",
            id="unknown-role",
        ),
        pytest.param(
            {"cni.plugin": "flannel"},
            "cni.plugin: Input should be 'calico' or 'canal'; seen: flannel",
            id="unknown-plugin",
        ),
        pytest.param(
            {"cni.ipip": "Always"},
            "cni: ipip: Always does not go with backend vxlan, allowed: Never",
            id="two-tunnels",
        ),
        pytest.param(
            {"cni.vxlan": "Never"},
            "cni: vxlan: Never leaves backend vxlan without a tunnel, allowed: Always, CrossSubnet",
            id="no-tunnel",
        ),
        pytest.param(
            {"cni.plugin": "canal", "cni.vxlan": "CrossSubnet"},
            "cni: canal's flannel knows only backend: vxlan with vxlan: Always",
            id="canal-across-subnets",
        ),
        pytest.param(
            {"probes.ping_count": 0},
            "probes.ping_count: Input should be greater than or equal to 1; seen: 0",
            id="too-small-a-number",
        ),
        pytest.param(
            {"cni": {}},
            "cni.plugin: this key is missing; add it (2 more after this one)",
            id="missing-keys",
        ),
        pytest.param(
            {"cnii": 1, "probes.ping_cnt": 2},
            f"probes.ping_cnt: unknown key, did you mean ping_count?; seen: 2; allowed: {keys(Probes)} "
            "(1 more after this one)",
            id="more-than-one-mistake",
        ),
    ],
)
def test_a_mistake_is_one_line_with_file_key_value_and_what_is_allowed(overrides: dict[str, Any], message: str) -> None:
    where = "params/cross-vxlan.yaml: "
    assert refused(overrides) == where + message


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param(
            "scenario: [a\nsites: b\n",
            "try.yaml, line 2: not a YAML file; seen: expected ',' or ']', but got ':'; mend that line",
            id="syntax",
        ),
        pytest.param(
            "scenario: try\ncni:\n  plugin: calico\n  plugin: canal\n",
            "try.yaml, line 4: not a YAML file; seen: key plugin stands twice; mend that line",
            id="key-twice",
        ),
        pytest.param(
            "scenario: try\n[cni, nodes]: x\n",
            "try.yaml, line 2: not a YAML file; seen: found unhashable key; mend that line",
            id="key-is-a-list",
        ),
        pytest.param(
            "- a\n- b\n",
            "try.yaml: a scenario is a mapping of keys; seen: list; see params/cross-vxlan.yaml",
            id="a-list",
        ),
        pytest.param(
            "",
            "try.yaml: a scenario is a mapping of keys; seen: NoneType; see params/cross-vxlan.yaml",
            id="empty",
        ),
        pytest.param(
            (PARAMS / "cross-vxlan.yaml").read_text(encoding="utf-8"),
            "try.yaml: scenario: the scenario has another name than its file; seen: cross-vxlan; allowed: try",
            id="name-of-another-file",
        ),
    ],
)
def test_a_file_that_is_no_scenario_is_refused_on_one_line(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "try.yaml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ScenarioError) as error:
        Scenario.load(path)
    assert str(error.value) == message


def test_a_file_that_is_not_text_is_refused_on_one_line(tmp_path: Path) -> None:
    path = tmp_path / "try.yaml"
    path.write_bytes(b"scenario: \xff\xfe\n")
    with pytest.raises(ScenarioError) as error:
        Scenario.load(path)
    assert str(error.value) == (
        "try.yaml: not a YAML file; seen: 'utf-8' codec can't decode byte 0xff in position 10: invalid start byte; "
        "mend that line"
    )


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ScenarioError) as error:
        Scenario.load(tmp_path / "gone.yaml")
    assert str(error.value) == f"{tmp_path}/gone.yaml: no such scenario file; name a file that exists"


def test_a_misspelled_name_lists_all_and_the_nearest() -> None:
    with pytest.raises(ScenarioError) as error:
        Scenario.load("cross-vxln")
    assert str(error.value) == (
        "SCENARIO: no scenario has that name, did you mean cross-vxlan?; seen: cross-vxln; "
        f"allowed: {', '.join(names())}"
    )


@pytest.mark.parametrize("key", ["nodes.9.pods", "nodes.first.pods", "scenario.name"])
def test_an_override_of_what_is_not_there_is_refused(key: str) -> None:
    assert refused({key: 1}) == (
        f"--set {key}: no such key to override; seen: 1; write it as in the scenario file, "
        "for example probes.ping_count=5"
    )


def test_an_override_may_name_a_part_that_the_file_leaves_out() -> None:
    assert Scenario.load("cross-vxlan", {"probes.ping_count": 3}).probes.ping_count == 3


# ---------------------------------------------------------------------- what follows


def test_counted_nodes_take_free_addresses_and_blocks_in_order() -> None:
    scenario = Scenario.load(
        "cross-vxlan",
        {
            "nodes": [
                {"name": "c", "site": "aws-tokyo", "private_ip": "192.168.10.10", "public_ip": "198.51.100.11"},
                *counted(2, pods=2),
            ],
            "cni.block_size": 26,
            **ROOM,
        },
    )
    assert [(node.name, node.private_ip, node.public_ip, str(node.block)) for node in scenario.nodes] == [
        ("c", "192.168.10.10", "198.51.100.11", "10.244.0.0/26"),
        ("n-1", "192.168.10.11", "198.51.100.10", "10.244.0.64/26"),
        ("n-2", "192.168.10.12", "198.51.100.12", "10.244.0.128/26"),
    ]
    assert [(pod.name, pod.address) for pod in scenario.nodes[1].pods] == [
        ("probe-1-n-1", "10.244.0.65"),
        ("probe-2-n-1", "10.244.0.66"),
    ]


def test_a_node_has_the_addresses_of_its_file_and_the_nic_of_its_cloud() -> None:
    aws, gcp = Scenario.load("cross-vxlan").nodes
    assert (aws.nic, aws.mtu_bytes, aws.prefix_len, aws.gateway, aws.tunnel_ip) == (
        "eth0",
        9001,
        24,
        "192.168.10.1",
        "10.244.122.0",
    )
    assert (gcp.nic, gcp.mtu_bytes, gcp.prefix_len, gcp.gateway, gcp.tunnel_ip) == (
        "ens4",
        1460,
        32,
        "192.168.29.1",
        "10.244.124.0",
    )


def test_an_mtu_of_the_site_goes_before_the_clouds() -> None:
    assert [node.mtu_bytes for node in Scenario.load("cross-vxlan", {"sites.0.mtu_bytes": 1500}).nodes] == [1500, 1460]


# ---------------------------------------------------------------------- how far apart sites are


def regions(*named: str | None, **more: Any) -> dict[str, Any]:
    """Overrides that put the two sites into these regions and take away the file's latency."""
    given = {f"sites.{index}.region": region for index, region in enumerate(named) if region}
    return {"internet.latency_ms": None, **given, **more}


@pytest.mark.parametrize(
    ("overrides", "latency_ms", "shares_ms"),
    [
        pytest.param({}, 1.0, [0.5, 0.5], id="the-file-s"),
        pytest.param({"internet.latency_ms": None}, 0.0, [0.0, 0.0], id="nothing-said"),
        pytest.param(regions("tokyo", "frankfurt"), 118.1, [59.05, 59.05], id="half-of-the-regions-round-trip"),
        pytest.param(regions("tokyo", "tokyo"), 1.8, [0.9, 0.9], id="two-clouds-in-one-region"),
        pytest.param(
            regions("tokyo", "frankfurt") | {"internet.latency_ms": 1.0}, 1.0, [0.5, 0.5], id="the-file-s-wins"
        ),
        pytest.param(
            regions("tokyo", "frankfurt") | {"internet.latency_ms": 0}, 0.0, [0.0, 0.0], id="also-where-it-is-zero"
        ),
        pytest.param(
            regions("tokyo", "frankfurt") | {"sites.1.latency_ms": 7}, 118.1, [59.05, 7.0], id="a-site-s-own-wins"
        ),
    ],
)
def test_latency_is_the_file_s_or_that_of_the_regions(
    overrides: dict[str, Any], latency_ms: float, shares_ms: list[float]
) -> None:
    scenario = Scenario.load("cross-vxlan", overrides)
    assert (scenario.latency_ms, [scenario.latency_share_ms(site) for site in scenario.sites]) == (
        latency_ms,
        shares_ms,
    )


THIRD = {"name": "third", "cloud": "aws", "subnets": ["192.168.12.0/24"], "region": "seoul"}


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        pytest.param(
            regions("tokio"),
            "sites[0].region: unknown region, allowed: frankfurt, seoul, singapore, tokyo, virginia; seen: tokio",
            id="unknown",
        ),
        pytest.param(
            regions(None, "seoul"),
            "sites: site aws-tokyo names no region, so its distance is not known; name one, or say internet.latency_ms",
            id="only-one-site-names-its",
        ),
        pytest.param(
            regions("singapore", "singapore"),
            "sites: no round trip between singapore and singapore is known, say internet.latency_ms",
            id="no-such-distance",
        ),
    ],
)
def test_a_latency_that_the_regions_cannot_give_is_refused(overrides: dict[str, Any], message: str) -> None:
    assert refused(overrides) == f"params/cross-vxlan.yaml: {message}"


def test_regions_give_no_latency_between_three_sites() -> None:
    parameters = Scenario.load("cross-vxlan", regions("tokyo", "seoul")).parameters()
    with pytest.raises(ScenarioError) as error:
        Scenario.of(parameters | {"sites": [*parameters["sites"], THIRD]})
    assert str(error.value) == (
        "parameters: sites: regions give the latency between two sites, there are 3, say internet.latency_ms"
    )


# ---------------------------------------------------------------------- what a network blocks


@pytest.mark.parametrize(
    ("overrides", "blocked"),
    [
        pytest.param({}, (4, 47), id="the-cloud-s"),
        pytest.param({"sites.0.blocked_protocols": []}, (), id="switched-off"),
        pytest.param({"sites.0.blocked_protocols": [47]}, (47,), id="the-site-s-own"),
    ],
)
def test_a_site_blocks_what_its_file_says_or_else_what_its_cloud_does(
    overrides: dict[str, Any], blocked: tuple[int, ...]
) -> None:
    scenario = Scenario.load("single-bgp-private-azure", overrides)
    assert scenario.blocked_protocols("azure-tokyo") == blocked
    assert Scenario.of(scenario.parameters()) == scenario


def test_a_protocol_is_a_number_of_one_byte() -> None:
    assert refused({"sites.0.blocked_protocols": [256]}) == (
        "params/cross-vxlan.yaml: sites[0].blocked_protocols[0]: Input should be less than or equal to 255; seen: 256"
    )


# ---------------------------------------------------------------------- the scenarios that come with it


DOCUMENT = "review-2022"
"""The scenario of the review document's own outputs, which are read and not measured."""


@pytest.mark.parametrize("name", names())
class TestEachScenario:
    def test_its_parameters_describe_it(self, name: str) -> None:
        scenario = Scenario.load(name)
        assert Scenario.of(scenario.parameters()) == scenario

    def test_its_name_says_what_it_is(self, name: str) -> None:
        if name == DOCUMENT:
            return
        scenario = Scenario.load(name)
        backend = "canal" if scenario.cni.plugin == "canal" else {"vxlan": "vxlan", "bird": "bgp"}[scenario.cni.backend]
        private = "-private" if scenario.cni.node_ip == "private" else ""
        assert re.fullmatch(rf"{scenario.topology}-{backend}{private}(-(?!private)[a-z0-9]+)*", name)

    def test_its_first_line_says_it_in_a_sentence(self, name: str) -> None:
        first = (PARAMS / f"{name}.yaml").read_text(encoding="utf-8").splitlines()[0]
        assert re.fullmatch(r"# [A-Z].+\.", first)

    def test_its_expectation_is_a_result_that_can_be_measured(self, name: str) -> None:
        expected = Scenario.load(name).expected
        assert (expected is None) is (name == DOCUMENT)
        if expected is None:
            return
        if expected.ping is False or not expected.installed:
            assert expected.cause in CAUSES
        if expected.ping:
            assert (expected.installed, expected.cause) == (True, None)
