"""Private namespaces: what they do, what they leave alone, and that nothing of them stays."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from calico_lab.errors import LabError
from calico_lab.lab.host import Done, Host
from calico_lab.lab.settings import Settings

pytestmark = pytest.mark.lab

ROOT = Path(__file__).resolve().parents[2]
KILL_LABS = Path(__file__).with_name("kill_labs.py")
AS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="only root can")

SPACES = {
    "networks": ["left", "right", "pod"],
    "nodes": {
        "left": {"files": {"/etc/hosts": "127.0.0.1 localhost\n192.0.2.1 _gateway\n"}, "netns": ["pod"]},
        "right": {"files": {"/run/note": "of the right\n"}, "netns": []},
    },
}
"""Two nodes, the left one with a pod."""


@pytest.fixture(
    scope="module", params=[pytest.param(False, marks=AS_ROOT, id="root"), pytest.param(True, id="rootless")]
)
def host(request: pytest.FixtureRequest) -> Iterator[Host]:
    with closing(Host(rootless=request.param)) as host:
        host.spaces(**SPACES)
        for space in SPACES["networks"]:
            host.apply(space, Settings(ip=["link set lo up"]))
        yield host


# ---------------------------------------------------------------------- commands


@pytest.mark.parametrize(
    ("script", "code", "stdout", "stderr"),
    [
        pytest.param("echo out; echo err >&2", 0, "out\n", "err\n", id="both-streams"),
        pytest.param("exit 7", 7, "", "", id="exit-code"),
        pytest.param("kill -9 $$", -9, "", "", id="signal"),
        pytest.param("printf '\\377'", 0, "\N{REPLACEMENT CHARACTER}", "", id="bytes-that-are-no-text"),
        pytest.param("id -u", 0, "0\n", "", id="is-root"),
        pytest.param("hostname", 0, "left\n", "", id="host-name"),
        pytest.param("getent hosts _gateway", 0, "192.0.2.1       _gateway\n", "", id="file-over-the-machine's"),
        pytest.param("ls /run/netns", 0, "pod\n", "", id="only-its-own-pods"),
        pytest.param("cat /run/note", 1, "", "cat: /run/note: No such file or directory\n", id="nobody-else's-files"),
        pytest.param("ip -o link | wc -l", 0, "1\n", "", id="only-its-own-devices"),
        pytest.param("echo $LC_ALL $HOME", 0, "C.UTF-8 /root\n", "", id="environment-of-its-own"),
    ],
)
def test_a_command_runs_on_its_node(host: Host, script: str, code: int, stdout: str, stderr: str) -> None:
    done = host.run("left", ["sh", "-c", script])
    assert (done.code, done.stdout, done.stderr) == (code, stdout, stderr)


def test_a_command_gets_its_standard_input_whole(host: Host) -> None:
    text = "0123456789\n" * 500_000
    assert host.do("left", ["cat"], text) == text


def test_a_command_that_hangs_is_stopped_with_all_that_it_started(host: Host) -> None:
    done = host.run("left", ["sh", "-c", "echo before; sleep 1000 | sleep 1000"], timeout_s=0.2)
    assert done == Done(None, "before\n", "", done.seconds)
    assert 0.2 <= done.seconds < 2
    assert host.run("left", ["pgrep", "-x", "sleep"]).code == 1


def test_commands_do_not_wait_for_each_other(host: Host) -> None:
    first, second = "/run/first", "/run/second"
    meet = "mkfifo {0} 2>/dev/null; mkfifo {1} 2>/dev/null; echo met > {0} & cat {1}"
    with ThreadPoolExecutor(2) as both:
        lines = [meet.format(first, second), meet.format(second, first)]
        met = [both.submit(host.run, "left", ["sh", "-c", line], timeout_s=10) for line in lines]
    assert [done.result().stdout for done in met] == ["met\n", "met\n"]


# ---------------------------------------------------------------------- settings


def test_a_sysctl_is_set_in_its_namespace_only(host: Host) -> None:
    host.apply("left", Settings(sysctl={"net.ipv4.ip_default_ttl": "33"}))
    ttl = ["cat", "/proc/sys/net/ipv4/ip_default_ttl"]
    assert [host.do(space, ttl) for space in ("left", "right", "pod")] == ["33\n", "64\n", "64\n"]


def test_settings_of_every_tool_are_applied_in_the_order_they_need(host: Host) -> None:
    host.apply(
        "right",
        Settings(
            ip=["link add over type vxlan id 7 dstport 4789 nolearning", "link set over up"],
            ipset=["create friends hash:net", "add friends 198.51.100.1"],
            iptables={"raw": ["-A PREROUTING -m set --match-set friends src -j ACCEPT"]},
            bridge=["fdb replace 66:00:00:00:00:01 dev over dst 198.51.100.1 self permanent"],
            sysctl={"net.ipv4.conf.over.rp_filter": "2"},
        ),
    )
    assert "198.51.100.1 self permanent" in host.do("right", ["bridge", "fdb", "show", "dev", "over"])
    rule = "-A PREROUTING -m set --match-set friends src -j ACCEPT"
    assert rule in host.do("right", ["iptables-save", "-t", "raw"]).splitlines()


def test_a_pod_is_reached_by_its_name_on_its_node(host: Host) -> None:
    of_pod = host.do("pod", ["readlink", "/proc/self/ns/net"])
    assert host.do("left", ["ip", "netns", "exec", "pod", "readlink", "/proc/self/ns/net"]) == of_pod


# ---------------------------------------------------------------------- connections


def test_connect_passes_a_socket_whose_both_ends_are_in_the_namespace(host: Host) -> None:
    host.health("left", 9099, {"/readiness": 200})
    with closing(host.connect("left", 9099)) as connection:
        assert connection.getpeername() == ("127.0.0.1", 9099)
        assert connection.getsockname()[0] == "127.0.0.1"
        connection.sendall(b"GET /readiness HTTP/1.1\r\n\r\n")
        assert connection.recv(4096).startswith(b"HTTP/1.1 200 ")
    with pytest.raises(ConnectionRefusedError), closing(socket.create_connection(("127.0.0.1", 9099))):
        pass


@pytest.mark.parametrize(
    ("path", "code"), [("/readiness", "503"), ("/liveness", "200"), ("/other", "404")], ids=["set", "unset", "unknown"]
)
def test_a_health_endpoint_answers_what_it_was_told_last(host: Host, path: str, code: str) -> None:
    host.health("right", 9099, {"/readiness": 200, "/liveness": 200})
    host.health("right", 9099, {"/readiness": 503, "/liveness": 200})
    ask = ["curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", f"http://localhost:9099{path}"]
    assert host.do("right", ask) == code


# ---------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("call", "message"),
    [
        pytest.param(
            lambda host: host.do("left", ["sh", "-c", "printf 'one\\ntwo\\n' >&2; exit 1"]),
            "left: sh -c printf 'one\\ntwo\\n' >&2; exit 1 failed; seen: one two",
            id="command-fails",
        ),
        pytest.param(lambda host: host.do("", ["false"]), "lab: false failed; seen: exit code 1", id="fails-silently"),
        pytest.param(
            lambda host: host.run("left", ["no-such-program"]),
            "lab: run left: [Errno 2] No such file or directory: 'no-such-program'",
            id="no-such-program",
        ),
        pytest.param(
            lambda host: host.run("nowhere", ["true"]), "lab: run nowhere: no such namespace", id="no-such-namespace"
        ),
        pytest.param(
            lambda host: host.connect("left", 1), "lab: connect left: [Errno 111] Connection refused", id="refused"
        ),
        pytest.param(
            lambda host: host.apply("left", Settings(sysctl={"net.ipv4.ip_forwrad": "1"})),
            "lab: sysctl left: [Errno 2] No such file or directory: '/proc/sys/net/ipv4/ip_forwrad'",
            id="no-such-sysctl",
        ),
        pytest.param(
            lambda host: host.apply("left", Settings(ip=["link add name a type nothing"])),
            "left: ip -batch - failed; seen: Error: Unknown device type. Command failed -:1",
            id="wrong-setting",
        ),
    ],
)
def test_what_goes_wrong_is_one_line(host: Host, call: object, message: str) -> None:
    with pytest.raises(LabError) as error:
        call(host)  # type: ignore[operator]
    assert str(error.value) == message


def test_an_ended_lab_says_so() -> None:
    host = Host()
    host.close()
    with pytest.raises(LabError) as error:
        host.run("", ["true"])
    assert str(error.value) == "lab: the lab ended; start it again"


def test_a_lab_that_ends_under_a_command_says_so() -> None:
    with closing(Host()) as host, ThreadPoolExecutor(1) as aside:
        running = aside.submit(host.run, "", ["sh", "-c", "mkfifo /run/started && cat /run/started && sleep 1000"])
        host.run("", ["sh", "-c", "until [ -p /run/started ]; do :; done; echo > /run/started"])
        os.kill(host.pid, 9)
        with pytest.raises(LabError) as error:
            running.result(10)
    assert error.value.what == "the lab ended"


# ---------------------------------------------------------------------- what stays as it was


def of_this_machine() -> dict[str, str]:
    """Everything of the network and the mounts that a lab could have touched."""
    shown = {
        command: subprocess.run(command.split(), capture_output=True, text=True, check=True).stdout
        for command in ("ip -o link", "ip -o addr", "ip rule", "ip route show table all", "ip neigh")
    }
    return shown | {"mounts": Path("/proc/self/mountinfo").read_text(), "namespaces": str(list_if(Path("/run/netns")))}


def list_if(folder: Path) -> list[str]:
    return sorted(os.listdir(folder)) if folder.exists() else []  # noqa: PTH208


def test_nothing_of_a_lab_is_in_this_machine_s_own_namespaces() -> None:
    before = of_this_machine()
    with closing(Host()) as host:
        host.spaces(**SPACES)
        host.apply("", Settings(ip=["link add wire netns left type veth peer name wire netns right"]))
        assert "wire" in host.do("left", ["ip", "-o", "link"])
        assert of_this_machine() == before
    assert of_this_machine() == before


def test_rapid_labs_leave_no_descriptor_and_no_thread() -> None:
    def mine() -> tuple[int, set[threading.Thread]]:
        return len(os.listdir("/proc/self/fd")), set(threading.enumerate())  # noqa: PTH208

    descriptors, threads = mine()
    started = []
    for _ in range(15):
        host = Host()
        started += [thread for thread in threading.enumerate() if thread not in threads and thread not in started]
        host.spaces(["a"], {})
        host.health("a", 80, {})
        host.apply("a", Settings(ip=["link set lo up"]))
        host.connect("a", 80).close()
        host.close()
    for thread in started:
        thread.join(5)
    assert mine() == (descriptors, threads)


def test_closing_twice_is_harmless() -> None:
    host = Host()
    host.close()
    host.close()


# ---------------------------------------------------------------------- many, and who holds them


def test_labs_side_by_side_know_nothing_of_each_other() -> None:
    def life(number: int) -> tuple[str, str]:
        with closing(Host()) as host:
            host.spaces(["node"], {"node": {"files": {"/run/number": str(number)}, "netns": []}})
            together.wait(30)
            return host.do("node", ["cat", "/run/number"]), host.do("node", ["readlink", "/proc/self/ns/net"])

    together = threading.Barrier(8)
    with ThreadPoolExecutor(8) as labs:
        numbers, namespaces = zip(*labs.map(life, range(8)), strict=True)
    assert numbers == tuple(str(number) for number in range(8))
    assert len(set(namespaces)) == 8


def test_a_lab_outlives_the_thread_that_made_it() -> None:
    made: list[Host] = []
    maker = threading.Thread(target=lambda: made.append(Host()))
    maker.start()
    maker.join()
    with closing(made[0]) as host:
        assert host.do("", ["echo", "alive"]) == "alive\n"


@AS_ROOT
def test_a_user_without_any_right_has_a_lab() -> None:
    script = (
        "from calico_lab.lab.host import Host\n"
        "host = Host()\n"
        "host.spaces(['a', 'b'], {})\n"
        "host.do('a', ['ip', 'link', 'add', 'wire', 'type', 'veth', 'peer', 'netns', 'b'])\n"
        "assert host.rootless\n"
    )
    # This one capability only lets that user read this interpreter, wherever it is installed.
    reads = "-all,+dac_read_search"
    as_nobody = ["setpriv", "--reuid=nobody", "--clear-groups", f"--inh-caps={reads}", f"--ambient-caps={reads}"]
    done = subprocess.run(
        [*as_nobody, f"--bounding-set={reads}", sys.executable, "-c", script],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")


# ---------------------------------------------------------------------- sudden ends


@AS_ROOT
def test_labs_killed_at_any_moment_leave_nothing() -> None:
    """Holder, keeper, init and agent, three of each: `python tests/lab/kill_labs.py 200` does it more often."""
    done = subprocess.run([sys.executable, str(KILL_LABS), "12"], capture_output=True, text=True, timeout=90)
    assert (done.returncode, done.stdout.splitlines()[-1:], done.stderr) == (0, ["12 labs killed, nothing left"], "")
