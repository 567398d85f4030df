"""The API this command line talks to: reachable, the right version, our login, its dependencies."""

from __future__ import annotations

import asyncio
from importlib.metadata import version

import httpx
from pydantic import ValidationError

from dumont.cli.checks.clock import judge_clock
from dumont.cli.checks.finding import Answer, Check
from dumont.cli.client import Api
from dumont.cli.credentials import resolve
from dumont.cli.http import error_of, is_loopback, unreachable
from dumont.domain.errors import DependencyUnavailable
from dumont.domain.resources import Health

GROUP = "Server"


def checks(*, url: str) -> list[Check]:
    """What to ask the server at `url`."""
    return [
        Check(group=GROUP, name="API", look=lambda: _api(url)),
        Check(group=GROUP, name="login", look=lambda: asyncio.to_thread(_login, url), needs="API"),
        Check(
            group=GROUP,
            name="SSH keys",
            look=lambda: asyncio.to_thread(_ssh_keys, url),
            needs="login",
        ),
        Check(group=GROUP, name="clock", look=lambda: _clock(url), needs="API"),
    ]


async def _get(url: str, path: str) -> httpx.Response:
    trust = not is_loopback(url=url)
    async with httpx.AsyncClient(base_url=url, timeout=10, trust_env=trust) as client:
        try:
            return await client.get(path)
        except httpx.HTTPError as error:
            raise unreachable(url=url, error=error) from None


async def _api(url: str) -> Answer:
    response = await _get(url, "/api/v1/health/ready")
    try:
        health = Health.model_validate_json(response.content)
    except ValidationError:
        raise error_of(response=response) from None
    down = [
        f"{name}: {dependency.error or 'down'}"
        for name, dependency in health.dependencies.items()
        if not dependency.ok
    ]
    if down:
        return Answer(
            status="warn" if response.is_success else "fail",
            detail=f"{url} answers, but {'; '.join(down)}",
            hint="look at that part on the server; with an embedded stack: `dumont stack status`",
        )
    ours = version("dumont-cloud")
    detail = f"{url}, version {health.version}, {', '.join(health.dependencies)} ok"
    if health.version != ours:
        return Answer(
            status="warn",
            detail=f"{detail}; this command line is {ours}",
            hint="use the same version on both sides",
        )
    return Answer(detail=detail)


def _login(url: str) -> Answer:
    server = resolve(url=url)
    api = Api(server=server)
    try:
        me = api.me()
    finally:
        api.close()
    return Answer(detail=f"{me.email}, by {'API key' if server.api_key else 'password'}")


def _ssh_keys(url: str) -> Answer:
    api = Api(server=resolve(url=url))
    try:
        keys = api.ssh_keys()
    finally:
        api.close()
    if not keys:
        return Answer(detail="none stored; `dumont up` stores one at the first machine")
    return Answer(detail=", ".join(key.name for key in keys))


async def _clock(url: str) -> Answer:
    response = await _get(url, "/api/v1/health/live")
    if "date" not in response.headers:
        raise DependencyUnavailable("the server did not say what time it has", dependency="api")
    return judge_clock(date=response.headers["date"], whose="the server's")
