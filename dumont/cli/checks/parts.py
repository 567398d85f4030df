"""What the server stands on, asked with the server's own configuration.

Each check makes the call that the product itself makes first, as the product makes it.
"""

from __future__ import annotations

import asyncio
import stat
from collections.abc import Awaitable, Callable

import httpx
from google.auth import exceptions as google_errors
from google.auth.transport.requests import AuthorizedSession
from google.oauth2 import service_account
from temporalio.api.enums.v1 import TaskQueueType
from temporalio.api.taskqueue.v1 import TaskQueue
from temporalio.api.workflowservice.v1 import (
    DescribeNamespaceRequest,
    DescribeTaskQueueRequest,
)
from temporalio.client import Client
from temporalio.service import RPCError

from dumont.cli.checks.clock import judge_clock
from dumont.cli.checks.finding import Answer, Check
from dumont.config import Settings
from dumont.db import schema
from dumont.db.engine import Database
from dumont.domain.errors import AuthFailed, DependencyUnavailable, ProviderUnavailable
from dumont.providers.vast.adapter import VastProvider
from dumont.storage.signature import sign
from dumont.temporal.queues import CONTROL, PROVIDER_VAST

GROUP = "Server's parts"
_LOW_CREDIT_USD = 1.0
_NEARLY_FULL = 0.9
_COMPUTE = "https://compute.googleapis.com"
_SCOPE = "https://www.googleapis.com/auth/compute.readonly"

Look = Callable[[Settings], Awaitable[Answer]]


def checks(settings: Settings) -> list[Check]:
    """Everything a server configured so needs."""

    def check(name: str, look: Look, *, needs: str | None = None) -> Check:
        return Check(group=GROUP, name=name, look=lambda: look(settings), needs=needs)

    return [
        check("keys", _keys),
        check("PostgreSQL", _postgres),
        check("Temporal", _temporal),
        check("workers", _workers, needs="Temporal"),
        check("object store", _object_store),
        check("Vast.ai", _vast),
        check("Vast.ai clock", _vast_clock, needs="Vast.ai"),
        check("Google", _google),
    ]


async def _keys(settings: Settings) -> Answer:
    path = settings.keys_path
    if not path.exists():
        return Answer(
            status="warn",
            detail=f"{path} is not there",
            hint="the first start makes it; if there was one, put it back: stored data needs it",
        )
    mode = stat.S_IMODE(path.stat().st_mode)
    if mode & 0o077:
        return Answer(
            status="fail", detail=f"{path} can be read by others", hint=f"run: chmod 600 {path}"
        )
    return Answer(detail=f"{path}; keep a copy elsewhere: stored data is unreadable without it")


async def _postgres(settings: Settings) -> Answer:
    database = Database(settings.database_url.get_secret_value(), pool_size=1)
    try:
        async with database.transaction() as connection:
            found = await schema.revision_of(connection)
    finally:
        await database.close()
    where = f"{database.url.host or 'local socket'}, database {database.url.database}"
    if found != schema.head():
        return Answer(
            status="fail",
            detail=f"{where}: tables are at revision {found or 'none'}, not {schema.head()}",
            hint="run: python -m dumont.db upgrade",
        )
    return Answer(detail=f"{where}, revision {found}")


async def _connected(settings: Settings) -> Client:
    # Not the product's own client: that needs the codec's keys, and nothing is read here.
    address = settings.temporal_address
    try:
        client = await Client.connect(address, namespace=settings.temporal_namespace)
        await client.workflow_service.describe_namespace(
            DescribeNamespaceRequest(namespace=settings.temporal_namespace)
        )
    except (RPCError, RuntimeError) as error:
        raise DependencyUnavailable(
            f"{address}: {str(error).splitlines()[0]}",
            dependency="temporal",
            hint="is it started? check TEMPORAL_ADDRESS and TEMPORAL_NAMESPACE",
        ) from None
    return client


async def _temporal(settings: Settings) -> Answer:
    await _connected(settings)
    return Answer(detail=f"{settings.temporal_address}, namespace {settings.temporal_namespace}")


async def _workers(settings: Settings) -> Answer:
    client = await _connected(settings)
    empty = []
    for queue in (CONTROL, PROVIDER_VAST):
        described = await client.workflow_service.describe_task_queue(
            DescribeTaskQueueRequest(
                namespace=settings.temporal_namespace,
                task_queue=TaskQueue(name=queue),
                task_queue_type=TaskQueueType.TASK_QUEUE_TYPE_ACTIVITY,
            )
        )
        if not described.pollers:
            empty.append(queue)
    if empty:
        return Answer(
            status="fail",
            detail=f"nobody serves {' and '.join(empty)}: machines wait",
            hint=f"start one: python -m worker --roles {','.join(empty)}",
        )
    return Answer(detail=f"{CONTROL} and {PROVIDER_VAST} are served")


async def _object_store(settings: Settings) -> Answer:
    if settings.s3_url is None:
        return Answer(status="skip", detail="S3_ENDPOINT_URL is not set: no snapshots")
    secret = settings.s3_secret_access_key
    if not settings.s3_access_key_id or secret is None:
        return Answer(
            status="fail",
            detail="the store has an address and no key",
            hint="set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
        )
    target = f"{settings.s3_url}/{settings.s3_bucket}"
    headers = sign(
        method="HEAD",
        url=target,
        access_key_id=settings.s3_access_key_id,
        secret_access_key=secret.get_secret_value(),
    )
    try:
        async with httpx.AsyncClient(timeout=10) as client:
            code = (await client.head(target, headers=headers)).status_code
    except httpx.HTTPError as error:
        raise DependencyUnavailable(
            f"{settings.s3_url} does not answer ({str(error) or type(error).__name__})",
            dependency="object store",
            hint="check S3_ENDPOINT_URL",
        ) from None
    if code == httpx.codes.OK:
        return Answer(detail=f"{settings.s3_url}, bucket {settings.s3_bucket}")
    problems = {
        403: ("does not accept the key", "check AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"),
        404: (f"has no bucket {settings.s3_bucket!r}", "create it, or change S3_BUCKET"),
    }
    what, hint = problems.get(code, (f"answered {code}", "check S3_ENDPOINT_URL"))
    return Answer(status="fail", detail=f"{settings.s3_url} {what}", hint=hint)


async def _vast(settings: Settings) -> Answer:
    if settings.vast_api_key is None:
        return Answer(status="fail", detail="VAST_API_KEY is not set", hint="nothing can be rented")
    provider = VastProvider(
        url=settings.vast_url, api_key=settings.vast_api_key.get_secret_value(), timeout_s=10
    )
    try:
        account = await provider.account_status()
    finally:
        await provider.aclose()
    who = f"account {account.account_id} at {settings.vast_url}"
    if account.credit_usd is None:
        return Answer(status="warn", detail=f"{who}; credit unknown")
    if account.credit_usd < _LOW_CREDIT_USD:
        return Answer(
            status="fail" if account.credit_usd <= 0 else "warn",
            detail=f"{who}, ${account.credit_usd:.2f} left",
            hint="add credit: without it nothing can be rented, and what runs is stopped",
        )
    return Answer(detail=f"{who}, ${account.credit_usd:.2f} left")


async def _vast_clock(settings: Settings) -> Answer:
    try:
        async with httpx.AsyncClient(timeout=10) as client:
            response = await client.head(settings.vast_url)
    except httpx.HTTPError as error:
        raise ProviderUnavailable(
            f"{settings.vast_url} does not answer ({str(error) or type(error).__name__})",
            hint="check the network, and VAST_URL if it is set",
        ) from None
    if "date" not in response.headers:
        return Answer(status="skip", detail="Vast.ai did not say what time it has")
    return judge_clock(date=response.headers["date"], whose="Vast.ai's")


async def _google(settings: Settings) -> Answer:
    if settings.gcp_credentials is None:
        return Answer(status="skip", detail="GCP_CREDENTIALS is not set: no standby machines")
    return await asyncio.to_thread(_google_regions, settings)


def _google_regions(settings: Settings) -> Answer:
    """List the regions with their quotas, by REST: Google's own client takes seconds to import."""
    info = settings.gcp_credentials or {}
    project = settings.gcp_project or info.get("project_id")
    hint = "check GCP_CREDENTIALS and GCP_PROJECT; the account needs the role Compute Admin"
    try:
        account = service_account.Credentials.from_service_account_info(info, scopes=[_SCOPE])  # type: ignore[no-untyped-call]
        session = AuthorizedSession(account)  # type: ignore[no-untyped-call]
        url = f"{settings.gcp_url or _COMPUTE}/compute/v1/projects/{project}/regions"
        answer = session.get(url, timeout=10)
    except ValueError as error:
        raise AuthFailed(f"the service account's JSON is incomplete: {error}", hint=hint) from None
    except google_errors.RefreshError as error:
        raise AuthFailed(
            f"Google refuses the service account: {error.args[0]}", hint=hint
        ) from None
    except (google_errors.TransportError, OSError) as error:
        raise ProviderUnavailable(f"Google does not answer: {error}") from None
    if answer.status_code != httpx.codes.OK:
        message = answer.text[:200]
        if "json" in answer.headers.get("content-type", ""):
            message = answer.json().get("error", {}).get("message", message)
        raise AuthFailed(f"Google answered {answer.status_code}: {message}", hint=hint)
    regions = answer.json().get("items", [])
    full = [
        f"{region['name']} {quota['metric']} {quota['usage']:g}/{quota['limit']:g}"
        for region in regions
        for quota in region.get("quotas", [])
        if quota["limit"] > 0 and quota["usage"] >= _NEARLY_FULL * quota["limit"]
    ]
    detail = f"project {project}, {len(regions)} regions"
    if full:
        return Answer(
            status="warn",
            detail=f"{detail}; quotas nearly used up: {', '.join(full[:5])}",
            hint="ask Google for more, or use other regions",
        )
    return Answer(detail=f"{detail}, quotas free")
