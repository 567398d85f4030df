"""A machine's side of its Provision: starting it, and telling it bad news."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from contextlib import suppress

from temporalio import workflow
from temporalio.exceptions import FailureError
from temporalio.workflow import ChildWorkflowHandle, ParentClosePolicy

with workflow.unsafe.imports_passed_through():
    from dumont.domain.fleet import InstanceReport
    from dumont.domain.machine import ActiveInstance, MachineSpec, MachineState, Timing
    from dumont.domain.report import why_unusable
    from dumont.temporal.ids import provision_workflow_id
    from workflows.provision import LostInstance, Provision, ProvisionInput


async def provisioned(
    spec: MachineSpec,
    timing: Timing,
    state: MachineState,
    *,
    news: Callable[[], Sequence[InstanceReport]],
) -> ActiveInstance:
    """Get a machine's present generation an instance that is ready.

    Args:
        spec: The machine.
        timing: How patient it is.
        state: Its state now.
        news: All that the watch over its provider has told since.

    Raises:
        ChildWorkflowError: None could be had; what was rented meanwhile is ended.
    """
    provision = await workflow.start_child_workflow(
        Provision.run,
        ProvisionInput(
            spec=spec,
            generation=state.generation,
            timing=timing,
            avoid_hosts=state.avoid_hosts,
        ),
        id=provision_workflow_id(spec.machine_id, state.generation),
        parent_close_policy=ParentClosePolicy.REQUEST_CANCEL,
        static_summary=f"{spec.name} generation {state.generation}",
    )
    try:
        await _pass_bad_news_on(provision, news)
    except asyncio.CancelledError:
        provision.cancel()
    return await provision


async def _pass_bad_news_on(
    provision: ChildWorkflowHandle[Provision, ActiveInstance],
    news: Callable[[], Sequence[InstanceReport]],
) -> None:
    """Until provisioning ends, tell it which of its instances are lost already."""
    told = 0
    while True:
        await workflow.wait_condition(
            lambda: provision.done() or len(news()) > told  # noqa: B023
        )
        if provision.done():
            return
        report, told = news()[told], told + 1
        why = why_unusable(report)
        if why is not None:
            with suppress(FailureError):  # it may have ended just now
                await provision.signal(
                    Provision.instance_lost,
                    LostInstance(instance_id=report.instance_id, why=why),
                )
