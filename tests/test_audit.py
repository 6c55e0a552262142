"""The review document's conclusions, held against its own outputs and against the lab's recordings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from calico_lab.audit import CONCLUSIONS, Measured, audit
from calico_lab.checks import check, verdict
from calico_lab.page import LANGUAGES, Language, catalogue
from calico_lab.recording import Recording
from calico_lab.remedies import apply
from calico_lab.review import Review
from calico_lab.run import BUNDLED
from calico_lab.scenario import Scenario
from calico_lab.tables import Tables


def measured(recording: Recording) -> Measured:
    tables = Tables(recording)
    return Measured(tables, verdict(check(tables), tables), recording.scenario.name)


def statuses(*recordings: Recording) -> dict[str, str]:
    return {answer.id: answer.status for answer in audit([measured(each) for each in recordings])}


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_conclusion_is_in_words(language: Language) -> None:
    written = {key.removeprefix("audit.") for key in catalogue(language) if key.startswith("audit.")}
    assert written == {*CONCLUSIONS, "own", *(f"status.{s}" for s in ("supported", "contradicted", "untested"))}


def test_the_documents_own_outputs_support_one_conclusion_and_test_no_other() -> None:
    found = statuses(Recording(BUNDLED / "review-2022" / "recording"))
    assert found.pop("internal-ip") == "supported"
    assert set(found.values()) == {"untested"}


def test_measured_again_readiness_says_nothing_of_traffic(recordings: Callable[[str], Recording]) -> None:
    found = statuses(recordings("cross-vxlan"))
    assert (found["internal-ip"], found["bird-liveness"], found["canal"]) == ("supported", "supported", "untested")


def test_canal_on_the_same_nodes_answers_for_flannel(recordings: Callable[[str], Recording]) -> None:
    found = statuses(recordings("cross-vxlan"), recordings("cross-canal"))
    assert (found["flannel-local"], found["flannel-public"], found["canal"]) == ("supported",) * 3
    assert found["l3-impossible"] == "untested"


def test_calico_with_a_remedy_contradicts_that_it_cannot_work(
    recordings: Callable[[str], Recording], tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("snat") / "recording"
    apply(Scenario.load("cross-vxlan", {"internet.latency_ms": 0}), ["snat-vxlan"], folder)
    answers = audit([measured(recordings("cross-vxlan")), measured(Recording(folder))])
    against = {answer.id: answer for answer in answers if answer.status == "contradicted"}
    assert set(against) == {"l3-impossible", "cross-subnet", "only-single-private"}
    for answer in against.values():
        path, _, line = answer.evidence[0].partition(":")
        assert "packets transmitted" in (folder / path).read_text(encoding="utf-8").splitlines()[int(line) - 1]


def test_a_private_local_contradicts_that_it_is_public(
    recordings: Callable[[str], Recording], edited: Callable[..., Recording]
) -> None:
    other = edited(recordings("cross-vxlan"), [("c-1-h43jk", "ip-link", "local 54.64.9.64", "local 192.168.10.28")])
    assert statuses(other)["internal-ip"] == "contradicted"


def test_canal_that_sends_to_a_private_address_contradicts_that_it_goes_by_public_ones(
    recordings: Callable[[str], Recording], edited: Callable[..., Recording]
) -> None:
    other = edited(recordings("cross-canal"), [("c-1-h43jk", "bridge-fdb", "dst 35.189.140.156", "dst 192.168.29.28")])
    assert statuses(other)["flannel-public"] == "contradicted"


@pytest.mark.parametrize(("ready", "status"), [(True, "contradicted"), (False, "untested")])
def test_bgp_with_public_addresses_that_is_ready_contradicts_that_it_cannot_be_installed(
    recordings: Callable[[str], Recording], ready: bool, status: str
) -> None:
    """The question alone: a lab with BGP takes another kernel."""
    own = measured(recordings("single-vxlan"))
    scenario = own.tables.scenario
    own.tables.scenario = scenario.model_copy(update={"cni": scenario.cni.model_copy(update={"backend": "bird"})})
    answers = {answer.id: answer for answer in audit([replace(own, verdict=replace(own.verdict, installed=ready))])}
    assert answers["bgp-public"].status == status


def test_other_scenarios_are_not_what_the_document_concluded_from(recordings: Callable[[str], Recording]) -> None:
    assert Review(recordings("single-vxlan-private")).audit.empty
    assert len(Review(recordings("cross-vxlan")).audit) == len(CONCLUSIONS)
