"""How settings become sweeps over leftovers, and that no source ends what is not its own."""

from __future__ import annotations

from pathlib import Path

import pytest

from dumont.config import Settings
from dumont.domain.errors import RequestRefused
from dumont.domain.leftovers import Leftover, LeftoverKind
from dumont.temporal.queues import ALL, PROVIDER_GCP
from tests.support.bodies import FakeVms
from tests.support.fakes import FakeCloud
from worker.compose_leftovers import SCHEDULES, gcp_source, leftovers_of, vast_source


class NoRemains:
    """A `CloudRemains` that is never to be asked."""

    def __getattr__(self, name: str) -> object:
        raise AssertionError(f"nobody may call {name}")


def left(kind: LeftoverKind) -> Leftover:
    return Leftover(kind=kind, provider="gcp", resource_id="1", machine_id="m0", place="z")


def test_settings_say_how_careful_it_is() -> None:
    settings = Settings(
        _env_file=None, env="test", state_dir=Path("x"), gone_confirm_s=7, create_window_s=70,
        end_leftovers=False,
    )  # fmt: skip
    ask = leftovers_of(settings, PROVIDER_GCP)
    assert (ask.survey.env, ask.queue, ask.confirm_s) == ("test", PROVIDER_GCP, 7)
    limits = ask.survey.limits
    assert (limits.confirm_s, limits.unknown_owner_s, limits.end) == (7, 70, False)


def test_every_queue_has_a_schedule_of_its_own() -> None:
    assert set(SCHEDULES) == set(ALL)
    assert len(set(SCHEDULES.values())) == len(ALL)


@pytest.mark.parametrize(
    "kind", [LeftoverKind.STOPPED_INSTANCE, LeftoverKind.SCHEDULE, LeftoverKind.BUCKET_PREFIX]
)
async def test_a_cloud_ends_neither_instances_nor_schedules_nor_files(kind: LeftoverKind) -> None:
    for source in (gcp_source(FakeVms(), NoRemains()), vast_source(FakeCloud())):  # type: ignore[arg-type]
        with pytest.raises(RequestRefused, match="is not ended here"):
            await source.end(left(kind))
