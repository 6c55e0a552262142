"""A scenario: what to review, as its YAML says, checked strictly.

A scenario is one file ``params/<name>.yaml``. Its top-level keys are exactly the parameters that papermill injects
into a notebook; `Scenario` is the same thing with types. An unknown key, an address outside its subnet, a block too
small for its pods: each is a `ScenarioError` of one line that names the file, the key, the value and what is allowed.
"""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Hashable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from .clouds import CLOUDS, ROUND_TRIPS, Cloud, round_trip_ms
from .errors import ScenarioError

__all__ = ["PARAMS", "Cni", "Expected", "Internet", "Node", "NodeGroup", "Pod", "Probes", "Scenario", "Site", "names"]

PARAMS = Path(__file__).resolve().parent.parent / "params"

T = TypeVar("T")

DnsLabel = Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$")]
Encapsulation = Literal["Always", "CrossSubnet", "Never"]


def _cloud(name: object) -> object:
    if name not in list(CLOUDS):  # a list in the file is no key to look up
        raise ValueError(f"unknown cloud, allowed: {', '.join(CLOUDS)}")
    return name


def _region(name: object) -> object:
    known = sorted(set().union(*ROUND_TRIPS))
    if name not in known:
        raise ValueError(f"unknown region, allowed: {', '.join(known)}")
    return name


def _network(value: object) -> object:
    """Pydantic's own message for a bad CIDR does not say what a good one looks like."""
    try:
        return IPv4Network(str(value))
    except ValueError as why:
        raise ValueError(f"{why}, allowed: an IPv4 network such as 192.168.10.0/24") from None


Network = Annotated[IPv4Network, BeforeValidator(_network)]


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Site(_Part):
    """A cloud region with its network."""

    name: DnsLabel
    cloud: Annotated[str, BeforeValidator(_cloud)]
    subnets: tuple[Network, ...] = Field(min_length=1)
    public: Network | None = None
    """Where public addresses come from for nodes that name none."""
    region: Annotated[str, BeforeValidator(_region)] | None = None
    """City that the data on distances know (`clouds`); it gives the latency where `internet` says none."""
    mtu_bytes: int | None = Field(default=None, ge=576, le=65535)
    """MTU of the nodes' NICs; None is the cloud's own."""
    blocked_protocols: tuple[Annotated[int, Field(ge=0, le=255)], ...] | None = None
    """IP protocol numbers that the network drops; None is the cloud's own, [] none: a switch where sources conflict."""
    source_check: bool | None = None
    """Whether the network checks that a NIC sends from its own address; None is what the cloud does by itself."""
    latency_ms: float | None = Field(default=None, ge=0, le=1000)
    """One way from here to the middle of the internet; None is half of the latency between two sites."""
    connection: str | None = None
    """MCKS's connection for this region."""


class NodeGroup(_Part):
    """One node, or `count` alike ones whose addresses are taken from their site in order."""

    name: DnsLabel
    site: str
    role: Literal["control-plane", "worker"] = "worker"
    count: int | None = Field(default=None, ge=1, le=50)
    pods: int = Field(default=1, ge=1)
    private_ip: IPv4Address | None = None
    public_ip: IPv4Address | None = None
    block: Network | None = None
    """The node's IPAM block; None is the next free one of the pool."""
    spec: str | None = None
    """MCKS's machine type."""

    @model_validator(mode="after")
    def _one_node_has_addresses(self) -> NodeGroup:
        given = [key for key in ("private_ip", "public_ip", "block") if getattr(self, key) is not None]
        if self.count is not None and given:
            raise ValueError(f"a group with count takes its addresses from its site, remove {', '.join(given)}")
        return self


class Cni(_Part):
    """What is installed: an install mode of Calico, or canal."""

    plugin: Literal["calico", "canal"]
    version: str = Field(pattern=r"^\d+\.\d+\.\d+$")
    backend: Literal["vxlan", "bird"] = "vxlan"
    """calico_backend of the ConfigMap; canal's tunnel is flannel's vxlan."""
    ipip: Encapsulation = "Never"
    vxlan: Encapsulation = "Always"
    node_ip: Literal["private", "public"]
    """What each node's annotation projectcalico.org/IPv4Address holds: private is what autodetection finds."""
    ip_pool: Network = IPv4Network("10.244.0.0/16")
    block_size: int = Field(default=26, ge=20, le=32)
    veth_mtu: int | None = Field(default=None, ge=576, le=65535)
    """MTU of pods and of the tunnel device; None is the smallest NIC's less the tunnel's headers, on each node."""

    @model_validator(mode="after")
    def _one_tunnel(self) -> Cni:
        """Backend and pools have to agree: Felix carries VXLAN, BIRD carries IPIP (calico, config-options.md)."""
        own, other = ("vxlan", "ipip") if self.backend == "vxlan" else ("ipip", "vxlan")
        if getattr(self, other) != "Never":
            raise ValueError(f"{other}: {getattr(self, other)} does not go with backend {self.backend}, allowed: Never")
        if getattr(self, own) == "Never":
            raise ValueError(
                f"{own}: Never leaves backend {self.backend} without a tunnel, allowed: Always, CrossSubnet"
            )
        if self.plugin == "canal" and (self.backend, self.vxlan) != ("vxlan", "Always"):
            raise ValueError("canal's flannel knows only backend: vxlan with vxlan: Always")
        return self


class Internet(_Part):
    """What lies between the sites."""

    mtu_bytes: int = Field(default=1500, ge=576, le=65535)
    latency_ms: float | None = Field(default=None, ge=0, le=1000)
    """One way between two sites; None is half of the round trip between their regions, or nothing without regions."""
    exact_latency: bool = False
    """Whether a kernel that cannot delay packets is to be replaced by one that can, which takes some minutes more.

    Otherwise such a kernel leaves the latency out, and the report says so: it changes no verdict. Jitter and loss
    might, and are never left out.
    """
    jitter_ms: float = Field(default=0.0, ge=0, le=1000)
    loss_percent: float = Field(default=0.0, ge=0, le=100)
    """Of the packets of one way."""


class Probes(_Part):
    """How the cluster is measured."""

    ping_count: int = Field(default=10, ge=1, le=1000)
    ping_interval_s: float = Field(default=0.05, ge=0.002, le=10)
    ping_timeout_s: float = Field(default=1.0, gt=0, le=30)
    command_timeout_s: float = Field(default=20.0, gt=0, le=600)


class Expected(_Part):
    """What the result should be, to be compared with the measurement and never fed into it."""

    installed: bool
    ping: bool | None = None
    """None where it is not even tried: the CNI is not installed."""
    cause: str | None = None
    source: str


@dataclass(frozen=True, slots=True)
class Pod:
    """A pod of a node: `address` is its IP, `namespace` and `name` are Kubernetes'."""

    name: str
    node: str
    address: str
    namespace: str = "default"


@dataclass(frozen=True, slots=True)
class Node:
    """A node with every address it has, all as text except the networks."""

    name: str
    role: str
    site: str
    cloud: str
    nic: str
    mtu_bytes: int
    private_ip: str
    prefix_len: int
    subnet: IPv4Network
    public_ip: str
    block: IPv4Network
    pods: tuple[Pod, ...]
    spec: str | None = None

    @property
    def gateway(self) -> str:
        """First host of the node's subnet, as in AWS and GCP."""
        return str(self.subnet[1])

    @property
    def tunnel_ip(self) -> str:
        """First address of the block, which Calico's IPAM hands to the tunnel before any pod exists."""
        return str(self.block[0])


class Scenario(_Part):
    """One review.

    Raises
    ------
    ScenarioError
        From `load` and `of`: on the first thing that is wrong.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, populate_by_name=True)

    name: DnsLabel = Field(alias="scenario")
    sites: tuple[Site, ...] = Field(min_length=1, max_length=4)
    groups: tuple[NodeGroup, ...] = Field(alias="nodes", min_length=1)
    cni: Cni
    public_ip_alias: bool = True
    """MCKS puts the public IP on the NIC as a /32 alias (cb-mcks, src/scripts/bootstrap.sh)."""
    internet: Internet = Internet()
    probes: Probes = Probes()
    expected: Expected | None = None

    # ------------------------------------------------------------------ reading

    @classmethod
    def load(cls, name: str | Path, overrides: Mapping[str, Any] | None = None) -> Scenario:
        """The scenario of that name in params/, or of that ``.yaml`` file.

        Parameters
        ----------
        name : str or Path
        overrides : mapping, optional
            Dotted keys to values, for example ``{"probes.ping_count": 5}``.
        """
        path = _file_of(name)
        raw = _read_yaml(path)
        for key, value in (overrides or {}).items():
            _override(raw, key, value)
        scenario = cls.of(raw, where=str(path if path.parent != PARAMS else Path(PARAMS.name, path.name)))
        if scenario.name != path.stem:
            raise ScenarioError(
                "the scenario has another name than its file",
                where=f"{path.name}: scenario",
                seen=scenario.name,
                todo=f"allowed: {path.stem}",
            )
        return scenario

    @classmethod
    def of(cls, parameters: Mapping[str, Any], *, where: str = "parameters") -> Scenario:
        """The scenario that these parameters (the keys of a scenario file) describe."""
        try:
            return cls.model_validate(dict(parameters))
        except ValidationError as error:
            raise _explain(error, where) from None

    def parameters(self) -> dict[str, Any]:
        """Plain data with the keys of a scenario file: what papermill injects and a recording keeps."""
        return self.model_dump(mode="json", by_alias=True, exclude_none=True)

    # ------------------------------------------------------------------ what follows from it

    @property
    def topology(self) -> Literal["cross", "single"]:
        return "cross" if len(self.sites) > 1 else "single"

    @property
    def latency_ms(self) -> float:
        """One way between two sites: what the file says, else half of the round trip between two regions, else none."""
        if self.internet.latency_ms is not None:
            return self.internet.latency_ms
        known = round_trip_ms(*self._regions) if len(self._regions) == 2 else None
        return known[0] / 2 if known else 0.0

    def latency_share_ms(self, site: Site) -> float:
        """One way from a site to the middle of the internet."""
        return self.latency_ms / 2 if site.latency_ms is None else site.latency_ms

    @property
    def _regions(self) -> list[str]:
        return [site.region for site in self.sites if site.region is not None]

    def blocked_protocols(self, site: str) -> tuple[int, ...]:
        """IP protocol numbers that the site's network drops: what the file says, else what its cloud does."""
        own = self.site(site).blocked_protocols
        return self.cloud(site).blocked_protocols if own is None else own

    def checks_source(self, site: str) -> bool:
        """Whether the site's network drops what does not come from the NIC's own address."""
        own = self.site(site).source_check
        return self.cloud(site).source_check if own is None else own

    def cloud(self, site: str) -> Cloud:
        return CLOUDS[self.site(site).cloud]

    def site(self, name: str) -> Site:
        return next(site for site in self.sites if site.name == name)

    def node(self, name: str) -> Node:
        return next(node for node in self.nodes if node.name == name)

    def peers(self, node: Node) -> tuple[Node, ...]:
        return tuple(peer for peer in self.nodes if peer.name != node.name)

    @cached_property
    def nodes(self) -> tuple[Node, ...]:
        """Every node with all its addresses, in the file's order."""
        return tuple(_place(self))

    @model_validator(mode="after")
    def _holds_together(self) -> Scenario:
        _distinct("sites", "name", [site.name for site in self.sites])
        unknown = [group.site for group in self.groups if group.site not in {site.name for site in self.sites}]
        if unknown:
            allowed = ", ".join(site.name for site in self.sites)
            raise ValueError(f"nodes: unknown site {unknown[0]}, allowed: {allowed}")
        subnets = [(f"site {site.name}", subnet) for site in self.sites for subnet in site.subnets]
        _disjoint("sites", [*subnets, ("cni.ip_pool", self.cni.ip_pool)])
        _distance_known(self)
        nodes = self.nodes
        if not 2 <= len(nodes) <= 50:
            raise ValueError(f"nodes: {len(nodes)} in all, allowed: 2 to 50")
        for key in ("name", "private_ip", "public_ip"):
            _distinct("nodes", key, [getattr(node, key) for node in nodes])
        _disjoint("nodes", [(f"block of {node.name}", node.block) for node in nodes])
        for node in nodes:
            if not node.block.subnet_of(self.cni.ip_pool):
                raise ValueError(f"nodes: block {node.block} of {node.name} is outside ip_pool {self.cni.ip_pool}")
            room = node.block.num_addresses - 1
            if len(node.pods) > room:
                raise ValueError(
                    f"nodes: block {node.block} of {node.name} has room for {room} pods beside the tunnel address, "
                    f"{len(node.pods)} asked for"
                )
        return self


def names(folder: Path = PARAMS) -> list[str]:
    """Names of all scenarios in a folder, sorted."""
    return sorted(path.stem for path in folder.glob("*.yaml"))


# ---------------------------------------------------------------------- placing nodes


def _place(scenario: Scenario) -> Iterable[Node]:
    taken = {ip for group in scenario.groups for ip in (group.private_ip, group.public_ip) if ip}
    blocks = {group.block for group in scenario.groups if group.block}
    free_blocks = (
        block
        for block in scenario.cni.ip_pool.subnets(new_prefix=scenario.cni.block_size)
        if not any(block.overlaps(other) for other in blocks)
    )
    private = {site.name: _hosts(site.subnets, taken) for site in scenario.sites}
    public = {site.name: _hosts((site.public,) if site.public else (), taken) for site in scenario.sites}
    for group in scenario.groups:
        site, cloud = scenario.site(group.site), scenario.cloud(group.site)
        for number in range(1, (group.count or 1) + 1):
            name = group.name if group.count is None else f"{group.name}-{number}"
            private_ip = group.private_ip or _next(private[site.name], f"site {site.name} has no private address left")
            public_ip = group.public_ip or _next(
                public[site.name], f"site {site.name} has no public address for node {name}, add public: <network>"
            )
            subnet = next((subnet for subnet in site.subnets if private_ip in subnet), None)
            if subnet is None or private_ip in (subnet[0], subnet[1], subnet[-1]):
                raise ValueError(
                    f"nodes: private_ip {private_ip} of {name} is no free host of site {site.name}, "
                    f"allowed: {', '.join(map(str, site.subnets))} without first, gateway and last address"
                )
            block = group.block or _next(free_blocks, f"cni.ip_pool {scenario.cni.ip_pool} has no block left")
            yield Node(
                name=name,
                role=group.role,
                site=site.name,
                cloud=site.cloud,
                nic=cloud.nic,
                mtu_bytes=site.mtu_bytes or cloud.mtu_bytes,
                private_ip=str(private_ip),
                prefix_len=cloud.nic_prefix_len or subnet.prefixlen,
                subnet=subnet,
                public_ip=str(public_ip),
                block=block,
                pods=tuple(
                    Pod(name=f"probe-{index + 1}-{name}", node=name, address=str(address))
                    for index, address in enumerate(_addresses(block, group.pods))
                ),
                spec=group.spec,
            )


def _hosts(networks: Sequence[IPv4Network], taken: set[IPv4Address]) -> Iterator[IPv4Address]:
    """Free hosts from the tenth on: clouds keep the first few for themselves."""
    return (
        network[offset]
        for network in networks
        for offset in range(10, network.num_addresses - 1)
        if network[offset] not in taken
    )


def _addresses(block: IPv4Network, count: int) -> Iterable[IPv4Address]:
    """The first address is the tunnel's. More than fit are made up: `_holds_together` refuses them by count."""
    return (block.network_address + offset for offset in range(1, count + 1))


def _next(values: Iterator[T], problem: str) -> T:
    try:
        return next(values)
    except StopIteration:
        raise ValueError(problem) from None


# ---------------------------------------------------------------------- rules over several keys


def _distinct(where: str, key: str, values: Sequence[str]) -> None:
    twice = sorted({value for value in values if values.count(value) > 1})
    if twice:
        raise ValueError(f"{where}: {key} {twice[0]} stands more than once, each must be its own")


def _disjoint(where: str, networks: Sequence[tuple[str, IPv4Network]]) -> None:
    ordered = sorted(networks, key=lambda entry: entry[1])
    for (name, network), (other_name, other) in itertools.pairwise(ordered):
        if network.overlaps(other):
            raise ValueError(f"{where}: {network} ({name}) and {other} ({other_name}) overlap, each must be its own")


def _distance_known(scenario: Scenario) -> None:
    """Regions have to give the latency wherever the file names some and says no latency: no silent nothing."""
    said = scenario.internet.latency_ms is not None or all(site.latency_ms is not None for site in scenario.sites)
    regions = scenario._regions
    if said or not regions or len(scenario.sites) == 1:
        return
    todo = "say internet.latency_ms"
    if len(scenario.sites) > 2:
        raise ValueError(f"sites: regions give the latency between two sites, there are {len(scenario.sites)}, {todo}")
    if len(regions) < 2:
        unnamed = next(site.name for site in scenario.sites if site.region is None)
        raise ValueError(f"sites: site {unnamed} names no region, so its distance is not known; name one, or {todo}")
    if round_trip_ms(*regions) is None:
        raise ValueError(f"sites: no round trip between {regions[0]} and {regions[1]} is known, {todo}")


# ---------------------------------------------------------------------- reading and explaining


class _StrictLoader(yaml.SafeLoader):
    """SafeLoader that refuses a key that stands twice: YAML would silently keep the last one."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        seen: set[Any] = set()
        for key_node, _ in node.value:
            key = self.construct_object(key_node, deep=deep)
            if not isinstance(key, Hashable):
                continue  # refused below
            if key in seen:
                raise yaml.MarkedYAMLError(problem=f"key {key} stands twice", problem_mark=key_node.start_mark)
            seen.add(key)
        return super().construct_mapping(node, deep=deep)


def _file_of(name: str | Path) -> Path:
    path = Path(name)
    if path.suffix == ".yaml":
        if not path.is_file():
            raise ScenarioError("no such scenario file", where=str(path), todo="name a file that exists")
        return path
    path = PARAMS / f"{name}.yaml"
    if not path.is_file():
        known = names()
        raise ScenarioError(
            f"no scenario has that name{_nearest(str(name), known)}",
            where="SCENARIO",
            seen=str(name),
            todo=f"allowed: {', '.join(known)}",
        )
    return path


def _read_yaml(path: Path) -> dict[str, Any]:
    try:
        raw = yaml.load(path.read_text(encoding="utf-8"), Loader=_StrictLoader)  # noqa: S506 (a SafeLoader)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f"{path.name}, line {mark.line + 1}" if mark else path.name
        raise ScenarioError(
            "not a YAML file", where=where, seen=getattr(error, "problem", None) or str(error), todo="mend that line"
        ) from None
    if not isinstance(raw, dict):
        raise ScenarioError(
            "a scenario is a mapping of keys",
            where=path.name,
            seen=type(raw).__name__,
            todo=f"see {PARAMS.name}/cross-vxlan.yaml",
        )
    return raw


def _override(raw: dict[str, Any], dotted: str, value: Any) -> None:
    """Set one value in place. What the last key may be is for the model to say; the way there must exist."""
    *way, last = dotted.split(".")
    here: Any = raw
    try:
        for key in way:
            here = here[int(key)] if isinstance(here, list) else here.setdefault(key, {})
        here[int(last) if isinstance(here, list) else last] = value
    except (ValueError, IndexError, TypeError, AttributeError):
        raise ScenarioError(
            "no such key to override",
            where=f"--set {dotted}",
            seen=repr(value),
            todo="write it as in the scenario file, for example probes.ping_count=5",
        ) from None


def _nearest(word: str, allowed: Iterable[str]) -> str:
    close = difflib.get_close_matches(word, list(allowed), n=1, cutoff=0.5)
    return f", did you mean {close[0]}?" if close else ""


def _explain(error: ValidationError, where: str) -> ScenarioError:
    """The first of pydantic's complaints, on one line."""
    first, *others = error.errors()
    # A list with a wrong item is complained of once more, as too short.
    others = [other for other in others if first["loc"][: len(other["loc"])] != other["loc"]]
    more = f" ({len(others)} more after this one)" if others else ""
    key = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in first["loc"]).lstrip(".")
    place = f"{where}: {key}" if key else where
    seen: object = first["input"]
    if first["type"] == "extra_forbidden":
        allowed = _keys_at(first["loc"][:-1])
        return ScenarioError(
            f"unknown key{_nearest(str(first['loc'][-1]), allowed)}",
            where=place,
            seen=seen,
            todo=f"allowed: {', '.join(allowed)}{more}",
        )
    if first["type"] == "missing":
        return ScenarioError("this key is missing", where=place, todo=f"add it{more}")
    message = first["msg"].removeprefix("Value error, ")
    # A rule over several keys already says what it saw; the whole mapping would drown it.
    return ScenarioError(
        message, where=place, seen=None if isinstance(seen, Mapping | BaseModel) else seen, todo=more.strip() or None
    )


def _keys_at(loc: Sequence[int | str]) -> list[str]:
    """The keys that the model has at that place."""
    model: Any = Scenario
    for part in loc:
        if isinstance(part, int):
            continue
        field = next(field for name, field in model.model_fields.items() if (field.alias or name) == part)
        model = next(
            kind for kind in (field.annotation, *_arguments(field.annotation)) if hasattr(kind, "model_fields")
        )
    return [field.alias or name for name, field in model.model_fields.items()]


def _arguments(annotation: Any) -> tuple[Any, ...]:
    return tuple(getattr(annotation, "__args__", ()))
