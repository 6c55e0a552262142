"""An inventory: machines that are reached over SSH, as a person lists them in a YAML file, checked strictly.

::

    user: cb-user                        # for all machines that name no other
    key: ~/.ssh/id_ed25519               # left out: what ssh-agent holds, then ~/.ssh/id_*
    jump: {address: 203.0.113.9, user: me}
    nodes:
      - {name: c-1-h43jk, address: 54.64.9.64}
      - {name: w-1-36384, address: 35.189.140.156, key: ~/.ssh/gcp}
"""

from __future__ import annotations

from ipaddress import IPv4Address
from pathlib import Path
from typing import Annotated, Literal

import paramiko
from pydantic import BeforeValidator, Field, ValidationError, model_validator

from ..errors import InputError
from ..scenario import DnsName, Network
from ..strict import Part, explain, read_mapping
from .ssh import Jump, Login

__all__ = ["Door", "Inventory", "Machine", "PodEntry"]


def _expanded(value: object) -> object:
    return Path(value).expanduser() if isinstance(value, str) else value


File = Annotated[Path, BeforeValidator(_expanded)]
Port = Annotated[int, Field(ge=1, le=65535)]


class Door(Part):
    """An sshd, and who logs in there."""

    address: Annotated[str, Field(min_length=1)]
    port: Port = 22
    user: str | None = None
    key: File | None = None


class PodEntry(Part):
    """A pod by its Kubernetes name."""

    name: DnsName
    namespace: str = "default"
    address: IPv4Address


class Machine(Door):
    """A node; what is left out is as the scenario's node of the same name says, or is asked of the machine."""

    name: DnsName
    role: Literal["control-plane", "worker"] | None = None
    site: str | None = None
    private_ip: IPv4Address | None = None
    public_ip: IPv4Address | None = None
    block: Network | None = None
    pods: tuple[PodEntry, ...] = ()
    """Left out: all that the machine has a route to."""
    jump: Door | None = None


class Inventory(Part):
    """The file.

    Raises
    ------
    InputError
        From `load` and `logins`: on the first thing that is wrong.
    """

    user: str | None = None
    key: File | None = None
    known_hosts: File = Path("~/.ssh/known_hosts").expanduser()
    jump: Door | None = None
    node_log: str | None = None
    """The shell line that prints the CNI daemon's log; left out, what the container runtime kept is read."""
    nodes: tuple[Machine, ...] = Field(min_length=2)

    @model_validator(mode="after")
    def _holds_together(self) -> Inventory:
        names = [machine.name for machine in self.nodes]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"nodes: name {twice[0]} stands more than once, each must be its own")
        for door in (*self.nodes, *([self.jump] if self.jump else [])):
            if door.user is None and self.user is None:
                raise ValueError(f"no user is named for {door.address}, add user: to it or to the whole file")
        return self

    @classmethod
    def load(cls, path: Path) -> Inventory:
        """The inventory in that file."""
        if not path.is_file():
            raise InputError("no such inventory", where=str(path), todo="name a file that exists: INVENTORY=hosts.yaml")
        raw = read_mapping(path, InputError, "an inventory", "see the README, PROVIDER=ssh")
        try:
            return cls.model_validate(raw)
        except ValidationError as error:
            raise explain(error, path.name, cls, InputError) from None

    def logins(self, *, trust_first_use: bool = False) -> dict[str, Login]:
        """How to log in to each machine, by its name; machines behind the same jump host share its connection."""
        jumps: dict[Door, Jump] = {}

        def login(door: Door, jump: Door | None) -> Login:
            if jump is not None and jump not in jumps:
                jumps[jump] = Jump(login(jump, None))
            key = door.key or self.key
            return Login(
                address=door.address,
                port=door.port,
                user=door.user or self.user or "",
                key=_read_key(key) if key else None,
                known_hosts=self.known_hosts,
                trust_first_use=trust_first_use,
                jump=jumps[jump] if jump else None,
            )

        return {machine.name: login(machine, machine.jump or self.jump) for machine in self.nodes}


def _read_key(path: Path) -> paramiko.PKey:
    try:
        return paramiko.PKey.from_path(path)
    except FileNotFoundError:
        what, seen, todo = "no such key file", None, "name the private key's file"
    except (paramiko.PasswordRequiredException, TypeError):  # the latter is what cryptography says without a password
        what, seen, todo = "the key is encrypted", None, "add it with ssh-add, and leave key: out"
    except (OSError, ValueError, paramiko.SSHException, paramiko.pkey.UnknownKeyType) as problem:
        what, seen, todo = "not a private key that can be used", str(problem), "name an Ed25519, ECDSA or RSA key"
    raise InputError(what, where=f"key: {path}", seen=seen, todo=todo)
