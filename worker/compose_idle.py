"""From settings to the activities that watch for machines that nobody uses."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any, Final

from activities.idle import IdleActivities
from dumont.db.activity import PostgresActivity
from dumont.remote.agent import SshAgent
from dumont.remote.shell import SshShell
from dumont.temporal.ids import IDLE
from dumont.temporal.queues import CONTROL
from dumont.temporal.schedules import ensure_schedule
from worker.compose import Parts

IDLE_EVERY: Final = timedelta(seconds=60)


def idle_activities(parts: Parts) -> IdleActivities:
    """Those of this deployment; without an object store they only keep minutes in order."""
    return IdleActivities(
        store=parts.store,
        watched=PostgresActivity(parts.database),
        agent=SshAgent(SshShell(secrets=parts.secrets.ensure_machine_secrets)),
        can_hibernate=parts.settings.s3_url is not None,
    )


def idle_served(idle: IdleActivities) -> list[Callable[..., Any]]:
    """All of them."""
    return [
        idle.look_for_idle,
        idle.warn_idle,
        idle.withdraw_warning,
        idle.confirm_idle,
        idle.note_idle_order,
    ]


async def ensure_idle_sweep(parts: Parts) -> None:
    """Have the sweep run once a minute."""
    await ensure_schedule(
        parts.client, schedule_id=IDLE, workflow="IdleSweep", task_queue=CONTROL, every=IDLE_EVERY
    )
