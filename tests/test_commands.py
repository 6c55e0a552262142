"""The line of a don't-fragment sweep, run by a real shell; in place of ping stands a path with known limits."""

from __future__ import annotations

import subprocess

import pytest

from calico_lab.commands import mtu_sweep
from calico_lab.parsers import mtu_sweep as parser
from calico_lab.scenario import Probes

# The sweep's line calls ping by timeout. This one answers what fits, tells who asks for more than `told` fits, and is
# silent in between.
PATH = """
timeout() {{
    shift 3; while [ "$1" != -s ]; do shift; done; size=$(($2 + 28)) address=$3
    echo "PING $address ($address) $2($size) bytes of data."
    if [ $size -le {passes} ]; then echo "$(($2 + 8)) bytes from $address: icmp_seq=1 ttl=63 time=1.00 ms"
    elif [ $size -gt {told} ]; then echo "ping: local error: message too long, mtu={says}"; fi
    printf '\\n--- %s ping statistics ---\\n' $address
    if [ $size -le {passes} ]
    then echo "1 packets transmitted, 1 received, 0% packet loss, time 0ms"
        echo "rtt min/avg/max/mdev = 1.000/1.000/1.000/0.000 ms"
    else echo "1 packets transmitted, 0 received, 100% packet loss, time 0ms"; return 1; fi
}}
"""
NEVER = 65536


def swept(passes: int, *, told: int = NEVER, says: int = 0) -> list[parser.Row]:
    path = PATH.format(passes=passes, told=told, says=says or told)
    line = mtu_sweep("10.244.124.1", Probes())
    done = subprocess.run(["sh", "-c", path + line], capture_output=True, text=True, check=True)
    return parser.parse(done.stdout)


def limits(sizes: list[parser.Row]) -> tuple[int, int]:
    """The largest size that passes and the smallest that does not."""
    return (
        max(size.size_bytes for size in sizes if size.outcome == "reply"),
        min(size.size_bytes for size in sizes if size.outcome != "reply"),
    )


@pytest.mark.parametrize("passes", [68, 69, 576, 1354, 1410, 1450, 1500, 8951, 9001, 65534])
def test_a_sweep_finds_a_limit_that_nobody_tells(passes: int) -> None:
    sizes = swept(passes)
    assert limits(sizes) == (passes, passes + 1)
    assert len(sizes) <= 18


def test_it_takes_four_sizes_where_the_limit_is_told() -> None:
    sizes = swept(1410, told=1410)
    assert [(size.size_bytes, size.outcome) for size in sizes] == [
        (68, "reply"),
        (65535, "refused_local"),
        (1410, "reply"),
        (1411, "refused_local"),
    ]


@pytest.mark.parametrize(
    ("passes", "told", "says"),
    [
        pytest.param(1350, 8951, 8951, id="silent-below"),
        pytest.param(1350, 1350, 0, id="none"),
        pytest.param(1350, 1350, 1300, id="too-little"),
        pytest.param(1350, 1350, 9001, id="too-much"),
    ],
)
def test_what_is_told_is_checked(passes: int, told: int, says: int) -> None:
    assert limits(swept(passes, told=told, says=says or told)) == (passes, passes + 1)


def test_it_ends_where_not_even_the_smallest_arrives() -> None:
    assert [(size.size_bytes, size.outcome) for size in swept(0)] == [(68, "silent")]


def test_it_fails_where_ping_cannot_send() -> None:
    unsent = "timeout() { echo 'ping: connect: Network is unreachable'; return 2; }\n"
    line = unsent + mtu_sweep("10.244.124.1", Probes())
    done = subprocess.run(["sh", "-c", line], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (2, "size 68\n", "ping: connect: Network is unreachable\n")


@pytest.mark.parametrize(
    ("probes", "deadline"),
    [
        pytest.param({}, "1", id="default"),
        pytest.param({"ping_timeout_s": 0.2, "ping_interval_s": 0.05}, "0.3", id="short"),
        pytest.param({"ping_timeout_s": 30}, "1", id="a-twentieth-of-the-command-at-most"),
        pytest.param({"ping_interval_s": 10, "command_timeout_s": 60}, "3", id="whatever-the-interval"),
    ],
)
def test_a_size_has_a_deadline_that_leaves_time_for_all(probes: dict[str, float], deadline: str) -> None:
    assert f"timeout -s INT {deadline} ping " in mtu_sweep("10.244.124.1", Probes(**probes))
