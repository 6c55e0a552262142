"""What each module may know of: the recording is the waist, and nothing behind it touches a live system."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import pkgutil
from functools import cache
from pathlib import Path

import pytest

import calico_lab
from calico_lab.checks import RULES

ROOT = Path(calico_lab.__file__).parent
MODULES = sorted(
    module.name
    for module in pkgutil.walk_packages([str(ROOT)], "calico_lab.")
    if not module.name.endswith("__main__")  # importing it runs the command
)
PROGRAMS = {"calico_lab.lab.agent"}  # run by its path, never imported
BEHIND_THE_WAIST = sorted(
    [
        "calico_lab.audit",
        "calico_lab.calico",
        "calico_lab.clouds",
        "calico_lab.commands",
        "calico_lab.compare",
        "calico_lab.facts",
        "calico_lab.fixes",
        "calico_lab.forwarding",
        "calico_lab.journey",
        "calico_lab.latency",
        "calico_lab.mtu",
        "calico_lab.overview",
        "calico_lab.page",
        "calico_lab.plot",
        "calico_lab.predict",
        "calico_lab.recording",
        "calico_lab.review",
        "calico_lab.scenario",
        "calico_lab.tables",
        "calico_lab.walk",
        *(name for name in MODULES if name.startswith(("calico_lab.checks", "calico_lab.parsers"))),
    ]
)
LIVE = ("calico_lab.capture", "calico_lab.cluster", "calico_lab.lab", "calico_lab.run", "calico_lab.kernel")
PROCESSES_SOCKETS_CLOCKS = (
    "asyncio",
    "http",
    "multiprocessing",
    "paramiko",
    "selectors",
    "socket",
    "subprocess",
    "threading",
    "time",
    "urllib",
)


@cache
def _tree(module: str) -> ast.Module:
    return ast.parse(Path(importlib.import_module(module).__file__).read_text(encoding="utf-8"))


def _imports(module: str) -> set[str]:
    """Absolute names of what a module imports anywhere in it, also inside a function."""
    parent = importlib.import_module(module).__spec__.parent
    found: set[str] = set()
    for node in ast.walk(_tree(module)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = (
                importlib.util.resolve_name("." * node.level + (node.module or ""), parent)
                if node.level
                else node.module
            )
            submodules = {f"{base}.{alias.name}" for alias in node.names} & set(MODULES)
            found |= submodules or {base}
    return found


def _reached(module: str) -> set[str]:
    """Everything that it imports, and what that imports in turn, within this package."""
    reached: set[str] = set()
    ahead = [module]
    while ahead:
        for name in _imports(ahead.pop()) - reached:
            reached.add(name)
            if name in MODULES:
                ahead.append(name)
    return reached


def _within(name: str, packages: tuple[str, ...]) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


@pytest.mark.parametrize("module", BEHIND_THE_WAIST)
def test_nothing_behind_the_recording_reaches_a_live_system(module: str) -> None:
    assert [name for name in sorted(_reached(module)) if _within(name, (*LIVE, *PROCESSES_SOCKETS_CLOCKS))] == []


@pytest.mark.parametrize("module", sorted(set(BEHIND_THE_WAIST) - {"calico_lab.recording"}))
def test_only_the_recording_itself_asks_what_time_it_is(module: str) -> None:
    asked = [
        ast.unparse(node)
        for node in ast.walk(_tree(module))
        if isinstance(node, ast.Attribute) and node.attr in ("now", "utcnow", "today")
    ]
    assert asked == []


def test_the_line_can_be_crossed() -> None:
    """`run` stands on both sides: what these tests look for is there to be found."""
    assert "calico_lab.cluster.lab" in _reached("calico_lab.run")
    assert "paramiko" in _reached("calico_lab.run")


@pytest.mark.parametrize("module", sorted({*MODULES} - PROGRAMS))
def test_all_names_what_a_module_offers(module: str) -> None:
    loaded = importlib.import_module(module)
    defined = {
        name
        for name, thing in vars(loaded).items()
        if not name.startswith("_")
        and (inspect.isclass(thing) or inspect.isroutine(thing))
        and thing.__module__ == module
        and thing not in RULES.values()  # offered by their id
    }
    offered = set(getattr(loaded, "__all__", ()))  # a package may offer nothing but its modules
    assert sorted(name for name in offered if not hasattr(loaded, name)) == []
    assert sorted(defined - offered) == []
