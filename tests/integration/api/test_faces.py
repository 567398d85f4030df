"""What is served besides the API's routes: the dashboard, the documentation, metrics, OpenAPI."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from dumont.domain.errors import BY_CODE
from tests.integration.api.conftest import Running, Session, serving, settings_for

PAGE = {"Accept": "text/html"}
ROOT = Path(__file__).parents[3]


@pytest.fixture
async def built(database_url: str, tmp_path: Path) -> Any:
    """An API with a small dashboard."""
    web = tmp_path / "web"
    (web / "assets").mkdir(parents=True)
    (web / "index.html").write_text("<!doctype html><title>Dumont</title>")
    (web / "assets" / "app-1a2b.js").write_text("plain")
    (web / "assets" / "app-1a2b.js.br").write_bytes(b"brotli")
    (web / "assets" / "app-1a2b.js.gz").write_bytes(b"gzip")
    async with serving(settings_for(database_url, tmp_path, web_dir=web)) as running:
        yield running


async def test_every_place_inside_the_dashboard_is_its_page(built: Running):
    for path in ("/", "/machines", "/machines/my-box", "/demo-app/machines"):
        page = await built.http.get(path, headers=PAGE)
        assert (page.status_code, "<title>Dumont" in page.text) == (200, True), path
        policy = page.headers["content-security-policy"]
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy
        assert page.headers["cache-control"] == "no-cache"
    unchanged = await built.http.get("/", headers=PAGE | {"If-None-Match": page.headers["etag"]})
    assert unchanged.status_code == 304


async def test_assets_are_kept_for_ever_and_come_compressed(built: Running):
    path = "/assets/app-1a2b.js"
    for accepted, coding in (("br, gzip", "br"), ("gzip", "gzip"), ("identity", None)):
        async with built.http.stream("GET", path, headers={"Accept-Encoding": accepted}) as got:
            raw = b"".join([chunk async for chunk in got.aiter_raw()])
        assert got.headers.get("content-encoding") == coding
        assert raw == {"br": b"brotli", "gzip": b"gzip", None: b"plain"}[coding]
        assert "immutable" in got.headers["cache-control"]
        assert got.headers["vary"] == "Accept-Encoding"


@pytest.mark.parametrize(
    "path",
    [
        "/assets/nope.js",
        "/../../etc/passwd",
        "/%2e%2e/%2e%2e/etc/passwd",
        "/assets/..%2f..%2fkeys.json",
        "/api/v1/nope",
        "/api/nope",
        "/api",
        "/metrics/x",
        "/favicon.ico",
    ],
)
async def test_what_is_not_there_is_a_problem_and_never_a_file(built: Running, path: str):
    answer = await built.http.get(path, headers=PAGE)
    passed_as_page = "<title>Dumont" in answer.text
    assert passed_as_page or (answer.status_code, answer.json()["code"]) == (404, "not_found")
    assert "root:" not in answer.text
    if path.startswith("/api"):
        assert not passed_as_page


async def test_a_write_to_the_dashboard_is_refused(built: Running):
    answer = await built.http.post("/machines")
    assert (answer.status_code, answer.json()["code"]) == (405, "method_not_allowed")


async def test_without_a_build_the_page_says_how_to_make_one(api: Running):
    page = await api.http.get("/", headers=PAGE)
    assert page.status_code == 200
    assert "make web" in page.text


async def test_the_documentation_needs_nothing_from_elsewhere(api: Running):
    page = await api.http.get("/api/docs")
    found = re.findall(r'(?:src|href)="([^"]+)"', page.text)
    assert len(found) == 3
    for url in found:
        assert url.startswith("/api/docs/")
        asset = await api.http.get(url)
        assert asset.status_code == 200
        assert len(asset.content) > 100
    assert "unsafe" not in page.headers["content-security-policy"].split("style-src")[0]


async def test_metrics_count_requests_by_route(api: Running, owner: Session):
    await owner.get("/machines/nope")
    text = (await api.http.get("/metrics")).text
    assert re.search(
        r'dumont_api_request_seconds_count\{method="GET",route="/machines/\{machine\}",'
        r'status="404"\} 1\.0',
        text,
    )
    assert 'dumont_api_logins_total{outcome="ok"} 1.0' in text
    assert 'dumont_api_errors_total{code="not_found"} 1.0' in text


async def test_every_operation_is_described_with_its_errors(api: Running):
    schema = (await api.http.get("/api/v1/openapi.json")).json()
    operations = [
        (f"{method} {path}", operation)
        for path, item in schema["paths"].items()
        for method, operation in item.items()
    ]
    assert len({operation["operationId"] for _, operation in operations}) == len(operations)
    for name, operation in operations:
        assert operation.get("description"), name
        assert operation["tags"], name
        for status, response in operation["responses"].items():
            assert response["description"], (name, status)
            if status.startswith(("4", "5")) and "health" not in name:
                problem = response["content"]["application/problem+json"]
                assert problem["schema"]["$ref"].endswith("/Problem"), (name, status)
        if operation.get("security"):
            assert {"401", "403", "503"} <= set(operation["responses"]), name
    assert "HTTPValidationError" not in schema["components"]["schemas"]


async def test_the_examples_of_the_description_are_what_it_describes(api: Running):
    schema = (await api.http.get("/api/v1/openapi.json")).json()
    checked = 0
    for item in schema["paths"].values():
        for operation in item.values():
            for status, response in operation["responses"].items():
                for media in response.get("content", {}).values():
                    for example in media.get("examples", {}).values():
                        value = example["value"]
                        jsonschema.validate(value, schema["components"]["schemas"]["Problem"])
                        assert str(value["status"]) == status
                        checked += 1
    assert checked > 40


def test_every_error_code_is_documented_and_has_a_status():
    from api.errors import HTTP_CODES, STATUS

    text = (ROOT / "docs" / "errors.md").read_text()
    described = set(re.findall(r"^\| `([a-z_]+)` \| (\d+)", text, re.MULTILINE))
    expected = {(code, str(STATUS[code])) for code in BY_CODE} | {
        (code, str(status)) for status, code in HTTP_CODES.items()
    }
    assert described == expected


def test_the_api_page_names_every_route():
    from fastapi import FastAPI

    from api.app import create_app

    text = (ROOT / "docs" / "api.md").read_text()
    import tempfile

    with tempfile.TemporaryDirectory() as state:
        app: FastAPI = create_app(settings_for("postgresql:///none", Path(state)))
    for path, item in app.openapi()["paths"].items():
        for method in item:
            short = f"{method.upper()} {path.removeprefix('/api/v1')}"
            assert f"`{short}`" in text, f"docs/api.md does not name {short}"
