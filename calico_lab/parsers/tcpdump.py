"""`tcpdump -nn`, on one interface or on `any`, with or without `-v`: one row per packet.

============ ========== ===== ====================================================================================
column       type       unit  meaning
============ ========== ===== ====================================================================================
line         int              1-based line the packet begins on
time         str              as printed: "07:31:04.062709", with the date under `-tttt`, seconds under `-tt`
dev          str | None       interface; None without `-i any`, and before tcpdump 4.99
direction    str | None       In, Out, or B, M, P (to all, to a group, to others); None where `dev` is
proto        str | None       vxlan, ipip, icmp, icmp6, tcp, udp, arp; None for what is none of these
src_ip       str | None       None for ARP
src_port     int | None       None too on every fragment but the first
dst_ip       str | None
dst_port     int | None
vni          int | None       of VXLAN
inner_src    str | None       of the packet within VXLAN or IPIP; None too for ARP within VXLAN
inner_dst    str | None
length_bytes int | None bytes first length printed in `info`: of the ICMP message, the UDP or TCP payload, the ARP
info         str              what is printed behind the addresses; of the inner packet, where there is one
============ ========== ===== ====================================================================================

On UDP port 8472, flannel's, tcpdump takes VXLAN for OTV and prints the VNI as "instance": the two headers have it
in the same place. Such packets have proto vxlan too.

Source of the form: tcpdump 4.9.2 and 4.99, ``print-ip.c``, ``print-udp.c``, ``print-vxlan.c``, ``print-otv.c``.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from calico_lab.parsers._words import Line, address, integer, lines

__all__ = ["Row", "parse"]

_PACKET = re.compile(
    r"(?P<time>(?:[0-9]{4}-[0-9]{2}-[0-9]{2} )?[0-9]{2}:[0-9]{2}:[0-9]{2}\.[0-9]{6}|[0-9]{1,12}\.[0-9]{6}) "
    r"(?:(?P<dev>\S+) +(?P<direction>In|Out|[BMP]) +)?(?P<rest>\S.*)"
)
_BANNER = re.compile(
    r"tcpdump: (?:data link type \S+|verbose output suppressed, .*|listening on .*)|listening on .*"
    r"|[0-9]+ packets? (?:captured|received by filter|dropped by (?:kernel|interface))"
)
# The parenthesis is -v's: (tos 0x0, ttl 64, ..., proto UDP (17), length 134, bad cksum 0 (->6ebe)!).
_IP = re.compile(
    r"IP6? (?:truncated-ip6? - [0-9]+ bytes missing! ?)?(?:\((?:[^()]|\([^()]*\))*\) *)?"
    r"(?P<src>[0-9a-f:.]+) > (?P<dst>[0-9a-f:.]+): (?P<rest>.*)"
)
# -v's word on the checksum: [udp sum ok], [bad udp cksum 0x1f5d -> 0x2f6a!], [no cksum].
_CHECKSUM = re.compile(r"\[(?:\w+ sum ok|bad [^\]]*|no cksum)\] ")
_VXLAN = re.compile(
    r"(?:VXLAN, flags \[[^\]]*\] \(0x[0-9a-f]{2}\), vni (?P<vni>[0-9]+)"
    r"|OTV, flags \[[^\]]*\] \(0x[0-9a-f]{2}\), overlay [0-9]+, instance (?P<instance>[0-9]+)) *"
)
_IPIP = re.compile(r"(?P<inner>IP6? .*?)(?: \(ipip-proto-4\))?")
_LENGTH = re.compile(r"\blength (?P<length>[0-9]+)")
_PROTOCOLS = (
    ("tcp", re.compile(r"Flags \[|ip-proto-6$")),
    ("icmp6", re.compile(r"(?:HBH .*?)?ICMP6,|ip-proto-58$")),
    ("icmp", re.compile(r"ICMP |ip-proto-1$")),
    ("udp", re.compile(r"UDP,|ip-proto-17$")),
    ("ipip", re.compile(r"ip-proto-4$")),
)


@dataclass(frozen=True, slots=True)
class Row:
    """One packet; columns as in the module's table."""

    line: int
    time: str
    dev: str | None
    direction: str | None
    proto: str | None
    src_ip: str | None
    src_port: int | None
    dst_ip: str | None
    dst_port: int | None
    vni: int | None
    inner_src: str | None
    inner_dst: str | None
    length_bytes: int | None
    info: str


@dataclass(frozen=True, slots=True)
class _Packet:
    """A packet's first line, taken apart, and the lines that belong to it."""

    line: Line
    match: re.Match[str]
    below: list[Line]


@dataclass(frozen=True, slots=True)
class _Addresses:
    """One IP header and what is printed behind it."""

    src_ip: str
    src_port: int | None
    dst_ip: str
    dst_port: int | None
    rest: str


def parse(text: str) -> list[Row]:
    """Read the packets; the banner and the counts at the end give no rows.

    Raises
    ------
    ParseError
        For a line of no known form, and for a VXLAN header without the packet in it: the text is cut.
    """
    packets: list[_Packet] = []
    ended = True
    for line in lines(text):
        if _BANNER.fullmatch(line.text):
            ended = True
        elif match := _PACKET.fullmatch(line.text):
            packets.append(_Packet(line, match, []))
            ended = False
        elif ended:
            raise line.error("not a packet, and no packet stands above it")
        else:
            packets[-1].below.append(line)
    return [_row(packet) for packet in packets]


def _row(packet: _Packet) -> Row:
    outer, *below = _headers(packet)
    line, text = outer
    inner: tuple[Line, str] | None = None
    vni: int | None = None
    addresses: _Addresses | None = None
    proto: str | None
    if text.startswith("ARP, "):
        proto, info = "arp", text
    else:
        addresses = _addresses(line, text)
        info = addresses.rest
        proto = _protocol(addresses)
        if match := _VXLAN.fullmatch(info):
            proto, vni = "vxlan", integer(line, match["vni"] or match["instance"], "vni")
            if not below:
                raise line.error("the text ends before the packet within VXLAN")
            inner, *below = below
        elif info.startswith(("VXLAN", "OTV")):
            raise line.error("not a VXLAN header")
        elif info.startswith(("IP ", "IP6 ")) and (match := _IPIP.fullmatch(info)):
            proto, inner = "ipip", (line, match["inner"])
    if below:
        raise below[0][0].error("a line that belongs to no packet")
    within: _Addresses | None = None
    if inner is not None:
        line, info = inner
        if not info.startswith("ARP, "):
            within = _addresses(line, info)
            info = within.rest
    length = _LENGTH.search(info)
    return Row(
        line=packet.line.number,
        time=packet.match["time"],
        dev=packet.match["dev"],
        direction=packet.match["direction"],
        proto=proto,
        src_ip=addresses.src_ip if addresses else None,
        src_port=addresses.src_port if addresses else None,
        dst_ip=addresses.dst_ip if addresses else None,
        dst_port=addresses.dst_port if addresses else None,
        vni=vni,
        inner_src=within.src_ip if within else None,
        inner_dst=within.dst_ip if within else None,
        length_bytes=integer(line, length["length"], "length") if length else None,
        info=info,
    )


def _headers(packet: _Packet) -> list[tuple[Line, str]]:
    """The packet's headers, outermost first.

    Under `-v` the addresses stand on a line of their own, indented by blanks. What is indented by a tab describes the
    payload, as the packet that an ICMP error quotes; it and all below it are passed over.
    """
    headers = [(packet.line, packet.match["rest"])]
    for line in packet.below:
        if line.text.startswith("\t"):
            break
        if line.text.startswith("    "):
            above, text = headers[-1]
            headers[-1] = above, f"{text} {line.text.strip()}"
        else:
            headers.append((line, line.text))
    return headers


def _addresses(line: Line, text: str) -> _Addresses:
    match = _IP.fullmatch(text)
    if not match:
        raise line.error("not an IP packet")
    src_ip, src_port = _endpoint(line, match["src"])
    dst_ip, dst_port = _endpoint(line, match["dst"])
    return _Addresses(src_ip, src_port, dst_ip, dst_port, _CHECKSUM.sub("", match["rest"], count=1))


def _endpoint(line: Line, text: str) -> tuple[str, int | None]:
    """Address and port of ``10.0.1.10.4789``, ``10.0.1.10``, ``fe80::1.546`` or ``fe80::1``."""
    host, dot, port = text.rpartition(".")
    if dot and (":" in host or host.count(".") == 3):
        return address(line, host), integer(line, port, "port")
    return address(line, text), None


def _protocol(addresses: _Addresses) -> str | None:
    for proto, pattern in _PROTOCOLS:
        if pattern.match(addresses.rest):
            return proto
    # tcpdump decodes UDP by port without naming it, as DNS and DHCP.
    return "udp" if addresses.dst_port is not None else None
