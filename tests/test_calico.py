"""What an install mode means, compared with what the review document shows and with sums done by hand."""

from __future__ import annotations

import pytest

from calico_lab.calico import environment, install_commands, node_address, same_subnet, tunnel, veth_name, vtep_mac
from calico_lab.scenario import Scenario


@pytest.fixture
def reviewed() -> Scenario:
    """The cluster of the review document."""
    return Scenario.load("cross-vxlan")


def test_the_tunnel_is_the_documents(reviewed: Scenario) -> None:
    """`vxlan id 4096 … dstport 4789` of device vxlan.calico."""
    device = tunnel(reviewed.cni)
    assert (device.device, device.vni, device.port) == ("vxlan.calico", 4096, 4789)


@pytest.mark.parametrize(
    ("node", "mtu_bytes"),
    [pytest.param("c-1-h43jk", 8951, id="aws"), pytest.param("w-1-36384", 1410, id="gcp")],
)
def test_a_tunnels_mtu_is_the_documents(reviewed: Scenario, node: str, mtu_bytes: int) -> None:
    assert reviewed.node(node).mtu_bytes - tunnel(reviewed.cni).overhead_bytes == mtu_bytes


def test_flannels_tunnel_is_its_own() -> None:
    device = tunnel(Scenario.load("cross-canal").cni)
    assert (device.device, device.vni, device.port, device.workload, device.containers) == (
        "flannel.1",
        1,
        8472,
        "canal",
        2,
    )


@pytest.mark.parametrize(
    ("node", "mac"),
    [
        # printf c-1-h43jk | sha1sum: 4193121073…; printf w-1-36384 | sha1sum: ecbec5a8a3…
        pytest.param("c-1-h43jk", "66:41:93:12:10:73", id="c-1-h43jk"),
        pytest.param("w-1-36384", "66:ec:be:c5:a8:a3", id="w-1-36384"),
    ],
)
def test_a_tunnels_mac_is_an_f_and_the_sha1_of_the_nodes_name(node: str, mac: str) -> None:
    assert vtep_mac(node) == mac


def test_a_pods_interface_is_named_by_the_sha1_of_its_name() -> None:
    # printf default.probe-1-c-1-h43jk | sha1sum: ab50587c6333…
    assert veth_name("default", "probe-1-c-1-h43jk") == "caliab50587c633"


@pytest.mark.parametrize(
    ("scenario", "node", "annotated"),
    [
        pytest.param("cross-vxlan", "c-1-h43jk", "54.64.9.64", id="public"),
        pytest.param("cross-vxlan-private", "c-1-h43jk", "192.168.10.28/24", id="private-aws"),
        pytest.param("cross-vxlan-private", "w-1-36384", "192.168.29.28/32", id="private-gcp"),
    ],
)
def test_a_nodes_annotation_is_its_public_ip_or_what_autodetection_finds(
    scenario: str, node: str, annotated: str
) -> None:
    loaded = Scenario.load(scenario)
    assert node_address(loaded.node(node), loaded.cni) == annotated


@pytest.mark.parametrize(
    ("scenario", "variables"),
    [
        pytest.param(
            "cross-vxlan",
            {
                "IP": "",
                "CALICO_NETWORKING_BACKEND": "vxlan",
                "CALICO_IPV4POOL_IPIP": "Never",
                "CALICO_IPV4POOL_VXLAN": "Always",
                "CALICO_IPV4POOL_CIDR": "10.244.0.0/16",
                "CALICO_IPV4POOL_BLOCK_SIZE": "24",
            },
            id="vxlan-public",
        ),
        pytest.param(
            "cross-vxlan-private",
            {
                "IP": "autodetect",
                "CALICO_NETWORKING_BACKEND": "vxlan",
                "CALICO_IPV4POOL_IPIP": "Never",
                "CALICO_IPV4POOL_VXLAN": "Always",
                "CALICO_IPV4POOL_CIDR": "10.244.0.0/16",
                "CALICO_IPV4POOL_BLOCK_SIZE": "24",
            },
            id="vxlan-private",
        ),
        pytest.param(
            "cross-canal",
            {"IP": "", "CALICO_NETWORKING_BACKEND": "none", "CALICO_IPV4POOL_CIDR": "10.244.0.0/16"},
            id="canal",
        ),
    ],
)
def test_the_environment_makes_the_mode(scenario: str, variables: dict[str, str]) -> None:
    assert environment(Scenario.load(scenario).cni) == variables


def test_a_person_can_install_the_mode_by_hand(reviewed: Scenario) -> None:
    assert install_commands(reviewed) == [
        "kubectl annotate node c-1-h43jk projectcalico.org/IPv4Address=54.64.9.64 --overwrite",
        "kubectl annotate node w-1-36384 projectcalico.org/IPv4Address=35.189.140.156 --overwrite",
        "# in calico-vxlan.yaml of Calico v3.22.0, container calico-node, set:",
        '#   IP=""',
        '#   CALICO_NETWORKING_BACKEND="vxlan"',
        '#   CALICO_IPV4POOL_IPIP="Never"',
        '#   CALICO_IPV4POOL_VXLAN="Always"',
        '#   CALICO_IPV4POOL_CIDR="10.244.0.0/16"',
        '#   CALICO_IPV4POOL_BLOCK_SIZE="24"',
        "kubectl apply -f calico-vxlan.yaml",
        "kubectl -n kube-system rollout status daemonset/calico-node",
    ]


def test_canal_has_to_be_told_the_public_ip_for_flannel_too() -> None:
    assert install_commands(Scenario.load("cross-canal"))[:2] == [
        "kubectl annotate node c-1-h43jk projectcalico.org/IPv4Address=54.64.9.64 --overwrite",
        "kubectl annotate node c-1-h43jk flannel.alpha.coreos.com/public-ip-overwrite=54.64.9.64 --overwrite",
    ]


def test_nothing_is_annotated_where_calico_detects_the_address() -> None:
    assert not any("annotate" in line for line in install_commands(Scenario.load("cross-vxlan-private")))


@pytest.mark.parametrize(
    ("own", "peer", "same"),
    [
        pytest.param("192.168.10.28/24", "192.168.10.29/24", True, id="one-subnet"),
        pytest.param("192.168.10.28/24", "192.168.11.28/24", False, id="two-subnets"),
        pytest.param("192.168.29.28/32", "192.168.29.29/32", False, id="gcp-s-32"),
        pytest.param("54.64.9.64", "54.64.9.65", False, id="public-without-a-mask"),
    ],
)
def test_cross_subnet_goes_by_the_mask_of_the_node_s_own_annotation(own: str, peer: str, same: bool) -> None:
    assert same_subnet(own, peer) is same
