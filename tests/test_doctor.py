"""What the doctor sees, on this machine and on poorer ones made of it by a search path of symbolic links."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console

from calico_lab import doctor
from calico_lab.doctor import Need, Purpose, Verdict
from calico_lab.errors import HostError

FULL_PATH = f"{os.environ['PATH']}:{doctor.SBIN}"
SUDO = "" if os.geteuid() == 0 else "sudo "
HELPERS = ("sh", "unshare", "mount", "mkdir", "ssh-keygen", "iptables-nft", "iptables-legacy", "apt-get")

Toolbox = Callable[..., str]


@pytest.fixture
def toolbox(tmp_path: Path) -> Toolbox:
    """A search path with this machine's programs, without the hidden ones and with some that another stands for."""

    def make(*hidden: str, **replaced: str) -> str:
        for name in {program for program, _, _ in doctor.PROGRAMS} | set(HELPERS):
            target = shutil.which(replaced.get(name.replace("-", "_"), name), path=FULL_PATH)
            if target and name not in hidden:
                (tmp_path / name).symlink_to(target)
        return str(tmp_path)

    return make


def named(needs: list[Need], name: str) -> Need:
    (need,) = [need for need in needs if need.name == name]
    return need


@pytest.mark.parametrize(("program", "package", "purpose"), doctor.PROGRAMS, ids=[row[0] for row in doctor.PROGRAMS])
def test_a_program_that_is_not_there_is_missing_with_the_line_that_installs_it(
    toolbox: Toolbox, program: str, package: str, purpose: Purpose
) -> None:
    needs = doctor.survey(toolbox(program))
    assert named(needs, program) == Need(program, None, purpose, package, f"{SUDO}apt-get install {package}")


def test_a_program_that_is_there_is_found_by_its_path(tmp_path: Path) -> None:
    program = tmp_path / "bird"
    program.touch(mode=0o755)
    assert named(doctor.survey(str(tmp_path)), "bird").found == str(program)


def test_a_program_in_a_system_directory_is_found_even_if_the_search_path_lacks_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "ipset").touch(mode=0o755)
    monkeypatch.setenv("PATH", "")
    monkeypatch.setattr(doctor, "SBIN", str(tmp_path))
    assert named(doctor.survey(), "ipset").found == str(tmp_path / "ipset")


def test_korean_fonts_are_looked_for_as_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(doctor, "FONTS", tmp_path)
    assert named(doctor.survey(""), "Korean font") == Need(
        "Korean font", None, Purpose.TESTS, "fonts-nanum", f"{SUDO}apt-get install fonts-nanum"
    )
    font = tmp_path / "truetype" / "nanum" / "NanumGothic.ttf"
    font.parent.mkdir(parents=True)
    font.touch()
    assert named(doctor.survey(""), "Korean font").found == str(font)


def test_a_machine_with_nothing_can_only_replay() -> None:
    needs = doctor.survey("")
    assert {need.name for need in needs if need.found} <= {"Korean font"}
    assert doctor.verdict(needs) is Verdict.REPLAY_ONLY


def test_who_may_not_make_namespaces_can_only_replay(toolbox: Toolbox) -> None:
    needs = doctor.survey(toolbox(unshare="false"))
    assert named(needs, "namespaces") == Need("namespaces", None, Purpose.LAB, None, "run as root")
    assert {need.name for need in needs if need.package is None and need.found} <= {"apt-get"}
    assert doctor.verdict(needs) is Verdict.REPLAY_ONLY


def test_the_other_iptables_backend_is_tried_when_the_first_fails(toolbox: Toolbox) -> None:
    path = toolbox(iptables_nft="false")
    user = [] if os.geteuid() == 0 else ["--map-root-user"]
    legacy = ["unshare", *user, "--net", "iptables-legacy", "--table", "nat", "--list-rules"]
    if subprocess.run(legacy, env={"PATH": FULL_PATH}, capture_output=True).returncode:
        pytest.skip("iptables-legacy does not work on this machine")
    assert "(legacy)" in str(named(doctor.survey(path), "iptables backend").found)


def test_trying_leaves_no_device_behind() -> None:
    interfaces = Path("/sys/class/net")
    before = sorted(path.name for path in interfaces.iterdir())
    doctor.survey()
    assert sorted(path.name for path in interfaces.iterdir()) == before


def need(name: str, purpose: Purpose, found: str | None = None, package: str | None = None) -> Need:
    return Need(name, found, purpose, package, "as root: modprobe it")


@pytest.mark.parametrize(
    ("missing", "expected"),
    [
        pytest.param([], Verdict.LAB_WITH_SSHD, id="nothing"),
        pytest.param([Purpose.BGP, Purpose.TESTS, Purpose.SETUP], Verdict.LAB_WITH_SSHD, id="only-what-others-need"),
        pytest.param([Purpose.SSH], Verdict.LAB_WITHOUT_SSHD, id="sshd"),
        pytest.param([Purpose.SSH, Purpose.LAB], Verdict.REPLAY_ONLY, id="the-lab"),
    ],
)
def test_the_verdict_follows_from_what_is_missing(missing: list[Purpose], expected: Verdict) -> None:
    present = [need(purpose, purpose, found="/usr/bin/it") for purpose in Purpose]
    assert doctor.verdict([*present, *(need(purpose, purpose) for purpose in missing)]) is expected


def test_a_machine_without_the_programs_is_refused_with_the_line_to_run() -> None:
    needs = [
        need("ip", Purpose.LAB, package="iproute2"),
        need("ping", Purpose.LAB, found="/usr/bin/ping", package="iputils-ping"),
        need("chromium", Purpose.TESTS, package="chromium"),
        need("vxlan device", Purpose.LAB),
    ]
    with pytest.raises(HostError) as refused:
        doctor.require_lab(needs)
    assert str(refused.value) == (
        "the local lab cannot run on this machine; seen: no ip, vxlan device; "
        f"run: {SUDO}apt-get install iproute2; or use PROVIDER=replay, which works anywhere"
    )


def test_a_machine_without_an_ability_is_refused_with_what_to_do() -> None:
    with pytest.raises(HostError) as refused:
        doctor.require_lab([need("vxlan device", Purpose.LAB)])
    assert str(refused.value) == (
        "the local lab cannot run on this machine; seen: no vxlan device; "
        "as root: modprobe it; or use PROVIDER=replay, which works anywhere"
    )


def test_a_machine_without_sshd_or_bgp_is_not_refused() -> None:
    doctor.require_lab([need("sshd", Purpose.SSH), need("ipip device", Purpose.BGP)])


def test_missing_packages_are_named_once_in_order() -> None:
    needs = [
        need("tcpdump", Purpose.LAB, package="tcpdump"),
        need("ip", Purpose.LAB, package="iproute2"),
        need("bridge", Purpose.LAB, package="iproute2"),
        need("ps", Purpose.LAB, found="/usr/bin/ps", package="procps"),
        need("git", Purpose.TESTS, package="git"),
    ]
    assert doctor.missing_packages(needs, Purpose.LAB) == ["tcpdump", "iproute2"]


def test_set_up_can_ask_before_anything_is_installed() -> None:
    without_site_packages = [sys.executable, "-S", "-m", "calico_lab.doctor", "tests"]
    asked = subprocess.run(
        without_site_packages, cwd=Path(__file__).parents[1], capture_output=True, text=True, check=True
    )
    purposes = (Purpose.LAB, Purpose.SSH, Purpose.BGP, Purpose.KERNEL, Purpose.TESTS)
    assert asked.stdout.split() == doctor.missing_packages(doctor.survey(), *purposes)


def test_the_table_says_what_is_found_and_what_to_do() -> None:
    page = io.StringIO()
    needs = [need("ip", Purpose.LAB, found="/usr/sbin/ip"), need("sshd start", Purpose.SSH)]
    Console(file=page, width=80).print(doctor.render(needs))
    assert [line.rstrip() for line in page.getvalue().splitlines()] == [
        "┏━━━━━━━━━━━━┳━━━━━━━━━━━━━━┳━━━━━━━━━━━━━━┳━━━━━━━━━━━━━━━━━━━━━━┓",
        "┃ Needed     ┃ For          ┃ Found        ┃ To do                ┃",
        "┡━━━━━━━━━━━━╇━━━━━━━━━━━━━━╇━━━━━━━━━━━━━━╇━━━━━━━━━━━━━━━━━━━━━━┩",
        "│ ip         │ lab          │ /usr/sbin/ip │                      │",
        "│ sshd start │ lab over ssh │ missing      │ as root: modprobe it │",
        "└────────────┴──────────────┴──────────────┴──────────────────────┘",
        "This machine can run: lab without sshd",
    ]
