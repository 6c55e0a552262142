"""What each cloud's network does to a packet, as data.

The values are what the cloud's own documents say, not what was observed in a cloud: the local lab enforces them, and
the checks explain with them. Each datum names the document and the day it was read.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["CLOUDS", "Cloud", "Source"]


@dataclass(frozen=True, slots=True)
class Source:
    """Where a datum comes from: the document's title and address, and the ISO date it was read."""

    title: str
    url: str
    read: str


@dataclass(frozen=True, slots=True)
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
    sources : dict of str to Source
        For each of the fields above that is not self-evident, where it stands.
    """

    title: str
    nic: str
    mtu_bytes: int
    nic_prefix_len: int | None
    nat: bool
    source_check: bool
    sources: dict[str, Source]


_REVIEWED = Source(
    "Calico(vxlan) Cross-CSP 설치 검토: route and ip -d link of both nodes",
    "https://github.com/cloud-barista/cb-mcks/pull/133",
    "2022-04-29",
)

CLOUDS: dict[str, Cloud] = {
    "aws": Cloud(
        title="AWS",
        nic="eth0",
        mtu_bytes=9001,
        nic_prefix_len=None,
        nat=True,
        source_check=True,
        sources={
            "nic": _REVIEWED,
            "mtu_bytes": Source(
                "Network MTU for your EC2 instance",
                "https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/network_mtu.html",
                "2026-11-23",
            ),
            "nat": Source(
                "Enable internet access for a VPC using an internet gateway",
                "https://docs.aws.amazon.com/vpc/latest/userguide/VPC_Internet_Gateway.html",
                "2026-11-23",
            ),
            "source_check": Source(
                "Source/destination checking, Elastic network interfaces",
                "https://docs.aws.amazon.com/AWSEC2/latest/UserGuide/using-eni.html",
                "2026-11-23",
            ),
        },
    ),
    "gcp": Cloud(
        title="GCP",
        nic="ens4",
        mtu_bytes=1460,
        nic_prefix_len=32,
        nat=True,
        source_check=True,
        sources={
            "nic": _REVIEWED,
            "nic_prefix_len": _REVIEWED,
            "mtu_bytes": Source("Maximum transmission unit", "https://cloud.google.com/vpc/docs/mtu", "2026-11-23"),
            "nat": Source("IP addresses", "https://cloud.google.com/compute/docs/ip-addresses", "2026-11-23"),
            "source_check": Source(
                "Enable IP forwarding for instances (canIpForward)",
                "https://cloud.google.com/vpc/docs/using-routes",
                "2026-11-23",
            ),
        },
    ),
}
