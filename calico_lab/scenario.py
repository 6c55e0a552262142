"""A scenario: what to review, as its YAML says, checked strictly.

A scenario is one file ``params/<name>.yaml``. Its top-level keys are exactly the parameters that papermill injects
into a notebook; `Scenario` is the same thing with types. An unknown key, an address outside its subnet, a block too
small for its pods: each is a `ScenarioError` of one line that names the file, the key, the value and what is allowed.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from .clouds import CLOUDS, ROUND_TRIPS, Cloud, round_trip_ms
from .errors import ScenarioError
from .strict import Part, explain, nearest, read_mapping

__all__ = [
    "PARAMS",
    "Cni",
    "Expected",
    "Found",
    "Internet",
    "Kubernetes",
    "McksPlace",
    "Node",
    "NodeGroup",
    "Pod",
    "Probes",
    "Scenario",
    "Site",
    "names",
]

PARAMS = Path(__file__).resolve().parent.parent / "params"

T = TypeVar("T")

DnsLabel = Annotated[str, Field(pattern=r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$")]
DnsName = Annotated[
    str, Field(pattern=r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$", max_length=253)
]
"""As Kubernetes takes for a node: labels with dots between them."""

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


class Site(Part):
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


class NodeGroup(Part):
    """One node, or `count` alike ones whose addresses are taken from their site in order."""

    name: DnsName
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
    nic: str | None = None
    """Name of its first NIC; None is what its cloud calls it."""
    mtu_bytes: int | None = Field(default=None, ge=576, le=65535)
    """MTU of that NIC; None is the site's."""
    prefix_len: int | None = Field(default=None, ge=1, le=32)
    """Prefix length of the NIC's address; None is what its cloud gives."""

    @model_validator(mode="after")
    def _one_node_has_addresses(self) -> NodeGroup:
        given = [key for key in ("private_ip", "public_ip", "block") if getattr(self, key) is not None]
        if self.count is not None and given:
            raise ValueError(f"a group with count takes its addresses from its site, remove {', '.join(given)}")
        return self


class Cni(Part):
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


class Internet(Part):
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


class Probes(Part):
    """How the cluster is measured."""

    ping_count: int = Field(default=40, ge=1, le=1000)
    """Enough for a distribution; where none of 40 is lost, the loss rate is below 9 % (Wilson, 95 %)."""
    ping_interval_s: float = Field(default=0.02, ge=0.002, le=10)
    ping_timeout_s: float = Field(default=1.0, gt=0, le=30)
    command_timeout_s: float = Field(default=20.0, gt=0, le=600)


class McksPlace(Part):
    """Where MCKS is, for those who do not say so in the environment or in cbctl's file."""

    url: str | None = None
    namespace: str | None = None
    context: str | None = None
    """A context of cbctl's file, for what the other two leave open."""


class Kubernetes(Part):
    """What an existing cluster needs beside the CNI; the lab has no use for it."""

    manifest: str | None = None
    """File to install in the place of the version's official manifest."""
    agent_image: str = "docker.io/library/busybox:1.36.1"
    """What runs commands on the nodes; it has to have sh, timeout and nsenter."""
    probe_image: str = "docker.io/library/busybox:1.36.1"
    """What the pods that are pinged run; it has to have sleep."""
    probe_selector: str | None = None
    """Labels of running pods to ping instead of own ones, as in ``kubectl get pods -l``: one on every node."""
    ready_timeout_s: float = Field(default=180.0, gt=0, le=3600)
    """How long each DaemonSet and Deployment has until it is ready."""


class Expected(Part):
    """What the result should be, to be compared with the measurement and never fed into it."""

    installed: bool
    ping: bool | None = None
    """None where it is not even tried: the CNI is not installed."""
    cause: str | None = None
    source: str


@dataclass(frozen=True, slots=True)
class Pod:
    """A pod of a node: `address` is its IP, `namespace` and `name` are Kubernetes'.

    `veth` is its interface on the node where that was seen; otherwise it follows from the names.
    """

    name: str
    node: str
    address: str
    namespace: str = "default"
    veth: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A machine that is there, which takes the place of a scenario's node; None is what could not be found out.

    Attributes
    ----------
    name, role, site : str
    private_ip, public_ip : str or None
    nic : str or None
        Its first NIC, with the private address.
    mtu_bytes, prefix_len : int or None
        Of that NIC and its address.
    block : str or None
        IPAM block of its pods.
    spec : str or None
        Machine type.
    """

    name: str
    role: str
    site: str
    private_ip: str | None = None
    public_ip: str | None = None
    nic: str | None = None
    mtu_bytes: int | None = None
    prefix_len: int | None = None
    block: str | None = None
    spec: str | None = None


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


class Scenario(Part):
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
    kubernetes: Kubernetes | None = None
    mcks: McksPlace | None = None
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
        raw = read_mapping(path, ScenarioError, "a scenario", f"see {PARAMS.name}/cross-vxlan.yaml")
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
            raise explain(error, where, cls, ScenarioError) from None

    def on(self, machines: Sequence[Found]) -> Scenario:
        """The same review of these machines: they take the place of the nodes, and their networks that of the subnets.

        What could not be found out of a machine is as the node of that name says, where there is one.
        """
        said = {node.name: node for node in self.nodes}
        nodes = [_described(machine, said.get(machine.name)) for machine in machines]
        sites = [_with_subnets(site, [node for node in nodes if node["site"] == site.name]) for site in self.sites]
        used = [site for site in sites if any(node["site"] == site["name"] for node in nodes)]
        return Scenario.of(self.parameters() | {"sites": used, "nodes": nodes}, where="the machines that were found")

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
            # Whoever gives the prefix length has the address from a NIC, where no cloud may have taken it.
            if subnet is None or (group.prefix_len is None and private_ip in (subnet[0], subnet[1], subnet[-1])):
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
                nic=group.nic or cloud.nic,
                mtu_bytes=group.mtu_bytes or site.mtu_bytes or cloud.mtu_bytes,
                private_ip=str(private_ip),
                prefix_len=group.prefix_len or cloud.nic_prefix_len or subnet.prefixlen,
                subnet=subnet,
                public_ip=str(public_ip),
                block=block,
                pods=tuple(
                    Pod(name=f"probe-{index + 1}-{name}", node=name, address=str(address))
                    for index, address in enumerate(_addresses(block, group.pods))
                ),
                spec=group.spec,
            )


def _described(machine: Found, said: Node | None) -> dict[str, Any]:
    """A machine as an entry of `nodes`."""
    entry = {key: value for key, value in asdict(machine).items() if value is not None}
    if said is not None:
        known = {name: getattr(said, name) for name in ("private_ip", "public_ip", "block", "spec")}
        entry = {key: str(value) for key, value in known.items() if value is not None} | entry
    return entry


def _with_subnets(site: Site, nodes: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """A site with the networks that its machines' addresses are in, where it does not name them.

    A cloud that hands out /32 does not tell a machine its network; such an address gets the /24 that it is in.
    """
    subnets = list(site.subnets)
    for node in nodes:
        address = IPv4Address(node["private_ip"]) if "private_ip" in node else None
        if address and not any(address in subnet for subnet in subnets):
            length = min(node.get("prefix_len", 24), 30)
            own = IPv4Network((int(address), 24 if node.get("prefix_len") == 32 else length), strict=False)
            subnets = [subnet for subnet in subnets if not subnet.overlaps(own)] + [own]
    return site.model_dump(mode="json", exclude_none=True) | {"subnets": [str(subnet) for subnet in subnets]}


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
            f"no scenario has that name{nearest(str(name), known)}",
            where="SCENARIO",
            seen=str(name),
            todo=f"allowed: {', '.join(known)}",
        )
    return path


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
