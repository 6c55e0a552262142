"""What `veth_mtu` should be: what the narrowest underlay was seen to carry, less the tunnel's headers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .calico import fitting_mtu, tunnel
from .tables import Tables, rows

__all__ = ["Advice", "advise"]


@dataclass(frozen=True, slots=True)
class Advice:
    """A value for `veth_mtu`, and why.

    Attributes
    ----------
    mtu_bytes : int
    overhead_bytes : int
        The tunnel's headers.
    narrowest : tuple
        Rows of `Tables.mtu_sweeps`: the directions whose underlay carries least.
    alike : bool
        All directions carry the same.
    hop : str or None
        Interface and place on the way of the first of them that has that MTU; None where none that was recorded has.
    configured_bytes : int
        What follows from the scenario's own MTUs.
    devices : mapping of str to int
        MTU of each node's tunnel device as it is, by node.
    fragmented : mapping of str to int
        Packets that each node put together from fragments during the probes; nodes without any are left out.
    unmeasured : tuple of str
        Paths whose underlay answered nothing.
    """

    mtu_bytes: int
    overhead_bytes: int
    narrowest: tuple[Any, ...]
    alike: bool
    hop: str | None
    configured_bytes: int
    devices: Mapping[str, int]
    fragmented: Mapping[str, int]
    unmeasured: tuple[str, ...]


def advise(tables: Tables) -> Advice | None:
    """The advice, or None where no underlay was measured."""
    cni = tables.scenario.cni
    sweeps = tables.mtu_sweeps[tables.mtu_sweeps["layer"] == "underlay"]
    measured = sweeps.dropna(subset="passes_bytes")
    if measured.empty:
        return None
    least = int(measured["passes_bytes"].min())
    narrowest = tuple(rows(measured[measured["passes_bytes"] == least]))
    devices = tables.links[tables.links["name"] == tunnel(cni).device]
    together = tables.snmp[(tables.snmp["counter"] == "ReasmOKs") & (tables.snmp["grown"] > 0)]
    return Advice(
        mtu_bytes=least - tunnel(cni).overhead_bytes,
        overhead_bytes=tunnel(cni).overhead_bytes,
        narrowest=narrowest,
        alike=len(narrowest) == len(measured),
        hop=_hop(tables, narrowest[0], least),
        configured_bytes=fitting_mtu(tables.scenario),
        devices=dict(zip(devices["node"], devices["mtu_bytes"].astype(int), strict=True)),
        fragmented=dict(zip(together["node"], together["grown"].astype(int), strict=True)),
        unmeasured=tuple(sweeps.loc[sweeps["passes_bytes"].isna(), "path"]),
    )


def _hop(tables: Tables, sweep: Any, mtu_bytes: int) -> str | None:
    way = tables.where("hops", path=sweep.path, layer="underlay", mtu_bytes=mtu_bytes)
    return f"{way[0].hop} ({way[0].place})" if way else None
