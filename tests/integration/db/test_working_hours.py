"""Working hours in the database: the last word counts, and what cannot be read is not nothing."""

from __future__ import annotations

import pytest
from sqlalchemy import update

from dumont.db.engine import Database
from dumont.db.tables import working_hours
from dumont.db.working_hours import PostgresWorkingHours
from dumont.domain.errors import InvalidInput
from dumont.domain.working_hours import WorkingHours

M, OTHER = "m000000000001", "m000000000002"
HOURS = WorkingHours.model_validate(
    {"wake": "08:45", "hibernate": "19:00", "timezone": "Europe/Berlin", "holidays": ["2026-12-24"]}
)


@pytest.fixture
def kept(database: Database) -> PostgresWorkingHours:
    return PostgresWorkingHours(database)


async def test_the_last_word_counts(kept: PostgresWorkingHours):
    assert await kept.get(M) is None
    await kept.put(M, HOURS)
    assert await kept.get(M) == HOURS
    paused = HOURS.model_copy(update={"paused": True, "wake": None})
    await kept.put(M, paused)
    await kept.put(OTHER, HOURS)
    assert await kept.of([M, OTHER, "m000000000003"]) == {M: paused, OTHER: HOURS}
    assert await kept.of([]) == {}
    for _ in range(2):
        await kept.remove(M)
    assert await kept.of([M, OTHER]) == {OTHER: HOURS}


async def test_what_cannot_be_read_is_unknown_and_hides_no_others(
    kept: PostgresWorkingHours, database: Database
):
    await kept.put(M, HOURS)
    await kept.put(OTHER, HOURS)
    strange = HOURS.model_dump(mode="json") | {"timezone": "Mars/Base"}
    async with database.transaction() as connection:
        await connection.execute(
            update(working_hours).where(working_hours.c.machine_id == M).values(hours=strange)
        )
    assert await kept.of([M, OTHER]) == {M: None, OTHER: HOURS}
    with pytest.raises(InvalidInput):
        await kept.get(M)
