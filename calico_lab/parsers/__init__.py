"""Parsers: one module a command, text in, rows out.

Each module has frozen row classes and ``parse(text) -> list[Row]``; its docstring has the table of columns. Every row
has `line`, the 1-based line it comes from: the evidence of a finding. Absent values are None, addresses are in their
normal form, MAC addresses in lower case.

The parsers are strict. Every non-blank line is claimed, word by word, or `ParseError` shows it: a column that is
read from the wrong place would make a wrong finding, and an error message that a command printed instead of its table
must not become a row. An empty text has no rows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from calico_lab.errors import ParseError
from calico_lab.parsers import (
    bird_log,
    bird_protocols,
    bridge_fdb,
    ethtool,
    ip_addr,
    ip_link,
    ip_neigh,
    ip_route,
    ip_rule,
    ipset_list,
    iptables_save,
    kube_events,
    kube_nodes,
    kube_pods,
    mtu_sweep,
    node_log,
    ping,
    readiness,
    route,
    snmp,
    sysctl,
    tcpdump,
    uname,
)

__all__ = ["PARSERS", "parse"]

PARSERS: dict[str, Callable[[str], list[Any]]] = {
    "bird_log": bird_log.parse,
    "bird_protocols": bird_protocols.parse,
    "bridge_fdb": bridge_fdb.parse,
    "ethtool": ethtool.parse,
    "ip_addr": ip_addr.parse,
    "ip_link": ip_link.parse,
    "ip_neigh": ip_neigh.parse,
    "ip_route": ip_route.parse,
    "ip_rule": ip_rule.parse,
    "ipset_list": ipset_list.parse,
    "iptables_save": iptables_save.parse,
    "kube_events": kube_events.parse,
    "kube_nodes": kube_nodes.parse,
    "kube_pods": kube_pods.parse,
    "mtu_sweep": mtu_sweep.parse,
    "node_log": node_log.parse,
    "ping": ping.parse,
    "readiness": readiness.parse,
    "route": route.parse,
    "snmp": snmp.parse,
    "sysctl": sysctl.parse,
    "tcpdump": tcpdump.parse,
    "uname": uname.parse,
}
"""Kind of command to its parser."""


def parse(kind: str, text: str, *, node: str, command: str) -> list[Any]:
    """Parse what a command printed on a node.

    Parameters
    ----------
    kind : str
        Key of `PARSERS`.
    text : str
        Standard output of the command.
    node : str
        Node it ran on, for the error.
    command : str
        The command as it is called in the recording, for the error.

    Returns
    -------
    list
        Rows of the kind's class.

    Raises
    ------
    ParseError
        For a line that the parser does not know; it names node, command, line number and the line.
    """
    try:
        return PARSERS[kind](text)
    except ParseError as error:
        raise error.at(node, command) from None
