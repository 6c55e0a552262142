"""A node before any CNI daemon runs."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from calico_lab.cluster.lab import LabCluster
from calico_lab.lab import node as lab_node
from calico_lab.lab.settings import Settings
from calico_lab.scenario import Scenario

HERE = {"internet.latency_ms": 0}
CROSS = Scenario.load("cross-vxlan", HERE)
NO_ALIAS = Scenario.load("cross-vxlan-noalias", HERE)
MASTER, WORKER = CROSS.nodes

ClusterOf = Callable[[str | Scenario], LabCluster]

GCP_NIC = [
    "link set lo up",
    "addr add 192.168.29.28/32 dev ens4",
    "link set ens4 up",
    "route add 192.168.29.1 dev ens4 scope link proto dhcp src 192.168.29.28 metric 100",
    "route add default via 192.168.29.1 dev ens4 proto dhcp src 192.168.29.28 metric 100",
]


@pytest.mark.parametrize(
    ("alias", "lines"),
    [(False, GCP_NIC), (True, [*GCP_NIC, "addr add 35.189.140.156/32 dev ens4 label ens4:1"])],
    ids=["as-the-cloud-leaves-it", "as-mcks-leaves-it"],
)
def test_nic(alias: bool, lines: list[str]) -> None:
    ubuntu = {"net.ipv4.conf.all.rp_filter": "1", "net.ipv4.conf.default.rp_filter": "1"}
    assert lab_node.nic(WORKER, public_ip_alias=alias) == Settings(ip=lines, sysctl=ubuntu)


def test_a_pod_s_wires_are_those_of_calico_s_cni_plugin() -> None:
    assert lab_node.pod(MASTER.pods[0]) == (
        Settings(
            ip=["link set caliab50587c633 up", "route add 10.244.122.1 dev caliab50587c633 scope link"],
            sysctl={
                "net.ipv4.conf.caliab50587c633.route_localnet": "1",
                "net.ipv4.neigh.caliab50587c633.proxy_delay": "0",
                "net.ipv4.conf.caliab50587c633.proxy_arp": "1",
                "net.ipv4.conf.caliab50587c633.forwarding": "1",
            },
        ),
        Settings(
            ip=[
                "link set lo up",
                "link set eth0 up",
                "addr add 10.244.122.1/32 dev eth0",
                "route add 169.254.1.1 dev eth0 scope link",
                "route add default via 169.254.1.1 dev eth0",
            ]
        ),
    )


def test_a_pod_s_mtu_is_its_node_s_less_what_the_tunnel_takes() -> None:
    assert lab_node.veths(CROSS)[0] == (
        "link add caliab50587c633 netns c-1-h43jk mtu 8951 address ee:ee:ee:ee:ee:ee "
        "type veth peer name eth0 netns probe-1-c-1-h43jk mtu 8951"
    )


def test_names_are_known_without_a_name_server() -> None:
    assert lab_node.name_files(WORKER) == {
        "/etc/hosts": "127.0.0.1 localhost\n192.168.29.28 w-1-36384\n192.168.29.1 _gateway\n",
        "/etc/resolv.conf": "nameserver 127.0.0.1\n",
    }


@pytest.mark.lab
@pytest.mark.parametrize(
    ("scenario", "addresses"),
    [
        (CROSS, ["inet 192.168.29.28/32 scope global ens4", "inet 35.189.140.156/32 scope global ens4:1"]),
        (NO_ALIAS, ["inet 192.168.29.28/32 scope global ens4"]),
    ],
    ids=["alias", "no-alias"],
)
def test_addresses_of_the_nic(cluster_of: ClusterOf, scenario: Scenario, addresses: list[str]) -> None:
    shown = cluster_of(scenario).run(WORKER.name, "ip -4 addr show dev ens4", 10).stdout
    assert [line.strip() for line in shown.splitlines() if "inet" in line] == addresses


@pytest.mark.lab
def test_the_route_table_is_the_document_s(cluster_of: ClusterOf) -> None:
    """Of node 2 (GCP); without docker0, which nobody installed here, and with pods of other names."""
    assert cluster_of(CROSS).run(WORKER.name, "route", 10).stdout.splitlines() == [
        "Kernel IP routing table",
        "Destination     Gateway         Genmask         Flags Metric Ref    Use Iface",
        "default         _gateway        0.0.0.0         UG    100    0        0 ens4",
        "10.244.122.0    10.244.122.0    255.255.255.0   UG    0      0        0 vxlan.calico",
        "10.244.124.0    0.0.0.0         255.255.255.0   U     0      0        0 *",
        "10.244.124.1    0.0.0.0         255.255.255.255 UH    0      0        0 calia2c065a3733",
        "10.244.124.2    0.0.0.0         255.255.255.255 UH    0      0        0 cali92378410632",
        "_gateway        0.0.0.0         255.255.255.255 UH    100    0        0 ens4",
    ]


@pytest.mark.lab
def test_a_pod_reaches_its_node(cluster_of: ClusterOf) -> None:
    line = f"ip netns exec {WORKER.pods[0].name} ping -n -c 1 -W 2 {WORKER.private_ip}"
    assert "1 received" in cluster_of(CROSS).run(WORKER.name, line, 10).stdout
