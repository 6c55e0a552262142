"""What a kernel does with a packet, from the rules that it printed."""

from __future__ import annotations

import pytest

from calico_lab.forwarding import Packet, best_route, dropped_by, within
from calico_lab.parsers import ip_route, iptables_save

SETS = {"cali40all-vxlan-net": ("192.0.2.1", "198.51.100.0/24")}
FROM_PEER = Packet("192.0.2.1", "10.0.1.10", ("udp", "17"), 4789, in_iface="eth0")

FELIX = (
    "-A INPUT -j cali-INPUT",
    "-A cali-INPUT -p udp -m multiport --dports 4789 -m set --match-set cali40all-vxlan-net src "
    "-m addrtype --dst-type LOCAL -j ACCEPT",
    "-A cali-INPUT -p udp -m multiport --dports 4789 -m addrtype --dst-type LOCAL -j DROP",
)

NO_VXLAN = "-A INPUT -p udp -m udp --dport 4789 -j DROP"


def table(*rules: str, policy: str = "ACCEPT") -> list[iptables_save.Rule]:
    chains = (f":INPUT {policy} [0:0]", ":cali-INPUT - [0:0]")
    return iptables_save.parse("\n".join(["*filter", *chains, *rules, "COMMIT"]) + "\n")


@pytest.mark.parametrize(
    ("rules", "source", "dropping"),
    [
        pytest.param(FELIX, "192.0.2.1", None, id="a-member-of-the-set"),
        pytest.param(FELIX, "198.51.100.7", None, id="of-a-network-in-the-set"),
        pytest.param(FELIX, "203.0.113.9", FELIX[2], id="not-in-the-set"),
        pytest.param((NO_VXLAN, *FELIX), "192.0.2.1", 0, id="before-it-is-accepted"),
        pytest.param((*FELIX, NO_VXLAN), "192.0.2.1", None, id="after-that"),
        pytest.param(("-A INPUT -p tcp -j DROP",), "192.0.2.1", None, id="another-protocol"),
        pytest.param(("-A INPUT -p udp -m udp --dport 8472 -j DROP",), "192.0.2.1", None, id="another-port"),
        pytest.param(("-A INPUT -i eth1 -j DROP",), "192.0.2.1", None, id="another-interface"),
        pytest.param(("-A INPUT -i eth+ -j REJECT",), "192.0.2.1", 0, id="interfaces-of-that-beginning"),
        pytest.param(("-A INPUT -s 192.0.2.0/24 -j DROP",), "192.0.2.1", 0, id="from-that-network"),
        pytest.param(("-A INPUT ! -s 192.0.2.0/24 -j DROP",), "192.0.2.1", None, id="a-negation-is-passed-over"),
        pytest.param(("-A INPUT -m limit --limit 1/s -j DROP",), "192.0.2.1", None, id="what-is-not-understood-too"),
        pytest.param(("-A INPUT -j RETURN", "-A INPUT -j DROP"), "192.0.2.1", None, id="behind-a-return"),
    ],
)
def test_a_chain_is_followed_to_its_last_word(rules: tuple[str, ...], source: str, dropping: str | int | None) -> None:
    packet = Packet(source, FROM_PEER.destination, FROM_PEER.protocols, FROM_PEER.port, FROM_PEER.in_iface)
    found = dropped_by(table(*rules), SETS, "INPUT", packet)
    wanted = rules[dropping] if isinstance(dropping, int) else dropping
    assert (None if found is None else f"-A {found.chain} {found.spec}") == wanted


def test_where_no_rule_decides_the_policy_does() -> None:
    found = dropped_by(table(policy="DROP"), {}, "INPUT", FROM_PEER)
    assert (found.chain, found.policy, found.spec) == ("INPUT", "DROP", None)


@pytest.mark.parametrize(
    ("address", "taken"),
    [
        pytest.param("10.244.124.9", "10.244.124.0/24", id="longest-prefix"),
        pytest.param("10.244.124.1", "10.244.124.1", id="a-host"),
        pytest.param("192.0.2.1", "default", id="default"),
    ],
)
def test_the_longest_prefix_is_taken_of_the_main_table(address: str, taken: str) -> None:
    routes = ip_route.parse(
        "default via 10.0.1.1 dev eth0 metric 100\n"
        "10.244.124.0/24 via 10.244.124.0 dev vxlan.calico onlink\n"
        "10.244.124.1 dev cali1 scope link\n"
        "local 192.0.2.1 dev lo table local\n"
    )
    assert best_route(routes, address).destination == taken


def test_an_address_is_within_itself_and_its_networks() -> None:
    assert within("192.0.2.7", ["198.51.100.0/24", "192.0.2.7"])
    assert not within("192.0.2.7", [])
