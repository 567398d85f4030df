"""Looking into owners' repositories, for the API, which does not hold the store's credentials."""

from __future__ import annotations

from temporalio import workflow

with workflow.unsafe.imports_passed_through():
    from activities.repository import (
        ChangesAsk,
        ChangesFound,
        FilesAsk,
        FilesFound,
        PinAsk,
        RepositoryActivities,
    )
    from activities.snapshots import SnapshotOf
    from workflows.options import ASK_STORE


@workflow.defn
class ListFiles:
    """What is in one folder of a snapshot."""

    @workflow.run
    async def run(self, ask: FilesAsk) -> FilesFound:
        """Read the snapshot's table of files."""
        return await workflow.execute_activity_method(
            RepositoryActivities.list_files, ask, **ASK_STORE
        )


@workflow.defn
class ListChanges:
    """What changed between two snapshots."""

    @workflow.run
    async def run(self, ask: ChangesAsk) -> ChangesFound:
        """Compare both tables of files."""
        return await workflow.execute_activity_method(
            RepositoryActivities.list_changes, ask, **ASK_STORE
        )


@workflow.defn
class PinSnapshot:
    """No rule deletes a snapshot any more, or rules decide again."""

    @workflow.run
    async def run(self, ask: PinAsk) -> None:
        """Write it into the repository, then into what is shown of it."""
        await workflow.execute_activity_method(RepositoryActivities.pin_snapshot, ask, **ASK_STORE)


@workflow.defn
class ForgetSnapshot:
    """A snapshot is deleted."""

    @workflow.run
    async def run(self, which: SnapshotOf) -> None:
        """Delete it from the repository, then from what is shown of it."""
        await workflow.execute_activity_method(
            RepositoryActivities.forget_snapshot, which, **ASK_STORE
        )
