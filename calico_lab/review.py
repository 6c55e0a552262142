"""One recording, reviewed: the verdict, the frames that a report shows, and the sentences that follow from them.

A notebook is the outline of the document; this is what its cells show. Nothing here knows what a scenario expects
until the verdict stands.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from functools import cached_property
from pathlib import Path
from typing import Any

import pandas as pd

from . import latency, plot
from .audit import Measured, audit
from .calico import environment, install_commands, mode, node_address, tunnel
from .checks import CAUSES, RULES, Finding, Verdict, agrees, check, findings_table, gaps, verdict
from .clouds import CLOUDS
from .fixes import FIXES, applicable, changed
from .journey import differs, end, first_pair, journey
from .mtu import Advice, advise
from .page import Block, Language, Page
from .recording import Recording, write_atomically
from .scenario import Expected
from .tables import Tables, rows

__all__ = ["Review", "folder_of_remedies"]

_CROSS_CHECKS = ("bgp-session", "mac-agreement", "fdb-destination", "vni-port", "route-to-block")
_SHOWN_BY = ("public-source", "wire", "fabric-drops")
_OUTCOME = ("ready", "pod-ping")
_FARES = {
    **dict.fromkeys(("pass", "seen", "passed"), "✔"),
    **dict.fromkeys(("astray", "stop", "dropped", "unseen"), "✘"),
    "unknown": "?",
    **dict.fromkeys(("unreached", "untold"), ""),
}
"""The mark before a word of ``journey.fare``."""
_FEW = 4


class Review:
    """A recording with its findings, in one language.

    Parameters
    ----------
    recording : Recording or path
    language : {"ko", "en"}
    comparison : Recording or path, optional
        A recording of `counterpart`.

    Raises
    ------
    RecordingError
        If the recording cannot be read.
    """

    def __init__(
        self,
        recording: Recording | Path | str,
        language: Language = "ko",
        *,
        comparison: Recording | Path | str | None = None,
    ) -> None:
        self.recording = recording if isinstance(recording, Recording) else Recording(recording)
        self.scenario = self.recording.scenario
        self.page = Page(language)
        self.words = self.page.words
        self.tables = Tables(self.recording)
        self.findings: list[Finding] = check(self.tables)
        self.verdict: Verdict = verdict(self.findings, self.tables)
        self.comparison = Review(comparison, language) if comparison else None

    # ------------------------------------------------------------------ the result

    @property
    def imported(self) -> bool:
        """Whether somebody else captured this: when, and how each command ended, is not known."""
        return "imported" in self.recording.manifest["facts"]

    @property
    def expected(self) -> Expected | None:
        return self.scenario.expected

    @cached_property
    def agrees(self) -> bool | None:
        """Whether the measurement is what the scenario expects; None where it expects nothing."""
        return agrees(self.verdict, self.expected)

    def summary(self) -> dict[str, Any]:
        """What other programs read: the design's summary.json."""
        rows = findings_table(self.findings, self.words).to_dict("records")
        for row, finding in zip(rows, self.findings, strict=True):
            row |= {"evidence": list(finding.evidence), "next": finding.next or None}
        return {
            "scenario": self.scenario.name,
            "provider": self.recording.manifest["provider"],
            "installed": self.verdict.installed,
            "ready": self.verdict.ready,
            "ping": self.verdict.ping,
            "cause": self.verdict.cause,
            "findings": rows,
            "expected": self.expected.model_dump() if self.expected else {},
            "agrees": self.agrees,
            "remedies": [
                {"ids": list(ids), "ping": review.verdict.ping, "cause": review.verdict.cause}
                for ids, review in self._tried.items()
            ],
        }

    def write_summary(self, path: Path) -> None:
        write_atomically(path, (json.dumps(self.summary(), ensure_ascii=False, indent=1) + "\n").encode())

    # ------------------------------------------------------------------ what the texts are filled with

    @cached_property
    def facts(self) -> dict[str, str]:
        """Placeholders that several texts share."""
        manifest, cni = self.recording.manifest, self.scenario.cni
        backend = "canal" if cni.plugin == "canal" else cni.backend
        return {
            "scenario": self.scenario.name,
            "provider": manifest["provider"],
            "recorded": manifest["finished"][:16].replace("T", " ") + " UTC",
            "tool": manifest["tool"],
            "kernel": manifest["facts"].get("kernel", ""),
            "plugin": cni.plugin.capitalize(),
            "version": cni.version,
            "csp": self.words(f"value.topology.{self.scenario.topology}"),
            "backend": self.words(f"value.backend.{backend}"),
            "node_ip": self.words(f"value.node_ip.{cni.node_ip}"),
            "workload": tunnel(cni).workload,
        }

    @property
    def mode(self) -> str:
        return self.words("value.mode", **self.facts)

    @property
    def title(self) -> str:
        return self.words("review.title", **self.facts)

    def text(self, key: str, **values: object) -> Block:
        """A text of the catalogue, with the shared facts and these values in it."""
        return self.page.text(key, **self.facts, **values)

    @property
    def headline(self) -> str:
        """The verdict on one line of Markdown."""
        return self.words(
            "review.headline",
            installed=self._mark(self.verdict.installed),
            ping=self._mark(self.verdict.ping),
            cause=self.cause,
            agrees=self._mark(self.agrees),
        )

    def heading(self) -> Block:
        """Title, and where it comes from."""
        subtitle = self.words("review.subtitle-imported" if self.imported else "review.subtitle", **self.facts)
        return self._markdown(f"# {self.title}\n\n{subtitle}")

    def outcome(self) -> Block:
        """The verdict, in a box where there is one."""
        measured = {"installed": self.verdict.installed, "ping": self.verdict.ping, "cause": self.cause}
        return self.page.verdict({**measured, "agrees": self.agrees}, self.headline)

    def notes(self) -> Block:
        """What stands in for what in this recording, and how its commands reached the nodes."""
        facts = self.recording.manifest["facts"]
        provider = self.facts["provider"] if self.facts["provider"] in ("lab", "ssh", "kube", "mcks") else "other"
        own = "review.imported" if self.imported else f"review.provider.{provider}"
        keys = [own, *(f"review.stand-in.{name}" for name in facts.get("stand_ins", []))]
        if facts.get("machine") == "user-mode-linux":
            keys.insert(1, "review.machine.user-mode-linux")
        if facts.get("latency_left_out"):
            keys.append("review.latency-left-out")
        if "transport" in facts:
            keys.append(f"review.transport.{facts['transport']}")
        notes = [self.words(key, **self.facts) for key in keys]
        if "manifest" in facts:
            notes.append(self.words("review.manifest", **facts["manifest"]))
        notes += [self.words("review.unready", seen=seen) for seen in facts.get("unready", [])]
        if facts.get("silent"):
            notes.append(self.words("review.silent", nodes=", ".join(facts["silent"])))
        if facts.get("ignored"):
            notes.append(self.words("review.ignored", bundle=facts["bundle"], ignored=len(facts["ignored"])))
        return self.text("section.environment", notes="\n".join(f"* {note}" for note in notes))

    def _mark(self, value: bool | None) -> str:
        return self.words(f"value.{'none' if value is None else str(value).lower()}")

    def _shown(self, value: object) -> str:
        if isinstance(value, tuple):
            return ", ".join(map(str, value)) or self._mark(None)
        return self._mark(value) if value is None or isinstance(value, bool) else str(value)

    @property
    def cause(self) -> str:
        """What stops the pods, in words."""
        if self.verdict.cause is None and False not in (self.verdict.installed, self.verdict.ping):
            return self.words("review.no-cause" if self.verdict.ping else "review.undecided")
        return self.words(f"cause.{self.verdict.cause or 'unknown'}")

    def _markdown(self, text: str) -> Block:
        return Block({"text/markdown": text, "text/plain": text})

    # ------------------------------------------------------------------ frames

    @cached_property
    def nodes(self) -> pd.DataFrame:
        """Nodes as in the document's ``kubectl get node``, with both addresses and what else the API server knows."""
        columns = ["node", "role", "cloud", "spec", "private_ip", "public_ip", "node_address", "block"]
        titles = self.tables.nodes["cloud"].map(lambda cloud: CLOUDS[cloud].title)
        nodes = self.tables.nodes.rename(columns={"name": "node"}).assign(cloud=titles)[columns]
        known = self.tables.api_nodes.set_index("name")[["version", "os_image", "runtime"]]
        return nodes.drop(columns="spec").join(known, on="node") if len(known) else nodes

    @cached_property
    def clouds(self) -> pd.DataFrame:
        """What each cloud does to a packet, with its source; then what the scenario sets otherwise for a site."""
        rows = [
            {
                "cloud": CLOUDS[name].title,
                "rule": self.words(f"rule.{rule}"),
                "value": self._shown(getattr(CLOUDS[name], rule)),
                "source": source.title,
                "url": source.url or None,
                "read": source.read,
                "note": source.note or None,
            }
            for name in dict.fromkeys(self.tables.nodes["cloud"])
            for rule, source in CLOUDS[name].sources.items()
        ]
        rows += [
            {
                "cloud": f"{CLOUDS[site.cloud].title} ({site.name})",
                "rule": self.words(f"rule.{rule}"),
                "value": self._shown(getattr(site, rule)),
                "source": self.words("value.set-by-scenario"),
                "url": None,
                "read": None,
                "note": None,
            }
            for site in self.scenario.sites
            for rule in ("mtu_bytes", "blocked_protocols", "source_check")
            if getattr(site, rule) is not None
        ]
        return pd.DataFrame(rows)

    @cached_property
    def settings(self) -> pd.DataFrame:
        """The mode's environment and annotations."""
        cni = self.scenario.cni
        rows = [{"setting": f"`{key}`", "value": f'`"{value}"`'} for key, value in environment(cni).items()]
        rows += [
            {"setting": f"`projectcalico.org/IPv4Address` ({node.name})", "value": f"`{node_address(node, cni)}`"}
            for node in self.scenario.nodes
        ]
        return pd.DataFrame(rows)

    @cached_property
    def result(self) -> pd.DataFrame:
        """The document's result table for this scenario, with what was expected beside it."""
        ready = sorted(set(self.verdict.ready.values()))
        note = {True: "running", False: "not-ready", None: "undecided"}[self.verdict.installed]
        return pd.DataFrame(
            [
                {
                    "topology": self.facts["csp"],
                    "backend": self.facts["backend"],
                    "node_ip": self.facts["node_ip"],
                    "installed": self.verdict.installed,
                    "ping": self.verdict.ping,
                    "note": self.words(f"note.{note}", workload=self.facts["workload"], ready=", ".join(ready)),
                    "cause": self.cause,
                    "agrees": self.agrees,
                }
            ]
        )

    @cached_property
    def workloads(self) -> pd.DataFrame:
        """What ``kubectl -n kube-system get pods`` shows or, if no API server was asked, what follows from the rest."""
        pods = self.tables.api_pods
        pods = pods[pods["namespace"] == "kube-system"]
        if len(pods):
            return pd.DataFrame(
                {
                    "pod": pods["name"],
                    "node": pods["node"],
                    "ready": [f"{pod.ready}/{pod.containers}" for pod in rows(pods)],
                    "note": [self._pod_state(pod) for pod in rows(pods)],
                }
            )
        reasons = {finding.node: finding for finding in self.findings if finding.id == "ready"}
        measured = [
            {"pod": self.facts["workload"], "node": node, "ready": ready, "note": reasons[node].reason(self.words)}
            for node, ready in self.verdict.ready.items()
        ]
        others = [
            {"pod": name, "node": None, "ready": None, "note": self.words("note.unknown")}
            for name in ("calico-kube-controllers", "coredns")
        ]
        return pd.DataFrame([*measured, *others])

    def _pod_state(self, pod: Any) -> str:
        """Phase, why a container waits and, for the CNI's own pod that is not ready, the kubelet's last warning."""
        words = [pod.phase, pod.reason, pod.message]
        if pod.ready < pod.containers and pod.name.startswith(f"{self.facts['workload']}-"):
            words += [warning.message for warning in self.tables.where("warnings", node=pod.node)[-1:]]
        return ": ".join(word for word in words if isinstance(word, str))

    @cached_property
    def pings(self) -> pd.DataFrame:
        """Every probe: from where, to where, how, and what came back."""
        order = ["public", "private", "public-source", "node", "pod", "size"]
        pings = self.tables.pings.sort_values(
            ["source", "target", "via", "size_bytes"],
            key=lambda column: column.map(order.index) if column.name == "via" else column,
        )
        via = [
            self.words(f"value.via.{ping.via}", bytes=ping.size_bytes if not pd.isna(ping.size_bytes) else "")
            for ping in rows(pings)
        ]
        replies = ["." if ping.outcome == "failed" else f"{ping.received}/{ping.transmitted}" for ping in rows(pings)]
        return pd.DataFrame(
            {
                "src": pings["source"],
                "dst": pings["target"],
                "layer": [self.words(f"layer.{layer}") for layer in pings["layer"]],
                "via": via,
                "address": pings["address"],
                "outcome": [self.words(f"value.outcome.{outcome}") for outcome in pings["outcome"]],
                "replies": replies,
                "rtt_avg_ms": pings["rtt_avg_ms"],
            }
        )

    def states(self) -> Iterator[Block]:
        """For each node the document's four: tunnel device, routes, ARP and FDB; with BGP its sessions instead."""
        device = tunnel(self.scenario.cni).device
        tables = self.tables
        link = tables.links[tables.links["name"] == device]
        routes = (tables.route, ["destination", "gateway", "genmask", "flags", "metric", "iface"])
        shown: dict[str, tuple[pd.DataFrame, list[str]]]
        if mode(self.scenario.cni) == "bird":
            sessions = tables.bgp[tables.bgp["proto"] == "BGP"]
            shown = {
                "link": (link, ["name", "mtu_bytes", "state"]),
                "route": routes,
                "bgp": (sessions, ["name", "peer_ip", "state", "since", "info"]),
            }
        else:
            shown = {
                "link": (link, ["name", "mtu_bytes", "mac", "vni", "local_ip", "parent_dev", "dstport", "learning"]),
                "route": routes,
                "neigh": (
                    tables.neighbours[tables.neighbours["dev"] == device].rename(columns={"dst": "dst_ip"}),
                    ["dst_ip", "mac", "state"],
                ),
                "fdb": (
                    tables.fdb[tables.fdb["dev"] == device].rename(columns={"dst": "remote_ip"}),
                    ["mac", "remote_ip", "flags"],
                ),
            }
        for node in tables.nodes["name"]:
            for name, (frame, columns) in shown.items():
                yield self.page.table(frame[frame["node"] == node], f"caption.{name}", columns, node=node)

    def appendix_heading(self) -> Block:
        return self.text("section.appendix-imported" if self.imported else "section.appendix")

    def cross_check_heading(self) -> Block:
        return self.text("section.cross-check-bgp" if mode(self.scenario.cni) == "bird" else "section.cross-check")

    @property
    def cross_checks(self) -> pd.DataFrame:
        """What the document checked by hand, as findings."""
        return self._shown_findings([finding for finding in self.findings if finding.id in _CROSS_CHECKS])

    @property
    def causes(self) -> pd.DataFrame:
        """Cause rules in the order a packet meets them, then what shows it, then what else is wrong or unreadable.

        A cross-check that did not fail stands in its own table only.
        """
        told = dict.fromkeys([*CAUSES, *_SHOWN_BY])
        order = [*told, *(rule for rule in RULES if rule not in told)]
        shown = [
            finding
            for finding in self.findings
            if finding.result in ("fail", "error") or (finding.id in told and finding.id not in _CROSS_CHECKS)
            if finding.id not in _OUTCOME
        ]
        return self._shown_findings(sorted(shown, key=lambda finding: order.index(finding.id)))

    @cached_property
    def journey(self) -> pd.DataFrame:
        """The first probe between two sites, hop by hop: `journey.journey`."""
        return journey(self.tables, *first_pair(self.tables))

    def followed(self) -> Iterator[Block]:
        """The probe's way in sentences, as a figure, and as tables of what decided at each hop."""
        source, target = first_pair(self.tables)
        yield self.text("section.journey", source=source, target=target, summary=" ".join(self._told()))
        figure = plot.journey(self.journey, self.words)
        summary = " ".join(self._told()).replace("**", "")
        yield self.page.figure(figure, self.words("alt.journey", summary=summary), self.words("caption.journey-figure"))
        touched = self.journey[(self.journey["predicted"] != "unreached") | self.journey["measured"].notna()]
        for direction, way in touched.groupby("direction", sort=False):
            title = self.words(f"journey.direction.{direction}")
            yield self.page.table(self._shown_way(way), "caption.journey", direction=title)

    def _told(self) -> Iterator[str]:
        """How far the probe should come, how far it came, and whether that is the same."""
        way, say = self.journey, self.words
        predicted, lost, differ = end(way, "predicted"), end(way, "measured"), differs(way)
        if predicted is not None:
            cause = next(cause for cause in way["cause"] if not pd.isna(cause))
            yield say("journey.predicted.ends", **self._named_hop(predicted), cause=say(f"cause.{cause}"))
        else:
            yield say(f"journey.predicted.{'unknown' if (way['predicted'] == 'unknown').any() else 'arrives'}")
        seen = way[way["measured"] == "seen"]
        if lost is not None:
            before = seen[seen["position"] < lost.position]["hop"].tail(1)
            shown = say(f"journey.hop.{before.iloc[0]}") if not before.empty else self._mark(None)
            yield say(f"journey.measured.{lost.measured}", **self._named_hop(lost), before=shown)
        elif seen.empty:
            yield say("journey.measured.untold")
        else:
            yield say("journey.measured.arrives", packets=seen["packets"].iloc[-1])
        yield say(f"journey.compared.{ {None: 'unknown', True: 'differs', False: 'agrees'}[differ] }")

    def _named_hop(self, hop: Any) -> dict[str, str]:
        direction = self.words(f"journey.direction.{hop.direction}")
        return {"direction": direction, "place": hop.place, "hop": self.words(f"journey.hop.{hop.hop}")}

    def _shown_way(self, way: pd.DataFrame) -> pd.DataFrame:
        """One direction of a journey in words, for a page."""
        say, shown = self.words, []
        for hop in rows(way):
            missing = say("journey.missing", captures=f"`{hop.missing}`") if isinstance(hop.missing, str) else None
            passed = hop.measured == "seen" and pd.isna(hop.packets)
            fare = "passed" if passed else hop.measured if isinstance(hop.measured, str) else "untold"
            cause = f"\n{say(f'cause.{hop.cause}')}" if isinstance(hop.cause, str) else ""
            shown.append(
                {
                    "hop": f"{say(f'journey.hop.{hop.hop}')}\n{hop.place}",
                    "what": "\n".join(each for each in (hop.what, missing) if isinstance(each, str)) or None,
                    "predicted": f"{_FARES[hop.predicted]} {say(f'journey.fare.{hop.predicted}')}{cause}".strip(),
                    "measured": f"{_FARES[fare]} {say(f'journey.fare.{fare}', packets=hop.packets)}".strip(),
                    "evidence": ", ".join(f"`{place}`" for place in hop.evidence) or None,
                }
            )
        return pd.DataFrame(shown)

    def gaps(self) -> Iterator[Block]:
        """What to capture next where a cause rule could not decide; nothing where all could."""
        if not self._gaps.empty:
            yield self.text("section.gaps", deciding=self._deciding())
            lines = [f"`{line}`" for line in self._gaps["run"]]
            yield self.page.table(self._gaps.assign(run=lines), None, ["run", "nodes", "rules"])

    @cached_property
    def _gaps(self) -> pd.DataFrame:
        return gaps(self.findings, self.tables)

    def _deciding(self) -> str:
        """The commands that decide what has been seen to speak against a node; where nothing has, the first two."""
        suspected = self._gaps[self._gaps["suspects"] > 0]
        lines = " · ".join(f"`{line}`" for line in (self._gaps.head(2) if suspected.empty else suspected)["run"])
        if suspected.empty:
            return self.words("gaps.most", commands=lines)
        rules = {finding.id for finding in self.findings if finding.case == "suspect"}
        causes = ", ".join(self.words(f"cause.{rule}") for rule in CAUSES if rule in rules)
        return self.words("gaps.suspected", commands=lines, causes=causes)

    def _shown_findings(self, findings: list[Finding]) -> pd.DataFrame:
        """Findings as a table for a page: the next command stands below the reason."""
        table = findings_table(findings, self.words)
        following = [self.words("finding.next", command=command) for command in table["next"].fillna("")]
        reasons = [
            f"{reason}\n{line}" if has_next else reason
            for reason, line, has_next in zip(table["reason"], following, table["next"].notna(), strict=True)
        ]
        return table.assign(reason=reasons).drop(columns="next")

    @cached_property
    def flannel(self) -> pd.DataFrame:
        """This recording and its counterpart side by side, a row a node and plugin."""
        rows = []
        for review in [self, *([self.comparison] if self.comparison else [])]:
            device = tunnel(review.scenario.cni).device
            links = review.tables.links[review.tables.links["name"] == device].set_index("node")
            fdb = review.tables.fdb[(review.tables.fdb["dev"] == device) & review.tables.fdb["dst"].notna()]
            for node in review.tables.nodes["name"]:
                link = links.loc[node] if node in links.index else None
                rows.append(
                    {
                        "plugin": review.scenario.cni.plugin,
                        "node": node,
                        "device": device,
                        "local_ip": None if link is None else link["local_ip"],
                        "remote_ip": ", ".join(fdb.loc[fdb["node"] == node, "dst"]) or None,
                        "mtu_bytes": None if link is None else link["mtu_bytes"],
                        "ping": review.verdict.ping,
                    }
                )
        return pd.DataFrame(rows)

    # ------------------------------------------------------------------ remedies

    @cached_property
    def _tried(self) -> dict[tuple[str, ...], Review]:
        """Reviews of the same scenario with remedies, by their ids; canal's is the comparison where there is no other.

        A recording of a scenario that has changed since is left out.
        """
        found: dict[tuple[str, ...], Review] = {}
        if self.comparison is not None and self.comparison.scenario.cni.plugin == "canal":
            found["canal",] = self.comparison
        for path in sorted(folder_of_remedies(self.recording.folder.parent).glob("*/recording")):
            recording = Recording(path)
            ids = tuple(recording.manifest["facts"].get("remedies", []))
            if ids and recording.scenario == changed(self.scenario, ids):
                found[ids] = Review(recording, self.page.language)
        order = list(FIXES)
        return dict(sorted(found.items(), key=lambda item: (len(item[0]), [order.index(name) for name in item[0]])))

    def _named(self, ids: tuple[str, ...]) -> str:
        return " + ".join(self.words(f"fix.{name}.title") for name in ids)

    @cached_property
    def remedies(self) -> pd.DataFrame:
        """Every remedy that could mend this scenario, alone, then the pairs that were measured: before and after.

        Columns remedy, changes, risk, felix (how Felix treats it), before, after (whether pods reach each other; None
        is not measured) and cause (what still stops them, or why it was not measured).
        """
        if self.verdict.ping and self.verdict.cause is None:
            return pd.DataFrame()
        alone = [(fix.id,) for fix in applicable(self.scenario)]
        return pd.DataFrame(
            [self._remedy(ids) for ids in dict.fromkeys([*alone, *self._tried])],
            columns=["remedy", "changes", "risk", "felix", "before", "after", "cause"],
        )

    def _remedy(self, ids: tuple[str, ...]) -> dict[str, Any]:
        tried, say = self._tried.get(ids), self.words
        told = {key: say(f"fix.{ids[0]}.{key}") if len(ids) == 1 else None for key in ("changes", "risk", "felix")}
        if tried is not None:
            cause = tried.cause
        else:
            cause = say("value.needs-kernel" if FIXES[ids[0]].needs else "value.not-measured")
        after = None if tried is None else tried.verdict.ping
        return {"remedy": self._named(ids), **told, "before": self.verdict.ping, "after": after, "cause": cause}

    def recommendation(self) -> Iterator[Block]:
        """What remedies did, what each does and risks, and what a person types for it."""
        if self.remedies.empty:
            return
        yield self.text("section.remedies" if self._tried else "section.remedies-not-measured")
        yield self.page.table(self.remedies, "caption.remedies", ["remedy", "before", "after", "cause"])
        alone = self.remedies[self.remedies["changes"].notna()]
        yield self.page.table(alone, "caption.treatment", ["remedy", "changes", "risk", "felix"])
        for fix in applicable(self.scenario):
            yield self.page.raw("\n".join(fix.commands(self.scenario)), self._named((fix.id,)))

    # ------------------------------------------------------------------ the review document's conclusions

    @cached_property
    def audit(self) -> pd.DataFrame:
        """The document's conclusions with columns conclusion, status, recorded (which recording says so), evidence.

        Only for what the document looked into: Calico's VXLAN between clouds, with public node addresses.
        """
        cni = self.scenario.cni
        if (cni.plugin, cni.backend, cni.node_ip, self.scenario.topology) != ("calico", "vxlan", "public", "cross"):
            return pd.DataFrame()
        own = self.words("audit.own")
        tried = [Measured(review.tables, review.verdict, self._named(ids)) for ids, review in self._tried.items()]
        return pd.DataFrame(
            [
                {
                    "conclusion": self.words(f"audit.{answer.id}"),
                    "status": self.words(f"audit.status.{answer.status}"),
                    "recorded": answer.told or None,
                    "evidence": ", ".join(f"`{place}`" for place in answer.evidence) or None,
                }
                for answer in audit([Measured(self.tables, self.verdict, own), *tried])
            ]
        )

    def audited(self) -> Iterator[Block]:
        if not self.audit.empty:
            yield self.text("section.audit")
            yield self.page.table(self.audit)

    # ------------------------------------------------------------------ figures

    def mtu_figure(self) -> Block:
        """MTUs along each path, and what was measured to arrive by it."""
        hops, sweeps = self.tables.hops, self.tables.mtu_sweeps
        if hops.empty:
            return self.text("review.no-path")
        smallest = hops.dropna(subset="mtu_bytes").groupby("path", sort=False)["mtu_bytes"].min().items()
        summary = ", ".join(self.words("value.smallest", path=path, mtu_bytes=mtu) for path, mtu in smallest)
        return self.page.figure(plot.mtu_path(hops, sweeps, self.words), self.words("alt.mtu", summary=summary))

    @cached_property
    def mtu_sweeps(self) -> pd.DataFrame:
        """What arrives whole in each direction, what becomes of larger packets, and the fragments that were counted."""
        sweeps = self.tables.mtu_sweeps
        return pd.DataFrame(
            {
                "src": sweeps["source"],
                "dst": sweeps["target"],
                "layer": [self.words(f"layer.{layer}") for layer in sweeps["layer"]],
                "passes_bytes": sweeps["passes_bytes"],
                "limit": [self._limit(sweep) for sweep in rows(sweeps)],
                "fragments": [self._fragments(sweep) for sweep in rows(sweeps)],
            }
        )

    def _limit(self, sweep: Any) -> str | None:
        """What becomes of packets that are larger than what arrives."""
        if pd.isna(sweep.limit):
            return None
        said = self.words(f"value.limit.{sweep.limit}", told=sweep.told_bytes, by=sweep.told_by)
        if pd.isna(sweep.silent_bytes) or sweep.limit == "silent":
            return said
        return f"{said}\n{self.words('value.limit.vanishing', silent=sweep.silent_bytes)}"

    def _fragments(self, sweep: Any) -> str | None:
        counted = [sweep.frag_creates, sweep.reasm_oks, sweep.reasm_fails]
        return None if pd.isna(counted).all() else "/".join("." if pd.isna(count) else str(count) for count in counted)

    def mtu_advice(self) -> Block:
        """The `veth_mtu` that follows from the measurement, and why."""
        advice = advise(self.tables)
        lines = [self.words("mtu.not-measured")] if advice is None else self._advised(advice)
        return self._markdown("\n".join(f"* {line}" for line in lines))

    def _advised(self, advice: Advice) -> Iterator[str]:
        say, first = self.words, advice.narrowest[0]
        path_mtu = first.passes_bytes
        directions = self._few([sweep.path for sweep in advice.narrowest])
        sizes = {"mtu": advice.mtu_bytes, "path_mtu": path_mtu, "overhead": advice.overhead_bytes}
        yield say("mtu.advice-alike" if advice.alike else "mtu.advice", directions=directions, **sizes)
        yield say("mtu.hop" if advice.hop else "mtu.hop-unknown", path_mtu=path_mtu, hop=advice.hop)
        if first.limit == "frag_needed":
            yield say("mtu.told", by=first.told_by)
        elif not pd.isna(first.silent_bytes):
            yield say("mtu.silent", silent=first.silent_bytes)
        agrees = advice.mtu_bytes == advice.configured_bytes
        yield say("mtu.agrees" if agrees else "mtu.differs", configured=advice.configured_bytes)
        if advice.devices:
            fit = max(advice.devices.values()) <= advice.mtu_bytes
            devices = self._few([f"{node} {mtu}" for node, mtu in advice.devices.items()])
            yield say("mtu.devices-fit" if fit else "mtu.devices-exceed", devices=devices)
        if advice.fragmented:
            yield say(
                "mtu.fragmented", nodes=self._few([f"{node} {count}" for node, count in advice.fragmented.items()])
            )
        if advice.unmeasured:
            yield say("mtu.unmeasured", directions=self._few(list(advice.unmeasured)))

    def _few(self, parts: list[str]) -> str:
        """The first of many."""
        shown = ", ".join(parts[:_FEW])
        return shown if len(parts) <= _FEW else self.words("value.and-more", shown=shown, more=len(parts) - _FEW)

    def latency_figure(self) -> Block:
        """The document's ping (node to pod) beside the same nodes' ping without the tunnel."""
        replies = latency.compared(self.tables)
        if replies.empty:
            return self.text("review.no-pings")
        parts = []
        for (src, dst, layer), times in replies.groupby(["src", "dst", "layer"], sort=False)["time_ms"]:
            middle = times.median()
            key = "value.no-replies" if pd.isna(middle) else "value.replies"
            values = {} if pd.isna(middle) else {"time_ms": f"{middle:.3g}"}
            parts.append(self.words(key, src=src, dst=dst, layer=self.words(f"layer.{layer}"), **values))
        return self.page.figure(plot.latency(replies, self.words), self.words("alt.latency", summary=", ".join(parts)))

    @cached_property
    def round_trips(self) -> pd.DataFrame:
        """Each pair and layer in numbers, with what the overlay adds."""
        table = latency.summary(self.tables)
        worded = {
            "layer": [self.words(f"layer.{row.layer}") for row in rows(table)],
            "loss": [self._interval(row.loss_percent, row.loss_low, row.loss_high) for row in rows(table)],
            "overhead": [
                self._interval(row.overhead_ms, row.overhead_low_ms, row.overhead_high_ms) for row in rows(table)
            ],
        }
        columns = ["src", "dst", "layer", "sent", "lost", "loss", "min_ms", "median_ms", "p95_ms", "overhead"]
        return pd.DataFrame({name: worded.get(name, table.get(name)) for name in columns})

    def _interval(self, value: float, low: float, high: float) -> str | None:
        if pd.isna(value):
            return None
        shown = [f"{number:.0f}" if abs(number) >= 10 else f"{number:.2g}" for number in (value, low, high)]
        return self.words("value.interval", **dict(zip(("value", "low", "high"), shown, strict=True)))

    def latency_cells(self) -> Iterator[tuple[str, str, float | None, str]]:
        """Source, target, median round trip to its pod, and what a map says there."""
        for src, dst, median, outcome in latency.medians(self.tables):
            yield src, dst, median, self.words(f"plot.heat.{outcome}") if median is None else f"{median:.3g}"

    def latency_map(self) -> Iterator[Block]:
        """Who reaches whom and how fast, where there are more than two nodes."""
        cells = pd.DataFrame(list(self.latency_cells()), columns=["row", "column", "value", "mark"])
        if len(self.tables.nodes) <= 2 or cells.empty:
            return
        nodes = self.tables.nodes.sort_values("site", kind="stable")
        sites = dict(zip(nodes["name"], nodes["site"], strict=True))
        figure = plot.heat(cells, self.words, self.words("plot.heat.latency"), sites)
        summary = ", ".join(f"{cell.row} → {cell.column} {cell.mark}" for cell in rows(cells))
        alt = self.words("alt.latency-map", summary=summary)
        yield self.page.figure(figure, alt, self.words("caption.latency-map"))

    # ------------------------------------------------------------------ conclusion and appendix

    def conclusion(self) -> Block:
        """Sentences that follow from the findings, each with its evidence."""
        return self._markdown(
            "\n".join(f"* {line}" if not line.startswith("  ") else line for line in self._concluded())
        )

    def _concluded(self) -> Iterator[str]:
        measured, say = self.verdict, self.words
        workload, ready = self.facts["workload"], ", ".join(f"{node} {state}" for node, state in measured.ready.items())
        yield say(f"conclusion.installed.{_key(measured.installed)}", workload=workload, ready=ready)
        yield say(f"conclusion.ping.{_key(measured.ping)}")
        if measured.cause is not None or False in (measured.installed, measured.ping):
            yield from self._explained()
        elif measured.ping is None:
            yield from self._known_so_far()
        yield from self._compared()
        yield from self._recommended()
        yield self._against_expectation()

    def _explained(self) -> Iterator[str]:
        say, cause = self.words, self.verdict.cause
        if cause is None:
            yield say("conclusion.cause-unknown")
            return
        yield say("conclusion.cause", cause=say(f"cause.{cause}"))
        yield from self._bullets(cause)
        checks = [finding for finding in self.findings if finding.id in _CROSS_CHECKS]
        if all(finding.result == "pass" for finding in checks):
            yield say("conclusion.cross-check-green")
        shown = list(self._bullets(*_SHOWN_BY))
        if shown:
            yield say("conclusion.shown-by")
            yield from shown

    def _known_so_far(self) -> Iterator[str]:
        """What an undecided recording proves, what it does not decide, and which commands would."""
        for result in ("pass", "fail"):
            rules = dict.fromkeys(finding.id for finding in self.findings if finding.result == result)
            if rules:
                yield self.words(f"conclusion.proven.{result}", rules=", ".join(f"`{rule}`" for rule in rules))
                if result == "fail":
                    yield from self._bullets(*rules)
        skipped = {finding.id for finding in self.findings if finding.result == "skip"}
        rules = dict.fromkeys(rule for rule in CAUSES if rule in skipped)
        if rules:
            yield self.words("conclusion.undecided", rules=", ".join(f"`{rule}`" for rule in rules))
        if not self._gaps.empty:
            yield self._deciding()

    def _bullets(self, *rules: str) -> Iterator[str]:
        for finding in self.findings:
            if finding.id in rules and finding.result == "fail":
                places = ", ".join(f"`{place}`" for place in finding.evidence)
                yield f"  * {finding.node}: {finding.reason(self.words)} ({places})"

    def _compared(self) -> Iterator[str]:
        say, other = self.words, self.comparison
        if other is None:
            yield say("conclusion.flannel.not-measured")
        elif self.scenario.cni.plugin == "canal":
            key = "calico-works" if other.verdict.ping else "calico-fails"
            yield say(f"conclusion.flannel.{key}", node_ip=other.facts["node_ip"])
        elif other.verdict.ping is not True:
            yield say("conclusion.flannel.fails")
        elif self.verdict.cause == "outer-source":
            own, theirs = (
                self.flannel[self.flannel["plugin"] == "calico"],
                self.flannel[self.flannel["plugin"] == "canal"],
            )
            yield say(
                "conclusion.flannel.splits",
                flannel_local=theirs["local_ip"].iloc[0],
                flannel_dst=theirs["remote_ip"].iloc[-1],
                calico_local=own["local_ip"].iloc[0],
            )
        else:
            yield say("conclusion.flannel.works")

    def _recommended(self) -> Iterator[str]:
        tried = self._tried
        if self.verdict.ping:
            yield self.words("conclusion.recommend.keep")
        elif not tried:
            yield self.words("conclusion.recommend.not-measured", scenario=self.scenario.name)
        else:
            working = [ids for ids, review in tried.items() if review.verdict.ping]
            for ids in working:
                yield self.words("conclusion.recommend.works", remedies=self._named(ids))
            if working:
                yield self.words("conclusion.recommend.smallest", remedies=self._named(min(working, key=len)))
            else:
                yield self.words("conclusion.recommend.none")

    def _against_expectation(self) -> str:
        expected, measured = self.expected, self.verdict
        if expected is None:
            return self.words("conclusion.expected.none")
        if self.agrees:
            return self.words("conclusion.expected.agrees", source=expected.source)

        def shown(installed: bool | None, ping: bool | None, cause: str | None) -> str:
            return f"{self._mark(installed)}/{self._mark(ping)}/{cause or self.words('value.none')}"

        return self.words(
            "conclusion.expected.differs",
            source=expected.source,
            expected=shown(expected.installed, expected.ping, expected.cause),
            measured=shown(measured.installed, measured.ping, measured.cause),
        )

    def install_commands(self) -> Block:
        return self.page.raw("\n".join(install_commands(self.scenario)), "kubectl")

    def commands(self) -> Iterator[Block]:
        """What was run on each node, ready to be typed there again."""
        captures = self.tables.captures.drop_duplicates(["node", "run"])
        for node, lines in captures.groupby("node", sort=False)["run"]:
            yield self.page.raw("\n".join(lines), str(node))

    def captures(self) -> Iterator[Block]:
        """Every captured text."""
        for capture in self.recording.captures:
            text = self.recording.text(capture)
            title = f"{capture.node}: `{capture.line}` ({capture.path})"
            yield self.page.raw(text or capture.stderr or self.words("table.empty"), title)


def folder_of_remedies(folder: Path) -> Path:
    """Where a scenario's folder keeps what was recorded with remedies."""
    return folder / "remedies"


def _key(value: bool | None) -> str:
    return "none" if value is None else str(value).lower()
