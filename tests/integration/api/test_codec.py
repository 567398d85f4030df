"""The codec shows payloads to the deployment's owner in Temporal's Web UI, and to nobody else."""

from __future__ import annotations

import json
from typing import Any

import pytest
from google.protobuf import json_format
from temporalio.api.common.v1 import Payload, Payloads

from tests.integration.api.conftest import COOKIE_LOGIN, Running, Session

UI = "http://127.0.0.1:8233"
PATH = "/codec/decode"


async def _sealed(api: Running) -> dict[str, Any]:
    plain = Payload(metadata={"encoding": b"json/plain"}, data=b'"secret"')
    payloads = await api.services.codec.encode([plain])
    body: dict[str, Any] = json_format.MessageToDict(Payloads(payloads=payloads))
    assert "secret" not in json.dumps(body)
    return body


def _opened(text: str) -> list[bytes]:
    return [p.data for p in json_format.Parse(text, Payloads()).payloads]


async def test_the_owner_sees_what_is_inside(api: Running, owner: Session):
    answer = await owner.post(PATH, await _sealed(api))
    assert answer.status_code == 200
    assert _opened(answer.text) == [b'"secret"']


async def test_temporals_web_ui_may_ask_with_the_owners_cookie(api: Running):
    await api.http.post("/api/v1/auth/login", json=COOKIE_LOGIN)
    preflight = await api.http.options(
        "/api/v1/codec/decode",
        headers={
            "Origin": UI,
            "Access-Control-Request-Method": "POST",
            "Access-Control-Request-Headers": "content-type,x-namespace",
        },
    )
    assert preflight.status_code == 200
    assert preflight.headers["access-control-allow-origin"] == UI
    assert preflight.headers["access-control-allow-credentials"] == "true"
    answer = await api.http.post(
        "/api/v1/codec/decode",
        json=await _sealed(api),
        headers={"Origin": UI, "X-Namespace": "default"},
    )
    assert _opened(answer.text) == [b'"secret"']
    assert answer.headers["access-control-allow-origin"] == UI


async def test_no_other_page_may(api: Running):
    await api.http.post("/api/v1/auth/login", json=COOKIE_LOGIN)
    evil = "https://evil.example"
    answer = await api.http.post(
        "/api/v1/codec/decode", json=await _sealed(api), headers={"Origin": evil}
    )
    assert answer.status_code == 403
    assert "access-control-allow-origin" not in answer.headers
    # And the Web UI's origin opens nothing else.
    elsewhere = await api.http.get("/api/v1/auth/me", headers={"Origin": UI})
    assert "access-control-allow-origin" not in elsewhere.headers


async def test_nobody_without_the_right_sees_anything(api: Running, owner: Session):
    sealed = await _sealed(api)
    assert (await (await owner.api_key("machines:read")).post(PATH, sealed)).status_code == 403
    assert (await (await owner.api_key("codec:decode")).post(PATH, sealed)).status_code == 200
    other = await api.somebody_else()
    assert (await other.post(PATH, sealed)).status_code == 403


@pytest.mark.parametrize("body", [b"", b"{", b"5", b'{"payloads": 5}', b"\xff", b"[" * 100_000])
async def test_nonsense_is_refused(owner: Session, body: bytes):
    answer = await owner.call("POST", PATH, content=body)
    assert (answer.status_code, answer.json()["field"]) == (422, "payloads")


async def test_a_payload_of_another_deployment_is_refused(api: Running, owner: Session):
    sealed = await _sealed(api)
    sealed["payloads"][0]["metadata"]["encryption-key-id"] = "b3RoZXI="
    answer = await owner.post(PATH, sealed)
    assert answer.status_code == 422
    assert "other" in answer.json()["detail"]
