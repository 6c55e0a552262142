"""What the clouds' networks do, with where each datum comes from."""

from datetime import date
from urllib.parse import urlsplit

import pytest

from calico_lab.clouds import CLOUDS, Cloud


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


@pytest.mark.parametrize("cloud", CLOUDS.values(), ids=CLOUDS)
class TestSources:
    def test_every_datum_has_one(self, cloud: Cloud) -> None:
        stated = {
            name
            for name in ("nic", "mtu_bytes", "nic_prefix_len", "nat", "source_check")
            if getattr(cloud, name) is not None
        }
        assert set(cloud.sources) == stated

    def test_each_is_a_titled_document_with_the_day_it_was_read(self, cloud: Cloud) -> None:
        for source in cloud.sources.values():
            assert source.title
            assert urlsplit(source.url).scheme == "https"
            assert date.fromisoformat(source.read).isoformat() == source.read
