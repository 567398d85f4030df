"""Sync keys are the same everywhere for one epoch and another for every other."""

from __future__ import annotations

import asyncssh

from dumont.security.sync_keys import sync_key


def test_the_same_epoch_gives_the_same_pair_and_another_gives_another() -> None:
    root = b"r" * 32
    one = sync_key(root, machine_id="m1", epoch=1)
    assert one == sync_key(root, machine_id="m1", epoch=1)
    others = {
        sync_key(root, machine_id="m1", epoch=2).public.split()[1],
        sync_key(root, machine_id="m2", epoch=1).public.split()[1],
        sync_key(b"s" * 32, machine_id="m1", epoch=1).public.split()[1],
    }
    assert len(others | {one.public.split()[1]}) == 4


def test_openssh_reads_the_pair() -> None:
    pair = sync_key(b"r" * 32, machine_id="m1", epoch=7)
    private = asyncssh.import_private_key(pair.private)
    assert private.export_public_key().split()[1] == pair.public.split()[1].encode()
    assert pair.public.endswith(" dumont-sync-e7")
