"""BIRD 2 on a node, configured as Calico 3.22 configures its own BIRD 1.6.

The configuration is what Calico's templates render for a full mesh (confd/etc/calico/confd/templates/bird.cfg.template,
bird_aggr.cfg.template, bird_ipam.cfg.template), in BIRD 2's words. Two things that Calico's fork does and stock BIRD
does not are made up for here, so that no session and no route fails that would not fail with Calico:

- ``krt_tunnel``: the fork writes a peer's block into the kernel through tunl0. Stock BIRD keeps its BGP routes out of
  the kernel here, and `tunnel_routes` writes what it has learned.
- An inbound session: the fork finds it by the remote address alone. Stock BIRD also wants the local address to be the
  configured one, which it is not behind 1:1 NAT; `accept_mapped` maps it back on arrival.
"""

from __future__ import annotations

import re

from ..calico import BIRD_LOG, BIRD_SOCKET, goes_direct, node_address, node_ip
from ..scenario import Node, Scenario
from .settings import Settings

__all__ = ["BIRD", "FILE", "accept_mapped", "configuration", "tunnel_routes"]

FILE = "/run/calico/bird.conf"
BIRD = ("bird", "-f", "-c", FILE, "-s", BIRD_SOCKET, "-P", "/run/calico/bird.pid")

_CONFIGURATION = """\
router id {own};
log "{log}" all;

function in_pool() {{
  return net ~ [ {pool}{{{pool_len},{block_len}}} ];
}}

protocol kernel {{
  learn;
  persist;
  scan time 2;
  ipv4 {{
    import all;
    export where source !~ [RTS_DEVICE, RTS_BGP]; # no device routes, as BIRD 1.6; for BGP see tunnel_routes
  }};
  graceful restart on;
  merge paths on;
}}

protocol device {{
  scan time 2;
}}

protocol direct {{
  ipv4;
  interface -"cali*", -"kube-ipvs*", "*";
}}

protocol static {{
  ipv4;
  route {block} blackhole;
}}

template bgp mesh {{
  local {own} as 64512;
  multihop;
  ipv4 {{
    gateway recursive;
    import all;
    export where in_pool();
    add paths on;
  }};
  graceful restart on;
  connect delay time 2;
  connect retry time 5;
  error wait time 5, 30;
}}
"""

_MESH = """
protocol bgp Mesh_{name} from mesh {{
  neighbor {peer} as 64512;
  source address {own};
{passive}}}
"""


def configuration(node: Node, scenario: Scenario) -> str:
    """bird.conf of that node.

    Of two nodes only the one with the larger address, compared as text, dials; the other waits (``passive on``).
    """
    cni = scenario.cni
    own = node_ip(node, scenario.cni)
    text = _CONFIGURATION.format(
        own=own,
        log=BIRD_LOG,
        pool=cni.ip_pool,
        pool_len=cni.ip_pool.prefixlen,
        block_len=cni.block_size,
        block=node.block,
    )
    for peer in scenario.peers(node):
        address = node_ip(peer, scenario.cni)
        passive = "  passive on;\n" if address > own else ""
        text += _MESH.format(name=address.replace(".", "_"), peer=address, own=own, passive=passive)
    return text


def accept_mapped(node: Node, scenario: Scenario) -> Settings:
    """What makes stock BIRD accept the inbound sessions that Calico's BIRD accepts behind 1:1 NAT."""
    if scenario.cni.node_ip == "private":
        return Settings()
    return Settings(
        iptables={
            "nat": [
                f"-A PREROUTING -d {node.private_ip} -p tcp -m tcp --dport 179 "
                f'-m comment --comment "lab: stock BIRD checks the local address" '
                f"-j DNAT --to-destination {node.public_ip}"
            ]
        }
    )


def tunnel_routes(node: Node, scenario: Scenario, learned: str) -> list[str]:
    """What Calico's BIRD writes into the kernel: lines of ``ip -batch``.

    Parameters
    ----------
    node : Node
    scenario : Scenario
    learned : str
        ``birdcl show route all``.
    """
    own, peers = node_address(node, scenario.cni), [node_ip(peer, scenario.cni) for peer in scenario.peers(node)]
    direct = [peer for peer in peers if goes_direct(scenario.cni, own, peer)]
    lines = []
    block = None
    for line in learned.splitlines():
        if found := re.match(r"(\d+\.\d+\.\d+\.\d+/\d+)\s+unicast", line):
            block = found[1]
        elif (found := re.search(r"BGP\.next_hop: (\S+)", line)) and block:
            way = f"dev {node.nic}" if found[1] in direct else "dev tunl0 onlink"
            lines.append(f"route replace {block} via {found[1]} {way} proto bird")
            block = None
    return lines
