"""Inventories: what a file may say, and the one line for what it may not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import paramiko
import pytest
import yaml
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat

from calico_lab.cluster.inventory import Inventory
from calico_lab.errors import InputError
from tests.cluster.test_ssh import new_key

TWO = [{"name": "c-1", "address": "203.0.113.5"}, {"name": "w-1", "address": "203.0.113.6"}]


def written(folder: Path, content: Any) -> Path:
    path = folder / "hosts.yaml"
    path.write_text(content if isinstance(content, str) else yaml.safe_dump(content), encoding="utf-8")
    return path


def test_the_least_that_an_inventory_says(tmp_path: Path) -> None:
    inventory = Inventory.load(written(tmp_path, {"user": "me", "nodes": TWO}))
    logins = inventory.logins()
    assert [(name, login.address, login.port, login.user, login.key) for name, login in logins.items()] == [
        ("c-1", "203.0.113.5", 22, "me", None),
        ("w-1", "203.0.113.6", 22, "me", None),
    ]
    assert {login.known_hosts for login in logins.values()} == {Path.home() / ".ssh/known_hosts"}


def test_a_machine_overrides_what_holds_for_all(tmp_path: Path) -> None:
    own = {"user": "root", "port": 2222, "jump": {"address": "203.0.113.9", "user": "you", "port": 2200}}
    raw = {"user": "me", "jump": {"address": "203.0.113.8"}, "nodes": [TWO[0], TWO[1] | own, TWO[1] | {"name": "w-2"}]}
    first, second, third = Inventory.load(written(tmp_path, raw)).logins().values()
    assert (first.user, second.user, second.port) == ("me", "root", 2222)
    jumps = [login.jump for login in (first, second, third)]
    assert [(jump.login.address, jump.login.user, jump.login.port) for jump in jumps if jump] == [
        ("203.0.113.8", "me", 22),
        ("203.0.113.9", "you", 2200),
        ("203.0.113.8", "me", 22),
    ]
    assert first.jump is third.jump  # one connection for both


@pytest.mark.parametrize("kind", ["ed25519", "ecdsa", "rsa"])
def test_keys_of_every_usual_kind(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "key"
    if kind == "ed25519":
        path.write_text(new_key(), encoding="utf-8")
    else:
        made = paramiko.ECDSAKey.generate() if kind == "ecdsa" else paramiko.RSAKey.generate(2048)
        made.write_private_key_file(str(path))
    login = Inventory.load(written(tmp_path, {"user": "me", "key": str(path), "nodes": TWO})).logins()["c-1"]
    assert login.key is not None
    assert kind.removeprefix("ec") in login.key.get_name()


def test_a_key_is_not_in_what_is_printed_of_a_login(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_text(new_key(), encoding="utf-8")
    login = Inventory.load(written(tmp_path, {"user": "me", "key": str(path), "nodes": TWO})).logins()["c-1"]
    assert "key=" not in repr(login)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(
            {"user": "me", "nodes": [TWO[0] | {"adress": "x"}, TWO[1]]},
            "hosts.yaml: nodes[0].adress: unknown key, did you mean address?; seen: x; "
            "allowed: address, port, user, key, name, role, site, private_ip, public_ip, block, pods, jump",
            id="misspelled-key",
        ),
        pytest.param(
            {"user": "me", "nodes": [TWO[0], {"name": "w-1"}]},
            "hosts.yaml: nodes[1].address: this key is missing; add it",
            id="no-address",
        ),
        pytest.param(
            {"nodes": TWO},
            "hosts.yaml: no user is named for 203.0.113.5, add user: to it or to the whole file",
            id="no-user",
        ),
        pytest.param(
            {"user": "me", "nodes": [TWO[0], TWO[0]]},
            "hosts.yaml: nodes: name c-1 stands more than once, each must be its own",
            id="twice",
        ),
        pytest.param(
            "- name: c-1\n",
            "hosts.yaml: an inventory is a mapping of keys; seen: list; see the README, PROVIDER=ssh",
            id="no-mapping",
        ),
        pytest.param(
            "user: me\nuser: you\n",
            "hosts.yaml, line 2: not a YAML file; seen: key user stands twice; mend that line",
            id="key-twice",
        ),
    ],
)
def test_a_bad_inventory_is_one_line(tmp_path: Path, content: Any, message: str) -> None:
    with pytest.raises(InputError) as error:
        Inventory.load(written(tmp_path, content))
    assert str(error.value) == message


def test_a_missing_inventory_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError) as error:
        Inventory.load(tmp_path / "none.yaml")
    assert str(error.value) == (
        f"{tmp_path}/none.yaml: no such inventory; name a file that exists: INVENTORY=hosts.yaml"
    )


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(None, "no such key file; name the private key's file", id="missing"),
        pytest.param(
            "no key\n", "not a private key that can be used; .*name an Ed25519, ECDSA or RSA key", id="something-else"
        ),
    ],
)
def test_a_key_that_cannot_be_read_is_one_line(tmp_path: Path, content: str | None, message: str) -> None:
    path = tmp_path / "key"
    if content is not None:
        path.write_text(content, encoding="utf-8")
    inventory = Inventory.load(written(tmp_path, {"user": "me", "key": str(path), "nodes": TWO}))
    with pytest.raises(InputError, match=f"^key: {path}: {message}$"):
        inventory.logins()


@pytest.mark.parametrize("form", [PrivateFormat.OpenSSH, PrivateFormat.TraditionalOpenSSL])
def test_an_encrypted_key_is_left_to_the_agent(tmp_path: Path, form: PrivateFormat) -> None:
    path = tmp_path / "key"
    made = ec.generate_private_key(ec.SECP256R1())
    path.write_bytes(made.private_bytes(Encoding.PEM, form, BestAvailableEncryption(b"secret")))
    inventory = Inventory.load(written(tmp_path, {"user": "me", "key": str(path), "nodes": TWO}))
    with pytest.raises(InputError) as error:
        inventory.logins()
    assert str(error.value) == f"key: {path}: the key is encrypted; add it with ssh-add, and leave key: out"
