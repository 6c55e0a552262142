"""A probe's journey: where it should end, where it was lost, and what to make of both."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from calico_lab import recording as recordings_module
from calico_lab.checks import check, verdict
from calico_lab.journey import differs, end, first_pair, journey
from calico_lab.recording import Recording
from calico_lab.tables import Tables
from calico_lab.walk import HOPS

A, G = "c-1-h43jk", "w-1-36384"
KEPT = {path.name: path for path in (Path(__file__).parent / "recordings").iterdir()}
REVIEW_2022 = Path(recordings_module.__file__).parent / "recordings" / "review-2022" / "recording"

ENDS = {
    "cross-vxlan": ("source-check", "outer-source"),
    "cross-vxlan-private": ("internet", "fdb-reachable"),
    "cross-vxlan-noalias": ("source-check", "device-present"),
    "cross-canal": (None, None),
    "cross-bgp": ("route", "bgp-source"),
    "cross-bgp-private": ("route", "bgp-reachable"),
    "single-vxlan": ("source-check", "outer-source"),
    "single-vxlan-private": (None, None),
    "single-vxlan-private-crosssubnet": ("source-check", "pod-source"),
    "single-bgp": ("route", "bgp-source"),
    "single-bgp-private": (None, None),
    "single-bgp-private-azure": ("source-check", "outer-protocol"),
}


@pytest.fixture
def recorded(recordings: Callable[[str], Recording]) -> Callable[[str], Recording]:
    return lambda name: Recording(KEPT[name]) if name in KEPT else recordings(name)


def way(recording: Recording, source: str = A, target: str = G) -> pd.DataFrame:
    return journey(Tables(recording), source, target)


def cell(frame: pd.DataFrame, hop: str, direction: str = "request") -> dict[str, Any]:
    """What stands at a hop, without what is not known there."""
    row = frame[(frame["hop"] == hop) & (frame["direction"] == direction)].iloc[0]
    return {name: value for name, value in row.items() if name == "evidence" or not pd.isna(value)}


# ---------------------------------------------------------------------- whole recordings


@pytest.mark.parametrize(("name", "hop", "cause"), [(name, *ends) for name, ends in ENDS.items()], ids=list(ENDS))
def test_a_probe_is_lost_where_it_should_be_and_for_the_verdicts_cause(
    recorded: Callable[[str], Recording], name: str, hop: str | None, cause: str | None
) -> None:
    tables = Tables(recorded(name))
    frame = journey(tables, *first_pair(tables))
    ends = end(frame, "predicted")
    assert (None if ends is None else ends.hop) == hop
    assert next(iter(frame["cause"].dropna()), None) == cause == verdict(check(tables), tables).cause
    assert differs(frame) is False


def test_every_hop_has_what_decides_what_was_seen_and_where_it_stands(recorded: Callable[[str], Recording]) -> None:
    frame = way(recorded("cross-canal"))
    assert frame["hop"].tolist() == [*HOPS, *HOPS]
    assert frame["position"].tolist() == list(range(1, 31))
    assert set(frame["predicted"]) == {"pass"}
    assert set(frame["measured"]) == {"seen"}
    nic = cell(frame, "nic", "reply")
    assert (nic["place"], nic["what"], nic["packets"]) == (G, "ens4", 40)
    assert [place.partition(":")[0] for place in nic["evidence"]] == [f"captures/{G}/tcpdump.txt"]
    assert cell(frame, "nat")["what"] == "192.168.10.28 → 54.64.9.64"
    assert cell(frame, "peer-nic")["outer_destination"] == "192.168.29.28"
    end_of_all = cell(frame, "peer-pod", "reply")
    assert (end_of_all["place"], end_of_all["packets"]) == (A, 40)


def test_what_has_no_tunnel_has_no_hops_of_one(recorded: Callable[[str], Recording]) -> None:
    frame = way(recorded("cross-vxlan-noalias"))
    request = frame[frame["direction"] == "request"]
    assert request[["hop", "predicted"]].apply(tuple, axis=1).tolist() == [
        *[("pod", "pass"), ("veth", "pass"), ("route", "astray"), ("nic", "pass"), ("source-check", "stop")],
        *[("nat", "unreached"), ("internet", "unreached"), ("peer-nic", "unreached"), ("peer-pod", "unreached")],
    ]
    assert cell(frame, "route")["what"] == "default via 192.168.10.1 dev eth0"
    assert cell(frame, "source-check")["measured"] == "dropped"
    assert set(frame.loc[frame["direction"] == "reply", "predicted"]) == {"unreached"}


def test_the_columns_are_those_of_the_docstring(recorded: Callable[[str], Recording]) -> None:
    documented = [line.split()[0] for line in (journey.__doc__ or "").split("=\n")[2].strip().splitlines()[:-1]]
    assert list(way(recorded("cross-bgp")).columns) == documented


# ---------------------------------------------------------------------- what is not there


def without(recording: Recording, *captures: str) -> set[tuple[str, str]]:
    return {(each.node, each.command) for each in recording.captures if each.command in captures}


def of_the_fabric(recording: Recording) -> set[tuple[str, str]]:
    return {(each.node, each.command) for each in recording.captures if each.node.startswith("fabric.")}


def test_a_cloud_does_not_tell_what_it_drops(
    recorded: Callable[[str], Recording], edited: Callable[..., Recording]
) -> None:
    whole = recorded("cross-vxlan")
    frame = way(edited(whole, without=of_the_fabric(whole)))
    assert cell(frame, "source-check")["predicted"] == "stop"
    assert "measured" not in cell(frame, "source-check")
    lost = end(frame, "measured")
    assert (lost.hop, lost.measured, lost.packets) == ("peer-nic", "unseen", 0)
    assert differs(frame) is False


def test_without_counters_and_packets_only_the_ping_itself_tells(
    recorded: Callable[[str], Recording], edited: Callable[..., Recording]
) -> None:
    whole = recorded("cross-vxlan")
    gone = of_the_fabric(whole) | without(whole, "tcpdump", "ip-link-stats", "iptables-save-before")
    frame = way(edited(whole, without=gone))
    assert frame["measured"].dropna().tolist() == ["unseen"]
    assert end(frame, "measured").position == len(frame)
    assert differs(frame) is False


def test_what_was_not_captured_is_not_known_and_never_passes(
    recorded: Callable[[str], Recording], edited: Callable[..., Recording]
) -> None:
    whole = recorded("cross-vxlan")
    frame = way(edited(whole, without=without(whole, "iptables-save", "iptables-save-before", "ip-addr")))
    unknown = frame[(frame["predicted"] == "unknown") & (frame["direction"] == "request")]
    assert dict(zip(unknown["hop"], unknown["missing"], strict=True)) == {
        "outer": "ip-addr",
        "snat": "iptables-save",
        "source-check": "iptables-save",
        "nat": "iptables-save",
        "allow-list": "ip-addr, iptables-save",
        "peer-pod": "iptables-save",
    }
    assert end(frame, "predicted") is None
    assert differs(frame) is None


def test_a_device_without_its_details_leaves_the_outer_source_open(
    recorded: Callable[[str], Recording], edited: Callable[..., Recording]
) -> None:
    plain = [(A, "ip-link", r"^    (veth|vxlan) .*\n", ""), (A, "ip-link", r" promiscuity .*$", "")]
    frame = way(edited(recorded("single-vxlan-private"), plain))
    unknown = frame[(frame["predicted"] == "unknown") & (frame["direction"] == "request")]
    assert dict(zip(unknown["hop"], unknown["missing"], strict=True)) == dict.fromkeys(
        ("outer", "snat", "source-check", "allow-list", "decapsulation"), "ip-link"
    )
    assert end(frame, "measured") is None
    assert differs(frame) is None


def test_the_review_documents_four_commands_show_a_part() -> None:
    tables = Tables(Recording(REVIEW_2022))
    frame = journey(tables, *first_pair(tables))
    request = frame[frame["direction"] == "request"]
    assert dict(zip(request["hop"], request["predicted"], strict=True)) == {
        **dict.fromkeys(HOPS, "pass"),
        **dict.fromkeys(
            ("pod", "veth", "outer", "snat", "source-check", "nat", "allow-list", "peer-pod"),
            "unknown",
        ),
    }
    assert cell(frame, "route")["what"] == "10.244.124.0/24 via 10.244.124.0 dev vxlan.calico"
    assert cell(frame, "source-check")["what"] == "54.64.9.64 ≠ 192.168.10.28"
    assert frame["measured"].isna().all()
    assert differs(frame) is None


# ---------------------------------------------------------------------- where the two differ


def test_what_no_setting_explains_is_a_difference(
    recorded: Callable[[str], Recording], edited: Callable[..., Recording]
) -> None:
    """As if the probe had left with the NIC's own address, which a source check lets through."""
    snat = r"\g<0>\n[0:0] -A POSTROUTING -s 54.64.9.64/32 -p udp -m udp --dport 4789 -j SNAT --to-source 192.168.10.28"
    frame = way(edited(recorded("cross-vxlan"), [(A, "iptables-save", r"^:cali-nat-outgoing .*$", snat)]))
    assert cell(frame, "snat")["what"] == "54.64.9.64 → 192.168.10.28"
    assert (end(frame, "predicted").direction, end(frame, "predicted").hop) == ("reply", "source-check")
    assert (end(frame, "measured").direction, end(frame, "measured").hop) == ("request", "source-check")
    assert differs(frame) is True


def test_so_is_a_reply_that_should_not_have_come(
    recorded: Callable[[str], Recording], edited: Callable[..., Recording]
) -> None:
    lying = (A, "ip-route", r"^10\.244\.124\.0/24 .*$", "blackhole 10.244.124.0/24")
    frame = way(edited(recorded("single-vxlan-private"), [lying]))
    assert (end(frame, "predicted").hop, end(frame, "measured")) == ("route", None)
    assert differs(frame) is True
