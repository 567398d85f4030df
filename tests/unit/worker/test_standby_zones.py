"""Where a standby goes when the GPU's place is known, half known, and not at all."""

from __future__ import annotations

from activities.vms import PickZones, disk_for
from dumont.config import Settings
from worker.standby_zones import zone_picker

ZONES = ["us-west1-a", "us-west1-b", "us-central1-a", "europe-west3-c", "moonbase1-a"]
PICK = zone_picker(Settings(_env_file=None, standby_zone="us-central1-a"))


def picked(**changes: object) -> list[str]:
    ask = PickZones.model_validate(
        {"region": None, "machine_type": "e2-small", "spot": True, "disk_gb": 20, **changes}
    )
    return [choice.zone for choice in PICK(ask, ZONES)]


def test_the_nearest_region_comes_first() -> None:
    assert picked(region="Oregon, US")[0].startswith("us-west1")
    assert picked(region=", DE")[0] == "europe-west3-c"


def test_standbys_of_one_place_spread_over_its_zones() -> None:
    first = {picked(region="Oregon, US", machine_id=f"m{n:012x}")[0] for n in range(30)}
    assert first == {"us-west1-a", "us-west1-b"}


def test_an_address_fills_in_where_the_words_say_nothing() -> None:
    assert picked(region="somewhere", address="193.99.144.80")[0] == "europe-west3-c"


def test_an_unknown_place_gets_the_configured_zone() -> None:
    assert picked()[0] == "us-central1-a"
    assert picked(avoid=("us-central1-a",))[0] != "us-central1-a"


def test_a_price_that_is_not_known_is_not_zero() -> None:
    ask = PickZones(region="Oregon, US", machine_type="e2-small", spot=True, disk_gb=20)
    prices = {choice.zone: choice.usd_per_hour for choice in PICK(ask, ZONES)}
    assert prices["us-west1-a"] is not None
    assert prices["moonbase1-a"] is None


def test_a_standbys_disk_holds_the_workspace_and_a_system() -> None:
    assert disk_for(20) > 20
    assert disk_for(1) >= 10
