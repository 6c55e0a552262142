"""The catalogue of remedies: what may make pods reach each other where they do not.

A remedy is data: the lines that a person types on a node or against the cluster, what the scenario becomes by it, and
what the lab does in Felix's place where a setting would make Felix do it. `remedies` applies them and measures again;
what each changes, what it risks and how Felix treats it stands in the catalogue of words, under ``fix.<id>``.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection
from dataclasses import dataclass
from itertools import combinations

from .calico import counterpart, fitting_mtu, install_commands, tunnel
from .scenario import Node, Scenario

__all__ = ["FIXES", "Fix", "applicable", "changed", "pairs"]

_ALLOWED = "cali40all-vxlan-net"

Lines = Callable[[Node, Scenario], list[str]]


def _nothing(node: Node, scenario: Scenario) -> list[str]:
    return []


@dataclass(frozen=True, slots=True)
class Fix:
    """One remedy.

    Attributes
    ----------
    id : str
    applies : callable
        Whether a scenario is one that it could mend.
    on_node : callable
        Shell lines for one node. The lab runs the same ones.
    on_cluster : callable
        Lines for whoever administers the cluster or the clouds.
    in_lab : callable
        What the lab runs on a node in place of `on_cluster`, where Felix would do it.
    change : callable
        The scenario with the remedy in it, where it is another way to install.
    before_cni : bool
        `on_node` has to be done before Felix starts, as Felix chooses the tunnel's parent then.
    needs : str or None
        Key of `lab.host.TRIALS` that the nodes' kernel must have.
    """

    id: str
    applies: Callable[[Scenario], bool]
    on_node: Lines = _nothing
    on_cluster: Callable[[Scenario], list[str]] = lambda scenario: []
    in_lab: Lines = _nothing
    change: Callable[[Scenario], Scenario] = lambda scenario: scenario
    before_cni: bool = False
    needs: str | None = None

    def commands(self, scenario: Scenario) -> list[str]:
        """Everything that a person types, with the node's name before what belongs on a node."""
        lines = [f"# {node.name}\n{line}" for node in scenario.nodes for line in self.on_node(node, scenario)]
        return [*self.on_cluster(scenario), *lines]


def _is_calico(scenario: Scenario) -> bool:
    return scenario.cni.plugin == "calico"


def _is_vxlan(scenario: Scenario) -> bool:
    return _is_calico(scenario) and scenario.cni.backend == "vxlan"


def _is_public(scenario: Scenario) -> bool:
    return _is_calico(scenario) and scenario.cni.node_ip == "public"


def _is_private_across(scenario: Scenario) -> bool:
    return _is_vxlan(scenario) and scenario.cni.node_ip == "private" and scenario.topology == "cross"


def _snat_vxlan(node: Node, scenario: Scenario) -> list[str]:
    port = tunnel(scenario.cni).port
    match = f"-s {node.public_ip}/32 -o {node.nic} -p udp --dport {port}"
    return [f"iptables -t nat -I POSTROUTING {match} -j SNAT --to-source {node.private_ip}"]


def _snat_alias(node: Node, scenario: Scenario) -> list[str]:
    match = f"-s {node.public_ip}/32 -o {node.nic}"
    return [f"iptables -t nat -I POSTROUTING {match} -j SNAT --to-source {node.private_ip}"]


def _elsewhere(node: Node, scenario: Scenario) -> list[Node]:
    return [peer for peer in scenario.nodes if peer.site != node.site]


def _dnat(node: Node, scenario: Scenario) -> list[str]:
    port = tunnel(scenario.cni).port
    return [
        f"iptables -t nat -I OUTPUT -d {peer.private_ip}/32 -p udp --dport {port} "
        f"-j DNAT --to-destination {peer.public_ip}"
        for peer in _elsewhere(node, scenario)
    ]


def _external_nodes(scenario: Scenario) -> list[str]:
    wanted = {"spec": {"externalNodesList": [node.public_ip for node in scenario.nodes]}}
    return [f"calicoctl patch felixconfiguration default --patch '{json.dumps(wanted)}'"]


def _external_sets(node: Node, scenario: Scenario) -> list[str]:
    """Felix adds the list to the set that its rules for VXLAN ask (felix/calc, external nodes)."""
    return [f"ipset -exist add {_ALLOWED} {peer.public_ip}" for peer in scenario.nodes]


def _unchecked(scenario: Scenario) -> Scenario:
    sites = tuple(site.model_copy(update={"source_check": False}) for site in scenario.sites)
    return scenario.model_copy(update={"sites": sites, "expected": None})


def _check_off(scenario: Scenario) -> list[str]:
    by_cloud = {
        "aws": "aws ec2 modify-instance-attribute --instance-id <{node}> --no-source-dest-check",
        "gcp": "gcloud compute instances create {node} --can-ip-forward …  # only when it is made",
        "azure": "az network nic update --name <{node}> --resource-group <…> --ip-forwarding true",
    }
    fallback = "# {node}: see its cloud's documentation on source checks"
    return [by_cloud.get(node.cloud, fallback).format(node=node.name) for node in scenario.nodes]


def _one_mtu(scenario: Scenario) -> Scenario:
    cni = scenario.cni.model_copy(update={"veth_mtu": fitting_mtu(scenario)})
    return scenario.model_copy(update={"cni": cni, "expected": None})


def _patch_mtu(scenario: Scenario) -> list[str]:
    wanted = json.dumps({"data": {"veth_mtu": str(fitting_mtu(scenario))}})
    return [
        f"kubectl -n kube-system patch configmap calico-config --patch '{wanted}'",
        "kubectl -n kube-system rollout restart daemonset calico-node  # pods get it when they are made again",
    ]


FIXES: dict[str, Fix] = {
    fix.id: fix
    for fix in (
        Fix("snat-vxlan", lambda scenario: _is_vxlan(scenario) and _is_public(scenario), _snat_vxlan),
        Fix("snat-alias", _is_public, _snat_alias),
        Fix(
            "canal",
            _is_calico,
            on_cluster=lambda scenario: install_commands(counterpart(scenario)),
            change=lambda scenario: counterpart(scenario),
        ),
        Fix("dnat", _is_private_across, _dnat),
        Fix("external-nodes", _is_private_across, on_cluster=_external_nodes, in_lab=_external_sets),
        Fix(
            "public-on-lo",
            lambda scenario: _is_vxlan(scenario) and _is_public(scenario) and not scenario.public_ip_alias,
            lambda node, scenario: [f"ip addr add {node.public_ip}/32 dev lo"],
            before_cni=True,
        ),
        Fix("source-check-off", _is_calico, on_cluster=_check_off, change=_unchecked),
        Fix("mtu", _is_vxlan, on_cluster=_patch_mtu, change=_one_mtu),
        Fix(
            "wireguard",
            _is_calico,
            on_cluster=lambda scenario: [
                'calicoctl patch felixconfiguration default --patch \'{"spec": {"wireguardEnabled": true}}\''
            ],
            needs="wireguard",
        ),
    )
}
"""Every remedy by its id."""

_ALONE = frozenset({"canal", "mtu"})
"""Remedies that help no other: canal leaves nothing to mend, and a smaller packet goes the same way as a large one."""


def applicable(scenario: Scenario) -> list[Fix]:
    """The remedies that could mend a scenario, in the catalogue's order."""
    return [fix for fix in FIXES.values() if fix.applies(scenario)]


def changed(scenario: Scenario, ids: Collection[str]) -> Scenario:
    """The scenario that is brought up to measure these remedies; it expects nothing."""
    scenario = scenario.model_copy(update={"expected": None})
    for name in ids:
        scenario = FIXES[name].change(scenario)
    return scenario


def pairs(failed: Collection[str]) -> list[tuple[str, ...]]:
    """Combinations of two remedies that did not help alone and do not exclude each other."""
    return [pair for pair in combinations(failed, 2) if not _ALONE & set(pair) and set(pair) != _SAME]


_SAME = {"snat-vxlan", "snat-alias"}
"""The second does all that the first does."""
