"""What an install mode means: names, formulas and settings of Calico 3.22 and of canal.

Everything here is read in the projects' source at the versions named; nothing is measured. The lab programs a kernel
with it, the checks compare recordings with it, and the report prints the commands that a person would run.
"""

from __future__ import annotations

import hashlib
import ipaddress
from dataclasses import dataclass
from typing import Literal

from .scenario import Cni, Node, Scenario

__all__ = [
    "BIRD_LOG",
    "BIRD_SOCKET",
    "READINESS_PORT",
    "TUNNELS",
    "Tunnel",
    "counterpart",
    "environment",
    "fitting_mtu",
    "goes_direct",
    "install_commands",
    "mode",
    "node_address",
    "node_annotations",
    "node_ip",
    "outer_way",
    "same_subnet",
    "senders",
    "tunnel",
    "tunnel_rules",
    "tunnel_source",
    "veth_name",
    "vtep_mac",
]

BIRD_SOCKET = "/var/run/calico/bird.ctl"
"""Where Calico's BIRD listens for its client."""

BIRD_LOG = "/var/run/calico/bird.log"
"""Where the lab's BIRD logs; Calico's own logs to its container's output."""

READINESS_PORT = 9099
"""Felix's health endpoint on each node's loopback (felix/config/config_params.go, HealthPort)."""


@dataclass(frozen=True, slots=True)
class Tunnel:
    """The tunnel device of an install mode.

    Attributes
    ----------
    device : str
    vni, port : int or None
        None for IP-in-IP, which has neither. Calico: felix/config/config_params.go, VXLANVNI and VXLANPORT. flannel:
        VNI 1 and the kernel's own default port (backend/vxlan/vxlan.go).
    overhead_bytes : int
        What the outer headers take from the NIC's MTU (felix/dataplane/linux/int_dataplane.go; flannel
        backend/vxlan/device.go).
    workload, containers : str, int
        The DaemonSet that runs it, and how many containers its pods have (manifests calico.yaml and canal.yaml).
    """

    device: str
    vni: int | None
    port: int | None
    overhead_bytes: int
    workload: str
    containers: int


TUNNELS = {
    "vxlan": Tunnel("vxlan.calico", vni=4096, port=4789, overhead_bytes=50, workload="calico-node", containers=1),
    "bird": Tunnel("tunl0", vni=None, port=None, overhead_bytes=20, workload="calico-node", containers=1),
    "canal": Tunnel("flannel.1", vni=1, port=8472, overhead_bytes=50, workload="canal", containers=2),
}


def mode(cni: Cni) -> str:
    """What carries packets: Calico's vxlan or bird, or canal (flannel's vxlan)."""
    return "canal" if cni.plugin == "canal" else cni.backend


def tunnel(cni: Cni) -> Tunnel:
    """The tunnel device of that install mode."""
    return TUNNELS[mode(cni)]


def counterpart(scenario: Scenario) -> Scenario:
    """The same nodes with the other way of carrying packets: canal for Calico, and Calico's VXLAN for canal.

    The review compares the two; its text says what flannel does differently, and this measures it.
    """
    plugin, backend = ("calico", "vxlan") if scenario.cni.plugin == "canal" else ("canal", "canal")
    tunnel_of_vxlan = {"backend": "vxlan", "ipip": "Never", "vxlan": "Always"}
    cni = Cni.model_validate(scenario.cni.model_dump() | {"plugin": plugin, "node_ip": "public"} | tunnel_of_vxlan)
    return scenario.model_copy(update={"name": f"{scenario.topology}-{backend}", "cni": cni, "expected": None})


def node_address(node: Node, cni: Cni) -> str:
    """What the annotation ``projectcalico.org/IPv4Address`` of that node holds.

    A public IP is given without a mask; autodetection writes the NIC's own address with the NIC's prefix length.
    """
    return node.public_ip if cni.node_ip == "public" else f"{node.private_ip}/{node.prefix_len}"


def node_ip(node: Node, cni: Cni) -> str:
    """The same without its mask: what tunnels, BGP sessions and allow-lists use."""
    return node_address(node, cni).split("/")[0]


def outer_way(cni: Cni, *, one_site: bool) -> Literal["private", "public"]:
    """By which of a peer's addresses a tunnel's packets can arrive: only within a site also by the private one."""
    return "private" if one_site and cni.node_ip == "private" else "public"


def fitting_mtu(scenario: Scenario) -> int:
    """The largest packet of a pod that fits, with the tunnel's headers, every NIC and the internet if it is on the way.

    That is what the scenario says of them; what their paths really carry, `mtu` reads from a recording.
    """
    ways = {
        outer_way(scenario.cni, one_site=one.site == other.site) for one in scenario.nodes for other in scenario.nodes
    }
    internet = [scenario.internet.mtu_bytes] if "public" in ways else []
    return min([node.mtu_bytes for node in scenario.nodes] + internet) - tunnel(scenario.cni).overhead_bytes


def same_subnet(node_address: str, peer_address: str) -> bool:
    """Whether a node's annotation, taken as a network, has the peer's address: what CrossSubnet goes by.

    An annotation without a mask, or with /32 as on GCP, has nobody's (felix/calc/l3_route_resolver.go, nodeInOurSubnet;
    BIRD's filter in confd, bird_ipam.cfg.template, asks the same of the next hop).
    """
    network = ipaddress.ip_network(node_address, strict=False)
    return ipaddress.ip_address(peer_address.split("/")[0]) in network


def goes_direct(cni: Cni, node_address: str, peer_address: str) -> bool:
    """Whether a node sends to the peer's pods without a tunnel: CrossSubnet, and both in one subnet."""
    return "CrossSubnet" in (cni.vxlan, cni.ipip) and same_subnet(node_address, peer_address)


def tunnel_source(node: Node, cni: Cni) -> str:
    """The outer source of a node's tunnel packets, before any NAT.

    Calico's VXLAN takes the node's address (felix/dataplane/linux/vxlan_mgr.go); flannel that of the NIC
    (backend/vxlan/vxlan.go), and so does routing for IP-in-IP, whose device has none (ipip_mgr.go).
    """
    return node_ip(node, cni) if mode(cni) == "vxlan" else node.private_ip


def senders(node: Node, scenario: Scenario) -> tuple[str, list[str]]:
    """Felix's set of those who may send to a node's tunnel, and its members (vxlan_mgr.go, ipip_mgr.go)."""
    peers = [node_ip(peer, scenario.cni) for peer in scenario.peers(node)]
    if scenario.cni.backend == "bird":
        return "cali40all-hosts-net", [node_ip(node, scenario.cni), *peers]
    return "cali40all-vxlan-net", peers


def tunnel_rules(device: Tunnel) -> list[str]:
    """Felix's rules for the tunnel's packets, as lines of iptables-save (felix/rules/static.go)."""
    if device.port is None:
        packets, allowed, name = "-p 4", "cali40all-hosts-net", "IPIP"
    else:
        packets, allowed, name = f"-p udp -m multiport --dports {device.port}", "cali40all-vxlan-net", "VXLAN"
    return [
        f'-A cali-INPUT {packets} -m comment --comment "Allow {name} packets from whitelisted hosts" '
        f"-m set --match-set {allowed} src -m addrtype --dst-type LOCAL -j ACCEPT",
        f'-A cali-INPUT {packets} -m comment --comment "Drop {name} packets from non-whitelisted hosts" '
        "-m addrtype --dst-type LOCAL -j DROP",
        f'-A cali-OUTPUT {packets} -m comment --comment "Allow {name} packets to other whitelisted hosts" '
        f"-m addrtype --src-type LOCAL -m set --match-set {allowed} dst -j ACCEPT",
    ]


def vtep_mac(node_name: str) -> str:
    """MAC of ``vxlan.calico`` on that node: 0x66 and the first five bytes of the SHA-1 of its name.

    Every node computes it for every other one; it is never exchanged (felix/calc/vxlan_resolver.go, vtepMACForHost).
    """
    return ":".join(
        f"{byte:02x}" for byte in b"f" + hashlib.sha1(node_name.encode(), usedforsecurity=False).digest()[:5]
    )


def veth_name(namespace: str, pod: str) -> str:
    """Name of a pod's veth on its node (libcalico-go, workload_endpoint_default.go)."""
    return "cali" + hashlib.sha1(f"{namespace}.{pod}".encode(), usedforsecurity=False).hexdigest()[:11]


def environment(cni: Cni) -> dict[str, str]:
    """The DaemonSet's environment that makes the mode, as the manifests name it."""
    if cni.plugin == "canal":
        return {"IP": "", "CALICO_NETWORKING_BACKEND": "none", "CALICO_IPV4POOL_CIDR": str(cni.ip_pool)}
    return {
        "IP": "" if cni.node_ip == "public" else "autodetect",
        "CALICO_NETWORKING_BACKEND": cni.backend,
        "CALICO_IPV4POOL_IPIP": cni.ipip,
        "CALICO_IPV4POOL_VXLAN": cni.vxlan,
        "CALICO_IPV4POOL_CIDR": str(cni.ip_pool),
        "CALICO_IPV4POOL_BLOCK_SIZE": str(cni.block_size),
    }


def node_annotations(cni: Cni, public_ip: str) -> dict[str, str]:
    """What a node with that public address is annotated with before the CNI is installed; nothing where it detects."""
    if cni.node_ip == "private":
        return {}
    keys = ["projectcalico.org/IPv4Address"]
    if cni.plugin == "canal":
        keys.append("flannel.alpha.coreos.com/public-ip-overwrite")
    return dict.fromkeys(keys, public_ip)


def install_commands(scenario: Scenario) -> list[str]:
    """The kubectl lines that install the mode by hand on a cluster of one's own, in order."""
    cni = scenario.cni
    lines = [
        f"kubectl annotate node {node.name} {key}={value} --overwrite"
        for node in scenario.nodes
        for key, value in node_annotations(cni, node.public_ip).items()
    ]
    manifest = (
        "canal.yaml" if cni.plugin == "canal" else "calico-vxlan.yaml" if cni.backend == "vxlan" else "calico.yaml"
    )
    # The pools are made from the environment at the first start, so it has to be right before the manifest is applied.
    lines.append(f"# in {manifest} of Calico v{cni.version}, container calico-node, set:")
    lines += [f'#   {key}="{value}"' for key, value in environment(cni).items()]
    lines.append(f"kubectl apply -f {manifest}")
    lines.append(f"kubectl -n kube-system rollout status daemonset/{tunnel(cni).workload}")
    return lines
