"""What MCKS is asked for: the body of a create request, from a scenario.

The same body goes to every generation, because MCKS ignores keys that it does not know: the review document's keys, and
what later releases insist on though their documents say that it has a default (``serviceType``, ``etcd``).

**The CNI.** No released MCKS installs Calico in a cluster that spans clouds: it takes ``canal`` or ``kilo`` there, and
cannot install none (only an unmerged change, cb-mcks#133, took ``calico``). So a cluster is asked for with canal: what
a scenario of canal reviews, and what one of Calico replaces, through the cluster's own API, after MCKS is done.
Canal rather than kilo, because all that it leaves on a node is flannel's; kilo adds a WireGuard mesh.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from typing import Any

from ...errors import InputError, ScenarioError
from ...scenario import Scenario

__all__ = ["CNI", "KUBERNETES", "cluster_request", "nodes_request", "version_query"]

CNI = "canal"
KUBERNETES = "1.23.13"
"""What MCKS itself takes from v0.6.4 on (cb-ladybug, src/rest-api/router/cluster.go)."""

_POD_CIDR = "10.244.0.0/16"
"""Written into MCKS's manifests of canal, whatever is asked for (src/scripts/addons/cni/)."""

_SERVICE_CIDR = "10.96.0.0/12"
_DOMAIN = "cluster.local"
"""As in the review document; MCKS v0.5 has no defaults for these."""

_NAME = re.compile(r"[a-z]([-a-z0-9]*[a-z0-9])?")
"""src/utils/lang/functions.go"""

_VERSION = re.compile(r"(?P<minor>1\.(?:18|23))\.(?P<patch>\d+)")
"""MCKS's bootstrap.sh has branches for these two."""


def cluster_request(
    scenario: Scenario, name: str, *, description: str, cni: str = CNI, kubernetes: str = KUBERNETES
) -> dict[str, Any]:
    """The body of a create request.

    Parameters
    ----------
    scenario : Scenario
        Each of its sites names a connection, each of its nodes a spec.
    name : str
        The cluster's.
    description : str
    cni : str
    kubernetes : str
        Release of Kubernetes, such as 1.23.13.

    Raises
    ------
    InputError
        If a name or version cannot be one for MCKS, or the scenario does not say what MCKS has to know.
    """
    if not _NAME.fullmatch(name):
        raise InputError(
            "not a name for a cluster", where="NAME", seen=name, todo="a-z, 0-9 and - in between, a letter first"
        )
    if str(scenario.cni.ip_pool) != _POD_CIDR:
        raise ScenarioError(
            "MCKS's canal has another network for pods, whatever it is asked for",
            where="cni.ip_pool",
            seen=str(scenario.cni.ip_pool),
            todo=f"allowed: {_POD_CIDR}",
        )
    version_query(kubernetes)
    control_plane, workers = _sets(scenario, "control-plane"), _sets(scenario, "worker")
    if len(control_plane) != 1 or not workers:
        raise ScenarioError(
            "MCKS makes control planes with one connection and spec, and at least one worker",
            where="nodes",
            seen=f"{len(control_plane)} for the control plane, {len(workers)} for workers",
        )
    return {
        "name": name,
        "label": "calico_lab",
        "description": description,
        "serviceType": "multi",  # node IPs are public, as in the document, also where all nodes are in one cloud
        "installMonAgent": "no",  # here until v0.6.3, below from v0.6.4 on
        "controlPlane": control_plane,
        "worker": workers,
        "config": {
            "installMonAgent": "no",
            "kubernetes": {
                "version": kubernetes,
                "networkCni": cni,
                "podCidr": _POD_CIDR,
                "serviceCidr": _SERVICE_CIDR,
                "serviceDnsDomain": _DOMAIN,
                "loadbalancer": "haproxy",
                "etcd": "local",
            },
        },
    }


def version_query(kubernetes: str) -> Mapping[str, str]:
    """How v0.6.0 to v0.6.3 are told the release of Kubernetes; others ignore it."""
    version = _VERSION.fullmatch(kubernetes)
    if version is None:
        raise InputError(
            "MCKS installs no such Kubernetes", where="--kubernetes", seen=kubernetes, todo="allowed: 1.18.x, 1.23.x"
        )
    return {"minorversion": version["minor"], "patchversion": version["patch"]}


def nodes_request(connection: str, spec: str, count: int) -> dict[str, Any]:
    """The body of a request for more workers."""
    if count < 1:  # releases from v0.6.4 on would add none and call that a success
        raise InputError("not a number of nodes", where="--count", seen=count, todo="allowed: 1 and more")
    return {"worker": [_set(connection, spec, count)]}


def _sets(scenario: Scenario, role: str) -> list[dict[str, Any]]:
    """The nodes of a role, by connection and spec, in the scenario's order."""
    counts: Counter[tuple[str, str]] = Counter()
    for group in scenario.groups:
        if group.role == role:
            connection = scenario.site(group.site).connection
            counts[
                _named(connection, f"site {group.site}", "connection"),
                _named(group.spec, f"node {group.name}", "spec"),
            ] += group.count or 1
    return [_set(connection, spec, count) for (connection, spec), count in counts.items()]


def _named(value: str | None, whose: str, key: str) -> str:
    if not value:
        raise ScenarioError("MCKS has to know it", where=f"{whose}: {key}", todo=f"add {key} to the scenario")
    return value


def _set(connection: str, spec: str, count: int) -> dict[str, Any]:
    return {
        "connection": connection,
        "count": count,
        "spec": spec,
        "rootDisk": {"type": "default", "size": "default"},
    }
