"""What flannel's stand-in programs, against what flannel 0.13.0 does in canal."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest

from calico_lab.cluster.lab import LabCluster
from calico_lab.lab import flannel
from calico_lab.lab.settings import Settings
from calico_lab.scenario import Scenario

HERE = {"internet.latency_ms": 0}
CANAL = Scenario.load("cross-canal", HERE)
DETECTED = Scenario.load("cross-canal", HERE | {"cni.node_ip": "private"})
MASTER, WORKER = CANAL.nodes

ClusterOf = Callable[[str | Scenario], LabCluster]


def test_the_device_s_own_address_is_the_nic_s() -> None:
    assert flannel.device(WORKER, CANAL) == Settings(
        ip=[
            "link add flannel.1 type vxlan id 1 local 192.168.29.28 dev ens4 dstport 8472 nolearning",
            "link set flannel.1 mtu 1410",
            "addr add 10.244.124.0/32 dev flannel.1",
            "link set flannel.1 up",
        ],
        iptables={
            "nat": [
                "-A POSTROUTING -s 10.244.0.0/16 -d 10.244.0.0/16 -j RETURN",
                "-A POSTROUTING -s 10.244.0.0/16 ! -d 224.0.0.0/4 -j MASQUERADE --random-fully",
                "-A POSTROUTING ! -s 10.244.0.0/16 -d 10.244.124.0/24 -j RETURN",
                "-A POSTROUTING ! -s 10.244.0.0/16 -d 10.244.0.0/16 -j MASQUERADE --random-fully",
            ]
        },
        sysctl={"net.ipv4.ip_forward": "1"},
    )


@pytest.mark.parametrize(
    ("scenario", "destination"),
    [(CANAL, "54.64.9.64"), (DETECTED, "192.168.10.28")],
    ids=["public-ip-overwrite", "detected"],
)
def test_peers_send_to_the_other_address(scenario: Scenario, destination: str) -> None:
    assert flannel.peers(scenario.nodes[1], scenario, {MASTER.name: "aa:bb:cc:dd:ee:ff"}) == Settings(
        ip=[
            "neigh replace 10.244.122.0 lladdr aa:bb:cc:dd:ee:ff dev flannel.1 nud permanent",
            "route add 10.244.122.0/24 via 10.244.122.0 dev flannel.1 onlink",
        ],
        bridge=[f"fdb replace aa:bb:cc:dd:ee:ff dev flannel.1 dst {destination} self permanent"],
    )


@pytest.mark.lab
def test_peers_know_the_mac_that_the_kernel_gave_each_device(cluster_of: ClusterOf) -> None:
    cluster = cluster_of(CANAL)
    (link,) = json.loads(cluster.run(MASTER.name, "ip -json link show flannel.1", 10).stdout)
    fdb = cluster.run(WORKER.name, "bridge fdb show dev flannel.1", 10).stdout
    assert fdb.strip() == f"{link['address']} dst 54.64.9.64 self permanent"


@pytest.mark.lab
def test_pods_reach_each_other_across_clouds(cluster_of: ClusterOf) -> None:
    line = f"ip netns exec {MASTER.pods[0].name} ping -n -c 3 -i 0.05 -W 2 {WORKER.pods[0].address}"
    assert "3 packets transmitted, 3 received, 0% packet loss" in cluster_of(CANAL).run(MASTER.name, line, 20).stdout


@pytest.mark.lab
def test_whole_packets_pass_from_either_cloud_up_to_the_tunnel_s_mtu(cluster_of: ClusterOf) -> None:
    def ping(size: int) -> str:
        line = f"ping -n -c 1 -W 2 -M do -s {size - 28} {MASTER.pods[0].address}"
        result = cluster_of(CANAL).run(WORKER.name, line, 20)
        return result.stdout + result.stderr

    assert "1 received" in ping(1410)
    assert "message too long, mtu=1410" in ping(1411)
