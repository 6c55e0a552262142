"""The clouds' networks and the internet between them, as routers in namespaces of their own.

A site is one router: every node hangs on a port of its own, as a virtual machine does on its cloud's network. The
router maps each public address 1:1 onto its node's private one, drops what the cloud's source check drops and the IP
protocols that the cloud blocks, and answers ARP for whatever it can route to. The internet is one more router, on which
private addresses have no route. All drops are iptables rules with a comment that names them (`DROPS`), so that the
fabric can be asked what it dropped.

A router does not see which neighbour's MAC a packet was sent to. So a packet to a pod's address that passes the source
check is not dropped where the neighbour's cloud would check its destination, but on the internet, as ``no-route``.
"""

from __future__ import annotations

from ..scenario import Node, Scenario, Site
from .settings import Settings

__all__ = ["DROPS", "INTERNET", "build", "router"]

INTERNET = "fabric.internet"
"""Fabric names have a dot, which no node name has."""

DROPS = {
    "source-check": "the source is not the private address that the cloud gave this NIC",
    "blocked-protocol": "the cloud carries no packets of this IP protocol, whatever its security groups say",
    "no-mapping": "the source has no public address, so the 1:1 NAT has nothing to put in its place",
    "no-route": "the destination is a private address, which the internet does not route",
}
"""The names of the fabric's drop counters: a rule's comment is ``<name> <node>`` or ``<name>``."""

_PRIVATE = ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16")  # RFC 1918
_TRANSIT = "198.18.{}.{}"  # RFC 2544 addresses: never on the internet, so never a site's


def router(site: str) -> str:
    """The name of a site's router."""
    return f"fabric.{site}"


def build(scenario: Scenario, *, delays: bool = True) -> tuple[list[str], dict[str, Settings]]:
    """Everything between the NICs.

    Returns
    -------
    links : list of str
        Lines of ``ip -batch`` that make all veth pairs, the nodes' NICs included, across the namespaces.
    settings : dict of str to Settings
        For each router.
    """
    links: list[str] = []
    internet = _router_settings()
    internet.iptables = {
        "raw": [f'-A PREROUTING -d {network} -m comment --comment "no-route" -j DROP' for network in _PRIVATE]
    }
    settings = {INTERNET: internet}
    for number, site in enumerate(scenario.sites, start=1):
        here, port = router(site.name), f"site{number}"
        near, far = _TRANSIT.format(number, 2), _TRANSIT.format(number, 1)
        mtu = scenario.internet.mtu_bytes
        links.append(f"link add wan netns {here} mtu {mtu} type veth peer name {port} netns {INTERNET} mtu {mtu}")
        own = _router_settings()
        own.ip += [f"addr add {near}/30 dev wan", "link set wan up", f"route add default via {far}"]
        internet.ip += [f"addr add {far}/30 dev {port}", f"link set {port} up"]
        if delays:
            own.tc, towards_site = _delays(scenario, site, port)
            internet.tc += towards_site
        nodes = [node for node in scenario.nodes if node.site == site.name]
        for index, node in enumerate(nodes, start=1):
            _attach(node, f"port{index}", here, links, own)
            _guard(node, f"port{index}", scenario, own)
            if not scenario.checks_source(site.name):
                # Without the check the network also delivers what is for the pods behind a NIC.
                own.ip.append(f"route add {node.block} via {node.private_ip} dev port{index} onlink")
            internet.ip.append(f"route add {node.public_ip}/32 via {near}")
        if scenario.cloud(site.name).nat:
            own.iptables["nat"] = [
                *(
                    f"-A PREROUTING -i wan -d {node.public_ip} -j DNAT --to-destination {node.private_ip}"
                    for node in nodes
                ),
                *(f"-A POSTROUTING -o wan -s {node.private_ip} -j SNAT --to-source {node.public_ip}" for node in nodes),
            ]
            if not scenario.checks_source(site.name):
                own.iptables.setdefault("filter", []).extend(_mapped_only(nodes))
        settings[here] = own
    return links, settings


def _mapped_only(nodes: list[Node]) -> list[str]:
    """What 1:1 NAT has no address for does not leave the site, even where no NIC's port checks it."""
    return [
        *(f"-A FORWARD -o wan -s {node.private_ip} -j RETURN" for node in nodes),
        '-A FORWARD -o wan -m comment --comment "no-mapping" -j DROP',
    ]


def _delays(scenario: Scenario, site: Site, port: str) -> tuple[list[str], list[str]]:
    """Netem on both ends of a site's link: its share of the latency each way, jitter and loss once each way."""
    internet = scenario.internet
    share_ms = scenario.latency_share_ms(site)
    away = f"delay {share_ms:g}ms" if share_ms else ""
    back = away
    if internet.jitter_ms:
        back = f"delay {share_ms:g}ms {internet.jitter_ms:g}ms"
    if internet.loss_percent:
        back += f" loss {internet.loss_percent:g}%"
    return (
        [f"qdisc add dev wan root netem {away}"] if away else [],
        [f"qdisc add dev {port} root netem {back}"] if back else [],
    )


def _attach(node: Node, port: str, here: str, links: list[str], own: Settings) -> None:
    links.append(
        f"link add {node.nic} netns {node.name} mtu {node.mtu_bytes} "
        f"type veth peer name {port} netns {here} mtu {node.mtu_bytes}"
    )
    own.ip += [
        f"addr add {node.gateway}/32 dev {port}",
        f"link set {port} up",
        f"route add {node.private_ip}/32 dev {port}",
    ]
    own.sysctl |= {f"net.ipv4.conf.{port}.proxy_arp": "1", f"net.ipv4.neigh.{port}.proxy_delay": "0"}


def _guard(node: Node, port: str, scenario: Scenario, own: Settings) -> None:
    """What a node's port lets through: the cloud's source check outwards, its blocked protocols both ways."""
    outwards, inwards = [], []
    if scenario.checks_source(node.site):
        outwards.append(
            f'-A PREROUTING -i {port} ! -s {node.private_ip} -m comment --comment "source-check {node.name}" -j DROP'
        )
    for protocol in scenario.blocked_protocols(node.site):
        match = f'-p {protocol} -m comment --comment "blocked-protocol {node.name}" -j DROP'
        outwards.append(f"-A PREROUTING -i {port} {match}")
        inwards.append(f"-A FORWARD -o {port} {match}")
    for table, rules in (("raw", outwards), ("filter", inwards)):
        if rules:
            own.iptables.setdefault(table, []).extend(rules)


def _router_settings() -> Settings:
    return Settings(
        ip=["link set lo up"],
        sysctl={
            "net.ipv4.ip_forward": "1",
            "net.ipv4.conf.all.rp_filter": "0",
            "net.ipv4.conf.default.rp_filter": "0",
            "net.ipv4.conf.all.send_redirects": "0",
            "net.ipv4.conf.default.send_redirects": "0",
        },
    )
