"""Machines of an inventory: sshds of labs that the tool did not start and only knows by their doors."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from io import StringIO
from pathlib import Path
from typing import Any

import paramiko
import pytest
import yaml

from calico_lab import run
from calico_lab.capture import record
from calico_lab.checks import check
from calico_lab.cli import main
from calico_lab.cluster import TOO_MUCH
from calico_lab.cluster.inventory import Inventory
from calico_lab.cluster.lab import LabCluster
from calico_lab.cluster.machines import SshCluster
from calico_lab.doctor import Verdict, survey, verdict
from calico_lab.errors import ClusterError
from calico_lab.facts import differences
from calico_lab.recording import Capture, Recording
from calico_lab.scenario import Scenario
from calico_lab.tables import Tables
from tests.cluster.doors import Door
from tests.cluster.test_ssh import new_key

pytestmark = [
    pytest.mark.lab,
    pytest.mark.skipif(verdict(survey()) is not Verdict.LAB_WITH_SSHD, reason="no sshd can run here"),
]


def let_in(lab: LabCluster, node: str, key: paramiko.PKey) -> None:
    line = f"{key.get_name()} {key.get_base64()}\n"
    lab.host.do(node, ["sh", "-c", "cat >> /run/authorized_keys"], line)


def vouch(lab: LabCluster, node: str, known_as: str, key: paramiko.PKey | None = None) -> str:
    """A line of known_hosts, as ssh-keyscan prints it."""
    own = key.get_base64() if key else lab.host.do(node, ["ssh-keygen", "-y", "-f", "/run/ssh_host_key"]).split()[1]
    return f"{known_as} ssh-ed25519 {own}\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made: Path = tmp_path_factory.mktemp("machines")
    return made


@pytest.fixture(scope="module")
def key(folder: Path) -> paramiko.PKey:
    made = paramiko.ECDSAKey.generate()
    made.write_private_key_file(str(folder / "id_ecdsa"))
    return made


# ---------------------------------------------------------------------- the review's own nodes


@pytest.fixture(scope="module")
def lab() -> Iterator[LabCluster]:
    with closing(LabCluster(Scenario.load("cross-vxlan", {"internet.latency_ms": 0}))) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def hosts(lab: LabCluster, key: paramiko.PKey, folder: Path) -> Iterator[Path]:
    """An inventory with as little as can be in it; its machines are at doors, so their public addresses are named."""
    with ExitStack() as ends:
        nodes, known = [], ""
        for node in lab.nodes:
            let_in(lab, node.name, key)
            door = Door(lab, node.name)
            ends.callback(door.close)
            nodes.append({"name": node.name, "address": "127.0.0.1", "port": door.port})
            known += vouch(lab, node.name, f"[127.0.0.1]:{door.port}")
        (folder / "known_hosts").write_text(known, encoding="utf-8")
        inventory = {
            "user": "cb-user",
            "key": str(folder / "id_ecdsa"),
            "known_hosts": str(folder / "known_hosts"),
            "node_log": lab.node_log,
            "nodes": nodes,
        }
        path = folder / "hosts.yaml"
        path.write_text(yaml.safe_dump(inventory), encoding="utf-8")
        yield path


def test_machines_tell_what_the_inventory_leaves_out(lab: LabCluster, hosts: Path) -> None:
    with closing(SshCluster(lab.scenario, Inventory.load(hosts))) as cluster:
        assert [replace(node, pods=()) for node in cluster.nodes] == [replace(node, pods=()) for node in lab.nodes]
        assert [(pod.node, pod.address) for pod in cluster.pods] == [(pod.node, pod.address) for pod in lab.pods]
        facts = cluster.facts
        assert (facts["transport"], facts["silent"], list(facts["host_keys"])) == (
            "ssh",
            {},
            [node.name for node in lab.nodes],
        )


def test_the_report_of_machines_says_what_the_labs_own_says(
    lab: LabCluster, hosts: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "OUTPUTS", folder / "outputs")
    words = ["cross-vxlan", "--set", "internet.latency_ms=0", "--provider", "ssh", "--inventory", str(hosts)]
    assert main(["report", *words]) == 0
    summary = json.loads((folder / "outputs/cross-vxlan/summary.json").read_text(encoding="utf-8"))
    assert (summary["provider"], summary["installed"], summary["ping"], summary["cause"], summary["agrees"]) == (
        "ssh",
        True,
        False,
        "outer-source",
        True,
    )
    ssh = Tables(Recording(folder / "outputs/cross-vxlan/recording"))
    own = Tables(record(lab, lab.scenario, folder / "own"))
    compared = differences(own, ssh)
    assert len(compared) > 100
    assert compared[compared["status"] != "same"].to_dict("records") == []
    # What facts leave out, since nobody can ask a cloud's routers what they dropped, is all that the lab's has beside.
    assert {finding.id for finding in check(own)} - {finding.id for finding in check(ssh)} == {"fabric-drops"}


# ---------------------------------------------------------------------- many machines, and what befalls some of them


COMMAND_S = 3.0


def two_dozen() -> Scenario:
    """One cloud, 24 nodes: each probes two peers."""
    return Scenario.of(
        {
            "scenario": "two-dozen",
            "sites": [{"name": "tokyo", "cloud": "aws", "subnets": ["192.168.10.0/24"], "public": "203.0.113.0/24"}],
            "nodes": [{"name": "w", "site": "tokyo", "count": 24}],
            "cni": {"plugin": "calico", "version": "3.22.0", "node_ip": "private"},
            "probes": {"ping_count": 1, "command_timeout_s": COMMAND_S},
        }
    )


AFTER_LOGIN = 8000
"""Bytes that a server says until it has let somebody in and told what it is like."""


@dataclass
class Fault:
    """What befalls a machine, and how commands on it then end: patterns of the outcome and of what is said of it."""

    id: str
    node: str
    outcome: str
    said: str
    door: Mapping[str, Any] = field(default_factory=dict)


FAULTS = [
    Fault("refused", "w-3", "unreachable", "connection refused"),
    Fault("wrong-key", "w-4", "unreachable", "it refuses the login: no key that was tried is accepted for this user"),
    Fault(
        "changed-host-key",
        "w-5",
        "unreachable",
        r"its host key has changed: ssh-ed25519 SHA256:\S+, expected ssh-ed25519 SHA256:\S+",
    ),
    Fault(
        "unknown-host-key",
        "w-6",
        "unreachable",
        r"its host key ssh-ed25519 SHA256:\S+ is not in \S+/known_hosts-two-dozen",
    ),
    Fault("no-banner", "w-7", "unreachable", "no answer in time", {"then": "silence"}),
    Fault("hang", "w-8", "timeout|unreachable", "|no answer in time", {"then": "silence", "after_bytes": AFTER_LOGIN}),
    Fault("drip", "w-9", "timeout|unreachable", "|no answer in time", {"then": "drip", "after_bytes": AFTER_LOGIN}),
    Fault("reset", "w-10", "unreachable", "the connection ended", {"then": "reset", "after_bytes": AFTER_LOGIN}),
    Fault("endless-output", "w-11", "timeout", re.escape(TOO_MUCH)),
    Fault("no-root", "w-12", "done", "sudo: a password is required\n", {"port_there": 2222}),
]
BEHIND_A_JUMP_HOST = [f"w-{number}" for number in range(13, 25)]


ENDLESS_ROUTE = (
    "printf '#!/bin/sh\\nexec yes\\n' >/run/yes; chmod +x /run/yes; mount --bind /run/yes $(command -v route)"
)
PERSON = """
cp /etc/passwd /run/passwd
echo 'person:*:54321:54321::/:/bin/sh' >>/run/passwd
mount --bind /run/passwd /etc/passwd
chmod 644 /run/authorized_keys
sed 's/^AllowUsers .*/AllowUsers person/; 1i Port 2222' /run/sshd_config >/run/sshd_person
/usr/sbin/sshd -f /run/sshd_person -E /run/sshd_person.log
until ss -ltn | grep -q :2222; do sleep 0.05; done
"""
"""On port 2222 somebody may log in who is not root."""


@pytest.fixture(scope="module")
def troubled(key: paramiko.PKey, folder: Path) -> Iterator[Recording]:
    """A recording of 24 machines, ten of them in trouble and twelve behind a jump host."""
    doors = {fault.node: fault.door for fault in FAULTS}
    known_hosts = folder / "known_hosts-two-dozen"
    scenario = two_dozen()
    with closing(LabCluster(scenario)) as lab, ExitStack() as ends:
        machines: list[dict[str, Any]] = []
        known = ""
        for node in lab.nodes:
            machine: dict[str, Any] = {"name": node.name, "public_ip": node.public_ip}
            machines.append(machine)
            if node.name != "w-4":
                let_in(lab, node.name, key)
            if node.name in BEHIND_A_JUMP_HOST:
                machine |= {"address": node.private_ip, "jump": {"address": "127.0.0.1", "port": machines[0]["port"]}}
                known += vouch(lab, node.name, node.private_ip)
                continue
            door = Door(lab, node.name, **doors.get(node.name, {}))
            ends.callback(door.close)
            machine |= {"address": "127.0.0.1", "port": door.port}
            if node.name != "w-6":
                stranger = paramiko.Ed25519Key(file_obj=StringIO(new_key())) if node.name == "w-5" else None
                known += vouch(lab, node.name, f"[127.0.0.1]:{door.port}", stranger)
            if node.name == "w-3":
                door.close()
        lab.host.do("w-11", ["sh", "-c", ENDLESS_ROUTE])
        lab.host.do("w-12", ["sh", "-c", PERSON])
        machines[11]["user"] = "person"
        known_hosts.write_text(known, encoding="utf-8")
        inventory = Inventory.model_validate(
            {
                "user": "cb-user",
                "key": str(folder / "id_ecdsa"),
                "known_hosts": str(known_hosts),
                "node_log": lab.node_log,
                "nodes": machines,
            }
        )
        with closing(SshCluster(scenario, inventory)) as cluster:
            yield record(cluster, cluster.scenario, folder / "troubled")


def captures_of(recording: Recording, node: str) -> list[Capture]:
    return [capture for capture in recording.captures if capture.node == node]


AFTERWARDS = {("timeout", ""), ("unreachable", "no answer in time"), ("unreachable", "the connection ended")}
"""How other commands may end on a machine that is lost while many of them run."""


@pytest.mark.parametrize("fault", FAULTS, ids=[fault.id for fault in FAULTS])
def test_trouble_is_recorded_where_it_is(troubled: Recording, fault: Fault) -> None:
    captures = captures_of(troubled, fault.node)
    ends = [(each.outcome, each.stderr) for each in captures if (each.outcome, each.exit_code) != ("done", 0)]
    caused = [end for end in ends if re.fullmatch(fault.outcome, end[0]) and re.fullmatch(fault.said, end[1])]
    assert caused != []
    assert {end for end in ends if end not in caused} <= (AFTERWARDS if "after_bytes" in fault.door else set())


def test_no_other_machine_is_the_worse_for_it(troubled: Recording) -> None:
    well = {"w-1", "w-2", *BEHIND_A_JUMP_HOST}
    captures = [capture for capture in troubled.captures if capture.node in well]
    assert {capture.node for capture in captures} == well
    assert [capture for capture in captures if capture.outcome != "done"] == []
    # A ping says with its exit code whether it was answered.
    assert [each.command for each in captures if each.exit_code != 0 and each.kind != "ping"] == []


def test_a_machine_that_does_not_answer_takes_no_more_than_a_few_times_of_one_command(troubled: Recording) -> None:
    started = {node: min(each.started for each in captures_of(troubled, node)) for node in ("w-7", "w-8")}
    spent = {node: sum(each.duration_s for each in captures_of(troubled, node)) for node in started}
    # Four commands run at a time: two rounds of them are waited for, and none after that.
    assert {node: seconds < 4 * 4 * COMMAND_S for node, seconds in spent.items()} == {"w-7": True, "w-8": True}


def test_the_manifest_says_who_was_silent_and_whose_key_was_whose(troubled: Recording) -> None:
    facts = troubled.manifest["facts"]
    assert sorted(facts["silent"]) == ["w-12", "w-3", "w-4", "w-5", "w-6", "w-7"]
    assert facts["silent"]["w-3"] == (
        "w-3: `ip -4 route show` failed; seen: connection refused; see whether it works by hand"
    )
    assert sorted(facts["host_keys"]) == sorted(
        {node.name for node in two_dozen().nodes} - {"w-3", "w-4", "w-5", "w-6", "w-7"}
    )


# ---------------------------------------------------------------------- what stops before anything is recorded


def test_a_jump_host_that_is_not_there_is_named(lab: LabCluster, hosts: Path) -> None:
    door = Door(lab, lab.nodes[0].name)
    door.close()
    raw = yaml.safe_load(hosts.read_text(encoding="utf-8")) | {"jump": {"address": "127.0.0.1", "port": door.port}}
    with pytest.raises(ClusterError) as error:
        SshCluster(lab.scenario, Inventory.model_validate(raw))
    seen = "jump host 127.0.0.1: connection refused"
    assert str(error.value) == f"c-1-h43jk: `ip -4 route show` failed; seen: {seen}; see whether it works by hand"


def test_a_key_is_trusted_at_first_use_where_that_is_wanted_and_remembered(hosts: Path, lab: LabCluster) -> None:
    raw = yaml.safe_load(hosts.read_text(encoding="utf-8"))
    known = hosts.with_name("known_hosts-first-use")
    inventory = Inventory.model_validate(raw | {"known_hosts": str(known)})
    with closing(SshCluster(lab.scenario, inventory, trust_first_use=True)) as cluster:
        assert cluster.facts["silent"] == {}
    ports = sorted(f"[127.0.0.1]:{machine.port}" for machine in inventory.nodes)
    assert sorted(line.split()[0] for line in known.read_text(encoding="utf-8").splitlines()) == ports
    with closing(SshCluster(lab.scenario, inventory)) as cluster:
        assert cluster.facts["silent"] == {}


@pytest.fixture
def agent(folder: Path, key: paramiko.PKey, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """An ssh-agent that holds the key, and no key anywhere else."""
    held = tmp_path / "agent"
    with subprocess.Popen(["ssh-agent", "-D", "-a", str(held)], stdout=subprocess.DEVNULL) as running:
        monkeypatch.setenv("SSH_AUTH_SOCK", str(held))
        monkeypatch.setenv("HOME", str(tmp_path))
        deadline = time.monotonic() + 10
        while subprocess.run(["ssh-add", "-q", str(folder / "id_ecdsa")], stderr=subprocess.DEVNULL).returncode != 0:
            assert time.monotonic() < deadline
        yield
        running.terminate()


@pytest.mark.usefixtures("agent")
def test_without_a_key_in_the_inventory_the_agent_is_asked(hosts: Path, lab: LabCluster) -> None:
    raw = yaml.safe_load(hosts.read_text(encoding="utf-8"))
    del raw["key"]
    with closing(SshCluster(lab.scenario, Inventory.model_validate(raw))) as cluster:
        assert cluster.facts["silent"] == {}
