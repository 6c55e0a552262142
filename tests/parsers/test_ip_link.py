"""Fine points of `ip link`."""

from __future__ import annotations

import pytest

from calico_lab.errors import ParseError
from calico_lab.parsers import ip_link

HEADER = (
    "8: vxlan.calico: <BROADCAST,MULTICAST,UP,LOWER_UP> mtu 8951 qdisc noqueue state UNKNOWN mode DEFAULT group 0\n"
)
LINK = "    link/ether 66:f6:10:93:e0:06 brd ff:ff:ff:ff:ff:ff\n"
COUNTERS = (
    "    RX: bytes  packets  errors  dropped overrun mcast   \n"
    "    1          2        3       4       5       6       \n"
    "    TX: bytes  packets  errors  dropped carrier collsns \n"
    "    7          8        9       10      11      12      \n"
)


def vxlan(words: str) -> ip_link.Row:
    (row,) = ip_link.parse(f"{HEADER}{LINK}    vxlan id 4096 {words}\n")
    return row


@pytest.mark.parametrize(("words", "learning"), [("nolearning", False), ("learning", True), ("", True)])
def test_a_vxlan_device_learns_unless_it_says_not(words: str, learning: bool) -> None:
    assert vxlan(words).learning is learning


@pytest.mark.parametrize(("words", "udp_csum"), [("udpcsum", True), ("noudpcsum", False), ("", None)])
def test_the_udp_checksum_is_unknown_where_it_is_not_printed(words: str, udp_csum: bool | None) -> None:
    assert vxlan(words).udp_csum is udp_csum


def test_an_ipv6_vtep_is_read_in_its_normal_form() -> None:
    row = vxlan("remote FD00:0::2 local fd00::0001")
    assert (row.local_ip, row.remote_ip) == ("fd00::1", "fd00::2")


def test_a_vxlan_device_in_external_mode_has_no_vni() -> None:
    (row,) = ip_link.parse(f"{HEADER}{LINK}    vxlan external addrgenmode eui64\n")
    assert (row.kind, row.vni) == ("vxlan", None)


def test_counters_and_the_line_of_the_tx_counters() -> None:
    (row,) = ip_link.parse(HEADER + LINK + COUNTERS)
    assert (row.rx_bytes, row.rx_packets, row.rx_errors, row.rx_dropped) == (1, 2, 3, 4)
    assert (row.tx_bytes, row.tx_packets, row.tx_errors, row.tx_dropped, row.tx_carrier) == (7, 8, 9, 10, 11)
    assert row.tx_line == 6


def test_counters_of_some_interfaces_alone_are_an_error() -> None:
    with pytest.raises(ParseError) as caught:
        ip_link.parse(HEADER + LINK + COUNTERS + HEADER + LINK)
    assert caught.value.what == "some interfaces have counters and some have not: the text is cut"
    assert caught.value.line == 7


def test_a_windows_line_end_is_no_part_of_a_word() -> None:
    (row,) = ip_link.parse((HEADER + LINK).replace("\n", "\r\n"))
    assert row.mac == "66:f6:10:93:e0:06"
