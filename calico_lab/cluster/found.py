"""What a machine is like, asked of the machine itself: its NIC, its addresses, its pods."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from ipaddress import IPv4Network
from types import ModuleType
from typing import Any

from ..calico import tunnel
from ..errors import ClusterError, ParseError
from ..parsers import ip_addr, ip_route
from ..scenario import Cni, Pod
from . import Result

__all__ = ["Machine", "Shell", "inside", "look"]

Shell = Callable[[str, str, float], Result]
"""Runs a line on a node, by the node's name, in so many seconds: `Cluster.run`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """A machine as it describes itself.

    Attributes
    ----------
    kernel : str
    nic : str
        The interface of the default route.
    mtu_bytes, prefix_len : int
        Of the NIC and of its private address.
    private_ip : str
    block : str or None
        IPAM block of its pods; None where no CNI has made one.
    pods : tuple of Pod
        Named after their addresses as in Kubernetes' DNS: the machine knows no other names.
    """

    kernel: str
    nic: str
    mtu_bytes: int
    prefix_len: int
    private_ip: str
    block: str | None
    pods: tuple[Pod, ...]


def look(run: Shell, node: str, cni: Cni, *, public_ip: str | None = None, timeout_s: float = 20.0) -> Machine:
    """Ask a machine what it is like, with commands that only read.

    Parameters
    ----------
    run : callable
    node : str
    cni : Cni
        Says which networks are of pods.
    public_ip : str, optional
        An address that is not the private one, wherever it stands.
    timeout_s : float
        For each command.

    Raises
    ------
    ClusterError
        If the machine cannot be asked, or has no NIC with an address on its default route.
    """

    def asked(line: str) -> str:
        result = run(node, line, timeout_s)
        if result.outcome != "done" or result.code != 0:
            seen = result.stderr.strip() or (result.outcome if result.code is None else f"exit code {result.code}")
            raise ClusterError(f"`{line}` failed", where=node, seen=seen, todo="see whether it works by hand")
        return result.stdout

    def read(parser: ModuleType, line: str) -> list[Any]:
        try:
            rows: list[Any] = parser.parse(asked(line))
        except ParseError as problem:
            raise ClusterError("its answer cannot be read", where=f"{node}: {line}", seen=str(problem)) from None
        return rows

    routes, addresses = read(ip_route, "ip -4 route show"), read(ip_addr, "ip -4 addr show")
    default = next((route for route in routes if route.destination == "default" and route.dev), None)
    own = _private(addresses, default, public_ip) if default else None
    if default is None or own is None:
        raise ClusterError("there is no address on the interface of its default route", where=node)
    return Machine(
        kernel=asked("uname -r").strip(),
        nic=default.dev,
        mtu_bytes=own.mtu_bytes,
        prefix_len=own.prefix_len,
        private_ip=own.address,
        block=_block(routes, addresses, cni),
        pods=tuple(_pods(routes, node, cni)),
    )


def _private(addresses: Sequence[Any], default: Any, public_ip: str | None) -> Any:
    """The NIC's own address: what the default route sends from, or the first one that is not known as public."""
    own = [each for each in addresses if each.ifname == default.dev and each.address != public_ip]
    return next((each for each in own if each.address == default.src), own[0] if own else None)


def _block(routes: Sequence[Any], addresses: Sequence[Any], cni: Cni) -> str | None:
    """The network that Calico blackholes for its own pods or, with flannel, the one of the tunnel's own address."""
    for route in routes:
        if route.type == "blackhole" and _in_pool(route.destination, cni):
            return str(route.destination)
    device = tunnel(cni).device
    own = next((each.address for each in addresses if each.ifname == device), None)
    return str(IPv4Network(f"{own}/{cni.block_size}", strict=False)) if own else None


def _pods(routes: Sequence[Any], node: str, cni: Cni) -> Iterator[Pod]:
    """Whatever has a route of its own to a veth of Calico's CNI plugin, which canal uses too."""
    for route in routes:
        if route.dev and route.dev.startswith("cali") and _in_pool(route.destination, cni):
            name = f"{route.destination.replace('.', '-')}.{node}"
            yield Pod(name=name, node=node, address=route.destination, veth=route.dev)


def _in_pool(destination: str, cni: Cni) -> bool:
    return destination != "default" and IPv4Network(destination).subnet_of(cni.ip_pool)


def inside(pod: Pod) -> str:
    """What to put before a command on a pod's node to run it in the pod's network namespace.

    The namespace is found by the pod's address, whatever container runtime has made it.
    """
    return (
        'nsenter --net="$(for n in /run/netns/* /proc/[0-9]*/ns/net; do '
        f"nsenter --net=$n ip -4 -o addr show to {pod.address}/32 2>/dev/null | grep -q . && echo $n && break; "
        'done)"'
    )
