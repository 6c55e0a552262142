"""The clouds' networks and the internet between them: their settings, and what they do to packets on a real kernel."""

from __future__ import annotations

import json
import re
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from typing import Any

import pytest

from calico_lab.calico import BIRD_SOCKET
from calico_lab.clouds import CLOUDS
from calico_lab.cluster.lab import LabCluster, needs
from calico_lab.fixes import changed
from calico_lab.lab import fabric
from calico_lab.lab.host import lacking
from calico_lab.lab.settings import Settings
from calico_lab.scenario import Node, Scenario

HERE = {"internet.latency_ms": 0}
CROSS = Scenario.load("cross-vxlan", HERE)
SINGLE = Scenario.load("single-vxlan")
MASTER, WORKER = CROSS.nodes
AWS, GCP = "fabric.aws-tokyo", "fabric.gcp-tokyo"

ClusterOf = Callable[[str | Scenario], LabCluster]

CANAL = {"plugin": "canal", "version": "3.22.0", "node_ip": "public", "ip_pool": "10.244.0.0/16", "block_size": 24}


def sites(number: int, count: int, clouds: Sequence[str] = ("aws", "gcp"), **more: Any) -> Scenario:
    """That many sites, of these clouds by turns, with that many nodes in each; more is said of every site."""
    names = [f"site-{site}" for site in range(1, number + 1)]
    return Scenario.of(
        {
            "scenario": f"{number}-sites",
            "sites": [
                {
                    "name": name,
                    "cloud": clouds[index % len(clouds)],
                    "subnets": [f"192.168.{index}.0/24"],
                    "public": f"203.0.{index}.0/24",
                    **more,
                }
                for index, name in enumerate(names)
            ],
            "nodes": [{"name": f"node-{name}", "site": name, "count": count} for name in names],
            "cni": CANAL,
        }
    )


TWO_IN_A_SUBNET = sites(1, 2)
AZURE = sites(1, 2, ["azure"])
AWS_AND_AZURE = sites(2, 1, ["aws", "azure"])


# ---------------------------------------------------------------------- settings

ROUTER = {
    "net.ipv4.ip_forward": "1",
    "net.ipv4.conf.all.rp_filter": "0",
    "net.ipv4.conf.default.rp_filter": "0",
    "net.ipv4.conf.all.send_redirects": "0",
    "net.ipv4.conf.default.send_redirects": "0",
}


def test_wires_carry_the_mtu_of_the_cloud_to_the_router_and_of_the_internet_from_there() -> None:
    links, _ = fabric.build(CROSS)
    assert links == [
        "link add wan netns fabric.aws-tokyo mtu 1500 type veth peer name site1 netns fabric.internet mtu 1500",
        "link add eth0 netns c-1-h43jk mtu 9001 type veth peer name port1 netns fabric.aws-tokyo mtu 9001",
        "link add wan netns fabric.gcp-tokyo mtu 1500 type veth peer name site2 netns fabric.internet mtu 1500",
        "link add ens4 netns w-1-36384 mtu 1460 type veth peer name port1 netns fabric.gcp-tokyo mtu 1460",
    ]


def test_the_internet_knows_public_addresses_and_drops_private_ones() -> None:
    _, settings = fabric.build(CROSS)
    assert settings[fabric.INTERNET] == Settings(
        ip=[
            "link set lo up",
            "addr add 198.18.1.1/30 dev site1",
            "link set site1 up",
            "route add 54.64.9.64/32 via 198.18.1.2",
            "addr add 198.18.2.1/30 dev site2",
            "link set site2 up",
            "route add 35.189.140.156/32 via 198.18.2.2",
        ],
        iptables={
            "raw": [
                '-A PREROUTING -d 10.0.0.0/8 -m comment --comment "no-route" -j DROP',
                '-A PREROUTING -d 172.16.0.0/12 -m comment --comment "no-route" -j DROP',
                '-A PREROUTING -d 192.168.0.0/16 -m comment --comment "no-route" -j DROP',
            ]
        },
        sysctl=settings[fabric.INTERNET].sysctl | ROUTER,
    )


def test_a_site_maps_addresses_1_to_1_checks_sources_and_answers_arp() -> None:
    _, settings = fabric.build(SINGLE)
    assert settings[AWS] == Settings(
        ip=[
            "link set lo up",
            "addr add 198.18.1.2/30 dev wan",
            "link set wan up",
            "route add default via 198.18.1.1",
            "addr add 192.168.10.1/32 dev port1",
            "link set port1 up",
            "route add 192.168.10.28/32 dev port1",
            "addr add 192.168.11.1/32 dev port2",
            "link set port2 up",
            "route add 192.168.11.28/32 dev port2",
        ],
        iptables={
            "raw": [
                '-A PREROUTING -i port1 ! -s 192.168.10.28 -m comment --comment "source-check c-1-h43jk" -j DROP',
                '-A PREROUTING -i port2 ! -s 192.168.11.28 -m comment --comment "source-check w-1-36384" -j DROP',
            ],
            "nat": [
                "-A PREROUTING -i wan -d 54.64.9.64 -j DNAT --to-destination 192.168.10.28",
                "-A PREROUTING -i wan -d 52.199.85.152 -j DNAT --to-destination 192.168.11.28",
                "-A POSTROUTING -o wan -s 192.168.10.28 -j SNAT --to-source 54.64.9.64",
                "-A POSTROUTING -o wan -s 192.168.11.28 -j SNAT --to-source 52.199.85.152",
            ],
        },
        sysctl=settings[AWS].sysctl
        | ROUTER
        | {
            "net.ipv4.conf.port1.proxy_arp": "1",
            "net.ipv4.neigh.port1.proxy_delay": "0",
            "net.ipv4.conf.port2.proxy_arp": "1",
            "net.ipv4.neigh.port2.proxy_delay": "0",
        },
    )


def test_a_blocked_protocol_is_dropped_on_its_way_from_a_node_and_to_it() -> None:
    _, settings = fabric.build(AWS_AND_AZURE)
    checks = '-A PREROUTING -i port1 ! -s 192.168.1.10 -m comment --comment "source-check node-site-2-1" -j DROP'
    dropped = '-m comment --comment "blocked-protocol node-site-2-1" -j DROP'
    rules = settings["fabric.site-2"].iptables
    assert (rules["raw"], rules["filter"]) == (
        [checks, f"-A PREROUTING -i port1 -p 4 {dropped}", f"-A PREROUTING -i port1 -p 47 {dropped}"],
        [f"-A FORWARD -o port1 -p 4 {dropped}", f"-A FORWARD -o port1 -p 47 {dropped}"],
    )
    assert "filter" not in settings["fabric.site-1"].iptables


@pytest.mark.parametrize(
    ("blocked", "protocols"), [([], []), ([50], ["50"])], ids=["none-in-spite-of-the-cloud", "another-one"]
)
def test_a_site_s_own_blocked_protocols_go_before_the_clouds(blocked: list[int], protocols: list[str]) -> None:
    _, settings = fabric.build(sites(1, 2, ["azure"], blocked_protocols=blocked))
    rules = settings["fabric.site-1"].iptables
    assert [re.findall(r"-o port1 -p (\d+)", rule)[0] for rule in rules.get("filter", [])[: len(blocked)]] == protocols
    assert len(rules.get("filter", [])) == 2 * len(blocked)


@pytest.mark.parametrize(
    ("internet", "site", "of_the_site", "of_the_internet"),
    [
        pytest.param({}, {}, [], [], id="no-delay"),
        pytest.param(
            {"latency_ms": 3},
            {},
            ["qdisc add dev wan root netem delay 1.5ms"],
            ["qdisc add dev site1 root netem delay 1.5ms"],
            id="half-of-the-latency-at-each-site",
        ),
        pytest.param(
            {"latency_ms": 3},
            {"latency_ms": 20},
            ["qdisc add dev wan root netem delay 20ms"],
            ["qdisc add dev site1 root netem delay 20ms"],
            id="a-site-s-own",
        ),
        pytest.param(
            {},
            {"region": "tokyo"},
            [],
            [],
            id="one-region-alone-is-no-distance",
        ),
        pytest.param(
            {"latency_ms": 2, "jitter_ms": 0.5, "loss_percent": 1},
            {},
            ["qdisc add dev wan root netem delay 1ms"],
            ["qdisc add dev site1 root netem delay 1ms 0.5ms loss 1%"],
            id="jitter-and-loss-once",
        ),
    ],
)
def test_delay(
    internet: dict[str, float], site: dict[str, float], of_the_site: list[str], of_the_internet: list[str]
) -> None:
    parameters = TWO_IN_A_SUBNET.parameters()
    parameters["sites"][0] |= site
    _, settings = fabric.build(Scenario.of(parameters | {"internet": internet}))
    assert (settings["fabric.site-1"].tc, settings[fabric.INTERNET].tc) == (of_the_site, of_the_internet)


def test_two_regions_delay_what_goes_between_them() -> None:
    far = {"internet.latency_ms": None, "sites.0.region": "tokyo", "sites.1.region": "seoul"}
    scenario = Scenario.load("cross-vxlan", far)
    _, settings = fabric.build(scenario)
    assert [settings[router].tc for router in (AWS, GCP)] == [["qdisc add dev wan root netem delay 8.325ms"]] * 2
    assert needs(CROSS) == {"vxlan"}


@pytest.mark.parametrize(
    ("internet", "needed"),
    [
        pytest.param({"latency_ms": 1}, {"vxlan"}, id="a-latency-may-be-left-out"),
        pytest.param({"latency_ms": 1, "exact_latency": True}, {"vxlan", "netem"}, id="an-exact-latency-may-not"),
        pytest.param({"latency_ms": 0, "exact_latency": True}, {"vxlan"}, id="there-is-none"),
        pytest.param({"loss_percent": 5}, {"vxlan", "netem"}, id="loss-changes-verdicts"),
        pytest.param({"jitter_ms": 5}, {"vxlan", "netem"}, id="jitter-reorders"),
    ],
)
def test_a_kernel_needs_netem_where_leaving_it_out_would_matter(internet: dict[str, Any], needed: set[str]) -> None:
    parameters = Scenario.load("cross-vxlan").parameters()
    assert needs(Scenario.of(parameters | {"internet": internet})) == needed


@pytest.mark.lab
def test_a_latency_that_is_left_out_is_said() -> None:
    with closing(LabCluster(Scenario.load("cross-vxlan"))) as cluster:
        assert cluster.facts["latency_left_out"] is bool(lacking(frozenset({"netem"})))
    with closing(LabCluster(Scenario.load("single-vxlan"))) as cluster:
        assert cluster.facts["latency_left_out"] is False


# ---------------------------------------------------------------------- what happens to a packet


def ping(cluster: LabCluster, node: Node, address: str, options: str = "", count: int = 3) -> int:
    """How many of the replies come back."""
    shown = cluster.run(node.name, f"ping -n -c {count} -i 0.02 -W 1 {options} {address}", 20)
    match = re.search(r"(\d+) received", shown.stdout)
    assert match, shown
    return int(match[1])


def drops(cluster: LabCluster, router: str) -> dict[str, int]:
    """What a router dropped, by the rules' comments."""
    saved = cluster.run(router, "iptables-save -c", 10).stdout
    counted: dict[str, int] = {}
    for packets, comment in re.findall(r'^\[(\d+):.* --comment "?([^"]*?)"? -j DROP$', saved, re.MULTILINE):
        counted[comment] = counted.get(comment, 0) + int(packets)
    return counted


def dropped_meanwhile(cluster: LabCluster, router: str, act: Callable[[], object]) -> dict[str, int]:
    before = drops(cluster, router)
    act()
    return {name: count - before[name] for name, count in drops(cluster, router).items() if count != before[name]}


@pytest.mark.lab
@pytest.mark.parametrize(("node", "peer"), [(MASTER, WORKER), (WORKER, MASTER)], ids=["aws-to-gcp", "gcp-to-aws"])
def test_a_public_address_is_reached_and_sees_the_public_source(cluster_of: ClusterOf, node: Node, peer: Node) -> None:
    cluster = cluster_of(CROSS)
    with ThreadPoolExecutor(1) as aside:
        line = f"timeout 10 tcpdump -nn -l -c 1 -i {peer.nic} 'icmp[icmptype] == icmp-echo'"
        seen = aside.submit(cluster.run, peer.name, line, 15)
        while not seen.done():
            assert ping(cluster, node, peer.public_ip) == 3
    assert f"IP {node.public_ip} > {peer.private_ip}: ICMP echo request" in seen.result().stdout


@pytest.mark.lab
def test_the_address_of_a_neighbour_s_nat_is_reached_from_inside_its_own_site(cluster_of: ClusterOf) -> None:
    cluster = cluster_of(SINGLE)
    one, other = SINGLE.nodes
    assert (ping(cluster, one, other.public_ip, f"-I {one.private_ip}"), ping(cluster, other, one.public_ip)) == (3, 3)


@pytest.mark.lab
def test_a_foreign_source_is_dropped_and_counted_with_its_node(cluster_of: ClusterOf) -> None:
    cluster = cluster_of(CROSS)
    replies: list[int] = []
    dropped = dropped_meanwhile(
        cluster, AWS, lambda: replies.append(ping(cluster, MASTER, WORKER.public_ip, f"-I {MASTER.public_ip}"))
    )
    assert (replies, dropped) == ([0], {"source-check c-1-h43jk": 3})


@pytest.mark.lab
def test_a_private_destination_leaves_its_site_and_is_dropped_and_counted_by_the_internet(
    cluster_of: ClusterOf,
) -> None:
    cluster = cluster_of(CROSS)
    replies: list[int] = []
    dropped = dropped_meanwhile(
        cluster, fabric.INTERNET, lambda: replies.append(ping(cluster, MASTER, WORKER.private_ip))
    )
    assert (replies, dropped) == ([0], {"no-route": 3})


@pytest.mark.lab
def test_the_case_under_review_loses_every_tunnel_packet_at_the_source_check(cluster_of: ClusterOf) -> None:
    cluster = cluster_of(CROSS)
    dropped = dropped_meanwhile(cluster, AWS, lambda: ping(cluster, MASTER, WORKER.pods[0].address))
    assert dropped == {"source-check c-1-h43jk": 3}


UNCHECKED = changed(Scenario.load("cross-vxlan", {"internet.latency_ms": 0}), ["source-check-off"])


@pytest.mark.lab
def test_every_drop_counter_has_a_documented_name(cluster_of: ClusterOf) -> None:
    clusters = [cluster_of(AZURE), cluster_of(UNCHECKED)]
    named = {name.split()[0] for each in clusters for router in each.fabric for name in drops(each, router)}
    assert named == set(fabric.DROPS)


SEND = """
import socket, sys
with socket.socket(socket.AF_INET, socket.SOCK_RAW, int(sys.argv[1])) as wire:
    for number in range(3):
        wire.sendto(bytes(8), (sys.argv[2], 0))  # GRE's header may be all zeros
"""


def send(cluster: LabCluster, node: Node, protocol: int, address: str) -> None:
    """Three packets of that IP protocol."""
    cluster.host.do(node.name, [sys.executable, "-c", SEND, str(protocol), address])


@pytest.mark.lab
@pytest.mark.parametrize("protocol", [4, 47], ids=["ip-in-ip", "gre"])
@pytest.mark.parametrize(
    ("scenario", "router", "blamed"),
    [
        pytest.param(AZURE, "fabric.site-1", "node-site-1-1", id="within-azure-where-it-leaves"),
        pytest.param(AWS_AND_AZURE, "fabric.site-2", "node-site-2-1", id="into-azure-where-it-arrives"),
    ],
)
def test_a_blocked_protocol_is_dropped_and_counted_with_its_node(
    cluster_of: ClusterOf, scenario: Scenario, router: str, blamed: str, protocol: int
) -> None:
    cluster = cluster_of(scenario)
    one, other = scenario.nodes
    address = other.private_ip if one.site == other.site else other.public_ip
    dropped = dropped_meanwhile(cluster, router, lambda: send(cluster, one, protocol, address))
    assert dropped == {f"blocked-protocol {blamed}": 3}


@pytest.mark.lab
def test_what_the_cloud_blocks_arrives_where_the_scenario_says_so(cluster_of: ClusterOf) -> None:
    cluster = cluster_of(sites(1, 2, ["azure"], blocked_protocols=[]))
    one, other = cluster.nodes
    with ThreadPoolExecutor(1) as aside:
        seen = aside.submit(cluster.run, other.name, f"timeout 10 tcpdump -nn -l -c 1 -i {other.nic} 'ip proto 47'", 15)
        while not seen.done():
            send(cluster, one, 47, other.private_ip)
            time.sleep(0.05)
    assert f"IP {one.private_ip} > {other.private_ip}:" in seen.result().stdout


@pytest.mark.lab
@pytest.mark.skipif(not shutil.which("linux.uml"), reason="user-mode-linux is not installed")
def test_on_azure_bgp_comes_up_and_ip_in_ip_is_lost_until_azure_stops_blocking_it() -> None:
    """The same lab before and after: all that the scenario's switch leaves out are the fabric's two rules a node."""
    scenario = Scenario.load("single-bgp-private-azure")
    one, other = scenario.nodes
    with closing(LabCluster(scenario)) as cluster:
        router = "fabric.azure-tokyo"
        shown = cluster.run(one.name, f"birdcl -s {BIRD_SOCKET} show protocols", 20).stdout
        assert re.search(rf"^Mesh_{other.private_ip.replace('.', '_')} .* Established", shown, re.MULTILINE)
        replies: list[int] = []
        dropped = dropped_meanwhile(cluster, router, lambda: replies.append(ping(cluster, one, other.pods[0].address)))
        assert (replies, dropped) == ([0], {f"blocked-protocol {one.name}": 3})
        cluster.run(router, "iptables-save | grep -v blocked-protocol | iptables-restore", 20)
        assert ping(cluster, one, other.pods[0].address) == 3


CLOUDS_BEYOND_THE_REVIEW = [["alibaba", "tencent", "ibm"], ["openstack", "ncp", "azure"]]


@pytest.mark.lab
@pytest.mark.parametrize("clouds", CLOUDS_BEYOND_THE_REVIEW, ids="-".join)
def test_canal_spans_the_other_clouds_with_their_nics_and_mtus(clouds: list[str]) -> None:
    scenario = sites(3, 1, clouds)
    with closing(LabCluster(scenario)) as cluster:
        for node in scenario.nodes:
            cloud = CLOUDS[node.cloud]
            links = json.loads(cluster.run(node.name, "ip -json link show", 10).stdout)
            mtus = {link["ifname"]: link["mtu"] for link in links}
            assert (mtus[cloud.nic], mtus["flannel.1"]) == (cloud.mtu_bytes, cloud.mtu_bytes - 50)
            for peer in scenario.peers(node):
                assert ping(cluster, node, peer.pods[0].address, count=1) == 1


@pytest.mark.lab
@pytest.mark.parametrize(
    ("where", "mtus"),
    [
        (MASTER.name, {"eth0": 9001}),
        (WORKER.name, {"ens4": 1460}),
        (AWS, {"port1": 9001, "wan": 1500}),
        (GCP, {"port1": 1460, "wan": 1500}),
        (fabric.INTERNET, {"site1": 1500, "site2": 1500}),
    ],
    ids=["aws-node", "gcp-node", "aws-router", "gcp-router", "internet"],
)
def test_mtu_of_the_wires(cluster_of: ClusterOf, where: str, mtus: dict[str, int]) -> None:
    links: list[dict[str, Any]] = json.loads(cluster_of(CROSS).run(where, "ip -json -d link show", 10).stdout)
    kinds = {link["ifname"]: link.get("linkinfo", {}).get("info_kind") for link in links}
    wires = {link["ifname"]: link["mtu"] for link in links if kinds[link["ifname"]] == "veth"}
    assert {name: mtu for name, mtu in wires.items() if not name.startswith("cali")} == mtus


@pytest.mark.lab
def test_two_nodes_of_a_subnet_meet_through_the_router_which_answers_for_both(cluster_of: ClusterOf) -> None:
    cluster = cluster_of(TWO_IN_A_SUBNET)
    one, other = TWO_IN_A_SUBNET.nodes
    assert ping(cluster, one, other.private_ip) == 3
    known = cluster.run(one.name, f"ip neigh show {other.private_ip}; ip neigh show {one.gateway}", 10).stdout
    port = json.loads(cluster.run("fabric.site-1", "ip -json link show port1", 10).stdout)[0]["address"]
    assert f"{other.private_ip} dev eth0 lladdr {port} " in known


@pytest.mark.lab
@pytest.mark.parametrize("number", [3, 4])
def test_several_sites_reach_each_other_underneath_and_through_the_tunnel(number: int) -> None:
    scenario = sites(number, 1)
    with closing(LabCluster(scenario)) as cluster:
        assert cluster.fabric == (*(f"fabric.site-{site}" for site in range(1, number + 1)), fabric.INTERNET)
        for node in scenario.nodes:
            for peer in scenario.peers(node):
                assert ping(cluster, node, peer.public_ip, count=1) == 1
                assert ping(cluster, node, peer.pods[0].address, count=1) == 1


@pytest.mark.lab
def test_fifty_nodes_from_one_line_each() -> None:
    scenario = sites(2, 25)
    with closing(LabCluster(scenario)) as cluster:
        assert len(cluster.nodes) == 50
        following = dict(zip(cluster.nodes, (*cluster.nodes[1:], cluster.nodes[0]), strict=True))
        with ThreadPoolExecutor(8) as some:
            replies = some.map(lambda node: ping(cluster, node, following[node].public_ip, count=1), following)
            assert list(replies) == [1] * 50
