"""Fine points of `iptables-save`."""

from __future__ import annotations

import pytest

from calico_lab.parsers import iptables_save


def rule(spec: str) -> iptables_save.Rule:
    _, found = iptables_save.parse(f"*filter\n:INPUT ACCEPT [0:0]\n-A INPUT {spec}\nCOMMIT\n")
    return found


def test_a_rule_without_counters() -> None:
    found = rule("-j ACCEPT")
    assert (found.packets, found.bytes, found.target) == (None, None, "ACCEPT")


def test_a_goto_is_no_jump() -> None:
    assert (rule("-g cali-wl-to-host").goto, rule("-j cali-wl-to-host").goto) == (True, False)


@pytest.mark.parametrize(
    ("spec", "column"),
    [
        ("! -i lo", "in_iface"),
        ("! -s 10.0.0.0/8", "src"),
        ("-m set ! --match-set a src", "set_name"),
        ("-m multiport ! --dports 4789", "dports"),
    ],
)
def test_an_exclamation_mark_inverts_the_match_behind_it(spec: str, column: str) -> None:
    assert rule(f"{spec} -o eth0 -j DROP").negated == (column,)


def test_a_match_made_twice_keeps_both_values_and_which_is_inverted() -> None:
    found = rule("-m set --match-set a src -m set ! --match-set b dst -j MASQUERADE")
    assert (found.set_name, found.set_side, found.negated) == ("a !b", "src dst", ("set_name",))


def test_the_mark_of_a_connection_is_not_the_mark_of_a_packet() -> None:
    assert rule("-m connmark --mark 0x1 -j ACCEPT").mark is None
    assert rule("-m mark --mark 0x1 -j ACCEPT").mark == "0x1"


def test_a_word_in_a_comment_is_no_option() -> None:
    found = rule('-m comment --comment "-j DROP" -j ACCEPT')
    assert (found.target, found.comment) == ("ACCEPT", "-j DROP")


def test_a_match_without_a_column_stays_in_the_spec() -> None:
    assert rule("-m rpfilter --validmark --invert -j DROP").spec == "-m rpfilter --validmark --invert -j DROP"
