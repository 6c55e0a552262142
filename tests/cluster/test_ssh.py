"""Commands over SSH, against OpenSSH: a node with two logins, one of them of a user with sudo."""

from __future__ import annotations

import hashlib
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from io import StringIO
from pathlib import Path

import paramiko
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from calico_lab.cluster import OUTPUT_LIMIT_BYTES, TOO_MUCH, Result
from calico_lab.cluster.ssh import Login, SshNode
from calico_lab.doctor import Verdict, survey, verdict
from calico_lab.errors import ClusterError
from calico_lab.lab import node as lab_node
from calico_lab.lab.host import Host
from calico_lab.lab.settings import Settings

pytestmark = [
    pytest.mark.lab,
    pytest.mark.skipif(verdict(survey()) is not Verdict.LAB_WITH_SSHD, reason="no sshd can run here"),
]


def new_key() -> str:
    """A private key as its file."""
    key = Ed25519PrivateKey.generate()
    return key.private_bytes(Encoding.PEM, PrivateFormat.OpenSSH, NoEncryption()).decode()


def loaded(key: str) -> paramiko.Ed25519Key:
    return paramiko.Ed25519Key(file_obj=StringIO(key))


@dataclass
class Server:
    """A node's sshd, and those who log in there."""

    host: Host
    key: paramiko.PKey
    host_key: paramiko.PKey
    logins: list[SshNode] = field(default_factory=list)

    def start(self) -> None:
        self.host.spawn("node", lab_node.SSHD)
        probe, deadline = self.login(), time.monotonic() + 10
        while probe.run("true", 5).outcome != "done":
            assert time.monotonic() < deadline, self.host.do("node", ["cat", "/run/sshd.log"])

    def dial(self) -> socket.socket:
        return self.host.connect("node", 22)

    def login(
        self, user: str = "cb-user", *, key: paramiko.PKey | None = None, host_key: paramiko.PKey | None = None
    ) -> SshNode:
        login = Login(
            address="node", user=user, key=key or self.key, host_key=host_key or self.host_key, dial=self.dial
        )
        node = SshNode("node", login)
        self.logins.append(node)
        return node


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    key, host_key = new_key(), new_key()
    public = f"{loaded(key).get_name()} {loaded(key).get_base64()}\n"
    files = lab_node.ssh_files(host_key, public)
    files["/run/sshd_config"] = files["/run/sshd_config"].replace("AllowUsers cb-user", "AllowUsers cb-user person")
    files["/etc/sudoers"] = "person ALL=(ALL) NOPASSWD: ALL\n"
    files["/etc/hosts"] = "127.0.0.1 localhost node\n"
    with closing(Host()) as host:
        passwd = Path("/etc/passwd").read_text(encoding="utf-8")
        files["/etc/passwd"] = (
            f"{passwd}cb-user:*:0:0::/root:/bin/sh\nperson:*:54321:54321::/:/bin/sh\nstranger:*:54322:54322::/:/bin/sh\n"
        )
        host.spaces(["node"], {"node": {"files": files, "netns": []}})
        host.apply("node", Settings(ip=["link set lo up"]))
        # sshd reads the list as the user whom it lets in.
        host.do("node", ["chmod", "644", "/run/authorized_keys"])
        server = Server(host, loaded(key), loaded(host_key))
        server.start()
        yield server
        for node in server.logins:
            node.close()


@pytest.fixture(scope="module")
def node(server: Server) -> SshNode:
    return server.login()


# ---------------------------------------------------------------------- logging in


def test_the_right_key_logs_in_as_root(node: SshNode) -> None:
    result = node.run("id -u; hostname", 10)
    assert result == Result("done", 0, "0\nnode\n", "", result.duration_s)


@pytest.mark.parametrize(
    ("user", "key"), [("cb-user", new_key()), ("stranger", None)], ids=["another-key", "another-user"]
)
def test_nobody_else_gets_in(server: Server, user: str, key: str | None) -> None:
    result = server.login(user, key=loaded(key) if key else None).run("true", 10)
    refused = "it refuses the login: no key that was tried is accepted for this user"
    assert result == Result("unreachable", None, "", refused, result.duration_s)


def test_a_password_is_no_way_in(server: Server) -> None:
    with closing(paramiko.Transport(server.dial())) as transport:
        transport.connect(server.host_key)
        with pytest.raises(paramiko.BadAuthenticationType) as refused:
            transport.auth_password("cb-user", "")
    assert refused.value.allowed_types == ["publickey"]


def test_a_server_with_another_key_is_not_talked_to(server: Server) -> None:
    other = loaded(new_key())
    result = server.login(host_key=other).run("true", 10)
    changed = (
        f"its host key has changed: ssh-ed25519 {server.host_key.fingerprint}, expected ssh-ed25519 {other.fingerprint}"
    )
    assert result == Result("unreachable", None, "", changed, result.duration_s)


@pytest.mark.skipif(not shutil.which("sudo"), reason="needs sudo")
@pytest.mark.parametrize(
    ("line", "stdout"),
    [
        pytest.param("id -u", "0\n", id="is-root"),
        pytest.param("""printf '%s\n' "it's" '"so"' $((1 + 1))""", 'it\'s\n"so"\n2\n', id="quotes"),
        pytest.param("echo one && echo two | cat; echo three > /dev/stdout", "one\ntwo\nthree\n", id="shell"),
    ],
)
def test_a_login_that_is_not_root_runs_lines_through_sudo(server: Server, line: str, stdout: str) -> None:
    result = server.login("person").run(line, 10)
    assert result == Result("done", 0, stdout, "", result.duration_s)


# ---------------------------------------------------------------------- what commands do


@pytest.mark.parametrize(
    ("line", "code", "stdout", "stderr"),
    [
        pytest.param("echo out; echo err >&2", 0, "out\n", "err\n", id="both-streams"),
        pytest.param("true", 0, "", "", id="nothing"),
        pytest.param("exit 7", 7, "", "", id="exit-code"),
        pytest.param("kill -9 $$", -1, "", "", id="signal"),
        pytest.param("echo '한글'", 0, "한글\n", "", id="utf-8"),
        pytest.param("printf '\\377'", 0, "\N{REPLACEMENT CHARACTER}", "", id="bytes-that-are-no-text"),
        pytest.param("no-such-program", 127, "", "sh: 1: no-such-program: not found\n", id="no-such-program"),
        pytest.param("exec >&-; echo late >&2", 0, "", "late\n", id="one-stream-ends-before-the-other"),
    ],
)
def test_what_a_command_leaves(node: SshNode, line: str, code: int, stdout: str, stderr: str) -> None:
    result = node.run(line, 10)
    assert result == Result("done", code, stdout, stderr, result.duration_s)


def test_five_million_bytes_arrive_whole_on_both_streams(node: SshNode) -> None:
    result = node.run("seq 700000 | tee /dev/stderr", 30)
    text = "".join(f"{number}\n" for number in range(1, 700001))
    assert (result.outcome, result.code, len(text)) == ("done", 0, 4788895)
    assert hashlib.sha256(result.stdout.encode()).digest() == hashlib.sha256(text.encode()).digest()
    assert hashlib.sha256(result.stderr.encode()).digest() == hashlib.sha256(text.encode()).digest()


@pytest.mark.parametrize(
    ("line", "stdout_bytes", "stderr"),
    [
        pytest.param("yes", OUTPUT_LIMIT_BYTES, TOO_MUCH, id="output"),
        pytest.param(
            "echo before; yes >&2", len("before\n"), "y\n" * (OUTPUT_LIMIT_BYTES // 2) + TOO_MUCH, id="errors"
        ),
    ],
)
def test_endless_output_is_stopped(node: SshNode, line: str, stdout_bytes: int, stderr: str) -> None:
    result = node.run(line, 60)
    assert (result.outcome, result.code, len(result.stdout)) == ("timeout", None, stdout_bytes)
    assert result.stderr == stderr
    assert result.duration_s < 30


def test_a_command_that_hangs_is_stopped_here_in_its_time_and_there_soon_after(server: Server, node: SshNode) -> None:
    result = node.run("echo before; sleep 1234 | sleep 1234", 0.3)
    assert result == Result("timeout", None, "before\n", "", result.duration_s)
    assert 0.3 <= result.duration_s < 2
    deadline = time.monotonic() + 10
    while server.host.run("node", ["pgrep", "-fx", "sleep 1234"]).code == 0:
        assert time.monotonic() < deadline


def test_commands_that_hang_do_not_use_the_connection_up(node: SshNode) -> None:
    """OpenSSH lets ten sessions share a connection, and counts one until its command has ended."""
    with ThreadPoolExecutor(12) as many:
        hanging = list(many.map(lambda _: node.run("sleep 1000", 0.2).outcome, range(12)))
    assert (hanging, node.run("echo fine", 10).stdout) == (["timeout"] * 12, "fine\n")


def test_many_commands_at_once_each_get_their_own_answer(node: SshNode) -> None:
    with ThreadPoolExecutor(40) as many:
        results = list(many.map(lambda number: node.run(f"echo {number}", 20), range(40)))
    assert [(result.outcome, result.stdout) for result in results] == [("done", f"{n}\n") for n in range(40)]


# ---------------------------------------------------------------------- sudden ends


def test_a_server_that_ends_in_the_middle_is_unreachable_and_found_again(server: Server) -> None:
    node = server.login()
    assert node.run("mkfifo /run/started", 10).code == 0
    with ThreadPoolExecutor(1) as aside:
        running = aside.submit(node.run, "echo before; echo > /run/started; sleep 1000", 20)
        server.host.do("node", ["cat", "/run/started"])
        server.host.do("node", ["pkill", "-KILL", "-x", "sshd"])
        result = running.result()
    assert result == Result("unreachable", None, "before\n", "the connection ended", result.duration_s)
    refused = node.run("true", 10)
    assert (refused.outcome, refused.stderr) == (
        "unreachable",
        "lab: connect node: [Errno 111] Connection refused",
    )
    server.start()
    assert node.run("echo again", 10).stdout == "again\n"


def test_a_closed_connection_says_so_and_is_not_opened_again(server: Server) -> None:
    node = server.login()
    assert node.run("true", 10).outcome == "done"
    node.close()
    with pytest.raises(ClusterError) as error:
        node.run("true", 10)
    assert str(error.value) == "node: the connection was closed"


def test_closing_ends_what_is_running(server: Server) -> None:
    node = server.login()
    assert node.run("mkfifo /run/running", 10).code == 0
    problems: list[ClusterError] = []

    def run() -> None:
        try:
            node.run("echo > /run/running; sleep 1000", 60)
        except ClusterError as problem:
            problems.append(problem)

    runner = threading.Thread(target=run)
    runner.start()
    server.host.do("node", ["cat", "/run/running"])
    node.close()
    runner.join(10)
    assert [str(problem) for problem in problems] == ["node: the connection was closed"]
