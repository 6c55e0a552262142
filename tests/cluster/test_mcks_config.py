"""Which MCKS and which namespace: who says it, and who wins."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from calico_lab.cluster.mcks.config import Server, find_server
from calico_lab.errors import InputError
from calico_lab.scenario import McksPlace, Scenario

CBCTL = """\
current-context: local
contexts:
  local: {name: local, namespace: file, urls: {mcks: "http://file:1470/mcks", spider: "http://file:1024/spider"}}
  other: {namespace: other, urls: {mcks: "http://other:1470/ladybug"}}
  bare: {}
"""


@pytest.fixture
def config(tmp_path: Path) -> Path:
    path = tmp_path / "config"
    path.write_text(CBCTL, encoding="utf-8")
    return path


def found(config: Path, environment: dict[str, str] | None = None, **said: Any) -> tuple[str, str]:
    server = find_server(environment=environment or {}, config=config, **said)
    return server.url, server.namespace


def refused(config: Path, environment: dict[str, str] | None = None, **said: Any) -> str:
    with pytest.raises(InputError) as error:
        found(config, environment, **said)
    return str(error.value)


ENVIRONMENT = {"MCKS_URL": "http://env:1470", "MCKS_NAMESPACE": "env"}
PLACE = McksPlace(url="http://scenario:1470", namespace="scenario")

WINS = {
    "argument": (
        {"url": "http://argument:1470/", "namespace": "argument", "environment": ENVIRONMENT},
        ("http://argument:1470", "argument"),
    ),
    "context-of-an-argument": (
        {"context": "other", "environment": ENVIRONMENT},
        ("http://other:1470/ladybug", "other"),
    ),
    "environment": ({"environment": ENVIRONMENT, "place": PLACE}, ("http://env:1470", "env")),
    "context-of-the-environment": (
        {"environment": {"MCKS_CONTEXT": "other"}, "place": PLACE},
        ("http://other:1470/ladybug", "other"),
    ),
    "scenario": ({"place": PLACE}, ("http://scenario:1470", "scenario")),
    "context-of-the-scenario": ({"place": McksPlace(context="other")}, ("http://other:1470/ladybug", "other")),
    "current-context": ({}, ("http://file:1470/mcks", "file")),
    "each-by-itself": (
        {"environment": {"MCKS_NAMESPACE": "env"}, "place": McksPlace(url="http://scenario:1470")},
        ("http://scenario:1470", "env"),
    ),
    "what-a-context-leaves-open": ({"context": "bare"}, ("http://file:1470/mcks", "file")),
}


@pytest.mark.parametrize(("said", "expected"), WINS.values(), ids=WINS)
def test_the_first_who_says_it_wins(config: Path, said: dict[str, Any], expected: tuple[str, str]) -> None:
    assert found(config, **said) == expected


def test_without_an_address_it_is_this_machine(tmp_path: Path) -> None:
    assert found(tmp_path / "absent", namespace="a") == ("http://localhost:1470", "a")


def test_a_file_is_read_only_for_what_nobody_else_says(tmp_path: Path) -> None:
    broken = tmp_path / "config"
    broken.write_text("{", encoding="utf-8")
    assert found(broken, ENVIRONMENT) == ("http://env:1470", "env")
    assert refused(broken) == f"{broken}: cannot be read; seen: ParserError"


def test_the_only_context_is_the_current_one(config: Path) -> None:
    config.write_text("contexts: {one: {namespace: one}}", encoding="utf-8")
    assert found(config) == ("http://localhost:1470", "one")


def test_a_scenario_file_can_say_it() -> None:
    scenario = Scenario.load("cross-vxlan", {"mcks.url": "http://a:1470", "mcks.namespace": "acornsoft"})
    assert scenario.mcks == McksPlace(url="http://a:1470", namespace="acornsoft")
    assert Scenario.of(scenario.parameters()) == scenario


REFUSED = {
    "no-namespace": (
        "contexts: {}",
        {},
        "MCKS_NAMESPACE: no namespace is named; set it to one that Tumblebug knows, "
        "or name a context of {config} with MCKS_CONTEXT",
    ),
    "unknown-context": (
        CBCTL,
        {"context": "locla"},
        "{config}: no context has that name; seen: locla; allowed: bare, local, other",
    ),
    "context-without-a-file": (
        "",
        {"context": "local"},
        "{config}: no context has that name; seen: local; allowed: none, there is no such file or it has no contexts",
    ),
    "no-current-context": (
        "contexts: {a: {}, b: {}}",
        {},
        "{config}: it has no current-context; name one with MCKS_CONTEXT; allowed: a, b",
    ),
    "no-context": ("contexts: {a: 1}", {"context": "a"}, "{config}: contexts.a: not a context of cbctl"),
    "no-contexts": ("[]\n- a", {}, "{config}: cannot be read; seen: ParserError"),
    "list": ("- a", {}, "{config}: not a file of cbctl's; it has current-context and contexts"),
    "no-address": (
        CBCTL,
        {"url": "localhost:1470"},
        "MCKS_URL: not the address of an MCKS; seen: localhost:1470; "
        "write it as http://localhost:1470 or http://localhost:1470/mcks",
    ),
    "no-port": (
        CBCTL,
        {"url": "http://localhost:port"},
        "MCKS_URL: not the address of an MCKS; seen: http://localhost:port; "
        "write it as http://localhost:1470 or http://localhost:1470/mcks",
    ),
    "password": (
        CBCTL,
        {"url": "http://me:secret@localhost:1470"},
        "MCKS_URL: an address with a password in it; seen: localhost; "
        "write it as http://localhost:1470 or http://localhost:1470/mcks",
    ),
}


@pytest.mark.parametrize(("text", "said", "message"), REFUSED.values(), ids=REFUSED)
def test_what_cannot_be_is_one_line(config: Path, text: str, said: dict[str, Any], message: str) -> None:
    config.write_text(text, encoding="utf-8")
    assert refused(config, **said) == message.format(config=config)


def test_the_endpoint_stays_where_the_path_changes() -> None:
    servers = [Server(url, "a") for url in ("http://Host:1470", "http://host:1470/mcks", "http://host:1470/ladybug")]
    assert {server.origin for server in servers} == {"http://host:1470"}
