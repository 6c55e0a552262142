"""The command catalogue: what is asked of every node.

The first four commands are the review document's; the others can tell apart what those four cannot. All of them only
read.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from .calico import BIRD_LOG, BIRD_SOCKET, READINESS_PORT, TUNNELS, tunnel
from .scenario import Probes, Scenario

__all__ = ["BIRD", "CONTAINER_LOG", "COUNTERS", "FABRIC", "HEARD", "LISTEN", "STATE", "Command", "by_hand", "mtu_sweep"]


@dataclass(frozen=True, slots=True)
class Command:
    """A line to run on a node: `name` is its file's, `kind` its parser's; `probe` says what is measured."""

    name: str
    kind: str
    line: str
    probe: dict[str, Any] = field(default_factory=dict)


_FEATURES = (
    "command -v ethtool >/dev/null || exit 0; "
    f"for d in {' '.join(dict.fromkeys(each.device for each in TUNNELS.values()))}; "
    "do if ip link show dev $d >/dev/null 2>&1; then ethtool -k $d; fi; done"
)
"""Many nodes have no ethtool: that is no failure, but an empty capture."""

STATE = (
    Command("route", "route", "route"),
    Command("ip-link", "ip_link", "ip -d link show"),
    Command("ip-neigh", "ip_neigh", "ip neigh show"),
    Command("bridge-fdb", "bridge_fdb", "bridge fdb show"),
    Command("ip-addr", "ip_addr", "ip addr show"),
    Command("ip-route", "ip_route", "ip route show table all"),
    Command("ip-rule", "ip_rule", "ip rule show"),
    Command("ipset-list", "ipset_list", "ipset list"),
    Command("sysctl", "sysctl", r"sysctl -a -r '^net\.ipv4\.(ip_forward|conf\..*\.(rp_filter|proxy_arp|forwarding))$'"),
    Command("uname", "uname", "uname -a"),
    Command("ethtool", "ethtool", _FEATURES),
    Command(
        "readiness",
        "readiness",
        rf"curl -sS -o /dev/null -w '%{{http_code}}\n' http://localhost:{READINESS_PORT}/readiness",
    ),
)
"""What a node is like; the node's log comes from the provider."""

_IN_CONTAINER = (
    "if command -v crictl >/dev/null; then crictl {do} $(crictl ps -q --name '^calico-node$' | head -n 1) {what}; "
    "else docker {do} $(docker ps -q -f name=k8s_calico-node_ | head -n 1) {what}; fi"
)

CONTAINER_LOG = f"({_IN_CONTAINER.format(do='logs', what='')}) 2>&1"
"""What the container runtime kept of the CNI daemon's log, containerd's or Docker's."""

_BIRDCL = f"birdcl -s {BIRD_SOCKET} show protocols"

BIRD = (
    Command(
        "bird-protocols",
        "bird_protocols",
        f"if command -v birdcl >/dev/null; then {_BIRDCL}; else {_IN_CONTAINER.format(do='exec', what=_BIRDCL)}; fi",
    ),
    Command("bird-log", "bird_log", f"if [ -e {BIRD_LOG} ]; then cat {BIRD_LOG}; fi"),
)
"""Asked where the backend is bird. On a real node BIRD is in calico-node's container, and logs to its log."""

COUNTERS = (
    Command("ip-link-stats", "ip_link", "ip -d -s link show"),
    Command("iptables-save", "iptables_save", "iptables-save -c"),
    Command("snmp", "snmp", "cat /proc/net/snmp"),
)
"""Read before the probes (``…-before``) and after them."""

_TUNNELS = " or ".join(
    [*(f"udp port {each.port}" for each in TUNNELS.values() if each.port), "ip proto 4", "tcp port 179"]
)
_WIRE = f"tcpdump -nn -l --immediate-mode -i any '{_TUNNELS}'"
_WIRE_FOLDER = "/run/calico_lab-wire"
_WIRE_S = 300
"""tcpdump ends by itself after this long, should nobody come back for what it heard."""

LISTEN = Command(
    "tcpdump-start",
    "tcpdump",
    f"d={_WIRE_FOLDER}; rm -rf $d; mkdir $d; "
    f"timeout {_WIRE_S} {_WIRE} >$d/out 2>$d/err </dev/null & echo $! >$d/pid; "
    "for wait in $(seq 100); do grep -qs listening $d/err && exit 0; kill -0 $(cat $d/pid) || exit 1; sleep 0.05; done",
)
"""Start to listen at a node's interfaces; it returns when tcpdump does listen. The pings run meanwhile."""

HEARD = Command(
    "tcpdump",
    "tcpdump",
    f"d={_WIRE_FOLDER}; kill $(cat $d/pid); while kill -0 $(cat $d/pid) 2>/dev/null; do sleep 0.05; done; "
    "cat $d/out; cat $d/err >&2; grep -q listening $d/err; heard=$?; rm -rf $d; exit $heard",
)
"""Stop to listen, and print what was heard. By hand: ``tcpdump -nn -l -i any '…'`` while a ping runs."""

FABRIC = (STATE[1], COUNTERS[1])
"""What the lab's routers are asked when all is done."""


_SWEEP = (
    'try() {{ echo "size $1"; said=$(timeout -s INT {deadline_s:g} '
    "ping -n -M do -c 3 -i {interval_s:g} -s $(($1 - 28)) {address} 2>&1); code=$?; "
    'case $code in 0|1|124) echo "$said";; *) echo "$said" >&2; exit $code;; esac; return $code; }}; '
    "passes=68 fails=65536 size=65535 told=0; try $passes || exit 0; "
    "while [ $((fails - passes)) -gt 1 ]; do "
    "if try $size; then passes=$size; else fails=$size; case $said in *mtu*=*) "
    "told=${{said##*mtu}} told=${{told#*=}} told=${{told# }} told=${{told%%[!0-9]*}};; esac; fi; "
    "size=$(((passes + fails) / 2)); "
    "for next in $((told + 1)) $told; do [ $next -gt $passes ] && [ $next -lt $fails ] && size=$next; done; "
    "done; exit 0"
)
_SIZES_AT_MOST = 20
"""Sizes of one sweep that can cost its full deadline: 16 halve what lies between 68 and 65535; some were told wrong."""


def mtu_sweep(address: str, probes: Probes) -> str:
    """The line that finds the largest packet that arrives whole, by bisection with don't-fragment pings.

    Sizes are of IPv4 packets. 68 bytes, which every link carries (RFC 791), go first, and where not even these are
    answered it ends. Then the largest that IPv4 has: the sender's own kernel refuses it and names the MTU. A size that
    was told, and the one above it, are tried before the middle. Before each size stands ``size <bytes>``; the rest is
    ping's own output.

    Three pings have to be lost until a size counts as lost. They get ``ping_timeout_s``, but never so long that a
    whole sweep might outlast ``command_timeout_s``. ``timeout`` ends them, as the ping of Ubuntu 18.04 waits for whole
    seconds only.
    """
    deadline_s = min(2 * probes.ping_interval_s + probes.ping_timeout_s, probes.command_timeout_s / _SIZES_AT_MOST)
    return _SWEEP.format(deadline_s=deadline_s, interval_s=probes.ping_interval_s, address=address)


def by_hand(name: str, scenario: Scenario) -> str:
    """The line that a person would type for the capture of that name."""
    if name == HEARD.name:
        return (
            f"tcpdump -nn -i any '{_TUNNELS}'"
            if scenario.cni.backend == "bird"
            else (f"tcpdump -nn -i any udp port {tunnel(scenario.cni).port}")
        )
    lines = {each.name: each.line for each in (*STATE, *BIRD, *COUNTERS)}
    return lines.get(name.removesuffix("-before"), name)
