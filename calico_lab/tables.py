"""A recording as DataFrames, and the column dictionary.

`Tables` parses each captured text once and offers one DataFrame a subject. Every row of a parsed text has ``node``,
``file`` and ``line``: together the evidence that a finding points at. Which captures could be read is a table too
(`Tables.captures`): an empty output, a failed command, an unreadable text and a ping without replies are four
different things, and only the last one is a measurement.

The dictionary is `describe`: what the columns mean stands in the docstring of the parser, or of the property here.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Iterator
from dataclasses import asdict, fields
from functools import cached_property
from types import ModuleType
from typing import Any

import pandas as pd

from . import parsers
from .calico import outer_way, tunnel, veth_name
from .errors import ParseError
from .parsers import (
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
from .recording import Capture, Recording
from .scenario import Scenario

__all__ = ["Tables", "describe", "evidence", "rows"]

_PLACE = {"node": "str", "file": "str"}
_DTYPES = {"int": "Int64", "float": "Float64", "bool": "boolean", "str": "str"}


class Tables:
    """The DataFrames of one recording, each made when it is first asked for.

    Parameters
    ----------
    recording : Recording
    """

    def __init__(self, recording: Recording) -> None:
        self.recording = recording
        self.scenario: Scenario = recording.scenario
        self._fabric = set(recording.manifest["fabric"])
        self._read = {(capture.node, capture.command): _read(recording, capture) for capture in recording.captures}
        self._indexes: dict[tuple[str, ...], dict[tuple[Any, ...], list[Any]]] = {}

    # ------------------------------------------------------------------ what was captured, and from where

    @cached_property
    def captures(self) -> pd.DataFrame:
        """One row a capture.

        ========== ====== ==== ==================================================================
        column     type   unit meaning
        ========== ====== ==== ==================================================================
        node       str         a node, or a router of the lab
        command    str         its name in the recording
        kind       str         the parser that reads it
        run        str         the shell line
        status     str         read, empty, failed, timeout, unreachable or unreadable
        detail     str         why it was not read; NA otherwise
        exit_code  int         NA where the command did not end
        started    str         ISO 8601, UTC
        duration_s float  s    from sending the command to its end
        file       str         from the recording's folder
        ========== ====== ==== ==================================================================
        """
        return _typed(
            (
                {
                    "node": capture.node,
                    "command": capture.command,
                    "kind": capture.kind,
                    "run": capture.line,
                    "status": status,
                    "detail": detail,
                    "exit_code": capture.exit_code,
                    "started": capture.started,
                    "duration_s": capture.duration_s,
                    "file": capture.path,
                }
                for capture in self.recording.captures
                for status, detail, _ in [self._read[capture.node, capture.command]]
            ),
            _documented(Tables.captures),
        )

    @cached_property
    def nodes(self) -> pd.DataFrame:
        """One row a node.

        ============ ===== ===== ==================================================================
        column       type  unit  meaning
        ============ ===== ===== ==================================================================
        name         str
        role         str         control-plane or worker
        site         str         cloud region
        cloud        str         key of clouds.CLOUDS
        nic          str         first NIC
        mtu_bytes    int   bytes of the NIC, as the cloud sets it
        private_ip   str         the address that the cloud gave the NIC
        public_ip    str         the address that the cloud maps onto the private one
        node_address str         annotation projectcalico.org/IPv4Address
        block        str         IPAM block of the node's pods
        spec         str         machine type
        ============ ===== ===== ==================================================================
        """
        columns = _documented(Tables.nodes)
        return _typed(({key: node.get(key) for key in columns} for node in self.recording.manifest["nodes"]), columns)

    @cached_property
    def pods(self) -> pd.DataFrame:
        """One row a pod.

        ========= ==== ==== ==================================================================
        column    type unit meaning
        ========= ==== ==== ==================================================================
        name      str
        namespace str
        node      str
        address   str       pod IP
        veth      str       its interface on the node
        ========= ==== ==== ==================================================================
        """
        pods = self.recording.manifest["pods"]
        return _typed(
            ({**pod, "veth": pod.get("veth") or veth_name(pod["namespace"], pod["name"])} for pod in pods),
            _documented(Tables.pods),
        )

    # ------------------------------------------------------------------ state, one property a parser

    @cached_property
    def links(self) -> pd.DataFrame:
        """Interfaces of the nodes: `parsers.ip_link`."""
        return self._table(ip_link, ["ip-link"])

    @cached_property
    def fabric_links(self) -> pd.DataFrame:
        """Interfaces of the lab's routers: `parsers.ip_link`."""
        return self._table(ip_link, ["ip-link"], fabric=True)

    @cached_property
    def addresses(self) -> pd.DataFrame:
        """Addresses of the nodes' interfaces: `parsers.ip_addr`."""
        return self._table(ip_addr, ["ip-addr"])

    @cached_property
    def neighbours(self) -> pd.DataFrame:
        """ARP entries: `parsers.ip_neigh`."""
        return self._table(ip_neigh, ["ip-neigh"])

    @cached_property
    def fdb(self) -> pd.DataFrame:
        """Forwarding databases: `parsers.bridge_fdb`."""
        return self._table(bridge_fdb, ["bridge-fdb"])

    @cached_property
    def route(self) -> pd.DataFrame:
        """What the document's `route` prints: `parsers.route`."""
        return self._table(route, ["route"])

    @cached_property
    def routes(self) -> pd.DataFrame:
        """All routing tables: `parsers.ip_route`."""
        return self._table(ip_route, ["ip-route"])

    @cached_property
    def policy(self) -> pd.DataFrame:
        """Routing policy rules: `parsers.ip_rule`."""
        return self._table(ip_rule, ["ip-rule"])

    @cached_property
    def iptables(self) -> pd.DataFrame:
        """Rules with their counters after the probes: `parsers.iptables_save`."""
        return self._table(iptables_save, ["iptables-save"])

    @cached_property
    def fabric_iptables(self) -> pd.DataFrame:
        """Rules of the lab's routers, whose comments name what they drop: `parsers.iptables_save`."""
        return self._table(iptables_save, ["iptables-save"], fabric=True)

    @cached_property
    def ipsets(self) -> pd.DataFrame:
        """Members of IP sets: `parsers.ipset_list`."""
        return self._table(ipset_list, ["ipset-list"])

    @cached_property
    def sysctl(self) -> pd.DataFrame:
        """Kernel settings: `parsers.sysctl`."""
        return self._table(sysctl, ["sysctl"])

    @cached_property
    def kernels(self) -> pd.DataFrame:
        """Kernel of each node: `parsers.uname`."""
        return self._table(uname, ["uname"])

    @cached_property
    def features(self) -> pd.DataFrame:
        """What the tunnel device's driver does in the kernel's stead: `parsers.ethtool`."""
        return self._table(ethtool, ["ethtool"])

    @cached_property
    def readiness(self) -> pd.DataFrame:
        """What Felix's health endpoint answered: `parsers.readiness`."""
        return self._table(readiness, ["readiness"])

    @cached_property
    def log(self) -> pd.DataFrame:
        """The CNI daemon's log: `parsers.node_log`."""
        return self._table(node_log, ["node-log"])

    @cached_property
    def api_pods(self) -> pd.DataFrame:
        """Pods of each node as the API server knows them: `parsers.kube_pods`."""
        return self._table(kube_pods, ["kube-pods"])

    @cached_property
    def api_nodes(self) -> pd.DataFrame:
        """Nodes as the API server knows them: `parsers.kube_nodes`."""
        return self._table(kube_nodes, ["kube-node"])

    @cached_property
    def warnings(self) -> pd.DataFrame:
        """What the kubelet warned of, of the CNI's own pod: `parsers.kube_events`."""
        return self._table(kube_events, ["kube-events"])

    @cached_property
    def bgp(self) -> pd.DataFrame:
        """BIRD's protocols, BGP sessions among them: `parsers.bird_protocols`."""
        return self._table(bird_protocols, ["bird-protocols"])

    @cached_property
    def bird_log(self) -> pd.DataFrame:
        """BIRD's log: `parsers.bird_log`."""
        return self._table(bird_log, ["bird-log"])

    @cached_property
    def packets(self) -> pd.DataFrame:
        """Tunnel packets seen at the nodes' interfaces while the pings ran: `parsers.tcpdump`."""
        return self._table(tcpdump, ["tcpdump"])

    # ------------------------------------------------------------------ measurements

    @cached_property
    def counters(self) -> pd.DataFrame:
        """What the interfaces counted while the probes ran: after minus before.

        ========== ==== ==== ==================================================================
        column     type unit meaning
        ========== ==== ==== ==================================================================
        node       str
        dev        str
        rx_packets int
        rx_errors  int
        rx_dropped int
        tx_packets int
        tx_errors  int
        tx_dropped int
        tx_carrier int       no route or no local address for the outer packet
        file       str       the later capture
        line       int       its TX line
        ========== ==== ==== ==================================================================
        """
        columns = _documented(Tables.counters)
        counted = [name for name in columns if name.startswith(("rx_", "tx_"))]
        before = self._table(ip_link, ["ip-link-stats-before"]).set_index(["node", "name"])[counted]
        after = self._table(ip_link, ["ip-link-stats"]).set_index(["node", "name"])
        grown = after[counted] - before.reindex(after.index)
        grown = grown.assign(file=after["file"], line=after["tx_line"]).reset_index().rename(columns={"name": "dev"})
        return grown[list(columns)]

    @cached_property
    def iptables_grown(self) -> pd.DataFrame:
        """What the nodes' rules counted while the probes ran: after minus before.

        ======= ============ ==== ==================================================================
        column  type         unit meaning
        ======= ============ ==== ==================================================================
        node    str
        table   str
        chain   str
        number  int | None        position in the chain; None for the chain's policy
        policy  str | None        of a built-in chain
        target  str | None
        proto   str | None
        comment str | None
        spec    str | None        the rule as printed
        grown   int | None        packets; None for what was not there before
        file    str               the later capture
        line    int
        ======= ============ ==== ==================================================================
        """
        key = ["node", "table", "chain", "number"]
        before = self._table(iptables_save, ["iptables-save-before"])[[*key, "packets"]]
        both = self.iptables.merge(before, how="left", on=key, suffixes=("", "_before"))
        return both.assign(grown=both["packets"] - both["packets_before"])[list(_documented(Tables.iptables_grown))]

    @cached_property
    def snmp(self) -> pd.DataFrame:
        """The IP stacks' counters while the probes ran: after minus before.

        ======== ==== ==== ==================================================================
        column   type unit meaning
        ======== ==== ==== ==================================================================
        node     str
        protocol str       Ip, Icmp, Udp, …
        counter  str       FragCreates, ReasmOKs, …
        grown    int
        file     str       the later capture
        line     int
        ======== ==== ==== ==================================================================
        """
        key = ["node", "protocol", "counter"]
        before = self._table(snmp, ["snmp-before"]).set_index(key)["value"]
        after = self._table(snmp, ["snmp"]).set_index(key)
        grown = after.assign(grown=after["value"] - before.reindex(after.index)).reset_index()
        return grown[list(_documented(Tables.snmp))]

    @cached_property
    def pings(self) -> pd.DataFrame:
        """One row a probe.

        ============ ===== ===== ==================================================================
        column       type  unit  meaning
        ============ ===== ===== ==================================================================
        node         str         where it was run
        source       str         node it speaks for
        target       str         node it is aimed at
        layer        str         underlay (node to node) or overlay (to a pod)
        via          str         underlay: public, private, public-source; overlay: node, pod; size in old recordings
        address      str         what was pinged
        size_bytes   int   bytes don't-fragment packet of that size; NA for an ordinary ping
        outcome      str         replies, no_replies, or failed: the ping could not be sent
        transmitted  int
        received     int
        errors       int         refusals that the sender was told of, by its own kernel or a router
        loss_percent float
        rtt_min_ms   float ms
        rtt_avg_ms   float ms
        rtt_max_ms   float ms
        detail       str         why it failed; NA otherwise
        file         str
        line         int         of the statistics
        ============ ===== ===== ==================================================================
        """
        return _typed(
            (
                {
                    "node": capture.node,
                    **{key: capture.probe.get(key) for key in ("source", "target", "layer", "via", "address")},
                    "size_bytes": capture.probe.get("size_bytes"),
                    **_ping_result(self.recording, capture, *self._read[capture.node, capture.command][:2]),
                    "file": capture.path,
                }
                for capture in self._probes("ping")
            ),
            _documented(Tables.pings),
        )

    @cached_property
    def replies(self) -> pd.DataFrame:
        """One row an echo request of the ordinary pings, answered or not.

        ======= ===== ==== ==================================================================
        column  type  unit meaning
        ======= ===== ==== ==================================================================
        src     str        node
        dst     str        node
        layer   str        underlay or overlay
        via     str        as in `pings`
        seq     int
        outcome str        reply, no_answer or error
        time_ms float ms   round trip; NA without a reply
        file    str
        line    int
        ======= ===== ==== ==================================================================
        """
        found: list[dict[str, Any]] = []
        for capture in self._probes("ping"):
            if "size_bytes" in capture.probe:
                continue
            status, _, events = self._read[capture.node, capture.command]
            place = {
                "src": capture.probe["source"],
                "dst": capture.probe["target"],
                "layer": capture.probe["layer"],
                "via": capture.probe["via"],
                "file": capture.path,
            }
            if status != "read":
                found.append(place | {"seq": 1, "outcome": "error"})
                continue
            sent = ping.summary(self.recording.text(capture)).transmitted
            found += [place | last for last in _last_words(events, sent)]
        return _typed(found, _documented(Tables.replies))

    @cached_property
    def hops(self) -> pd.DataFrame:
        """MTU along the way from a pod of one node to a pod of another, in order.

        ========= ==== ===== ==================================================================
        column    type unit  meaning
        ========= ==== ===== ==================================================================
        path      str        source → target
        position  int        from 1
        hop       str        interface, or "internet"
        place     str        node or router
        mtu_bytes int  bytes NA where nothing was recorded there
        layer     str        overlay or underlay
        ========= ==== ===== ==================================================================
        """
        device = tunnel(self.scenario.cni).device
        links = pd.concat([self.links, self.fabric_links]).set_index(["node", "name"])["mtu_bytes"].to_dict()
        found: list[dict[str, Any]] = []
        pairs = self.pings.loc[self.pings["via"] == "node", ["source", "target"]]
        for source, target in pairs.itertuples(index=False):
            near, far = rows(self.nodes.set_index("name").loc[[source, target]])
            ends = {pod.node: pod.veth for pod in reversed(list(rows(self.pods)))}
            outward = [(source, ends[source], "overlay"), (source, device, "overlay"), (source, near.nic, "underlay")]
            inward = [(target, far.nic, "underlay"), (target, device, "overlay"), (target, ends[target], "overlay")]
            between = []
            if outer_way(self.scenario.cni, one_site=near.site == far.site) == "public":
                between = [
                    (f"fabric.{near.site}", "wan", "underlay"),
                    (f"fabric.{far.site}", "wan", "underlay"),
                ]
            found += [
                {
                    "path": f"{source} → {target}",
                    "position": position,
                    "hop": hop if hop != "wan" else "internet",
                    "place": place,
                    "mtu_bytes": links.get((place, hop)),
                    "layer": layer,
                }
                for position, (place, hop, layer) in enumerate([*outward, *between, *inward], start=1)
            ]
        return _typed(found, _documented(Tables.hops))

    @cached_property
    def mtu_sweeps(self) -> pd.DataFrame:
        """One row a don't-fragment sweep: the largest packet that arrives whole, and what stops larger ones.

        The underlay of a pair stands before its overlay.

        ============ ==== ===== ==================================================================
        column       type unit  meaning
        ============ ==== ===== ==================================================================
        path         str        source → target, as in `hops`
        source       str        node that sent
        target       str        node it was for
        layer        str        underlay (node to node) or overlay (to a pod)
        address      str        what was pinged
        passes_bytes int  bytes largest packet that was answered; NA where none was
        fails_bytes  int  bytes smallest that was not; NA where all were
        limit        str        what stops that one: an outcome of `parsers.mtu_sweep`; failed if none was sent
        told_bytes   int  bytes MTU that a refusal named
        told_by      str        the router that did; NA for the sender's own kernel
        silent_bytes int  bytes smallest that vanished without a word though a smaller one was answered
        frag_creates int        overlay: fragments that the source's stack made during all probes
        reasm_oks    int        overlay: packets that the target's stack put together
        reasm_fails  int        overlay: and could not put together
        detail       str        why it failed; NA otherwise
        file         str
        line         int        that says that packet vanished, else the limit
        ============ ==== ===== ==================================================================
        """
        counted = {(row.node, row.counter): row.grown for row in rows(self.snmp[self.snmp["protocol"] == "Ip"])}
        found = []
        for capture in self._probes("mtu_sweep"):
            probe = capture.probe
            row = {key: probe[key] for key in ("source", "target", "layer", "address")}
            row["path"] = f"{row['source']} → {row['target']}"
            if probe["layer"] == "overlay":
                row |= {
                    "frag_creates": counted.get((probe["source"], "FragCreates")),
                    "reasm_oks": counted.get((probe["target"], "ReasmOKs")),
                    "reasm_fails": counted.get((probe["target"], "ReasmFails")),
                }
            status, detail, sizes = self._read[capture.node, capture.command]
            limits = _limits(sizes) if status == "read" else {"limit": "failed", "detail": detail or status}
            found.append(row | limits | {"file": capture.path})
        found.sort(key=lambda row: (row["path"], row["layer"] == "overlay"))
        return _typed(found, _documented(Tables.mtu_sweeps))

    # ------------------------------------------------------------------ how

    def _probes(self, kind: str) -> Iterator[Capture]:
        """Captures that measure between two nodes."""
        return (capture for capture in self.recording.captures if capture.probe and capture.kind == kind)

    def _table(self, module: ModuleType, commands: list[str], *, fabric: bool = False) -> pd.DataFrame:
        """The rows of these commands on all nodes, or on all routers."""
        row_class = module.Rule if hasattr(module, "Rule") else module.Row
        columns = {**_PLACE, **{field.name: str(field.type) for field in fields(row_class)}}
        return _typed(
            (
                {"node": capture.node, "file": capture.path, **asdict(row)}
                for capture in self.recording.captures
                if capture.command in commands and (capture.node in self._fabric) is fabric
                for row in self._read[capture.node, capture.command][2]
            ),
            columns,
        )

    def where(self, table: str, /, **values: Any) -> list[Any]:
        """Rows of a table, as `rows` gives them, that have these values in these columns.

        They are found in an index that is made once: rules ask for each of the many pairs of nodes.
        """
        index = self._indexes.get((table, *values))
        if index is None:
            index = self._indexes[(table, *values)] = {}
            for row in rows(getattr(self, table)):
                index.setdefault(tuple(getattr(row, column) for column in values), []).append(row)
        return index.get(tuple(values.values()), [])

    def other_backend(self, node: str) -> tuple[str, str] | None:
        """Where the other iptables backend's tables show, and that backend: legacy or nft.

        ``iptables-save`` warns of them; where each backend was asked by itself, they are there to be seen.
        """
        for capture in self.recording.captures:
            if capture.node != node:
                continue
            if capture.command == "iptables-save":
                told = f"{capture.stderr}\n{self.recording.text(capture)}"  # a bundle has both outputs in one file
                warning = re.search(r"^# Warning: iptables-(legacy|nft) tables present", told, re.MULTILINE)
                if warning:
                    return capture.path, warning[1]
            own = re.fullmatch(r"iptables-(legacy|nft)-save", capture.command)
            if own and any(rule.spec is not None for rule in self._read[node, capture.command][2]):
                return capture.path, own[1]
        return None

    def unread(self, node: str, command: str) -> str | None:
        """Why that capture gives no rows, in a word (see `captures`), or None where it was read or is empty."""
        status = self._read.get((node, command), ("missing", None, []))[0]
        return None if status in ("read", "empty") else status


def rows(frame: pd.DataFrame) -> Iterator[Any]:
    """The rows of a frame as named tuples, whose fields no type checker can know."""
    yield from frame.itertuples()


def evidence(row: Any, line: int | None = None) -> str:
    """Where a row of a parsed text stands: ``captures/<node>/<command>.txt:<line>``."""
    return f"{row.file}:{row.line if line is None else line}"


def describe(table: str) -> pd.DataFrame:
    """The column dictionary of one table: ``column``, ``type``, ``unit``, ``meaning``.

    Parameters
    ----------
    table : str
        Name of a property of `Tables`.
    """
    described = getattr(Tables, table)
    parser = re.fullmatch(r".*: `parsers\.(\w+)`\.", inspect.getdoc(described) or "")
    documented = getattr(parsers, parser[1]) if parser else described
    return pd.DataFrame(_rst_rows(inspect.getdoc(documented) or ""), columns=["column", "type", "unit", "meaning"])


# ---------------------------------------------------------------------- reading captures


def _read(recording: Recording, capture: Capture) -> tuple[str, str | None, list[Any]]:
    """Status, detail and rows of one capture."""
    text = recording.text(capture)
    if capture.outcome != "done":
        return capture.outcome, _last_line(capture.stderr), []
    # ping ends with 1 when nobody replied: a measurement, and not a failure of the command.
    measured = capture.kind == "ping" and "ping statistics" in text
    if capture.exit_code != 0 and not measured:
        return "failed", _last_line(capture.stderr) or f"exit code {capture.exit_code}", []
    if not text.strip():
        return "empty", None, []
    try:
        return "read", None, parsers.parse(capture.kind, text, node=capture.node, command=capture.command)
    except ParseError as problem:
        return "unreadable", str(problem), []


def _last_line(text: str) -> str | None:
    return text.strip().splitlines()[-1] if text.strip() else None


def _ping_result(recording: Recording, capture: Capture, status: str, detail: str | None) -> dict[str, Any]:
    if status != "read":
        return {"outcome": "failed", "detail": detail or status}
    summary = ping.summary(recording.text(capture))
    return {
        "outcome": "replies" if summary.received else "no_replies",
        **{
            name: getattr(summary, name)
            for name in (
                "transmitted",
                "received",
                "errors",
                "loss_percent",
                "rtt_min_ms",
                "rtt_avg_ms",
                "rtt_max_ms",
                "line",
            )
        },
    }


def _limits(sizes: list[mtu_sweep.Row]) -> dict[str, Any]:
    """What a sweep's sizes amount to: columns of `Tables.mtu_sweeps`."""
    passed = max((size for size in sizes if size.outcome == "reply"), key=lambda size: size.size_bytes, default=None)
    failed = min((size for size in sizes if size.outcome != "reply"), key=lambda size: size.size_bytes, default=None)
    if failed is None:
        return {"passes_bytes": passed and passed.size_bytes, "line": passed and passed.line}
    if passed is None:
        return {"fails_bytes": failed.size_bytes, "limit": failed.outcome, "line": failed.line}
    # A router says it once; what it said the sender's kernel repeats for the sizes that come later.
    told = [size for size in sizes if size.mtu_bytes == passed.size_bytes]
    limit = min(told, key=lambda size: size.outcome != "frag_needed", default=failed)
    silent = min((size for size in sizes if size.outcome == "silent"), key=lambda size: size.size_bytes, default=None)
    return {
        "passes_bytes": passed.size_bytes,
        "fails_bytes": failed.size_bytes,
        "limit": limit.outcome,
        "told_bytes": limit.mtu_bytes,
        "told_by": limit.from_ip,
        "silent_bytes": silent.size_bytes if silent else None,
        "line": (silent or limit).line,
    }


def _last_words(events: Iterable[Any], sent: int) -> Iterable[dict[str, Any]]:
    """One row a request: `ping -O` may say "no answer yet" before the reply, and says nothing of the last request."""
    last: dict[int, dict[str, Any]] = {seq: {"seq": seq, "outcome": "no_answer"} for seq in range(1, sent + 1)}
    for event in events:
        if event.seq is not None and last.get(event.seq, {}).get("outcome") != "reply":
            last[event.seq] = {name: getattr(event, name) for name in ("seq", "outcome", "time_ms", "line")}
    return last.values()


# ---------------------------------------------------------------------- types and meanings


def _typed(rows: Iterable[dict[str, Any]], columns: dict[str, str]) -> pd.DataFrame:
    """A DataFrame with exactly these columns and their dtypes, also where there are no rows."""
    frame = pd.DataFrame(list(rows), columns=list(columns))
    return frame.astype({name: _DTYPES.get(kind.split(" ")[0], "object") for name, kind in columns.items()})


def _documented(described: object) -> dict[str, str]:
    """Columns and types as the docstring's table gives them."""
    return {row[0]: row[1] for row in _rst_rows(inspect.getdoc(described) or "")}


def _rst_rows(docstring: str) -> list[list[str]]:
    """The body of the first reStructuredText simple table."""
    rows: list[list[str]] = []
    cuts: list[tuple[int, int | None]] = []
    rules = 0
    for line in docstring.splitlines():
        if re.fullmatch(r"=+( +=+)+", line):
            rules += 1
            starts = [match.start() for match in re.finditer("=+", line)]
            cuts = list(zip(starts, [*starts[1:], None], strict=True))
        elif rules == 2:
            rows.append([line[start:end].strip() for start, end in cuts])
    return rows
