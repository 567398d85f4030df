"""What a running machine does with news, and how little it does without."""

from __future__ import annotations

import base64
from datetime import timedelta

import pytest
from temporalio.client import WorkflowHandle
from temporalio.testing import ActivityEnvironment

from activities.fleet import FleetActivities, Watch, primaries
from activities.listing import SharedListing
from dumont.domain.errors import ProviderUnavailable
from dumont.domain.fleet import InstanceReport, Presence
from dumont.domain.instances import Instance, InstanceState, SshAddress
from dumont.domain.machine import ActiveInstance, MachinePhase, MachineState
from tests.workflows.conftest import Stage, report, spec
from workflows.machine import Machine, MachineInput


async def test_an_outbid_machine_says_so_keeps_its_disk_and_comes_back(stage: Stage) -> None:
    handle = await stage.start()
    state = await stage.until(handle, MachinePhase.RUNNING)
    assert state.instance is not None
    mine = state.instance.instance_id

    stage.cloud.set_state(mine, InstanceState.STOPPED)
    await handle.signal(Machine.instance_changed, report(stage.cloud, mine))
    stuck = await stage.until(handle, MachinePhase.STUCK)
    assert "its disk is kept" in stuck.reason
    assert stage.cloud.destroyed == []

    stage.cloud.set_state(mine, InstanceState.RUNNING)
    moved = stage.cloud.instances[mine].model_copy(
        update={"ssh": SshAddress(host="127.9.9.9", port=2222)}
    )
    stage.cloud.instances[mine] = moved
    await handle.signal(Machine.instance_changed, report(stage.cloud, mine))
    back = await stage.until(handle, MachinePhase.RUNNING)
    assert back.instance is not None
    assert back.instance.ssh == SshAddress(host="127.9.9.9", port=2222)
    assert len(stage.cloud.orders) == 1
    await stage.destroy(handle)


async def test_a_vanished_instance_is_told_not_silently_replaced(stage: Stage) -> None:
    handle = await stage.start()
    state = await stage.until(handle, MachinePhase.RUNNING)
    assert state.instance is not None
    mine = state.instance.instance_id
    stage.cloud.instances.clear()
    await handle.signal(Machine.instance_changed, report(stage.cloud, mine))
    stuck = await stage.until(handle, MachinePhase.STUCK)
    assert "no longer has instance" in stuck.reason
    await stage.env.sleep(timedelta(days=1))
    assert len(stage.cloud.orders) == 1
    await stage.destroy(handle)


@pytest.mark.parametrize("page", ["shows it", "cannot be had", "says it is gone"])
async def test_a_list_that_lost_an_instance_is_one_witness(stage: Stage, page: str) -> None:
    reports: list[InstanceReport] = []

    async def send(machine_id: str, report: InstanceReport) -> None:
        reports.append(report)

    handle = await stage.start()
    state = await stage.until(handle, MachinePhase.RUNNING)
    assert state.instance is not None
    mine = stage.cloud.instances.pop(state.instance.instance_id)

    async def show(instance_id: str) -> Instance | None:
        if page == "cannot be had":
            raise ProviderUnavailable("503", provider="vast")
        return mine if page == "shows it" else None

    stage.cloud.get = show  # type: ignore[method-assign]
    watch = FleetActivities(
        provider=stage.cloud,
        listing=SharedListing(stage.cloud, label_prefix="dmt-test-"),
        homes=primaries(stage.store, provider="vast"),
        send_report=send,
    )
    seconds = Watch(env="test", poll_s=0.02, confirm_s=0.05, for_s=0.5)
    await ActivityEnvironment().run(watch.watch_provider, seconds)
    gone = [report.instance_id for report in reports if report.presence is Presence.GONE]
    assert gone == ([mine.instance_id] if page == "says it is gone" else [])


async def test_a_year_of_idleness_leaves_no_trace(stage: Stage) -> None:
    handle = await stage.start()
    await stage.until(handle, MachinePhase.RUNNING)
    before = await _events(handle)
    await stage.env.sleep(timedelta(days=365))
    assert await _events(handle) == before
    assert before < 60
    await stage.destroy(handle)


async def test_a_new_run_knows_everything_the_old_one_knew(stage: Stage) -> None:
    home = ActiveInstance(
        provider="vast", instance_id="77", label="dmt-test-m0123456789ab-g4-a1", generation=4,
        ssh=SshAddress(host="h", port=22), usd_per_hour=0.2, gpu="RTX 4090", gpu_count=1,
    )  # fmt: skip
    carried = MachineState(
        phase=MachinePhase.RUNNING, generation=4, instance=home, version=9, reason="ready"
    )
    handle = await stage.env.client.start_workflow(
        Machine.run,
        MachineInput(spec=spec(), state=carried),
        id="machine/m0123456789ab",
        task_queue="control",
    )
    assert await stage.until(handle, MachinePhase.RUNNING) == carried
    assert stage.cloud.orders == []
    assert stage.store.records == {}
    last = await stage.destroy(handle)
    assert last.version > 9


async def test_no_secret_is_readable_in_history(stage: Stage) -> None:
    handle = await stage.start()
    await stage.until(handle, MachinePhase.RUNNING)
    await stage.destroy(handle)
    text = (await handle.fetch_history()).to_json()
    for secret in ("ssh-ed25519", "my-box", "RTX 4090", "127.1.1.1", "authorized_keys"):
        assert secret not in text
    assert base64.b64encode(b"binary/encrypted-aes256gcm").decode() in text


async def _events(handle: WorkflowHandle[Machine, MachineState]) -> int:
    return len([event async for event in handle.fetch_history_events()])
