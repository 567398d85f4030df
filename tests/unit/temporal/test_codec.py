"""Payloads: unreadable without the key, readable with an older one, loud when changed."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from temporalio.api.common.v1 import Payload

from dumont.temporal.codec import CodecKey, EncryptionCodec, UndecodablePayload

OLD = CodecKey(key_id="old", key=b"o" * 32)
NEW = CodecKey(key_id="new", key=b"n" * 32)


@given(st.binary(min_size=12, max_size=300))
async def test_what_is_sealed_comes_back_and_cannot_be_read(data: bytes) -> None:
    codec = EncryptionCodec([NEW])
    plain = Payload(metadata={"encoding": b"json/plain"}, data=data)
    (sealed,) = await codec.encode([plain])
    assert data not in sealed.data
    assert b"json/plain" not in sealed.SerializeToString()
    assert await codec.decode([sealed]) == [plain]


async def test_the_same_payload_never_looks_the_same() -> None:
    codec = EncryptionCodec([NEW])
    first, second = await codec.encode([Payload(data=b"x"), Payload(data=b"x")])
    assert first.data != second.data


async def test_a_new_key_first_still_opens_what_an_old_one_sealed() -> None:
    (sealed,) = await EncryptionCodec([OLD]).encode([Payload(data=b"x")])
    assert (await EncryptionCodec([NEW, OLD]).decode([sealed]))[0].data == b"x"
    with pytest.raises(UndecodablePayload, match="unknown key 'old'"):
        await EncryptionCodec([NEW]).decode([sealed])


async def test_a_changed_payload_is_refused() -> None:
    codec = EncryptionCodec([NEW])
    (sealed,) = await codec.encode([Payload(data=b"destroy my-box")])
    changed = Payload(metadata=sealed.metadata, data=sealed.data[:-1] + b"\0")
    with pytest.raises(UndecodablePayload, match="changed"):
        await codec.decode([changed])


async def test_plain_payloads_pass() -> None:
    plain = Payload(metadata={"encoding": b"binary/null"})
    assert await EncryptionCodec([NEW]).decode([plain]) == [plain]
