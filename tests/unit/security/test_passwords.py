"""Passwords are hashed slowly, checked rightly, and a missing user costs as much as a wrong one."""

from __future__ import annotations

import asyncio

from dumont.security.passwords import Passwords, new_password


async def test_only_the_password_itself_matches():
    passwords = Passwords()
    stored = await passwords.hash("correct horse")
    assert stored.startswith("$argon2id$")
    assert await passwords.verify(stored, "correct horse")
    assert not await passwords.verify(stored, "Correct horse")
    assert not await passwords.verify(stored, "")
    assert await passwords.hash("correct horse") != stored


async def test_a_user_who_does_not_exist_never_matches():
    assert not await Passwords().verify(None, "")


async def test_a_damaged_hash_is_no_match():
    assert not await Passwords().verify("not a hash", "x")


async def test_the_loop_goes_on_while_passwords_are_hashed():
    passwords = Passwords()
    turns = 0

    async def turn() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    turning = asyncio.create_task(turn())
    await asyncio.gather(*(passwords.hash("x") for _ in range(4)))
    turning.cancel()
    assert turns > 10


def test_made_up_passwords_differ_and_are_long():
    made = {new_password() for _ in range(50)}
    assert len(made) == 50
    assert all(len(password) == 20 for password in made)
