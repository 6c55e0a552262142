"""A recording, reviewed: the words for everything it can say, the summary, and a conclusion that follows from it."""

from __future__ import annotations

import ast
import importlib
import inspect
import json
import pkgutil
import re
import shutil
import string
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, get_args

import pytest

from calico_lab import checks, review
from calico_lab.calico import counterpart
from calico_lab.checks import CAUSES, RULES
from calico_lab.checks.findings import ANY_RULE
from calico_lab.clouds import CLOUDS
from calico_lab.lab.fabric import DROPS
from calico_lab.page import LANGUAGES, Language, catalogue
from calico_lab.recording import Recording
from calico_lab.review import Review
from calico_lab.scenario import Cni, Scenario, names

A, G = "c-1-h43jk", "w-1-36384"

# ---------------------------------------------------------------------- words

_SET_ELSEWHERE = {
    "recording": {f"error-{status}" for status in ("failed", "timeout", "unreachable", "unreadable")},
    "fabric-drops": {f"fail-{drop}" for drop in DROPS},
}


def _cases(function: ast.FunctionDef) -> Iterator[str]:
    """Every case that a rule's findings can have: the second argument of each Finding, followed through assignments."""

    def values(expression: ast.expr) -> Iterator[str]:
        match expression:
            case ast.Constant(value=str(text)):
                yield text
            case ast.IfExp(body=body, orelse=other):
                yield from values(body)
                yield from values(other)
            case ast.Call(func=ast.Name(id="pass_or_fail")):
                yield from ("pass", "fail")
            case ast.Name(id=name):
                for node in ast.walk(function):
                    match node:
                        case ast.Assign(targets=[ast.Name(id=found)], value=value) if found == name:
                            yield from values(value)
                        case ast.Assign(targets=[ast.Tuple(elts=names)], value=ast.Tuple(elts=assigned)):
                            for target, value in zip(names, assigned, strict=True):
                                if isinstance(target, ast.Name) and target.id == name:
                                    yield from values(value)
                        case ast.AnnAssign(target=ast.Name(id=found), value=ast.expr() as value) if found == name:
                            yield from values(value)

    for node in ast.walk(function):
        match node:
            case ast.Call(func=ast.Name(id="Finding"), args=[_, case, *_]):
                yield from values(case)
            case ast.Call(func=ast.Name(id="replace"), keywords=keywords):
                for keyword in keywords:
                    if keyword.arg == "case":
                        yield from values(keyword.value)


def _functions() -> dict[str, ast.FunctionDef]:
    """Every function of the package of checks, by name."""
    names = [module.name for module in pkgutil.iter_modules(checks.__path__, "calico_lab.checks.")]
    return {
        node.name: node
        for name in names
        for node in ast.parse(inspect.getsource(importlib.import_module(name))).body
        if isinstance(node, ast.FunctionDef)
    }


def _keys_of_findings() -> set[str]:
    functions = _functions()
    found: set[str] = set()
    for rule, function in RULES.items():
        reached, ahead = set(), {function.__name__}
        while ahead:
            reached |= ahead
            called = {
                node.func.id
                for name in ahead
                for node in ast.walk(functions[name])
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
            }
            ahead = (called & set(functions)) - reached
        for case in (case for name in reached for case in _cases(functions[name])):
            found.add(f"finding.any.{case}" if case in ANY_RULE else f"finding.{rule}.{case}")
    return found | {f"finding.{rule}.{case}" for rule, cases in _SET_ELSEWHERE.items() for case in cases}


@pytest.mark.parametrize("language", LANGUAGES)
class TestWords:
    def test_every_finding_has_its_sentence_and_no_sentence_is_left_over(self, language: Language) -> None:
        written = {key for key in catalogue(language) if key.startswith("finding.") and key != "finding.next"}
        assert written == _keys_of_findings()

    def test_every_rule_is_looked_at(self, language: Language) -> None:
        assert {key.split(".")[1] for key in _keys_of_findings()} == {*RULES, "any"}

    def test_every_cause_has_a_name(self, language: Language) -> None:
        written = {key for key in catalogue(language) if key.startswith("cause.")}
        assert written == {f"cause.{cause}" for cause in [*CAUSES, "unknown"]}

    def test_every_rule_of_a_cloud_has_a_name(self, language: Language) -> None:
        written = {key for key in catalogue(language) if key.startswith("rule.")}
        assert written == {f"rule.{rule}" for cloud in CLOUDS.values() for rule in cloud.sources}

    def test_every_way_to_install_has_a_name(self, language: Language) -> None:
        backends = {"canal", *get_args(Cni.model_fields["backend"].annotation)}
        wanted = {f"value.backend.{backend}" for backend in backends}
        wanted |= {f"value.node_ip.{kind}" for kind in get_args(Cni.model_fields["node_ip"].annotation)}
        assert sorted(wanted - set(catalogue(language))) == []

    def test_every_text_that_the_review_names_is_there(self, language: Language) -> None:
        literal = {
            node.args[0].value
            for node in ast.walk(ast.parse(inspect.getsource(review)))
            if isinstance(node, ast.Call)
            and node.args
            and isinstance(node.args[0], ast.Constant)
            and getattr(node.func, "attr", getattr(node.func, "id", "")) in ("words", "say", "text")
        }
        assert len(literal) > 15
        assert sorted(literal - set(catalogue(language))) == []


# ---------------------------------------------------------------------- what clouds do

AZURE = Path(__file__).parent / "recordings" / "single-bgp-private-azure"


def test_the_clouds_table_has_each_fact_with_its_source_and_its_note() -> None:
    table = Review(AZURE, "en").clouds.set_index("rule")
    assert list(table.columns) == ["cloud", "value", "source", "url", "read", "note"]
    assert list(table["value"]) == ["eth0", ".", "1500", "O", "O", "4, 47"]
    blocked = table.loc["IP protocol numbers that the network drops"]
    assert (blocked["cloud"], blocked["source"], blocked["read"]) == (
        "Azure",
        "Azure Virtual Network frequently asked questions",
        "2026-11-23",
    )
    assert "Reports conflict" in blocked["note"]


def test_what_the_scenario_sets_otherwise_for_a_site_stands_below(tmp_path: Path) -> None:
    folder = shutil.copytree(AZURE, tmp_path / "recording")
    manifest = json.loads((folder / "manifest.json").read_text(encoding="utf-8"))
    manifest["scenario"]["sites"][0] |= {"blocked_protocols": [], "mtu_bytes": 1400}
    (folder / "manifest.json").write_text(json.dumps(manifest), encoding="utf-8")
    table = Review(folder, "en").clouds
    assert table.tail(2)[["cloud", "rule", "value", "source"]].values.tolist() == [
        ["Azure (azure-tokyo)", "MTU of the NIC (bytes)", "1400", "set by the scenario"],
        ["Azure (azure-tokyo)", "IP protocol numbers that the network drops", ".", "set by the scenario"],
    ]


# ---------------------------------------------------------------------- reviews of the lab's recordings


@pytest.fixture(scope="module")
def reviewed(recordings: Callable[[str], Recording]) -> Callable[..., Review]:
    """The review of a scenario's recording, beside another's; each is made once."""
    made: dict[tuple[str, str | None, Language], Review] = {}

    def of(scenario: str, beside: str | None = None, language: Language = "en") -> Review:
        key = (scenario, beside, language)
        if key not in made:
            comparison = recordings(beside) if beside else None
            made[key] = Review(recordings(scenario), language, comparison=comparison)
        return made[key]

    return of


def conclusion(of: Review) -> str:
    return of.conclusion().data["text/markdown"]


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize(
    ("scenario", "beside"),
    [
        pytest.param("cross-vxlan", "cross-canal", id="cross-vxlan"),
        pytest.param("cross-vxlan-noalias", None, id="cross-vxlan-noalias"),
        pytest.param("cross-canal", "cross-vxlan", id="cross-canal"),
        pytest.param("single-vxlan-private", None, id="single-vxlan-private"),
    ],
)
def test_every_text_of_a_review_can_be_filled(
    reviewed: Callable[..., Review], scenario: str, beside: str | None, language: Language
) -> None:
    of = reviewed(scenario, beside, language)
    texts = [of.title, of.headline, of.mode, *(block.data["text/markdown"] for block in (of.heading(), of.notes()))]
    texts += [conclusion(of), *(finding.reason(of.words) for finding in of.findings)]
    for text in texts:
        assert text
        assert [name for _, name, _, _ in string.Formatter().parse(text) if name is not None] == []


class TestSummary:
    def test_it_is_what_the_design_promises(self, reviewed: Callable[..., Review], tmp_path: Path) -> None:
        of = reviewed("cross-vxlan", "cross-canal")
        of.write_summary(tmp_path / "summary.json")
        written = json.loads((tmp_path / "summary.json").read_text(encoding="utf-8"))
        findings = written.pop("findings")
        assert written == {
            "scenario": "cross-vxlan",
            "provider": "lab",
            "installed": True,
            "ready": {A: "1/1", G: "1/1"},
            "ping": False,
            "cause": "outer-source",
            "expected": {
                "installed": True,
                "ping": False,
                "cause": "outer-source",
                "source": 'the review document, row "Cross-CSP, VXLAN, public-ip"',
            },
            "agrees": True,
            "remedies": [{"ids": ["canal"], "ping": True, "cause": None}],
        }
        assert {tuple(finding) for finding in findings} == {("id", "result", "node", "reason", "evidence", "next")}
        assert {finding["result"] for finding in findings} <= {"pass", "fail", "skip", "error"}
        assert len(findings) == len(of.findings)

    def test_its_findings_point_at_lines_and_name_a_command(self, reviewed: Callable[..., Review]) -> None:
        (found,) = [
            finding
            for finding in reviewed("cross-vxlan").summary()["findings"]
            if (finding["id"], finding["node"]) == ("outer-source", A)
        ]
        assert found["result"] == "fail"
        assert found["evidence"][0].startswith(f"captures/{A}/ip-link.txt:")
        assert found["next"] == "tcpdump -ni eth0 udp port 4789"

    def test_it_says_null_where_nothing_is_known(
        self, recordings: Callable[[str], Recording], edited: Callable[..., Recording]
    ) -> None:
        unknown = Review(edited(recordings("cross-vxlan"), without={(A, "readiness")}), "en").summary()
        assert (unknown["installed"], unknown["ready"], unknown["ping"], unknown["cause"], unknown["agrees"]) == (
            None,
            {G: "1/1"},
            None,
            None,
            False,
        )


class TestJourney:
    def told(self, review: Review) -> str:
        return next(review.followed()).data["text/markdown"].splitlines()[-1]

    def test_where_it_was_predicted_to_end_and_was_lost(self, reviewed: Callable[..., Review]) -> None:
        assert self.told(reviewed("cross-vxlan")) == (
            "Predicted: the request ends at the source check (aws-tokyo): the outer source is not an address that the "
            "cloud gave. Measured: the request was dropped at the source check (aws-tokyo; last seen: NIC). "
            "The two agree."
        )

    def test_that_it_came_back(self, reviewed: Callable[..., Review]) -> None:
        assert self.told(reviewed("cross-canal")) == (
            "Predicted: the reply comes back. Measured: 40 replies came back. The two agree."
        )

    def test_that_nothing_was_measured(self) -> None:
        folder = Path(review.__file__).parent / "recordings" / "review-2022" / "recording"
        assert self.told(Review(folder, "en")) == (
            "Predicted: how far it gets is not known, as some outputs are missing. "
            "Measured: nothing in this recording tells. The two cannot be compared."
        )

    def test_that_the_two_differ(
        self, recordings: Callable[[str], Recording], edited: Callable[..., Recording]
    ) -> None:
        lying = (A, "ip-route", r"^10\.244\.124\.0/24 .*$", "blackhole 10.244.124.0/24")
        found = Review(edited(recordings("single-vxlan-private"), [lying]), "en")
        assert self.told(found) == (
            "Predicted: the request ends at the route (c-1-h43jk): no route to the pod block. "
            "Measured: 40 replies came back. **The two differ.** What the nodes printed and the cloud networks' rules "
            "do not explain the measurement."
        )

    def test_the_tables_leave_out_where_it_never_comes(self, reviewed: Callable[..., Review]) -> None:
        _, figure, request, reply = reviewed("cross-vxlan").followed()
        assert "image/png" in figure.data
        shown = request.data["text/markdown"].splitlines()
        assert shown[0] == "**request**"
        assert shown[2] == "| Hop | What decides | Predicted | Measured | Evidence |"
        assert len(shown) == 4 + 9
        assert re.fullmatch(
            r"\| source check<br>aws-tokyo \| 54\.64\.9\.64 ≠ 192\.168\.10\.28 \| ✘ ends<br>the outer source is not an "
            r"address that the cloud gave \| ✘ \d+ dropped \| `captures/fabric\.aws-tokyo/iptables-save\.txt:\d+` \|",
            shown[-1],
        )
        (last,) = reply.data["text/markdown"].splitlines()[4:]
        assert last.startswith(
            f"| peer's pod<br>{A} | . | never comes | ✘ not seen | `captures/{A}/ping-pod-probe-1-{G}"
        )


class TestConclusion:
    def test_canal_is_recommended_where_it_was_seen_to_work(self, reviewed: Callable[..., Review]) -> None:
        text = conclusion(reviewed("cross-vxlan", "cross-canal"))
        assert "* It turned `ping` from X to O: canal (flannel + public-ip-overwrite).\n" in text
        assert "* The smallest remedy that is recommended: canal (flannel + public-ip-overwrite).\n" in text

    def test_canal_is_not_recommended_where_it_did_not_work(
        self, recordings: Callable[[str], Recording], edited: Callable[..., Recording]
    ) -> None:
        ping = f"ping-node-probe-1-{G}"
        broken = edited(
            recordings("cross-canal"),
            [(A, ping, r"^64 bytes.*\n|^rtt.*", ""), (A, ping, "40 received, 0%", "0 received, 100%")],
        )
        text = conclusion(Review(recordings("cross-vxlan"), "en", comparison=broken))
        assert "It turned" not in text
        assert "* canal (flannel) does not work on the same nodes either.\n" in text
        assert "* None of the remedies that were measured works, so none is recommended.\n" in text

    def test_nothing_is_recommended_where_nothing_was_compared(self, reviewed: Callable[..., Review]) -> None:
        text = conclusion(reviewed("cross-vxlan"))
        assert "* This recording has no comparison with flannel (canal).\n" in text
        assert "No remedy was measured yet, so none is recommended (`make remedies SCENARIO=cross-vxlan`)" in text

    def test_a_setting_that_works_is_kept(self, reviewed: Callable[..., Review]) -> None:
        text = conclusion(reviewed("single-vxlan-private"))
        assert "* This setting can be used as it is (`ping` O in this measurement).\n" in text
        assert "The cause" not in text

    def test_a_failure_names_its_cause_and_what_shows_it(self, reviewed: Callable[..., Review]) -> None:
        text = conclusion(reviewed("cross-vxlan", "cross-canal"))
        assert "* The cause: **the outer source is not an address that the cloud gave**.\n" in text
        assert "* The review document's cross-checks (MAC, FDB, VNI, route) all pass." in text
        assert f"`captures/{A}/ip-link.txt:" in text
        assert "* These measurements show it:\n" in text
        assert f"  * {A}: Even between the nodes, " in text

    def test_the_comparison_names_both_addresses_of_flannel(self, reviewed: Callable[..., Review]) -> None:
        text = conclusion(reviewed("cross-vxlan", "cross-canal"))
        assert "private IP (192.168.10.28)" in text
        assert "public IP (35.189.140.156)" in text or "public IP (54.64.9.64)" in text

    def test_an_unknown_cause_is_said_to_be_unknown(
        self, recordings: Callable[[str], Recording], edited: Callable[..., Recording]
    ) -> None:
        ping = f"ping-node-probe-1-{G}"
        broken = edited(
            recordings("cross-canal"),
            [(A, ping, r"^64 bytes.*\n|^rtt.*", ""), (A, ping, "40 received, 0%", "0 received, 100%")],
        )
        assert "* These checks do not find the cause.\n" in conclusion(Review(broken, "en"))

    def test_agreement_with_the_expectation_is_said(self, reviewed: Callable[..., Review]) -> None:
        of = reviewed("cross-vxlan")
        assert of.agrees is True
        assert conclusion(of).endswith(
            '* This is as expected (the review document, row "Cross-CSP, VXLAN, public-ip").'
        )

    def test_disagreement_with_the_expectation_is_said(
        self, recordings: Callable[[str], Recording], edited: Callable[..., Recording]
    ) -> None:
        moved = edited(recordings("cross-vxlan"), [(G, "ip-link", "vxlan id 4096", "vxlan id 1")])
        of = Review(moved, "en")
        assert of.agrees is False
        assert conclusion(of).endswith(
            '* This is not as expected (the review document, row "Cross-CSP, VXLAN, public-ip"): '
            "expected O/X/outer-source, measured O/X/vni-port."
        )


# ---------------------------------------------------------------------- the counterpart


@pytest.mark.parametrize(
    ("scenario", "name", "settings"),
    [
        pytest.param(
            "cross-vxlan", "cross-canal", {"plugin": "canal", "backend": "vxlan", "node_ip": "public"}, id="of-calico"
        ),
        pytest.param(
            "single-vxlan-private",
            "single-canal",
            {"plugin": "canal", "backend": "vxlan", "node_ip": "public"},
            id="of-a-single-cloud",
        ),
        pytest.param(
            "cross-canal", "cross-vxlan", {"plugin": "calico", "backend": "vxlan", "node_ip": "public"}, id="of-canal"
        ),
    ],
)
def test_a_counterpart_has_the_same_nodes_and_the_other_plugin(
    scenario: str, name: str, settings: Mapping[str, Any]
) -> None:
    own = Scenario.load(scenario)
    other = counterpart(own)
    assert (other.name, other.expected, other.nodes) == (name, None, own.nodes)
    assert {key: getattr(other.cni, key) for key in settings} == settings


@pytest.mark.parametrize("scenario", names())
def test_a_counterpart_is_a_scenario_that_could_stand_in_a_file(scenario: str) -> None:
    other = counterpart(Scenario.load(scenario))
    assert Scenario.of(other.parameters()) == other
