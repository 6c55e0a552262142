"""Stands in for flannel's vxlan backend, as canal runs it: flannel carries the packets, Felix only does policy.

Read in flannel-io/flannel v0.13.0, which canal 3.22 ships (backend/vxlan/{vxlan,device,vxlan_network}.go). The
difference from Calico that decides everything: the tunnel's own address is the NIC's, and the address that peers send
to is another one, from the annotation ``flannel.alpha.coreos.com/public-ip-overwrite``. There is no list of allowed
senders.

The device's MAC is the kernel's own random one and is published in an annotation, so all devices are made before peers
can be told of them: `device`, then `peers`.
"""

from __future__ import annotations

from collections.abc import Mapping

from ..calico import node_ip, tunnel, tunnel_source
from ..scenario import Node, Scenario
from .settings import Settings

__all__ = ["device", "peers"]


def device(node: Node, scenario: Scenario) -> Settings:
    """flannel.1, and flannel's masquerade rules (--ip-masq)."""
    cni, flannel = scenario.cni, tunnel(scenario.cni)
    return Settings(
        ip=[
            f"link add {flannel.device} type vxlan id {flannel.vni} local {tunnel_source(node, cni)} dev {node.nic} "
            f"dstport {flannel.port} nolearning",
            f"link set {flannel.device} mtu {node.mtu_bytes - flannel.overhead_bytes}",
            f"addr add {node.tunnel_ip}/32 dev {flannel.device}",
            f"link set {flannel.device} up",
        ],
        iptables={
            "nat": [
                f"-A POSTROUTING -s {cni.ip_pool} -d {cni.ip_pool} -j RETURN",
                f"-A POSTROUTING -s {cni.ip_pool} ! -d 224.0.0.0/4 -j MASQUERADE --random-fully",
                f"-A POSTROUTING ! -s {cni.ip_pool} -d {node.block} -j RETURN",
                f"-A POSTROUTING ! -s {cni.ip_pool} -d {cni.ip_pool} -j MASQUERADE --random-fully",
            ]
        },
        sysctl={"net.ipv4.ip_forward": "1"},
    )


def peers(node: Node, scenario: Scenario, macs: Mapping[str, str]) -> Settings:
    """Neighbour, FDB entry and route for every peer; `macs` holds each node's published VtepMAC."""
    flannel, settings = tunnel(scenario.cni), Settings()
    for peer in scenario.peers(node):
        address = node_ip(peer, scenario.cni)
        settings.ip += [
            f"neigh replace {peer.tunnel_ip} lladdr {macs[peer.name]} dev {flannel.device} nud permanent",
            f"route add {peer.block} via {peer.tunnel_ip} dev {flannel.device} onlink",
        ]
        settings.bridge.append(f"fdb replace {macs[peer.name]} dev {flannel.device} dst {address} self permanent")
    return settings
