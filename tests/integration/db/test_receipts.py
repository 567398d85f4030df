"""Receipts are filed once and never change."""

from __future__ import annotations

import asyncio

import psycopg
import pytest

from dumont.db.engine import Database
from dumont.db.receipts import PostgresReceipts
from dumont.domain.errors import Conflict, NotFound
from tests.support.receipts import receipt

M = "m0123456789ab"


@pytest.fixture
def receipts(database: Database) -> PostgresReceipts:
    return PostgresReceipts(database)


async def test_a_receipt_comes_back_as_it_was_filed(receipts: PostgresReceipts):
    await receipts.record(receipt())
    found = await receipts.find(M, 1)
    assert found == receipt()
    assert found.digest == receipt().digest


async def test_filing_it_again_changes_nothing(receipts: PostgresReceipts):
    await asyncio.gather(*(receipts.record(receipt()) for _ in range(5)))
    assert await receipts.of_machine(M) == [receipt()]


async def test_another_one_of_its_number_is_refused(receipts: PostgresReceipts):
    await receipts.record(receipt())
    with pytest.raises(Conflict):
        await receipts.record(receipt(cause="something else"))
    assert await receipts.find(M, 1) == receipt()


async def test_the_database_itself_refuses_to_change_one(
    receipts: PostgresReceipts, database_url: str
):
    await receipts.record(receipt())
    with (
        psycopg.connect(database_url) as connection,
        pytest.raises(psycopg.errors.RaiseException, match="never changed"),
    ):
        connection.execute("UPDATE receipts SET digest = 'x'")


async def test_newest_first_and_only_of_that_machine(receipts: PostgresReceipts):
    for number in (1, 3, 2):
        await receipts.record(receipt(number=number))
    await receipts.record(receipt(machine_id="m00000000000f", number=4))
    assert [found.number for found in await receipts.of_machine(M)] == [3, 2, 1]


async def test_one_that_does_not_exist(receipts: PostgresReceipts):
    with pytest.raises(NotFound):
        await receipts.find(M, 1)
