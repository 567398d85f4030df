"""HTTP to a server: who we are, what may be tried again, and what its errors mean.

It knows no resource of the API; `client` does.
"""

from __future__ import annotations

import ipaddress
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any
from urllib.parse import urlsplit

import httpx

from dumont.cli import credentials
from dumont.cli.credentials import Server, TokenPair
from dumont.domain.errors import (
    BY_CODE,
    DependencyUnavailable,
    DumontError,
    Forbidden,
    NotFound,
    Unauthenticated,
)

TIMEOUT = httpx.Timeout(connect=5, read=45, write=10, pool=5)
"""Seconds. A read of 45 s outlives the slowest look-up at a provider."""

STREAM_TIMEOUT = httpx.Timeout(connect=5, read=25, write=10, pool=5)
"""Seconds. The server pings every 10: silence for 25 is a broken stream."""

RETRY_BUDGET_S = 20.0
"""At most so long does a command wait for a server that asks for patience, in all."""

FIRST_WAIT_S = 0.4
EXPIRY_MARGIN_S = 10.0
"""A token is renewed this long before it ends, so that none expires on the way."""


class Http:
    """One server's REST interface, authenticated."""

    def __init__(
        self,
        *,
        server: Server,
        transport: httpx.BaseTransport | None = None,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self.server = server
        self._sleep = sleep
        self._client = httpx.Client(
            base_url=f"{server.url}/api/v1",
            timeout=TIMEOUT,
            transport=transport,
            # A proxy of the environment cannot reach the user's own machine.
            trust_env=not is_loopback(url=server.url),
            headers={"Accept": "application/json", "User-Agent": "dumont-cli"},
        )

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def call(
        self,
        method: str,
        path: str,
        *,
        params: Mapping[str, Any] | None = None,
        json: Any = None,
        headers: Mapping[str, str] | None = None,
        repeatable: bool | None = None,
        timeout: httpx.Timeout | None = None,
    ) -> httpx.Response:
        """One request, answered with success.

        Args:
            method: HTTP method.
            path: Below `/api/v1`.
            params: Query parameters; those that are None are left out.
            json: Body.
            headers: Further headers.
            repeatable: Sending it twice is the same as once; it is then tried again when the server
                asks for it or cannot be reached. Reads are, unless said otherwise.
            timeout: Another one than usual.

        Raises:
            DumontError: What the server said, as the class of its code.
            DependencyUnavailable: It does not answer, or not as our API does.
        """
        again = method == "GET" if repeatable is None else repeatable
        query = {key: value for key, value in (params or {}).items() if value is not None}
        waited, wait = 0.0, FIRST_WAIT_S
        while True:
            failure: DumontError
            pause = wait
            try:
                response = self._authorised(
                    method, path, query, json, headers or {}, timeout or TIMEOUT
                )
            except httpx.HTTPError as error:
                failure = unreachable(url=self.server.url, error=error)
                # Nobody listens: waiting is for servers that are busy, not for absent ones.
                patient = again and not isinstance(error, httpx.ConnectError)
            else:
                if response.is_success:
                    return response
                failure = error_of(response=response)
                patient = again and response.status_code == 503
                pause = _retry_after(response) or wait
            if not patient or waited + pause > RETRY_BUDGET_S:
                raise failure
            self._sleep(pause)
            waited += pause
            wait *= 2

    @contextmanager
    def stream(
        self, path: str, *, params: Mapping[str, Any], headers: Mapping[str, str] | None = None
    ) -> Iterator[httpx.Response]:
        """A response whose body arrives over time.

        Raises:
            DumontError: The server refused.
            DependencyUnavailable: It does not answer, or the stream broke or fell silent.
        """
        query = {key: value for key, value in params.items() if value is not None}
        try:
            for renewed in (False, True):
                request = self._client.build_request(
                    "GET",
                    path,
                    params=query,
                    headers={
                        **(headers or {}),
                        **self._authorisation(),
                        "Accept": "text/event-stream",
                    },
                    timeout=STREAM_TIMEOUT,
                )
                response = self._client.send(request, stream=True)
                try:
                    if response.status_code == 401 and not renewed and self._renew():
                        continue
                    if not response.is_success:
                        response.read()
                        raise error_of(response=response)
                    yield response
                    return
                finally:
                    response.close()
        except httpx.HTTPError as error:
            raise unreachable(url=self.server.url, error=error) from None

    def _authorised(
        self,
        method: str,
        path: str,
        params: Mapping[str, Any],
        json: Any,
        headers: Mapping[str, str],
        timeout: httpx.Timeout,
    ) -> httpx.Response:
        def send() -> httpx.Response:
            return self._client.request(
                method,
                path,
                params=params,
                json=json,
                headers={**headers, **self._authorisation()},
                timeout=timeout,
            )

        response = send()
        if response.status_code == 401 and self._renew():
            response = send()
        return response

    def _authorisation(self) -> dict[str, str]:
        if self.server.api_key:
            return {"Authorization": f"Bearer {self.server.api_key}"}
        if self.server.tokens is None:
            return {}
        if _seconds_left(self.server.tokens) < EXPIRY_MARGIN_S:
            self._renew()
        return {"Authorization": f"Bearer {self.server.tokens.access_token}"}

    def _renew(self) -> bool:
        """Trade the refresh token for a new pair, once for all processes; False when there is none.

        A refresh token works once. Whoever holds the lock trades it; the others find the new pair
        in the file.

        Raises:
            Unauthenticated: The login has ended.
        """
        mine = self.server.tokens
        if mine is None or not self.server.stored:
            return False
        fresh: list[TokenPair] = []

        def trade(kept: credentials.Credentials) -> None:
            stored = kept.servers.get(self.server.url)
            if stored is not None and stored.tokens and stored.tokens != mine:
                fresh.append(stored.tokens)
                return
            response = self._client.post(
                "/auth/refresh", json={"refresh_token": mine.refresh_token}
            )
            if response.status_code in (400, 401, 403, 422):
                raise Unauthenticated(
                    f"your login to {self.server.url} has ended", hint="run `dumont login` again"
                )
            if not response.is_success:
                raise error_of(response=response)
            fresh.append(_granted(response))
            if stored is not None:
                kept.servers[self.server.url] = stored.model_copy(update={"tokens": fresh[0]})

        credentials.change(edit=trade)
        self.server = self.server.model_copy(update={"tokens": fresh[0]})
        return True


def log_in(
    *, url: str, email: str, password: str, transport: httpx.BaseTransport | None = None
) -> TokenPair:
    """Trade e-mail and password for tokens.

    Raises:
        Unauthenticated: They are wrong.
        DependencyUnavailable: The server does not answer, or not as our API does.
    """
    http = Http(server=Server(url=url, stored=False), transport=transport)
    try:
        return _granted(
            http.call("POST", "/auth/login", json={"email": email, "password": password})
        )
    finally:
        http.close()


def is_loopback(*, url: str) -> bool:
    """Whether the address is this very computer."""
    host = urlsplit(url).hostname or ""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def unreachable(*, url: str, error: httpx.HTTPError) -> DumontError:
    """What a failed connection means to a user."""
    if isinstance(error, httpx.ConnectError):
        hint = (
            "start a local stack with `dumont demo` or `dumont serve`, or name the server with "
            "--server or DUMONT_API_URL"
            if is_loopback(url=url)
            else "check the address and your network; `dumont servers` lists the ones you use"
        )
        return DependencyUnavailable(
            f"nothing answers at {url} ({str(error) or 'no connection'})",
            dependency="api",
            hint=hint,
        )
    if isinstance(error, httpx.TimeoutException):
        return DependencyUnavailable(
            f"{url} did not answer in time",
            dependency="api",
            hint="try again; `dumont doctor` shows which part is slow or down",
        )
    return DependencyUnavailable(
        f"the connection to {url} broke ({str(error) or type(error).__name__})",
        dependency="api",
        hint="try again",
    )


def error_of(*, response: httpx.Response) -> DumontError:
    """The error a failed response stands for: a problem document's own, else by its status."""
    url = str(response.request.url.copy_with(path="/", query=None)).rstrip("/")
    try:
        problem = response.json()
    except ValueError:
        problem = None
    if isinstance(problem, dict) and isinstance(problem.get("detail"), str):
        return _from_problem(problem, response.status_code)
    if response.is_redirect:
        return DependencyUnavailable(
            f"{url} redirects to {response.headers.get('location', 'elsewhere')}",
            dependency="api",
            hint="log in to the address it redirects to: `dumont login --server ADDRESS`",
        )
    return DependencyUnavailable(
        f"{url} answered {response.status_code} with something that is not our API's "
        f"({response.headers.get('content-type', 'no content type')})",
        dependency="api",
        hint="check the address, and any proxy between here and there",
    )


def _from_problem(problem: dict[str, Any], status: int) -> DumontError:
    by_status: dict[int, type[DumontError]] = {401: Unauthenticated, 403: Forbidden, 404: NotFound}
    kind = BY_CODE.get(str(problem.get("code")), by_status.get(status, DumontError))
    detail = str(problem["detail"])
    if kind is DumontError and problem.get("request_id"):
        detail = f"{detail} (request {problem['request_id']})"
    hint = problem.get("hint")
    if hint is None and kind is Unauthenticated:
        hint = "run `dumont login`"
    error = kind(detail, hint=hint)
    error.field = problem.get("field")
    return error


def _retry_after(response: httpx.Response) -> float | None:
    try:
        return max(0.0, float(response.headers["retry-after"]))
    except (KeyError, ValueError):
        return None


def _seconds_left(tokens: TokenPair) -> float:
    return tokens.expires_at.timestamp() - time.time()


def _granted(response: httpx.Response) -> TokenPair:
    from dumont.domain.resources import Tokens

    tokens = Tokens.model_validate_json(response.content)
    return TokenPair.granted(
        access_token=tokens.access_token,
        refresh_token=tokens.refresh_token,
        expires_in=tokens.expires_in,
    )
