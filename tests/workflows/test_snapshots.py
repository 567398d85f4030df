"""Snapshots and restores as workflows: which body is read, what becomes of failures, who is told."""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from temporalio.client import WorkflowFailureError
from temporalio.exceptions import is_cancelled_exception
from temporalio.testing import ActivityEnvironment, WorkflowEnvironment

from activities.repository import ChangesAsk, FilesAsk, PinAsk, RepositoryActivities
from activities.snapshot_upkeep import UpkeepActivities
from activities.snapshots import (
    OWN_FILES,
    Body,
    BodyAsk,
    PruneAsk,
    RestoreAsk,
    SnapshotActivities,
    SnapshotOf,
    TakeAsk,
)
from dumont.domain.errors import (
    AgentRefused,
    Conflict,
    DependencyUnavailable,
    DumontError,
    NotFound,
    NotReady,
    PreconditionFailed,
    StorageError,
)
from dumont.domain.events import EventKind, MachineEvent
from dumont.domain.instances import SshAddress
from dumont.domain.machine import ActiveInstance, MachinePhase, MachineState
from dumont.domain.protection import ActiveStandby, AgentRole, ProtectionStatus
from dumont.domain.snapshots import (
    EntryKind,
    FileEntry,
    Retention,
    SnapshotPolicy,
    SnapshotRecord,
    TransferProgress,
)
from dumont.ports import EngineOrder, MachineRecord
from dumont.snapshots.manifest import Totals
from dumont.temporal.client import data_converter
from dumont.temporal.failures import error_of
from dumont.temporal.queues import CONTROL
from tests.support.binaries import binary
from tests.support.snapshots import WASTE, FakeEngine, FakeRepositories, FakeSnapshots
from tests.workflows.conftest import KEYS, Stage, spec
from worker.roles import KeepingActivities, control_worker
from workflows.repository_lookups import ForgetSnapshot, ListChanges, ListFiles, PinSnapshot
from workflows.snapshot_upkeep import PruneRepositories, SnapshotSchedules
from workflows.snapshots import (
    PruneRepository,
    RestoreInput,
    RestoreSnapshot,
    Snapshot,
    SnapshotInput,
)

SPEC = spec()
ME, OWNER = SPEC.machine_id, SPEC.owner_id
GPU, STANDBY = "127.1.1.1", "127.2.0.1"
TRIES = 3
"""Of one look at the machine."""


def home() -> ActiveInstance:
    return ActiveInstance(
        provider="vast", instance_id="1", label="dmt-test-g1", generation=1, usd_per_hour=0.3,
        ssh=SshAddress(host=GPU, port=22), gpu="RTX 4090", gpu_count=1,
    )  # fmt: skip


def standby() -> ActiveStandby:
    address = SshAddress(host=STANDBY, port=22, user="dumont")
    return ActiveStandby(
        provider="gcp", instance_id="vm1", label="dmt-test-s1", zone="z", number=1,
        ssh=address, endpoint=address,
    )  # fmt: skip


def protected(**other: Any) -> MachineState:
    return MachineState(
        phase=MachinePhase.RUNNING, generation=1, instance=home(), standby=standby(), epoch=1,
        mirrored=True, protection=ProtectionStatus.PROTECTED,
    ).model_copy(update=other)  # fmt: skip


def unprotected(**other: Any) -> MachineState:
    alone = {"standby": None, "mirrored": False, "protection": ProtectionStatus.UNPROTECTED}
    return protected(**{**alone, **other})


@dataclass
class Keeper:
    """A worker on the time-skipping server, and what its activities touch."""

    stage: Stage
    repositories: FakeRepositories = field(default_factory=FakeRepositories)
    snapshots: FakeSnapshots = field(default_factory=FakeSnapshots)
    owners: list[str] = field(default_factory=lambda: [OWNER])
    aligned: list[Mapping[str, SnapshotPolicy]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.engine = FakeEngine(self.repositories)

    @property
    def events(self) -> list[MachineEvent]:
        return list(self.stage.store.events.values())

    def told(self, kind: EventKind) -> list[str]:
        return [event.summary for event in self.events if event.kind is kind]

    def is_now(self, state: MachineState, machine_id: str = ME) -> None:
        """The machine is as its workflow would have recorded it."""
        machine = SPEC.model_copy(update={"machine_id": machine_id})
        record = MachineRecord(spec=machine, state=state, at=datetime.now(UTC))
        self.stage.store.records[machine_id] = record

    def activities(self) -> SnapshotActivities:
        return SnapshotActivities(
            engine=self.engine,
            repositories=self.repositories,
            store=self.stage.store,
            snapshots=self.snapshots,
        )

    def keeping(self) -> KeepingActivities:
        async def owners() -> list[str]:
            return self.owners

        async def align(wanted: Mapping[str, SnapshotPolicy]) -> int:
            self.aligned.append(wanted)
            return len(wanted)

        return KeepingActivities(
            snapshots=self.activities(),
            repository=RepositoryActivities(
                repositories=self.repositories, snapshots=self.snapshots
            ),
            upkeep=UpkeepActivities(
                store=self.stage.store,
                repositories=self.repositories,
                policies=self.snapshots.policies,
                owners=owners,
                align=align,
            ),
        )

    async def run(self, workflow: Any, *given: Any, id: str = "run") -> Any:
        return await self.stage.env.client.execute_workflow(
            workflow, *given, id=id, task_queue=CONTROL
        )

    async def take(self, **how: Any) -> SnapshotRecord | None:
        taken: SnapshotRecord | None = await self.run(
            Snapshot.run, SnapshotInput(machine_id=ME, **how)
        )
        return taken

    async def kept(self, **how: Any) -> SnapshotRecord:
        record = await self.take(**how)
        assert record is not None
        return record

    async def restore(self, **how: Any) -> Any:
        return await self.run(RestoreSnapshot.run, RestoreInput(machine_id=ME, **how), id="back")

    async def failure(self, workflow: Any, given: Any) -> DumontError:
        """The error that a workflow fails with, as whoever waits for it is told."""
        with pytest.raises(WorkflowFailureError) as caught:
            await self.run(workflow, given)
        return error_of(caught.value.cause)

    async def refused(self, **how: Any) -> DumontError:
        return await self.failure(Snapshot.run, SnapshotInput(machine_id=ME, **how))


@pytest.fixture
async def keeper() -> AsyncIterator[Keeper]:
    async with await WorkflowEnvironment.start_time_skipping(
        test_server_existing_path=binary("temporal-test-server"),
        data_converter=data_converter(KEYS),
    ) as env:
        made = Keeper(Stage(env))
        acts = replace(made.stage.control(), keeping=made.keeping())
        async with control_worker(env.client, acts):
            yield made


@pytest.fixture
def alone() -> Keeper:
    """Activities without a server."""
    return Keeper(Stage(None))  # type: ignore[arg-type]


# Which body is read ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state", "host"),
    [(protected(), STANDBY), (unprotected(), GPU)],
    ids=["protected", "unprotected"],
)
async def test_a_snapshot_is_read_where_it_disturbs_least(
    keeper: Keeper, state: MachineState, host: str
) -> None:
    keeper.is_now(state)
    record = await keeper.kept(tags=("before-upgrade",), pinned=True)
    assert keeper.engine.of("snapshot") == [host]
    assert record.source is (AgentRole.STANDBY if host == STANDBY else AgentRole.PRIMARY)
    assert (record.files, record.bytes, record.stored_bytes) == (3, 3_000, 30)
    assert (record.tags, record.pinned, record.whole) == (("before-upgrade",), True, True)
    assert record.verified_at is not None
    assert keeper.repositories.kept[OWNER][record.snapshot_id].kept
    assert await keeper.snapshots.newest(ME) == record
    assert keeper.repositories.granted == [(OWNER, ME, True)]
    assert keeper.told(EventKind.SNAPSHOT_TAKEN) == [
        f"3 files; 3.0 kB; 30 B sent, from the {record.source.value}"
    ]


@pytest.mark.parametrize(
    ("state", "reads", "writes"),
    [
        (protected(), STANDBY, GPU),
        (unprotected(), GPU, GPU),
        # The first copy is not complete, or the mirror is not sure of itself: the GPU has it all.
        (protected(mirrored=False), GPU, GPU),
        (protected(protection=ProtectionStatus.DEGRADED), GPU, GPU),
        (protected(phase=MachinePhase.ON_STANDBY), STANDBY, STANDBY),
        (protected(phase=MachinePhase.REPLACING), STANDBY, STANDBY),
        (unprotected(phase=MachinePhase.STUCK), None, None),
        (unprotected(phase=MachinePhase.PROVISIONING, instance=None), None, None),
        (unprotected(phase=MachinePhase.DESTROYED), None, None),
    ],
)
async def test_the_body_that_holds_the_newest_files(
    alone: Keeper, state: MachineState, reads: str | None, writes: str | None
) -> None:
    alone.is_now(state)
    for wanted, ask in (
        (reads, BodyAsk(machine_id=ME)),
        (writes, BodyAsk(machine_id=ME, writes=True)),
    ):
        if wanted is None:
            with pytest.raises(Conflict, match=f"my-box is {state.phase.value}"):
                await alone.activities().choose_body(ask)
        else:
            assert (await alone.activities().choose_body(ask)).ssh.host == wanted


async def test_a_machine_that_nobody_knows(alone: Keeper) -> None:
    with pytest.raises(NotFound, match="m404"):
        await alone.activities().choose_body(BodyAsk(machine_id="m404"))


async def test_a_body_that_dies_while_it_is_read_is_left_for_the_other(keeper: Keeper) -> None:
    keeper.is_now(protected())

    def die(host: str, order: EngineOrder) -> None:
        if host == STANDBY:
            keeper.is_now(unprotected())
            raise NotReady("the connection was reset")

    keeper.engine.on_run = die
    record = await keeper.kept()
    assert keeper.engine.of("snapshot") == [STANDBY] * TRIES + [GPU]
    assert record.source is AgentRole.PRIMARY
    assert keeper.snapshots.failures == {}
    assert [event.kind for event in keeper.events] == [EventKind.SNAPSHOT_TAKEN]


async def test_what_the_owner_and_the_product_leave_out(keeper: Keeper) -> None:
    keeper.is_now(unprotected())
    keeper.snapshots.wanted[ME] = SnapshotPolicy(excludes=("*.tmp", "--weird"))
    await keeper.take()
    words = keeper.engine.runs[0][1].words
    assert [word for word in words if word.startswith("--exclude")] == [
        f"--exclude={OWN_FILES}", "--exclude=*.tmp", "--exclude=--weird",
    ]  # fmt: skip


async def test_what_is_not_in_a_snapshot_is_said(keeper: Keeper) -> None:
    keeper.is_now(unprotected())
    names = [f"private/{number}: Permission denied" for number in range(30)]
    keeper.engine.totals = Totals(files=1, unreadable=names, torn=["log"])
    record = await keeper.kept()
    assert not record.whole
    assert record.unreadable == (*names[:20], "and 10 more")
    assert record.changing == ("log",)
    assert "NOT WHOLE: private/0: Permission denied" in keeper.told(EventKind.SNAPSHOT_TAKEN)[0]
    assert await keeper.snapshots.newest(ME) is None


# Failures -------------------------------------------------------------------------------------


async def test_an_engine_that_will_not_is_asked_once_and_the_failure_is_told(
    keeper: Keeper,
) -> None:
    keeper.is_now(unprotected())

    def refuse(host: str, order: EngineOrder) -> None:
        raise AgentRefused("no Python 3.10 there", hint="use another image")

    keeper.engine.on_run = refuse
    error = await keeper.refused()
    assert (error.code, error.message, error.hint) == (
        "agent_refused", "no Python 3.10 there", "use another image",
    )  # fmt: skip
    assert keeper.engine.of("snapshot") == [GPU]
    assert [why for _, why in keeper.snapshots.failures[ME]] == ["no Python 3.10 there"]
    assert keeper.told(EventKind.SNAPSHOT_FAILED) == ["no Python 3.10 there"]


async def test_an_engine_that_never_ends_is_given_up_after_three_looks(keeper: Keeper) -> None:
    keeper.is_now(unprotected())

    def lost(host: str, order: EngineOrder) -> None:
        raise NotReady("no route to host")

    keeper.engine.on_run = lost
    error = await keeper.refused()
    assert isinstance(error, NotReady)
    assert keeper.engine.of("snapshot") == [GPU] * 3 * TRIES
    assert len(keeper.snapshots.failures[ME]) == 1


async def test_nobody_had_asked_and_there_is_no_body(keeper: Keeper) -> None:
    keeper.is_now(unprotected(phase=MachinePhase.STUCK))
    assert await keeper.take() is None
    assert keeper.engine.runs == []
    assert keeper.snapshots.failures == {}
    assert keeper.events == []


async def test_nobody_had_asked_and_there_is_no_store(keeper: Keeper) -> None:
    keeper.is_now(unprotected())

    def without(word: str, owner_id: str) -> None:
        raise PreconditionFailed("this deployment has no object store")

    keeper.repositories.on_call = without
    assert await keeper.take() is None
    assert keeper.events == []
    error = await keeper.refused(asked=True)
    assert isinstance(error, PreconditionFailed)


async def test_somebody_asked_and_there_is_no_body(keeper: Keeper) -> None:
    keeper.is_now(unprotected(phase=MachinePhase.STUCK))
    error = await keeper.refused(asked=True)
    assert isinstance(error, Conflict)
    assert error.hint == "dumont show my-box"
    assert keeper.told(EventKind.SNAPSHOT_FAILED) == [error.message]


async def test_of_failures_in_a_row_the_first_is_told_and_the_third_is_an_alert(
    keeper: Keeper,
) -> None:
    keeper.is_now(unprotected())

    def refuse(host: str, order: EngineOrder) -> None:
        raise AgentRefused("the disk is gone")

    async def fail(times: int) -> None:
        for _ in range(times):
            await keeper.refused()
            await keeper.stage.env.sleep(timedelta(minutes=30))

    keeper.engine.on_run = refuse
    await fail(5)
    assert keeper.told(EventKind.SNAPSHOT_FAILED) == ["the disk is gone"]
    assert keeper.told(EventKind.ALERT) == ["3 snapshots in a row failed: the disk is gone"]
    keeper.engine.on_run = lambda host, order: None
    await keeper.take()
    keeper.engine.on_run = refuse
    await fail(1)
    assert len(keeper.told(EventKind.SNAPSHOT_FAILED)) == 2
    assert len(keeper.told(EventKind.ALERT)) == 1


async def test_whoever_asked_is_told_of_each_failure(keeper: Keeper) -> None:
    keeper.is_now(unprotected())

    def refuse(host: str, order: EngineOrder) -> None:
        raise AgentRefused("the disk is gone")

    keeper.engine.on_run = refuse
    for _ in range(3):
        await keeper.refused(asked=True)
    assert len(keeper.told(EventKind.SNAPSHOT_FAILED)) == 3


async def test_a_snapshot_that_is_cancelled_is_no_failure(keeper: Keeper) -> None:
    keeper.is_now(unprotected())
    keeper.engine.takes_s = 60
    handle = await keeper.stage.env.client.start_workflow(
        Snapshot.run, SnapshotInput(machine_id=ME), id="run", task_queue=CONTROL
    )
    while not keeper.engine.runs:
        await keeper.stage.env.sleep(timedelta(seconds=0.1))
    await handle.cancel()
    with pytest.raises(WorkflowFailureError) as caught:
        await handle.result()
    assert is_cancelled_exception(caught.value.cause)
    assert keeper.snapshots.failures == {}
    assert keeper.events == []


async def test_damage_that_is_found_afterwards_is_named(keeper: Keeper) -> None:
    keeper.is_now(unprotected())

    def lose(honest: dict[str, Any]) -> dict[str, Any]:
        keeper.repositories.damaged[honest["id"]] = "model.bin"
        return honest

    keeper.engine.answers = lose
    error = await keeper.refused()
    assert isinstance(error, StorageError)
    assert "model.bin is lost" in error.message
    assert keeper.told(EventKind.SNAPSHOT_FAILED) == [error.message]
    assert [record.verified_at for record in keeper.snapshots.records.values()] == [None]


async def test_a_store_that_is_away_for_a_while_is_waited_for(keeper: Keeper) -> None:
    keeper.is_now(unprotected())
    left = iter(range(5))

    def away(word: str, owner_id: str) -> None:
        if word == "verify" and next(left, None) is not None:
            raise DependencyUnavailable("the object store does not answer")

    keeper.repositories.on_call = away
    assert (await keeper.kept()).verified_at is not None
    assert keeper.engine.of("snapshot") == [GPU]


# What happens besides -------------------------------------------------------------------------


async def test_old_snapshots_go_by_the_owners_rules(keeper: Keeper) -> None:
    keeper.is_now(unprotected())
    rules = Retention(last=2, hourly=0, daily=0, weekly=0, monthly=0)
    keeper.snapshots.wanted[ME] = SnapshotPolicy(retention=rules)
    pinned = await keeper.kept(pinned=True)
    taken = [await keeper.kept() for _ in range(3)]
    stay = [pinned, *taken[1:]]
    assert sorted(keeper.repositories.kept[OWNER]) == [each.snapshot_id for each in stay]
    assert [snapshot_id for _, snapshot_id in keeper.snapshots.records] == [
        each.snapshot_id for each in stay
    ]


async def test_that_old_ones_could_not_go_is_no_failure(keeper: Keeper) -> None:
    keeper.is_now(unprotected())

    def refuse(word: str, owner_id: str) -> None:
        if word == "retire":
            raise StorageError("not allowed to delete")

    keeper.repositories.on_call = refuse
    assert (await keeper.kept()).verified_at is not None
    assert keeper.snapshots.failures == {}
    assert [event.kind for event in keeper.events] == [EventKind.SNAPSHOT_TAKEN]


async def test_the_standby_gets_everything_first_when_that_is_asked(keeper: Keeper) -> None:
    keeper.is_now(protected())
    order: list[str] = []
    keeper.stage.agents.on_call = lambda address, words: order.append(f"{words[0]} {address.host}")
    keeper.engine.on_run = lambda host, engine: order.append(f"snapshot {host}")
    await keeper.take(flush=True)
    assert order == [f"flush {GPU}", f"snapshot {STANDBY}"]
    order.clear()
    await keeper.take()
    assert order == [f"snapshot {STANDBY}"]


async def test_a_flush_that_fails_stops_nothing(keeper: Keeper) -> None:
    keeper.is_now(protected())
    keeper.stage.agents.unreachable.add(GPU)
    assert (await keeper.kept(flush=True)).source is AgentRole.STANDBY
    assert keeper.snapshots.failures == {}


@pytest.mark.parametrize("state", [unprotected(), protected(phase=MachinePhase.ON_STANDBY)])
async def test_there_is_nothing_to_flush(keeper: Keeper, state: MachineState) -> None:
    keeper.is_now(state)
    await keeper.take(flush=True)
    assert keeper.stage.agents.said == []


# Restores -------------------------------------------------------------------------------------


async def test_a_restore_into_a_folder_goes_where_people_work(keeper: Keeper) -> None:
    keeper.is_now(protected())
    kept = await keeper.kept()
    done = await keeper.restore(
        snapshot_id=kept.snapshot_id, folder="restored/x", paths=("src", "--odd")
    )
    host, order = keeper.engine.runs[-1]
    assert host == GPU
    assert order == EngineOrder(
        words=("restore", "--path=src", "--path=--odd", kept.snapshot_id), folder="restored/x"
    )
    assert keeper.engine.of("snapshot") == [STANDBY], (
        "nothing is overwritten: nothing is kept first"
    )
    assert (done.before, done.body, done.folder) == (None, AgentRole.PRIMARY, "restored/x")
    assert (done.files, done.bytes, done.unchanged, done.fetched_bytes) == (3, 3_000, 1, 20)
    assert keeper.repositories.granted[-1] == (OWNER, ME, False)
    assert keeper.told(EventKind.RESTORED) == [
        f"3 files, 3.0 kB of {kept.snapshot_id} are back and verified in workspace/restored/x"
    ]


async def test_a_restore_in_place_keeps_first_what_is_there(keeper: Keeper) -> None:
    keeper.is_now(protected())
    kept = await keeper.kept()
    keeper.engine.runs.clear()
    keeper.engine.problems = [{"path": "lost.bin", "why": "a chunk is nowhere"}]
    done = await keeper.restore(snapshot_id=kept.snapshot_id)
    assert [(host, order.words[0]) for host, order in keeper.engine.runs] == [
        (STANDBY, "snapshot"), (GPU, "restore"),
    ]  # fmt: skip
    before = await keeper.snapshots.newest(ME)
    assert before is not None
    assert (done.before, before.tags) == (before.snapshot_id, ("before-restore",))
    assert done.before != kept.snapshot_id
    assert done.problems == ("lost.bin: a chunk is nowhere",)
    assert "NOT restored: lost.bin" in keeper.told(EventKind.RESTORED)[0]


async def test_what_cannot_be_kept_first_is_not_overwritten(keeper: Keeper) -> None:
    keeper.is_now(unprotected())
    kept = await keeper.kept()

    def refuse(host: str, order: EngineOrder) -> None:
        if order.words[0] == "snapshot":
            raise AgentRefused("the disk is gone")

    keeper.engine.on_run = refuse
    given = RestoreInput(machine_id=ME, snapshot_id=kept.snapshot_id)
    error = await keeper.failure(RestoreSnapshot.run, given)
    assert (error.code, error.message) == ("agent_refused", "the disk is gone")
    assert keeper.engine.of("restore") == []


async def test_a_body_that_nobody_has_used_yet_gets_everything(keeper: Keeper) -> None:
    keeper.is_now(unprotected())
    kept = await keeper.kept()
    keeper.engine.runs.clear()
    keeper.is_now(unprotected(phase=MachinePhase.PROVISIONING, instance=None))
    fresh = Body(
        machine_id=ME, owner_id=OWNER, name="my-box", generation=2, role=AgentRole.PRIMARY,
        ssh=SshAddress(host="127.1.1.2", port=22),
    )  # fmt: skip
    done = await keeper.restore(snapshot_id=kept.snapshot_id, onto=fresh)
    assert [host for host, _ in keeper.engine.runs] == ["127.1.1.2"]
    assert done.before is None
    assert "in the workspace" in keeper.told(EventKind.RESTORED)[0]


async def test_a_restore_of_what_is_not_there_says_so(keeper: Keeper) -> None:
    keeper.is_now(unprotected())
    given = RestoreInput(machine_id=ME, snapshot_id="20200101T000000.000000Z-00000000", folder="x")
    error = await keeper.failure(RestoreSnapshot.run, given)
    assert isinstance(error, StorageError)
    assert "no snapshot 2020" in error.message
    assert keeper.events == []


# What machines say ----------------------------------------------------------------------------

HUGE = 10**400
"""Valid JSON, and too large for a float."""


def body() -> Body:
    return Body(
        machine_id=ME, owner_id=OWNER, name="my-box", generation=1, role=AgentRole.PRIMARY,
        ssh=SshAddress(host=GPU, port=22),
    )  # fmt: skip


def with_totals(**other: Any) -> Any:
    return lambda honest: {**honest, "totals": {**honest["totals"], **other}}


@pytest.mark.parametrize(
    "nonsense",
    [
        lambda honest: {},
        lambda honest: {**honest, "id": "../../owners/other"},
        lambda honest: {**honest, "id": None},
        lambda honest: {**honest, "time": "yesterday"},
        lambda honest: {**honest, "time": "2026-01-01T00:00:00"},
        lambda honest: {**honest, "totals": [1, 2]},
        with_totals(files=-1),
        with_totals(files="many"),
        with_totals(bytes=HUGE),
        with_totals(new_stored=HUGE),
        with_totals(seconds=float("inf")),
        with_totals(seconds=float("nan")),
        with_totals(unreadable=[{"path": 1}]),
    ],
)
async def test_nonsense_about_a_snapshot_is_no_snapshot(alone: Keeper, nonsense: Any) -> None:
    """A host that is not trusted may say anything: what is not an answer is asked for again."""
    alone.engine.answers = nonsense
    with pytest.raises(NotReady, match="nonsense"):
        await ActivityEnvironment().run(alone.activities().take_snapshot, TakeAsk(body=body()))


@pytest.mark.parametrize(
    "nonsense",
    [
        lambda honest: {},
        lambda honest: {**honest, "files": -1},
        lambda honest: {**honest, "bytes": HUGE},
        lambda honest: {**honest, "fetched": HUGE},
        lambda honest: {**honest, "seconds": float("inf")},
        lambda honest: {**honest, "usable_s": float("nan")},
        lambda honest: {**honest, "snapshot": "x" * 5_000_000},
        lambda honest: {**honest, "problems": ["all of it"]},
    ],
)
async def test_nonsense_about_a_restore_is_no_restore(alone: Keeper, nonsense: Any) -> None:
    made = await ActivityEnvironment().run(alone.activities().take_snapshot, TakeAsk(body=body()))
    alone.engine.answers = nonsense
    ask = RestoreAsk(body=body(), snapshot_id=made.snapshot_id)
    with pytest.raises(NotReady, match="nonsense"):
        await ActivityEnvironment().run(alone.activities().restore_snapshot, ask)


async def test_what_a_machine_says_at_length_is_cut(alone: Keeper) -> None:
    def at_length(honest: dict[str, Any]) -> dict[str, Any]:
        names = ["x" * 10_000, "\ud800", *["x" * 10_000] * 10_000]
        totals = {**honest["totals"], "unreadable": names, "torn": names}
        return {**honest, "tags": ["x" * 5_000_000], "totals": totals}

    alone.engine.answers = at_length
    ask = TakeAsk(body=body(), tags=("mine",))
    made = await ActivityEnvironment().run(alone.activities().take_snapshot, ask)
    assert len(made.model_dump_json()) < 30_000
    assert made.tags == ("mine",)
    assert made.unreadable[-1] == "and 9982 more"


async def test_nonsense_holds_no_workflow_up(keeper: Keeper) -> None:
    """A number that no float can hold must not reach the workflow, which would stumble over it for ever."""
    keeper.is_now(unprotected())
    keeper.engine.answers = with_totals(bytes=HUGE)
    error = await keeper.refused()
    assert isinstance(error, NotReady)
    assert "totals.bytes" in error.message
    assert len(keeper.engine.runs) == 3 * TRIES


async def heard(keeper: Keeper, act: Any, ask: Any) -> list[TransferProgress]:
    """What whoever watches the run sees of it, one beat after the other."""
    beats: list[TransferProgress] = []
    environment = ActivityEnvironment()
    environment.on_heartbeat = lambda *said: beats.append(TransferProgress.model_validate(said[0]))
    await environment.run(act, ask)
    return beats


async def test_a_run_says_how_far_it_is(alone: Keeper) -> None:
    alone.engine.totals = Totals(files=40, bytes=4_000)
    acts = alone.activities()
    before = await ActivityEnvironment().run(acts.take_snapshot, TakeAsk(body=body()))
    await alone.snapshots.record(before)
    alone.engine.says = [
        {"files": 10, "bytes": 1_000, "unchanged": 400, "read": 600, "new_raw": 600, "sent": 50}
    ]
    alone.engine.takes_s = 2.4
    beats = await heard(alone, acts.take_snapshot, TakeAsk(body=body()))
    assert beats[0].step == "reading the primary"
    assert (beats[0].total_files, beats[0].total_bytes) == (40, 4_000)
    last = beats[-1]
    assert (last.files, last.bytes, last.unchanged_bytes) == (10, 1_000, 400)
    assert (last.new_bytes, last.sent_bytes) == (600, 50)
    assert last.seconds == pytest.approx(1.2, abs=0.6)
    assert last.eta_s == pytest.approx(3 * last.seconds), "a quarter is done"


async def test_a_restore_says_how_far_it_is(alone: Keeper) -> None:
    acts = alone.activities()
    made = await ActivityEnvironment().run(acts.take_snapshot, TakeAsk(body=body()))
    alone.engine.says = [{"files": 1, "bytes": 1_000, "fetched": 500}]
    alone.engine.takes_s = 2.4
    ask = RestoreAsk(
        body=body(), snapshot_id=made.snapshot_id, total_files=made.files, total_bytes=made.bytes
    )
    last = (await heard(alone, acts.restore_snapshot, ask))[-1]
    assert last.step == "writing to the primary"
    assert (last.files, last.bytes, last.sent_bytes, last.total_bytes) == (1, 1_000, 500, 3_000)
    assert last.eta_s is not None
    part = RestoreAsk(
        body=body(), snapshot_id=made.snapshot_id, paths=("src",), total_bytes=made.bytes
    )
    last = (await heard(alone, acts.restore_snapshot, part))[-1]
    assert (last.total_bytes, last.eta_s) == (None, None), "nobody knows how much a part of it is"


async def test_a_run_that_waits_for_another_says_so(alone: Keeper) -> None:
    alone.engine.says, alone.engine.takes_s = [{"waits": True}, {"files": 1}], 4.5
    beats = await heard(alone, alone.activities().take_snapshot, TakeAsk(body=body()))
    assert "waiting for another run on the machine" in [beat.step for beat in beats]
    assert (beats[-1].step, beats[-1].files) == ("reading the primary", 1)


@pytest.mark.parametrize(
    "line",
    [
        {"files": "many", "bytes": None, "seconds": "long"},
        {"files": -1, "bytes": float("nan"), "seconds": float("nan")},
        {"files": HUGE, "bytes": HUGE, "seconds": HUGE},
        {"files": 1, "bytes": 1e300, "seconds": float("inf")},
        {"files": [1], "bytes": {}, "sent": True, "seconds": -5},
    ],
)
async def test_nonsense_about_progress_is_passed_over(alone: Keeper, line: dict[str, Any]) -> None:
    alone.engine.says, alone.engine.takes_s = [line], 1.5
    for beat in await heard(alone, alone.activities().take_snapshot, TakeAsk(body=body())):
        assert 0 <= beat.files <= 1
        assert beat.bytes == 0
        assert 0 <= beat.seconds < 60
        TransferProgress.model_validate_json(beat.model_dump_json())


# Repositories ---------------------------------------------------------------------------------


async def test_a_prune_frees_or_says_what_it_would_free(keeper: Keeper) -> None:
    keeper.is_now(unprotected())
    await keeper.take()
    planned = await keeper.run(PruneRepository.run, PruneAsk(owner_id=OWNER, dry_run=True))
    assert (planned.dry_run, planned.needed, planned.freed, planned.doomed) == (
        True, 1_000, 0, WASTE,
    )  # fmt: skip
    done = await keeper.run(PruneRepository.run, PruneAsk(owner_id=OWNER))
    assert (done.dry_run, done.freed) == (False, WASTE)


async def test_all_repositories_are_pruned_but_the_one_that_cannot_be(keeper: Keeper) -> None:
    keeper.owners = ["damaged", "away", "o1", "o2"]
    asked: list[str] = []

    def look(word: str, owner_id: str) -> None:
        asked.append(owner_id)
        if owner_id == "damaged":
            raise StorageError("a pack is missing")
        if owner_id == "away":
            raise DependencyUnavailable("another prune is under way")

    keeper.repositories.on_call = look
    assert await keeper.run(PruneRepositories.run) == 2 * WASTE
    assert asked == keeper.owners


async def test_live_machines_have_the_schedules_of_their_policies(keeper: Keeper) -> None:
    hourly = SnapshotPolicy(every_minutes=60)
    keeper.is_now(unprotected(), "m1")
    keeper.is_now(protected(phase=MachinePhase.ON_STANDBY), "m2")
    keeper.is_now(unprotected(phase=MachinePhase.DESTROYING), "m3")
    keeper.is_now(unprotected(stopping=True), "m4")
    keeper.is_now(unprotected(phase=MachinePhase.DESTROYED), "m5")
    keeper.snapshots.wanted = {"m2": hourly, "m3": hourly, "elsewhere": hourly}
    assert await keeper.run(SnapshotSchedules.run) == 2
    assert keeper.aligned == [{"m1": SnapshotPolicy(), "m2": hourly}]


def entry(path: str, size: int = 10) -> FileEntry:
    return FileEntry(
        path=path, kind=EntryKind.FILE, size=size, mode=0o644, modified_at=datetime.now(UTC)
    )


async def test_a_snapshot_is_looked_into_pinned_and_deleted(keeper: Keeper) -> None:
    keeper.is_now(unprotected())
    one, two = await keeper.kept(), await keeper.kept()
    old, new = one.snapshot_id, two.snapshot_id
    keeper.repositories.contents = {
        old: [entry("a/1"), entry("b")],
        new: [entry("a/1"), entry("a/2", 7), entry("a/3", 5), entry("b")],
    }
    ask = FilesAsk(owner_id=OWNER, snapshot_id=new, folder="a", after="a/1", limit=1)
    found = await keeper.run(ListFiles.run, ask)
    assert [each.path for each in found.items] == ["a/2"]
    changes = await keeper.run(
        ListChanges.run, ChangesAsk(owner_id=OWNER, old=old, new=new, limit=1)
    )
    assert (changes.totals.added, changes.totals.bytes) == (2, 12)
    assert [each.path for each in changes.items] == ["a/2"]

    which = SnapshotOf(owner_id=OWNER, machine_id=ME, snapshot_id=old)
    await keeper.run(PinSnapshot.run, PinAsk(which=which, pinned=True))
    assert keeper.repositories.kept[OWNER][old].kept
    assert (await keeper.snapshots.find(ME, old)).pinned
    await keeper.run(PinSnapshot.run, PinAsk(which=which, pinned=False))
    assert not (await keeper.snapshots.find(ME, old)).pinned

    await keeper.run(ForgetSnapshot.run, which)
    assert list(keeper.repositories.kept[OWNER]) == [new]
    with pytest.raises(NotFound):
        await keeper.snapshots.find(ME, old)


async def test_what_the_repository_did_not_do_is_not_shown_as_done(keeper: Keeper) -> None:
    keeper.is_now(unprotected())
    kept = await keeper.kept()

    def refuse(word: str, owner_id: str) -> None:
        raise StorageError("not allowed")

    keeper.repositories.on_call = refuse
    which = SnapshotOf(owner_id=OWNER, machine_id=ME, snapshot_id=kept.snapshot_id)
    for workflow, given in (
        (PinSnapshot.run, PinAsk(which=which, pinned=True)),
        (ForgetSnapshot.run, which),
    ):
        error = await keeper.failure(workflow, given)
        assert (error.code, error.message) == ("storage_error", "not allowed")
    assert not (await keeper.snapshots.find(ME, kept.snapshot_id)).pinned
