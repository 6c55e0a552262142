"""Every datum about a cloud or a distance says where it stands, and the data file is read strictly."""

from __future__ import annotations

from collections import Counter
from copy import deepcopy
from datetime import date
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from calico_lab import clouds
from calico_lab.clouds import CLOUDS, ROUND_TRIPS, Source, load, round_trip_ms
from calico_lab.page import LANGUAGES, catalogue

DATA = Path(clouds.__file__).with_suffix(".yaml")
FACTS = ("nic", "nic_prefix_len", "mtu_bytes", "nat", "source_check", "blocked_protocols")
SOURCES = {
    **{f"{name}-{fact}": source for name, cloud in CLOUDS.items() for fact, source in cloud.sources.items()},
    **{"-".join(sorted(pair)): source for pair, (_, source) in ROUND_TRIPS.items()},
}


def test_the_clouds_are_those_of_the_review_and_six_more() -> None:
    assert list(CLOUDS) == ["aws", "gcp", "azure", "alibaba", "tencent", "ibm", "openstack", "ncp"]


@pytest.mark.parametrize(
    ("cloud", "nic", "mtu_bytes", "nic_prefix_len"),
    [pytest.param("aws", "eth0", 9001, None, id="aws"), pytest.param("gcp", "ens4", 1460, 32, id="gcp")],
)
def test_a_clouds_nic_is_the_documents(cloud: str, nic: str, mtu_bytes: int, nic_prefix_len: int | None) -> None:
    """The document's tunnels have 50 bytes less, 8951 and 1410, and its GCP node has no route of its subnet."""
    assert (CLOUDS[cloud].nic, CLOUDS[cloud].mtu_bytes, CLOUDS[cloud].nic_prefix_len) == (
        nic,
        mtu_bytes,
        nic_prefix_len,
    )


@pytest.mark.parametrize("cloud", CLOUDS)
def test_a_cloud_maps_public_addresses_and_checks_sources(cloud: str) -> None:
    assert (CLOUDS[cloud].nat, CLOUDS[cloud].source_check) == (True, True)


@pytest.mark.parametrize("name", [name for name in CLOUDS if name not in ("aws", "gcp")])
def test_every_fact_has_a_source(name: str) -> None:
    assert tuple(CLOUDS[name].sources) == FACTS


@pytest.mark.parametrize("name", CLOUDS)
def test_what_is_left_out_is_the_default(name: str) -> None:
    cloud = CLOUDS[name]
    defaults = {"nic_prefix_len": None, "blocked_protocols": ()}
    left_out = [fact for fact in FACTS if fact not in cloud.sources]
    assert {fact: getattr(cloud, fact) for fact in left_out} == {fact: defaults[fact] for fact in left_out}


@pytest.mark.parametrize("source", SOURCES.values(), ids=SOURCES)
class TestEachSource:
    def test_is_a_titled_document_or_says_that_it_is_assumed(self, source: Source) -> None:
        document = source.title not in ("", "assumption") and source.url.startswith("https://")
        assumed = source.title == "assumption" and not source.url and source.note.startswith("assumed: ")
        assert document != assumed

    def test_has_the_day_it_was_read(self, source: Source) -> None:
        assert date.fromisoformat(source.read).isoformat() == source.read


def test_azure_drops_tunnels_of_protocols_4_and_47_and_the_conflict_is_noted() -> None:
    azure = CLOUDS["azure"]
    assert azure.blocked_protocols == (4, 47)
    assert "Reports conflict" in azure.sources["blocked_protocols"].note


def test_an_openstack_nic_leaves_room_for_neutrons_own_vxlan() -> None:
    assert CLOUDS["openstack"].mtu_bytes == 1500 - 50


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("fact", FACTS)
def test_the_report_has_a_word_for_each_fact(fact: str, language: Any) -> None:
    assert f"rule.{fact}" in catalogue(language)


# ---------------------------------------------------------------------- distances


def test_a_round_trip_is_known_with_its_source() -> None:
    known = round_trip_ms("tokyo", "seoul")
    assert known is not None
    assert (known[0], known[1].title) == (33.3, "CB-Tumblebug, assets/cloudlatencymap.csv")


@pytest.mark.parametrize("pair", [sorted(pair) for pair in ROUND_TRIPS if len(pair) == 2], ids="-".join)
class TestEachPairOfRegions:
    def test_is_as_far_apart_both_ways(self, pair: list[str]) -> None:
        region, other = pair
        assert round_trip_ms(region, other) == round_trip_ms(other, region) == ROUND_TRIPS[frozenset(pair)]

    def test_is_farther_apart_than_two_clouds_in_tokyo(self, pair: list[str]) -> None:
        assert ROUND_TRIPS[frozenset(pair)][0] > ROUND_TRIPS[frozenset({"tokyo"})][0]


def test_one_region_means_two_clouds_in_it() -> None:
    known = round_trip_ms("tokyo", "tokyo")
    assert known is not None
    assert known[0] == 3.6


@pytest.mark.parametrize(("region", "other"), [("tokyo", "mars"), ("mars", "mars"), ("Tokyo", "seoul")])
def test_an_unknown_pair_has_no_round_trip(region: str, other: str) -> None:
    assert round_trip_ms(region, other) is None


# ---------------------------------------------------------------------- the data file


def keys_of_each_mapping(node: yaml.Node) -> list[list[str]]:
    if isinstance(node, yaml.MappingNode):
        below = [keys for _, value in node.value for keys in keys_of_each_mapping(value)]
        return [[key.value for key, _ in node.value], *below]
    return [keys for item in node.value for keys in keys_of_each_mapping(item)] if node.id == "sequence" else []


def test_no_key_stands_twice() -> None:
    mappings = keys_of_each_mapping(yaml.compose(DATA.read_text(encoding="utf-8"), Loader=yaml.SafeLoader))
    assert [key for keys in mappings for key, count in Counter(keys).items() if count > 1] == []


REFUSED = {
    "unknown-key": (("clouds", "aws", "mtu"), {"value": 1500}, "Extra inputs are not permitted"),
    "unknown-key-of-a-datum": (("clouds", "aws", "nic", "vlaue"), "eth0", "Extra inputs are not permitted"),
    "unknown-key-of-a-source": (("clouds", "aws", "nic", "source", "link"), "x", "Unexpected keyword argument"),
    "without-a-source": (("clouds", "aws", "nic"), {"value": "eth0"}, "Field required"),
    "text-for-a-number": (("clouds", "aws", "mtu_bytes", "value"), "9001", "Input should be a valid integer"),
    "number-for-a-yes": (("clouds", "aws", "nat", "value"), 1, "Input should be a valid boolean"),
    "paired-twice": (
        ("round_trips", "ms"),
        [["tokyo", "seoul", 33.3], ["seoul", "tokyo", 34.2]],
        "Value error, two regions are paired twice",
    ),
}


@pytest.mark.parametrize(("way", "value", "message"), REFUSED.values(), ids=REFUSED)
def test_it_is_read_strictly(way: tuple[str, ...], value: Any, message: str, tmp_path: Path) -> None:
    data = deepcopy(yaml.safe_load(DATA.read_text(encoding="utf-8")))  # anchors share what they name
    here = data
    for key in way[:-1]:
        here = here[key]
    here[way[-1]] = value
    (tmp_path / "clouds.yaml").write_text(yaml.safe_dump(data), encoding="utf-8")
    with pytest.raises(ValidationError) as error:
        load(tmp_path / "clouds.yaml")
    assert error.value.errors()[0]["msg"] == message
