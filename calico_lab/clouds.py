"""What each cloud's network does to a packet, and how far apart regions are, as data.

The values are what the clouds' own documents say, not what was observed in a cloud: the local lab enforces them, and
the checks explain with them. Each datum names the document and the day it was read, or says that it is an assumption.
The data stand in ``clouds.yaml``.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Generic, TypeVar

import yaml
from pydantic import BaseModel, ConfigDict, model_validator

__all__ = ["CLOUDS", "ROUND_TRIPS", "Cloud", "RoundTrips", "Source", "load", "round_trip_ms"]

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Source:
    """Where a datum comes from.

    Attributes
    ----------
    title : str
        The document's; ``assumption`` where no document was found.
    url : str
        Its address; empty for an assumption.
    read : str
        ISO date of the day it was read, or assumed.
    note : str
        What it says beyond the value, and where another source conflicts; for an assumption, what was assumed and why.
    """

    __pydantic_config__: ClassVar[ConfigDict] = ConfigDict(extra="forbid", strict=True)

    title: str
    url: str
    read: str
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cloud:
    """One cloud's network, as a node on it sees it.

    Attributes
    ----------
    title : str
        Name as people write it.
    nic : str
        Name of a node's first NIC under Ubuntu 18.04. Felix looks at names: only ``eth*``, ``ens*`` and the like count
        for its MTU.
    mtu_bytes : int
        MTU of that NIC.
    nic_prefix_len : int or None
        Prefix length of the NIC's address; None is the subnet's own. GCP hands out /32 and routes everything through
        the gateway, as the route table of the reviewed GCP node shows.
    nat : bool
        A public address is mapped 1:1 onto the NIC's private address, and only onto that.
    source_check : bool
        A packet whose source is not the NIC's own private address is dropped.
    blocked_protocols : tuple of int
        IP protocol numbers (IANA's) that the network drops whatever the security groups say; 4 is IP-in-IP.
    sources : dict of str to Source
        For each of the fields above whose value the data give, where it stands.
    """

    title: str
    nic: str
    mtu_bytes: int
    nic_prefix_len: int | None = None
    nat: bool
    source_check: bool
    blocked_protocols: tuple[int, ...] = ()
    sources: dict[str, Source]


RoundTrips = dict[frozenset[str], tuple[float, Source]]
"""For two regions, in either order, the time in ms and where it stands; one region alone means two clouds in it."""


def round_trip_ms(region: str, other: str) -> tuple[float, Source] | None:
    """The round-trip time in ms between two regions (or two clouds in one), the same both ways; None if not known."""
    return ROUND_TRIPS.get(frozenset((region, other)))


# ---------------------------------------------------------------------- reading the data


def load(path: Path) -> tuple[dict[str, Cloud], RoundTrips]:
    """Clouds by key, and round trips, of a data file.

    Raises
    ------
    pydantic.ValidationError
        If a key is unknown or missing, a value is of another type, or two regions are paired twice.
    """
    # As JSON, since pydantic takes a list for a tuple from there and is strict about every other type.
    data = _Data.model_validate_json(json.dumps(yaml.safe_load(path.read_text(encoding="utf-8"))))
    return {name: cloud.cloud() for name, cloud in data.clouds.items()}, data.round_trips.by_regions()


class _Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", strict=True)


class _Datum(_Strict, Generic[T]):
    value: T
    source: Source


class _Cloud(_Strict):
    title: str
    nic: _Datum[str]
    nic_prefix_len: _Datum[int | None] | None = None
    mtu_bytes: _Datum[int]
    nat: _Datum[bool]
    source_check: _Datum[bool]
    blocked_protocols: _Datum[tuple[int, ...]] | None = None

    def cloud(self) -> Cloud:
        data = {name: datum for name, datum in self if isinstance(datum, _Datum)}
        values = {name: datum.value for name, datum in data.items()}
        return Cloud(title=self.title, **values, sources={name: datum.source for name, datum in data.items()})


class _RoundTrips(_Strict):
    source: Source
    ms: list[tuple[str, str, float]]

    @model_validator(mode="after")
    def _paired_once(self) -> _RoundTrips:
        if len(self.by_regions()) < len(self.ms):
            raise ValueError("two regions are paired twice")
        return self

    def by_regions(self) -> RoundTrips:
        return {frozenset((region, other)): (ms, self.source) for region, other, ms in self.ms}


class _Data(_Strict):
    clouds: dict[str, _Cloud]
    round_trips: _RoundTrips


CLOUDS, ROUND_TRIPS = load(Path(__file__).with_suffix(".yaml"))
