"""`VastProvider` (and the start script, shell and agent) against a running simcloud."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import pytest

from dumont.domain.errors import (
    AuthFailed,
    InstanceGone,
    InsufficientCredit,
    NotReady,
    OfferGone,
    OutcomeUnknown,
    ProviderError,
    ProviderUnavailable,
    RateLimited,
    RequestRefused,
)
from dumont.domain.instances import Instance, InstanceOrder, InstanceState, Rental
from dumont.domain.offers import GpuRequirement, Offer
from dumont.ports import GpuProvider, MachineSecrets
from dumont.providers.gateway import Gateway
from dumont.providers.vast.adapter import VastProvider
from dumont.remote.onstart import build_onstart
from dumont.remote.shell import SshShell, run
from dumont.security.ssh import new_machine_secrets
from tests.support.cloud import SimCloud

T = TypeVar("T")

PREFIX = "dmt-test-"
MACHINE = "m0123456789ab"
SECRETS = new_machine_secrets(MACHINE)


def label(attempt: int = 1) -> str:
    return f"{PREFIX}{MACHINE}-g1-a{attempt}"


@pytest.fixture(scope="module")
def cloud(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SimCloud]:
    """A market that stands still, without rate limits: other tests are about those."""
    state = tmp_path_factory.mktemp("cloud")
    with SimCloud.started(state, "--boot-seconds", "0.1,0.3", "--no-strict") as running:
        running.control.knobs(
            rivals=False, stop_grace_seconds=1, offline_after_seconds=0, stale_offer_probability=0
        )
        running.control.post("/vast/market/hosts", gpu="RTX 4090", sizes=[1, 1, 1, 1])
        yield running


def provider_for(cloud: SimCloud, **options: Any) -> VastProvider:
    """A provider whose gateway spaces nothing."""
    free = Gateway(provider="vast", account="test", limits={})
    made: dict[str, Any] = {"api_key": cloud.vast_key, "gateway": free, **options}
    return VastProvider(url=cloud.vast_url, **made)


@pytest.fixture
async def provider(cloud: SimCloud) -> AsyncIterator[VastProvider]:
    cloud.control.clear_faults()
    cloud.control.reset_requests()
    found = provider_for(cloud)
    yield found
    cloud.control.clear_faults()
    for left in await found.list_instances(label_prefix=""):
        await found.destroy(left.instance_id)
    await found.aclose()


async def until(
    read: Callable[[], Awaitable[T]], good: Callable[[T], bool], *, timeout_s: float = 30
) -> T:
    """Read again and again until it is good."""
    deadline = time.monotonic() + timeout_s
    while not good(found := await read()):
        assert time.monotonic() < deadline, f"never became so; last seen: {found}"
        await asyncio.sleep(0.05)
    return found


async def until_state(provider: GpuProvider, instance_id: str, state: InstanceState) -> Instance:
    found = await until(
        lambda: provider.get(instance_id), lambda i: i is not None and i.state is state
    )
    assert found is not None
    return found


async def an_offer(provider: GpuProvider, rental: Rental = Rental.SPOT) -> Offer:
    need = GpuRequirement(gpu="RTX 4090", rental=rental, max_usd_per_hour=5, disk_gb=10)
    offers = await provider.search_offers(need)
    assert offers, "the market is empty"
    return offers[0]


def order_for(offer: Offer, **changes: Any) -> InstanceOrder:
    bid = offer.gpu_usd_per_hour * 1.15 if offer.rental is Rental.SPOT else None
    fields = {
        "offer_id": offer.offer_id,
        "label": label(),
        "image": "vastai/base-image",
        "disk_gb": 10,
        "onstart": build_onstart(keys=SECRETS, authorized_keys=(), setup_script="echo set up"),
        "bid_usd_per_hour": bid,
        "env": {"A_VARIABLE": "a value"},
        **changes,
    }
    return InstanceOrder.model_validate(fields)


async def rent(provider: GpuProvider, **changes: Any) -> str:
    return await provider.create(order_for(await an_offer(provider), **changes))


async def ours(provider: GpuProvider) -> list[str]:
    return [i.instance_id for i in await provider.list_instances(label_prefix=PREFIX)]


async def secrets_of(_: str) -> MachineSecrets:
    return SECRETS


def shell() -> SshShell:
    return SshShell(secrets=secrets_of)


async def until_ready(probe: Callable[[], Awaitable[T]], *, timeout_s: float = 30) -> T:
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            return await probe()
        except NotReady:
            if time.monotonic() > deadline:
                raise
            await asyncio.sleep(0.1)


# A life


async def test_an_instances_whole_life(provider: GpuProvider) -> None:
    offer = await an_offer(provider)
    assert offer.rental is Rental.SPOT
    assert 0 < offer.gpu_usd_per_hour < offer.usd_per_hour
    assert offer.country
    instance_id = await provider.create(order_for(offer))
    assert await ours(provider) == [instance_id]

    running = await until_state(provider, instance_id, InstanceState.RUNNING)
    assert running.label == label()
    assert running.rental is Rental.SPOT
    assert running.gpu == "RTX 4090"
    assert running.host_id == offer.host_id
    assert running.usd_per_hour == pytest.approx(
        offer.gpu_usd_per_hour * 1.15 + offer.usd_per_hour - offer.gpu_usd_per_hour, abs=0.001
    )
    assert running.created_at is not None
    assert running.usd_per_hour is not None

    await provider.stop(instance_id)
    stopped = await until_state(provider, instance_id, InstanceState.STOPPED)
    assert stopped.ssh is None
    assert stopped.usd_per_hour is not None
    assert 0 < stopped.usd_per_hour < running.usd_per_hour
    await provider.start(instance_id)
    await until_state(provider, instance_id, InstanceState.RUNNING)

    await provider.change_bid(instance_id, usd_per_hour=offer.gpu_usd_per_hour * 1.5)
    dearer = await provider.get(instance_id)
    assert dearer is not None
    assert dearer.usd_per_hour is not None
    assert dearer.usd_per_hour > running.usd_per_hour

    await provider.destroy(instance_id)
    assert await provider.get(instance_id) is None
    assert await ours(provider) == []
    await provider.destroy(instance_id)
    for change in (
        provider.start(instance_id),
        provider.stop(instance_id),
        provider.change_bid(instance_id, usd_per_hour=1.0),
        provider.attach_key(instance_id, public_key=SECRETS.access_key_public),
        provider.logs(instance_id),
    ):
        with pytest.raises(InstanceGone):
            await change


async def test_on_demand(provider: GpuProvider) -> None:
    offer = await an_offer(provider, Rental.ON_DEMAND)
    instance_id = await provider.create(order_for(offer))
    found = await provider.get(instance_id)
    assert found is not None
    assert found.rental is Rental.ON_DEMAND
    assert found.usd_per_hour == pytest.approx(offer.usd_per_hour, abs=0.001)


async def test_it_becomes_the_machine_its_owner_knows(provider: GpuProvider) -> None:
    instance_id = await rent(provider)
    found = await until_state(provider, instance_id, InstanceState.RUNNING)
    address = found.ssh
    assert address is not None
    await until_ready(lambda: shell().probe_tcp(address))
    await until_ready(lambda: shell().probe_ssh(address, machine_id=MACHINE))
    hello = await until_ready(lambda: shell().hello(address, machine_id=MACHINE))
    assert len(hello.gpus) == 1
    assert "4090" in hello.gpus[0]
    assert hello.workspace_writable
    async with shell().login(address, machine_id=MACHINE) as connection:
        seen = await run(connection, 'echo "$A_VARIABLE"', timeout_s=10)
    assert seen.stdout.strip() == b"a value"
    log = await until(lambda: provider.logs(instance_id), lambda text: "set up" in text)
    assert "setup_script ended with status 0" in log


async def test_it_is_still_that_machine_after_a_stop_and_a_start(provider: GpuProvider) -> None:
    instance_id = await rent(provider)
    first = await until_state(provider, instance_id, InstanceState.RUNNING)
    before = first.ssh
    assert before is not None
    await until_ready(lambda: shell().probe_ssh(before, machine_id=MACHINE))
    async with shell().login(before, machine_id=MACHINE) as connection:
        await run(
            connection, "echo kept >/workspace/file || echo kept >~/workspace/file", timeout_s=9
        )
    await provider.stop(instance_id)
    await until_state(provider, instance_id, InstanceState.STOPPED)
    await provider.start(instance_id)
    again = await until_state(provider, instance_id, InstanceState.RUNNING)
    after = again.ssh
    assert after is not None

    async def read() -> bytes:
        # The start script reloads sshd: a login may be refused once more after one was let in.
        async with shell().login(after, machine_id=MACHINE) as connection:
            command = "cat /workspace/file ~/workspace/file"
            return (await run(connection, command, timeout_s=10)).stdout

    assert await until_ready(read) == b"kept\n"


async def test_an_attached_key_lets_its_owner_in(provider: GpuProvider) -> None:
    other = new_machine_secrets("mffffffffffff")
    instance_id = await rent(provider)
    found = await until_state(provider, instance_id, InstanceState.RUNNING)
    address = found.ssh
    assert address is not None
    await until_ready(lambda: shell().probe_ssh(address, machine_id=MACHINE))

    async def theirs(_: str) -> MachineSecrets:
        return SECRETS.model_copy(
            update={
                "access_key_private": other.access_key_private,
                "access_key_public": other.access_key_public,
            }
        )

    stranger = SshShell(secrets=theirs)

    async def turned_away() -> str:
        # The start script reloads sshd: a connection may be refused once more after one was let in.
        with pytest.raises(NotReady) as caught:
            await stranger.probe_ssh(address, machine_id=MACHINE)
        if "connection refused" in caught.value.message:
            raise caught.value
        return caught.value.message

    assert "access key" in await until_ready(turned_away)
    await provider.attach_key(instance_id, public_key=other.access_key_public)
    await until_ready(lambda: stranger.probe_ssh(address, machine_id=MACHINE))


async def test_the_account_and_its_bill(provider: GpuProvider, cloud: SimCloud) -> None:
    status = await provider.account_status()
    assert status.credit_usd is not None
    assert status.credit_usd > 0
    began = datetime.now(UTC) - timedelta(days=1)
    instance_id = await rent(provider)
    await until_state(provider, instance_id, InstanceState.RUNNING)
    cloud.control.advance(3600)
    await provider.destroy(instance_id)
    bill = await provider.charges(since=began, until=datetime.now(UTC) + timedelta(days=2))
    mine = [line for line in bill if line.instance_id == instance_id]
    kinds = {line.kind for line in mine}
    assert {"gpu", "disk"} <= kinds
    gpu = sum(line.usd for line in mine if line.kind == "gpu")
    assert 0.05 < gpu < 1
    after = await provider.account_status()
    assert after.credit_usd is not None
    assert after.credit_usd < status.credit_usd


# Renting under faults


@pytest.mark.parametrize("effect", ["hang_after", "drop_after", "truncate", "error_after"])
async def test_a_create_that_in_truth_succeeded(
    provider: VastProvider, cloud: SimCloud, effect: str
) -> None:
    hasty = provider_for(cloud, timeout_s=1.0)
    offer = await an_offer(hasty)
    cloud.control.add_fault(effect, operation="asks.create", times=1)
    with pytest.raises(OutcomeUnknown):
        await hasty.create(order_for(offer))
    await hasty.aclose()
    assert len(await ours(provider)) == 1, "it can be found by its label"
    assert len(cloud.control.requests("asks.create")) == 1, "and was not asked for again"


@pytest.mark.parametrize("effect", ["hang", "drop", "html", "server_error"])
async def test_a_create_that_did_not_happen(
    provider: VastProvider, cloud: SimCloud, effect: str
) -> None:
    hasty = provider_for(cloud, timeout_s=1.0)
    offer = await an_offer(hasty)
    cloud.control.add_fault(effect, operation="asks.create", times=1)
    with pytest.raises(OutcomeUnknown):
        await hasty.create(order_for(offer))
    await hasty.aclose()
    assert await ours(provider) == []


@pytest.mark.parametrize("status", [200, 400, 403, 410, 500])
async def test_a_refusal_that_rented_all_the_same(
    provider: GpuProvider, cloud: SimCloud, status: int
) -> None:
    offer = await an_offer(provider)
    cloud.control.add_fault(
        "created_but_error", operation="asks.create", times=1, parameters={"status": status}
    )
    with pytest.raises(ProviderError) as refusal:
        await provider.create(order_for(offer))
    left = refusal.value.instance_id
    assert left is not None
    assert await ours(provider) == [left]
    await provider.destroy(left)
    assert await ours(provider) == []


@pytest.mark.parametrize("status", [400, 404, 410])
async def test_an_offer_that_somebody_else_took(
    provider: GpuProvider, cloud: SimCloud, status: int
) -> None:
    offer = await an_offer(provider)
    cloud.control.add_fault(
        "offer_gone", operation="asks.create", times=1,
        parameters={"status": status, "seconds": 1},
    )  # fmt: skip
    with pytest.raises(OfferGone) as refusal:
        await provider.create(order_for(offer))
    assert refusal.value.instance_id is None
    assert (await an_offer(provider)).offer_id != offer.offer_id, "it is not offered again"


async def test_a_bid_too_low_to_start_leaves_nothing_behind(provider: GpuProvider) -> None:
    offer = await an_offer(provider)
    with pytest.raises(OfferGone):
        await provider.create(order_for(offer, bid_usd_per_hour=0.001))
    assert await ours(provider) == []


async def test_no_credit(provider: GpuProvider, cloud: SimCloud) -> None:
    offer = await an_offer(provider)
    cloud.control.add_fault("insufficient_credit", operation="asks.create", times=1)
    with pytest.raises(InsufficientCredit) as refusal:
        await provider.create(order_for(offer))
    assert "credit" in (refusal.value.hint or "")
    assert await ours(provider) == []


async def test_a_disk_larger_than_the_offer_is_refused(provider: GpuProvider) -> None:
    offer = await an_offer(provider)
    with pytest.raises(RequestRefused, match="disk"):
        await provider.create(order_for(offer, disk_gb=15_000))


# States


async def test_outbid_and_won_again(provider: GpuProvider, cloud: SimCloud) -> None:
    instance_id = await rent(provider)
    await until_state(provider, instance_id, InstanceState.RUNNING)
    cloud.control.vast(instance_id, "outbid")
    outbid = await until_state(provider, instance_id, InstanceState.STOPPED)
    assert outbid.rental is Rental.SPOT
    cloud.control.vast(instance_id, "resume")
    await until_state(provider, instance_id, InstanceState.RUNNING)


async def test_a_host_that_goes_and_returns_elsewhere(
    provider: GpuProvider, cloud: SimCloud
) -> None:
    instance_id = await rent(provider)
    here = await until_state(provider, instance_id, InstanceState.RUNNING)
    cloud.control.vast(instance_id, "host-offline")
    await until_state(provider, instance_id, InstanceState.OFFLINE)
    cloud.control.vast(instance_id, "host-online", new_address=True)
    there = await until_state(provider, instance_id, InstanceState.RUNNING)
    assert here.ssh is not None
    assert there.ssh is not None
    assert here.ssh.host != there.ssh.host


async def test_an_instance_that_cannot_start(provider: GpuProvider, cloud: SimCloud) -> None:
    cloud.control.add_fault("oci_error", operation="instances.boot", times=1)
    found = await until_state(provider, await rent(provider), InstanceState.FAILED)
    assert "OCI runtime create failed" in found.detail


async def test_an_instance_that_exits_at_once(provider: GpuProvider, cloud: SimCloud) -> None:
    cloud.control.add_fault("exits", operation="instances.boot", times=1)
    await until_state(provider, await rent(provider), InstanceState.STOPPED)


async def test_running_is_not_reachable(provider: GpuProvider, cloud: SimCloud) -> None:
    cloud.control.add_fault(
        "ports_missing", operation="instances.boot", times=1, parameters={"seconds": 1.5}
    )
    instance_id = await rent(provider)
    unmapped = await until_state(provider, instance_id, InstanceState.RUNNING)
    assert unmapped.ssh is None
    await until(lambda: provider.get(instance_id), lambda i: i is not None and i.ssh is not None)


@pytest.mark.parametrize(
    ("effect", "reason"), [("no_ssh", "refused"), ("unreachable", "within|refused")]
)
async def test_running_is_not_ssh(
    provider: GpuProvider, cloud: SimCloud, effect: str, reason: str
) -> None:
    cloud.control.add_fault(effect, operation="instances.boot", times=1)
    found = await until_state(provider, await rent(provider), InstanceState.RUNNING)
    assert found.ssh is not None
    hasty = SshShell(secrets=secrets_of, login_timeout_s=1)
    with pytest.raises(NotReady, match=reason):
        await hasty.probe_ssh(found.ssh, machine_id=MACHINE)


async def test_a_stranger_at_the_address_is_not_our_machine(
    provider: GpuProvider, cloud: SimCloud
) -> None:
    found = await until_state(provider, await rent(provider, onstart="true"), InstanceState.RUNNING)
    address = found.ssh
    assert address is not None
    await until_ready(lambda: shell().probe_tcp(address))
    with pytest.raises(NotReady, match="host key"):
        await shell().probe_ssh(address, machine_id=MACHINE)


async def test_an_address_with_a_line_end(provider: GpuProvider, cloud: SimCloud) -> None:
    instance_id = await rent(provider)
    await until_state(provider, instance_id, InstanceState.RUNNING)
    cloud.control.add_fault("trailing_newline", operation="instances.show")
    found = await provider.get(instance_id)
    assert found is not None
    assert found.ssh is not None
    assert found.ssh.host == found.ssh.host.strip()


# Lists, limits, keys


async def test_a_list_of_more_than_one_page(provider: GpuProvider, cloud: SimCloud) -> None:
    cloud.control.add_fault("born_stopped", operation="asks.create")
    for _ in range(7):
        cloud.control.post("/vast/market/hosts", gpu="RTX 4090", sizes=[1, 1, 1, 1])
    need = GpuRequirement(gpu="RTX 4090", max_usd_per_hour=50, disk_gb=1, min_reliability=0)
    offers = await provider.search_offers(need, limit=200)
    assert len(offers) >= 28
    made = []
    for number, offer in enumerate(offers[:28], 1):
        made.append(
            await provider.create(order_for(offer, label=label(number), onstart="true", disk_gb=1))
        )
    cloud.control.reset_requests()
    assert sorted(await ours(provider)) == sorted(made)
    assert len(cloud.control.requests("instances.list_v1")) == 2
    only = await provider.list_instances(label_prefix=label(28))
    assert [i.state for i in only] == [InstanceState.STOPPED]


@pytest.mark.parametrize(
    "parameters", [{"shape": "json"}, {"shape": "text"}, {"shape": "text", "retry_after": 1}]
)
async def test_being_too_fast_is_waited_out(
    provider: GpuProvider, cloud: SimCloud, parameters: dict[str, Any]
) -> None:
    cloud.control.add_fault(
        "rate_limit", operation="instances.list_v1", times=1,
        parameters={"threshold": 0.5, **parameters},
    )  # fmt: skip
    assert await ours(provider) == []
    assert len(cloud.control.requests("instances.list_v1")) == 2


async def test_the_daily_quota_of_searches(provider: GpuProvider, cloud: SimCloud) -> None:
    cloud.control.put("/vast/account/searches", left=0)
    try:
        with pytest.raises(RateLimited, match="quota") as refusal:
            await an_offer(provider)
        assert refusal.value.retry_after is not None
        assert 0 < refusal.value.retry_after <= 86400 * 2
    finally:
        cloud.control.put("/vast/account/searches", left=10_000)


async def test_an_empty_market_is_no_error(provider: GpuProvider, cloud: SimCloud) -> None:
    cloud.control.add_fault("empty_offers", operation="offers.search", times=1)
    need = GpuRequirement(gpu="RTX 4090", max_usd_per_hour=5)
    assert await provider.search_offers(need) == []


@pytest.mark.parametrize("effect", ["html", "server_error", "drop", "truncate"])
async def test_a_broken_cloud_is_no_evidence(
    provider: GpuProvider, cloud: SimCloud, effect: str
) -> None:
    instance_id = await rent(provider)
    cloud.control.add_fault(effect, provider="vast", operation="instances.*")
    for act in (
        provider.get(instance_id),
        provider.list_instances(label_prefix=PREFIX),
        provider.destroy(instance_id),
        provider.stop(instance_id),
    ):
        with pytest.raises(ProviderUnavailable):
            await act
    cloud.control.clear_faults()
    await provider.destroy(instance_id)


async def test_a_wrong_key_is_not_an_empty_account(cloud: SimCloud) -> None:
    stranger = provider_for(cloud, api_key="0" * 64)
    need = GpuRequirement(gpu="RTX 4090", max_usd_per_hour=5)
    for act in (
        stranger.list_instances(label_prefix=""),
        stranger.get("1"),
        stranger.destroy("1"),
        stranger.account_status(),
        stranger.search_offers(need),
    ):
        with pytest.raises(AuthFailed):
            await act
    await stranger.aclose()


async def test_a_wrong_address_is_not_an_empty_account(cloud: SimCloud) -> None:
    elsewhere = VastProvider(url=f"{cloud.vast_url}/elsewhere", api_key=cloud.vast_key)
    need = GpuRequirement(gpu="RTX 4090", max_usd_per_hour=5)
    with pytest.raises(ProviderUnavailable):
        await elsewhere.list_instances(label_prefix="")
    with pytest.raises(ProviderUnavailable):
        await elsewhere.account_status()
    with pytest.raises(ProviderUnavailable):
        await elsewhere.search_offers(need)
    await elsewhere.aclose()


async def test_our_own_limits_never_meet_a_refusal(cloud: SimCloud) -> None:
    """The whole set of limits against a strict Vast.ai, with more callers than turns."""
    cloud.control.clear_faults()
    cloud.control.put("/vast/strict", strict=True)
    cloud.control.reset_requests()
    careful = VastProvider(url=cloud.vast_url, api_key=cloud.vast_key)
    try:
        offer = await an_offer(careful)
        instance_id = await careful.create(order_for(offer, onstart="true"))
        await asyncio.gather(
            *(careful.get(instance_id) for _ in range(3)),
            *(careful.list_instances(label_prefix=PREFIX) for _ in range(4)),
            careful.start(instance_id),
            careful.start(instance_id),
        )
        await asyncio.gather(*(careful.destroy(instance_id) for _ in range(2)))
        for statuses in cloud.control.totals()["vast"].values():
            assert "429" not in statuses
    finally:
        cloud.control.put("/vast/strict", strict=False)
        await careful.aclose()


async def test_a_gateway_that_knows_no_limits_learns_them(cloud: SimCloud) -> None:
    cloud.control.put("/vast/strict", strict=True)
    cloud.control.reset_requests()
    naive = provider_for(cloud)
    try:
        lists = await asyncio.gather(*(naive.list_instances(label_prefix=PREFIX) for _ in range(5)))
        assert lists == [[]] * 5
        assert cloud.control.totals()["vast"]["instances.list_v1"]["429"] >= 1
    finally:
        cloud.control.put("/vast/strict", strict=False)
        await naive.aclose()
