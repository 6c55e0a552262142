"""The README: each command in it is run, or shown by make to be one where running it costs minutes."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

from calico_lab import errors
from calico_lab.cli import main
from calico_lab.cluster.inventory import Inventory
from calico_lab.run import BUNDLED
from calico_lab.scenario import Scenario

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, re.MULTILINE | re.DOTALL)


COMMANDS = list(dict.fromkeys(line for block in blocks("sh") for line in block.splitlines()))
MAKE = [command for command in COMMANDS if command.startswith("make ")]
SCENARIO = next(block for block in blocks("yaml") if "scenario:" in block)
INVENTORY = next(block for block in blocks("yaml") if "address:" in block)


def takes_minutes(command: str) -> bool:
    """Whether it brings the lab or a cluster up, works on the whole project, or serves until it is stopped."""
    target = command.split()[1] if command.startswith("make ") else ""
    records = target == "report" and not re.search(r"PROVIDER=replay|RECORDING=", command)
    return records or target in _LONG


_LONG = {"capture", "restore", "matrix", "sweep", "cluster", "lab", "test", "test-e2e", "check", "fix", "bench"}


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """This checkout, set up, with a report of cross-vxlan in its outputs, and the README's scenario and its bundle."""
    there = tmp_path / "checkout"
    shutil.copytree(ROOT, there, ignore=shutil.ignore_patterns(".*", "outputs", "tests", "__pycache__"))
    python = there / ".venv/bin/python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} "$@"\n')
    python.chmod(0o755)
    for stamp in (".ready", ".packages-lab", ".packages-tests"):
        (there / ".venv" / stamp).touch()
    shutil.copytree(BUNDLED / "cross-vxlan", there / "outputs/cross-vxlan")
    (there / "outputs/cross-vxlan/report.md").write_text("# Calico(VXLAN) Cross-CSP 설치 검토\n", encoding="utf-8")
    (there / "my-vxlan.yaml").write_text(SCENARIO, encoding="utf-8")
    bundle = "calico-diagnostics-20251124_101112"
    with tarfile.open(there / f"{bundle}.tar.gz", "w:gz") as archive:
        for recorded, own in (("c-1-h43jk", "c-1"), ("w-1-36384", "w-1")):
            archive.add(BUNDLED / "cross-vxlan/recording/captures" / recorded, f"{bundle}/nodes/{own}")
    return there


def run(command: str, checkout: Path) -> subprocess.CompletedProcess[str]:
    inherited = {key: value for key, value in os.environ.items() if key not in {"MAKEFLAGS", "MAKELEVEL", "MFLAGS"}}
    identity = {f"GIT_{who}_{what}": "a@b" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")}
    environment = inherited | identity | {"PYTHONPATH": str(checkout)}
    return subprocess.run(
        ["sh", "-c", command],
        cwd=checkout,
        env=environment,
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )


@pytest.mark.parametrize("command", [each for each in COMMANDS if not takes_minutes(each)])
def test_the_command_runs(command: str, checkout: Path) -> None:
    wiki = checkout / "wiki.git"
    subprocess.run(["git", "init", "--quiet", "--bare", str(wiki)], check=True)
    done = run(re.sub(r"WIKI=\S+", f"WIKI={wiki}", command), checkout)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("command", [each for each in COMMANDS if takes_minutes(each)])
def test_make_knows_the_command(command: str, checkout: Path) -> None:
    shown = run(f"{command} --dry-run", checkout)
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.startswith(".venv/bin/python -m ") or "benchmarks/*.py" in shown.stdout


@pytest.mark.parametrize("command", MAKE)
def test_the_target_reads_the_variables(command: str) -> None:
    target, *variables = shlex.split(command)[1:]
    recipe = re.search(rf"^{target}:.*\n(?:\t.*\n)+", MAKEFILE, re.MULTILINE)
    assert recipe is not None
    macro = re.search(r"^provider = ((?:.*\\\n)*.*)$", MAKEFILE, re.MULTILINE)
    assert macro is not None
    text = recipe[0].replace("$(provider)", macro[1])
    names = [variable.partition("=")[0] for variable in variables]
    assert [name for name in names if not re.search(rf"[,( ]{name}[,) ]", text)] == []


@pytest.mark.parametrize("command", [each for each in MAKE if "SCENARIO=" in each])
def test_the_scenario_can_be_read(command: str, checkout: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(checkout)
    given = dict(variable.split("=", 1) for variable in shlex.split(command)[2:])
    overrides = dict(pair.split("=", 1) for pair in given.get("SET", "").split())
    assert Scenario.load(given["SCENARIO"], overrides).name in ("cross-vxlan", "cross-canal", "review-2022", "my-vxlan")


def test_the_scenario_is_about_twenty_lines() -> None:
    assert len(SCENARIO.splitlines()) <= 22


def test_the_inventory_can_be_read(tmp_path: Path) -> None:
    file = tmp_path / "hosts.yaml"
    file.write_text(INVENTORY, encoding="utf-8")
    names = [machine.name for machine in Inventory.load(file).nodes]
    assert names == [node.name for node in Scenario.load("cross-vxlan").nodes]


def test_the_fields_are_those_of_summary_json(checkout: Path) -> None:
    assert run("make report SCENARIO=cross-vxlan PROVIDER=replay", checkout).returncode == 0
    summary = json.loads((checkout / "outputs/cross-vxlan/summary.json").read_text(encoding="utf-8"))
    table = README.partition("| field | type | meaning |")[2].partition("\n\n")[0]
    first_cells = [row.split(" | ")[0] for row in table.splitlines()]
    assert [field for cell in first_cells for field in re.findall(r"`(\w+)`", cell)] == list(summary)


def test_the_exit_codes_are_those_of_the_errors() -> None:
    table = README.partition("| code | meaning |")[2].partition("\n\n")[0]
    codes = {getattr(errors, name).exit_code for name in errors.__all__} - {errors.CalicoLabError.exit_code}
    assert {int(code) for code in re.findall(r"^\| (\d+) ", table, re.MULTILINE)} == codes | {130}


def test_an_error_exits_with_its_code() -> None:
    assert main(["report", "cross-vxlna", "--provider", "replay"]) == errors.ScenarioError.exit_code


@pytest.mark.parametrize("target", sorted(set(re.findall(r"\]\(([^)#:]+)\)", README))))
def test_a_link_leads_to_a_file(target: str) -> None:
    assert (ROOT / target).is_file()


def test_the_picture_is_small() -> None:
    assert (ROOT / "notebooks/images/report.png").stat().st_size <= 200_000


def test_names_no_folder_outside_the_project() -> None:
    assert re.findall(r"(?<![\w.>/:])/[a-z]+/", README) == []
