"""Fixtures of the simcloud tests: key pairs, and one cloud whose market stands still."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from tests.support.cloud import SimCloud
from tests.support.ssh import KeyPair, make_key_pair
from tests.support.vast_api import VastApi


@pytest.fixture(scope="session")
def make_key(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], KeyPair]:
    folder = tmp_path_factory.mktemp("keys")
    return lambda name: make_key_pair(folder, name)


@pytest.fixture(scope="session")
def key(make_key: Callable[[str], KeyPair]) -> KeyPair:
    return make_key("owner")


@pytest.fixture(scope="module")
def quick_cloud(tmp_path_factory: pytest.TempPathFactory, key: KeyPair) -> Iterator[SimCloud]:
    """Boots in a moment, limits nothing, and no other customer moves."""
    state = tmp_path_factory.mktemp("cloud")
    with SimCloud.started(state, "--boot-seconds=0.05,0.1", "--no-strict") as running:
        running.control.knobs(
            rivals=False,
            stale_offer_probability=0.0,
            stop_grace_seconds=1.0,
            exit_report_seconds=0.1,
            offline_after_seconds=0.3,
            webhook_retry_seconds=0.05,
        )
        yield running


@pytest.fixture
def vast(quick_cloud: SimCloud, key: KeyPair) -> Iterator[VastApi]:
    """Vast's API on the quick cloud; leaves no instance, fault or odd knob behind."""
    knobs = quick_cloud.control.get("/vast/knobs")
    quick_cloud.control.put("/vast/account", credit=100.0)
    with VastApi(quick_cloud) as api:
        api.post("/api/v0/ssh/", ssh_key=key.public)
        yield api
        quick_cloud.control.clear_faults()
        quick_cloud.control.put("/vast/account", credit=100.0)
        api.destroy_all()
    quick_cloud.control.knobs(**knobs)
