"""The Makefile, setup.sh and the lock: what happens before the first line of Python runs."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MAKEFILE = (ROOT / "Makefile").read_text()
TARGETS = re.findall(r"^\.PHONY: (.*)$", MAKEFILE, re.MULTILINE)[0].split()

Run = Callable[..., subprocess.CompletedProcess[str]]


def run(*command: str, cwd: Path, path: str | None = None) -> subprocess.CompletedProcess[str]:
    """Run a command as from a fresh shell, not as from the `make test` that may run these tests."""
    inherited = {key: value for key, value in os.environ.items() if key not in {"MAKEFLAGS", "MAKELEVEL", "MFLAGS"}}
    environment = inherited | {"LC_ALL": "C", "PIP_NO_INDEX": "1", "PATH": path or os.environ["PATH"]}
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, stdin=subprocess.DEVNULL)


def script(path: Path, *lines: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(["#!/bin/sh", *lines, ""]))
    path.chmod(0o755)
    return path


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """The front door with nothing behind it."""
    for name in ("Makefile", "setup.sh", "requirements.lock", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "calico_lab").mkdir()
    (tmp_path / "calico_lab" / "doctor.py").touch()
    return tmp_path


@pytest.fixture
def ready(checkout: Path) -> Path:
    """A checkout that has been set up; its Python prints its arguments in angle brackets and exits with 3."""
    script(checkout / ".venv/bin/python", 'printf "<%s>\\n" "$@"', "exit 3")
    for stamp in (".ready", ".packages-lab", ".packages-tests"):
        (checkout / ".venv" / stamp).touch()
    return checkout


@pytest.mark.parametrize("target", TARGETS)
def test_every_target_is_printed_by_make_alone(target: str, checkout: Path) -> None:
    printed = run("make", cwd=checkout)
    assert re.search(rf"^  make {target} +\S", printed.stdout, re.MULTILINE)


def test_make_alone_prints_only_targets(checkout: Path) -> None:
    lines = run("make", cwd=checkout).stdout.splitlines()
    assert [line.split()[1] for line in lines] == TARGETS


COMMANDS = {
    "list": ("list", ["list"]),
    "doctor": ("doctor", ["doctor"]),
    "report": ("report SCENARIO=cross-vxlan", ["report", "cross-vxlan"]),
    "report-nothing": ("report", ["report"]),
    "report-everything": (
        "report SCENARIO=cross-bgp PROVIDER=replay LANG_REPORT=en RECORDING=a/b SET=cni.mtu=1410",
        [
            *["report", "cross-bgp", "--provider", "replay", "--lang", "en"],
            *["--recording", "a/b", "--set", "cni.mtu=1410"],
        ],
    ),
    "restore": (
        "restore JOURNAL=outputs/a/changes.jsonl KUBECONFIG=a/b CONTEXT=lab",
        ["restore", "--journal", "outputs/a/changes.jsonl", "--kubeconfig", "a/b", "--context", "lab"],
    ),
    "matrix": ("matrix", ["matrix"]),
    "matrix-everything": (
        "matrix SCENARIOS=cross-bgp RESUME=yes DASK=tcp://127.0.0.1:8786 LANG_REPORT=en",
        ["matrix", "cross-bgp", "--lang", "en", "--dask", "tcp://127.0.0.1:8786", "--resume"],
    ),
    "sweep": (
        "sweep SCENARIO=cross-canal PARAM=latency_ms VALUES=1,5,20",
        ["sweep", "cross-canal", "--param", "latency_ms", "--values", "1,5,20"],
    ),
    "publish": ("publish SCENARIO=cross-vxlan WIKI=../wiki", ["publish", "cross-vxlan", "--wiki", "../wiki"]),
    "cluster": ("cluster DO=list", ["cluster", "list"]),
    "cluster-nothing": ("cluster", ["cluster"]),
    "clean": ("clean", ["clean"]),
    "clean-recordings-not-quite": ("clean RECORDINGS=no", ["clean"]),
    "clean-recordings": ("clean RECORDINGS=yes", ["clean", "--recordings"]),
}


@pytest.mark.parametrize(("typed", "arguments"), COMMANDS.values(), ids=COMMANDS)
def test_a_target_is_one_command(ready: Path, typed: str, arguments: list[str]) -> None:
    made = run("make", *typed.split(), cwd=ready)
    assert made.stdout.splitlines() == [f"<{argument}>" for argument in ["-m", "calico_lab", *arguments]]


def test_tests_of_a_cluster_name_it(ready: Path) -> None:
    made = run("make", "test-e2e", "KUBECONFIG=my cluster", cwd=ready)
    assert made.stdout.splitlines() == ["<-m>", "<pytest>", "<tests/e2e>", "<--kubeconfig>", "<my cluster>"]


def test_a_cluster_of_the_environment_is_not_tested(ready: Path) -> None:
    made = run("env", "KUBECONFIG=production", "make", "test-e2e", cwd=ready)
    assert (made.returncode, made.stdout) == (2, "")
    assert made.stderr.splitlines()[0] == "name the cluster: make test-e2e KUBECONFIG=file"


def test_several_settings_are_passed_one_by_one(ready: Path) -> None:
    made = run("make", "report", "SCENARIO=a", "SET=probes.ping_count=5 cni.mtu=1410", cwd=ready)
    assert made.stdout.splitlines()[4:] == ["<--set>", "<probes.ping_count=5>", "<--set>", "<cni.mtu=1410>"]


def test_several_scenarios_are_passed_one_by_one(ready: Path) -> None:
    made = run("make", "matrix", "SCENARIOS=cross-bgp my-vxlan.yaml", cwd=ready)
    assert made.stdout.splitlines()[3:] == ["<cross-bgp>", "<my-vxlan.yaml>"]


def test_what_to_do_with_a_cluster_is_passed_word_by_word(ready: Path) -> None:
    made = run("make", "cluster", "DO=create cb-cluster --cni $(shell touch hit)", "SCENARIO=it's", cwd=ready)
    assert made.stdout.splitlines()[3:] == [
        *("<create>", "<cb-cluster>", "<--cni>", "<$(shell>", "<touch>", "<hit)>"),
        *("<--scenario>", "<it's>"),
    ]
    assert not (ready / "hit").exists()


@pytest.mark.parametrize(
    "value",
    [
        "two words",
        "it's",
        '"quoted"',
        "a;touch hit",
        "`touch hit`",
        "$(touch hit)",
        "$HOME",
        "$(shell touch hit)",
        "#",
        "\\",
    ],
)
@pytest.mark.parametrize("variable", ["SCENARIO", "RECORDING"])
def test_a_value_arrives_as_it_was_typed(ready: Path, variable: str, value: str) -> None:
    made = run("make", "report", f"{variable}={value}", cwd=ready)
    assert made.stdout.splitlines()[-1] == f"<{value}>"
    assert not (ready / "hit").exists()


def test_a_setting_arrives_as_it_was_typed(ready: Path) -> None:
    made = run("make", "report", "SET=a='$(shell touch hit)' b=`touch hit`", cwd=ready)
    words = made.stdout.splitlines()[3:]
    assert words[::2] == ["<--set>"] * 5
    assert words[1::2] == ["<a='$(shell>", "<touch>", "<hit)'>", "<b=`touch>", "<hit`>"]
    assert not (ready / "hit").exists()


def test_make_adds_one_line_to_an_error(ready: Path) -> None:
    made = run("make", "report", "SCENARIO=typo", cwd=ready)
    assert re.fullmatch(r"make: \*\*\* \[Makefile:\d+: report\] Error 3\n", made.stderr)


def test_only_the_lab_asks_for_network_programs(checkout: Path) -> None:
    asked = {
        provider: "setup.sh packages lab" in run("make", "-n", "report", f"PROVIDER={provider}", cwd=checkout).stdout
        for provider in ("", "lab", "replay", "kube")
    }
    assert asked == {"": True, "lab": True, "replay": False, "kube": False}


@pytest.fixture
def counted(ready: Path) -> Path:
    """A checkout whose set-up only writes what it was asked for."""
    shutil.rmtree(ready / ".venv")
    script(
        ready / "setup.sh",
        'echo "$*" >>asked',
        "mkdir -p .venv/bin && ln -sf /bin/true .venv/bin/python",
        '[ "$1" = python ] && touch .venv/.ready || touch ".venv/.packages-$2"',
    )
    return ready


def test_set_up_runs_once(counted: Path) -> None:
    for _ in range(2):
        assert run("make", "report", cwd=counted).returncode == 0
    assert (counted / "asked").read_text().splitlines() == ["python", "packages lab"]


@pytest.mark.parametrize("changed", ["requirements.lock", "pyproject.toml", "setup.sh"])
def test_set_up_runs_again_after_a_change(counted: Path, changed: str) -> None:
    run("make", "list", cwd=counted)
    stamped = (counted / ".venv/.ready").stat().st_mtime
    os.utime(counted / changed, (stamped + 1, stamped + 1))
    run("make", "list", cwd=counted)
    assert (counted / "asked").read_text().splitlines() == ["python", "python"]


def test_a_set_up_that_fails_leaves_no_stamp(checkout: Path) -> None:
    (checkout / "requirements.lock").write_text(f"absent==1.0 --hash=sha256:{'0' * 64}\n")
    stamp = checkout / ".venv/.ready"
    stamp.parent.mkdir()
    stamp.touch()
    made = run("./setup.sh", "python", cwd=checkout)
    assert made.returncode == 1
    assert made.stderr.startswith("calico_lab: installing the locked Python packages into .venv ... ERROR: ")
    assert "absent==1.0" in made.stderr
    assert not stamp.exists()


@pytest.fixture
def tools(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A search path with what setup.sh itself calls; whoever runs it is not root."""
    folder = tmp_path_factory.mktemp("tools")
    for name in ("sh", "dirname", "grep", "touch"):
        (folder / name).symlink_to(shutil.which(name) or name)
    script(folder / "id", "echo 1000")
    return folder


@pytest.mark.parametrize("version", ["3.10.13", "3.8.18"])
def test_an_old_python_is_refused(checkout: Path, tools: Path, version: str) -> None:
    script(tools / "python3", f'[ "$1" = --version ] && echo Python {version}')
    made = run("./setup.sh", "python", cwd=checkout, path=str(tools))
    assert (made.returncode, made.stderr) == (
        3,
        f"calico_lab: Python 3.11 or newer is needed; found: Python {version}; "
        "install it with its venv module, for example: sudo apt-get install python3.11-venv\n",
    )


def test_no_python_is_refused(checkout: Path, tools: Path) -> None:
    made = run("./setup.sh", "python", cwd=checkout, path=str(tools))
    assert (made.returncode, made.stderr) == (
        3,
        "calico_lab: Python 3.11 or newer is needed; found: none; "
        "install it with its venv module, for example: sudo apt-get install python3.11-venv\n",
    )


def test_a_python_without_its_venv_module_is_refused(checkout: Path, tools: Path) -> None:
    script(tools / "python3", f'case "$2" in *ensurepip*) exit 1 ;; esac; exec {sys.executable} "$@"')
    (tools / "rm").symlink_to(shutil.which("rm") or "rm")
    made = run("./setup.sh", "python", cwd=checkout, path=str(tools))
    assert (made.returncode, made.stderr) == (
        3,
        "calico_lab: python3 cannot make a virtual environment; "
        f"run: sudo apt-get install python3.{sys.version_info.minor}-venv\n",
    )


PACKAGES = {
    "lab": (
        3,
        "calico_lab: the local lab lacks programs; run: sudo apt-get install iproute2 ipset; "
        "or use PROVIDER=replay, which works anywhere\n",
    ),
    "tests": (
        0,
        "calico_lab: tests that lack a program are skipped; "
        "to have them all, run: sudo apt-get install iproute2 ipset\n",
    ),
}


@pytest.mark.parametrize(("group", "outcome"), PACKAGES.items(), ids=PACKAGES)
def test_who_may_not_install_packages_is_told_the_line(
    checkout: Path, tools: Path, group: str, outcome: tuple[int, str]
) -> None:
    script(checkout / ".venv/bin/python", "echo iproute2; echo ipset")
    made = run("./setup.sh", "packages", group, cwd=checkout, path=str(tools))
    assert (made.returncode, made.stderr) == outcome
    assert not (checkout / f".venv/.packages-{group}").exists()


def test_a_daemon_that_may_not_be_installed_stops_nothing(checkout: Path, tools: Path) -> None:
    script(checkout / ".venv/bin/python", "echo openssh-server; echo bird2")
    made = run("./setup.sh", "packages", "lab", cwd=checkout, path=str(tools))
    assert (made.returncode, made.stdout + made.stderr) == (0, "")


def test_a_machine_with_all_packages_is_stamped_silently(checkout: Path, tools: Path) -> None:
    script(checkout / ".venv/bin/python")
    made = run("./setup.sh", "packages", "lab", cwd=checkout, path=str(tools))
    assert (made.returncode, made.stdout + made.stderr) == (0, "")
    assert (checkout / ".venv/.packages-lab").exists()


REQUIREMENT = re.compile(r"^([a-zA-Z0-9_.-]+)==\S+.*\\\n((?:    --hash=sha256:[0-9a-f]{64}(?: \\)?\n)+)", re.MULTILINE)


def test_every_locked_package_has_hashes() -> None:
    lock = (ROOT / "requirements.lock").read_text()
    assert len(REQUIREMENT.findall(lock)) == len(re.findall(r"^[^ #\n]", lock, re.MULTILINE)) > 0


def test_every_dependency_is_locked() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["dev"]]
    locked = {name.lower() for name, _ in REQUIREMENT.findall((ROOT / "requirements.lock").read_text())}
    assert {re.split(r"[^\w.-]", line)[0].lower() for line in wanted} <= locked


# Assembled, so that this file does not name them.
HOSTS = {
    "pypi": ".".join(["pypi", "org"]),
    "pypi-files": ".".join(["files", "pythonhosted", "org"]),
    "debian": ".".join(["deb", "debian", "org"]),
    "npm": ".".join(["registry", "npmjs", "org"]),
}


@pytest.mark.parametrize("host", HOSTS.values(), ids=HOSTS)
def test_no_tracked_file_names_a_registry_host(host: str) -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    found = run("git", "grep", "--files-with-matches", "--fixed-strings", host, cwd=ROOT)
    assert (found.returncode, found.stdout, found.stderr) == (1, "", "")
