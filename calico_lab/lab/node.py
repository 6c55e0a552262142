"""A node before any CNI daemon runs: its NIC as its cloud and MCKS leave it, its SSH server, and its pods' wires."""

from __future__ import annotations

from ..calico import tunnel, veth_name
from ..scenario import Node, Pod, Scenario
from .settings import Settings

__all__ = ["SSHD", "name_files", "nic", "pod", "ssh_files", "veths"]

SSHD = ("/usr/sbin/sshd", "-D", "-f", "/run/sshd_config", "-E", "/run/sshd.log")

_SSHD_CONFIG = """\
ListenAddress 0.0.0.0
HostKey /run/ssh_host_key
AuthorizedKeysFile /run/authorized_keys
AllowUsers cb-user
# cb-user is an alias of root here, in place of a user with sudo.
PermitRootLogin prohibit-password
AuthenticationMethods publickey
UsePAM no
UseDNS no
PrintMotd no
PrintLastLog no
PidFile none
SetEnv PATH=/run/bin:/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8
"""


def ssh_files(host_key: str, authorized_key: str) -> dict[str, str]:
    """What a node's sshd reads: its own private key, and the one public key that may log in."""
    return {
        "/run/sshd_config": _SSHD_CONFIG,
        "/run/ssh_host_key": host_key,
        "/run/authorized_keys": authorized_key,
    }


def name_files(node: Node) -> dict[str, str]:
    """Names as on a systemd machine, whose resolver calls the gateway ``_gateway``; no name server is asked."""
    return {
        "/etc/hosts": f"127.0.0.1 localhost\n{node.private_ip} {node.name}\n{node.gateway} _gateway\n",
        "/etc/resolv.conf": "nameserver 127.0.0.1\n",
    }


def nic(node: Node, *, public_ip_alias: bool) -> Settings:
    """The NIC after DHCP, and MCKS's /32 alias of the public IP on it.

    The alias: cb-mcks, src/scripts/bootstrap.sh, ``ifconfig ${IFACE}:1 ${PUBLIC_IP} netmask 255.255.255.255``.
    rp_filter is 1 as Ubuntu 18.04 sets it (procps, /etc/sysctl.d/10-network-security.conf).
    """
    dhcp = f"proto dhcp src {node.private_ip} metric 100"
    lines = [
        "link set lo up",
        f"addr add {node.private_ip}/{node.prefix_len} dev {node.nic}",
        f"link set {node.nic} up",
        f"route add {node.gateway} dev {node.nic} scope link {dhcp}",
        f"route add default via {node.gateway} dev {node.nic} {dhcp}",
    ]
    if public_ip_alias:
        lines.append(f"addr add {node.public_ip}/32 dev {node.nic} label {node.nic}:1")
    return Settings(
        ip=lines,
        sysctl={"net.ipv4.conf.all.rp_filter": "1", "net.ipv4.conf.default.rp_filter": "1"},
    )


def veths(scenario: Scenario) -> list[str]:
    """Lines of ``ip -batch`` that make every pod's veth pair, with the MTU that Felix leaves for the CNI plugin."""
    return [
        f"link add {veth_name(pod.namespace, pod.name)} netns {node.name} mtu {mtu} address ee:ee:ee:ee:ee:ee "
        f"type veth peer name eth0 netns {pod.name} mtu {mtu}"
        for node in scenario.nodes
        for mtu in [scenario.cni.veth_mtu or node.mtu_bytes - tunnel(scenario.cni).overhead_bytes]
        for pod in node.pods
    ]


def pod(pod: Pod) -> tuple[Settings, Settings]:
    """A pod's wires as Calico's CNI plugin leaves them, on the node and in the pod (cni-plugin, dataplane_linux.go)."""
    veth = veth_name(pod.namespace, pod.name)
    on_node = Settings(
        ip=[f"link set {veth} up", f"route add {pod.address} dev {veth} scope link"],
        sysctl={
            f"net.ipv4.conf.{veth}.route_localnet": "1",
            f"net.ipv4.neigh.{veth}.proxy_delay": "0",
            f"net.ipv4.conf.{veth}.proxy_arp": "1",
            f"net.ipv4.conf.{veth}.forwarding": "1",
        },
    )
    in_pod = Settings(
        ip=[
            "link set lo up",
            "link set eth0 up",
            f"addr add {pod.address}/32 dev eth0",
            "route add 169.254.1.1 dev eth0 scope link",
            "route add default via 169.254.1.1 dev eth0",
        ]
    )
    return on_node, in_pod
