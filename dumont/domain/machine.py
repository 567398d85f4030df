"""A machine's life: its phases, what may follow what, and the state its workflow carries."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum

from pydantic import Field, field_validator

from dumont.domain.instances import Message, SshAddress
from dumont.domain.names import check_machine_name
from dumont.domain.offers import GpuRequirement
from dumont.domain.protection import ActiveStandby, ProtectionPolicy, ProtectionStatus


class MachinePhase(StrEnum):
    """Where a machine is in its life."""

    REQUESTED = "requested"
    PROVISIONING = "provisioning"
    RUNNING = "running"
    ON_STANDBY = "on_standby"
    """The GPU is out of reach; the address leads to the standby, where work goes on."""
    REPLACING = "replacing"
    """Still on the standby; a GPU is being rented, restored and verified."""
    STUCK = "stuck"
    """Cannot go on by itself for a reason that is shown, with the time of the next try."""
    HIBERNATING = "hibernating"
    """Its workspace is being kept and verified; then what it rents is ended."""
    HIBERNATED = "hibernated"
    """No GPU is rented; its workspace is in the object store, and on the standby if that was kept."""
    WAKING = "waking"
    """A GPU is being rented and gets the workspace back."""
    DESTROYING = "destroying"
    DESTROYED = "destroyed"

    @property
    def final(self) -> bool:
        """Nothing follows; nothing is rented any more."""
        return self is MachinePhase.DESTROYED


TRANSITIONS: dict[MachinePhase, frozenset[MachinePhase]] = {
    MachinePhase.REQUESTED: frozenset({MachinePhase.PROVISIONING, MachinePhase.DESTROYING}),
    MachinePhase.PROVISIONING: frozenset(
        {
            MachinePhase.RUNNING,
            MachinePhase.HIBERNATED,
            MachinePhase.STUCK,
            MachinePhase.DESTROYING,
        }
    ),
    MachinePhase.RUNNING: frozenset(
        {
            MachinePhase.ON_STANDBY,
            MachinePhase.STUCK,
            MachinePhase.HIBERNATING,
            MachinePhase.DESTROYING,
        }
    ),
    MachinePhase.HIBERNATING: frozenset(
        {
            MachinePhase.HIBERNATED,
            MachinePhase.RUNNING,
            MachinePhase.ON_STANDBY,
            MachinePhase.DESTROYING,
        }
    ),
    MachinePhase.HIBERNATED: frozenset(
        {MachinePhase.WAKING, MachinePhase.REPLACING, MachinePhase.DESTROYING}
    ),
    MachinePhase.WAKING: frozenset(
        {
            MachinePhase.RUNNING,
            MachinePhase.HIBERNATED,
            MachinePhase.STUCK,
            MachinePhase.DESTROYING,
        }
    ),
    MachinePhase.ON_STANDBY: frozenset(
        {
            MachinePhase.REPLACING,
            MachinePhase.RUNNING,
            MachinePhase.HIBERNATED,
            MachinePhase.STUCK,
            MachinePhase.DESTROYING,
        }
    ),
    MachinePhase.REPLACING: frozenset(
        {
            MachinePhase.ON_STANDBY,
            MachinePhase.RUNNING,
            MachinePhase.HIBERNATED,
            MachinePhase.STUCK,
            MachinePhase.DESTROYING,
        }
    ),
    MachinePhase.STUCK: frozenset(
        {
            MachinePhase.PROVISIONING,
            MachinePhase.RUNNING,
            MachinePhase.ON_STANDBY,
            MachinePhase.DESTROYING,
        }
    ),
    MachinePhase.DESTROYING: frozenset({MachinePhase.DESTROYED}),
    MachinePhase.DESTROYED: frozenset(),
}
"""What may follow each phase."""


class MachineSpec(Message):
    """What the owner asked for. It does not change over the machine's life."""

    machine_id: str
    owner_id: str
    name: str
    env: str
    """Deployment the machine belongs to; part of every label."""
    requirement: GpuRequirement
    authorized_keys: tuple[str, ...] = Field(min_length=1)
    """The owner's public SSH keys, in authorized_keys form."""
    setup_script: str = Field(default="", max_length=2_000)
    """The owner's shell lines, run at every start of an instance."""
    protection: ProtectionPolicy | None = None
    """None: no standby; a lost instance then makes the machine stuck."""

    @field_validator("name")
    @classmethod
    def _name(cls, value: str) -> str:
        return check_machine_name(value)


class ActiveInstance(Message):
    """The instance a machine lives on now: the result of Provision and what the entity adopts."""

    provider: str
    instance_id: str
    label: str
    generation: int
    ssh: SshAddress
    usd_per_hour: float | None
    """None when the provider did not say."""
    gpu: str
    gpu_count: int
    host_id: str | None = None
    region: str | None = None
    ready_at: datetime | None = None


class Timing(Message):
    """How patient a machine's workflows are. Seconds."""

    gone_confirm_s: float = 30.0
    """Two empty listings this far apart prove that an instance is gone."""
    race_stagger_s: float = 60.0
    """A further offer is tried beside one that has not become ready after this long."""
    race_width: int = Field(default=2, ge=1, le=3)
    """At most so many attempts climb at once."""
    attempt_s: float = 900.0
    """An attempt that is not ready after this long is given up."""
    max_attempts: int = Field(default=6, ge=1)
    """Attempts of one Provision before it reports that there is no capacity."""
    retry_ladder_s: tuple[float, ...] = (60, 120, 300, 600, 900)
    """Waits between Provision runs of a stuck machine; the last one repeats."""
    assess_s: float = 2.0
    """Between two looks at an instance whose link is lost, while the evidence is not enough. The first
    looks come closer together: a provider often knows a second later."""
    idle_s: float = 30.0
    """Nobody typed or wrote on the standby for this long: the moment to fail back."""
    start_again_s: float = 10.0
    """Between two tries to start a standby that holds the only newest copy."""
    restart_ladder_s: tuple[float, ...] = (15, 60, 120, 300, 600)
    """Waits before each try to start the stopped instance of a machine that can live nowhere else."""
    rescue_s: float = 900.0
    """A former instance that the provider still runs is kept this long for what only it has."""


class MachineState(Message):
    """Everything a machine's workflow must remember; carried whole through continue-as-new."""

    phase: MachinePhase = MachinePhase.REQUESTED
    reason: str = ""
    """Why it is in this phase, for people; names the error when it is stuck."""
    generation: int = 0
    instance: ActiveInstance | None = None
    stopping: bool = False
    """The owner asked to destroy it; checked before continue-as-new, never dropped."""
    provision_tries: int = 0
    """Failed tries to get an instance since it last ran one; drives the retry ladders."""
    next_try_at: datetime | None = None
    avoid_hosts: tuple[str, ...] = ()
    """Hosts that failed this machine, newest last."""
    version: int = 0
    """Counts the changes of this state; the projection keeps the highest."""
    applied_updates: tuple[str, ...] = ()
    """Ids of the last accepted updates: Temporal deduplicates them only within one run."""
    protection: ProtectionStatus = ProtectionStatus.UNPROTECTED
    protection_reason: str = ""
    """Why it is not protected, for people."""
    standby: ActiveStandby | None = None
    epoch: int = 0
    """Counts who had authority over the workspace; only the newest may write. Raised here alone."""
    mirrored: bool = False
    """Whether the first copy to the present standby was complete under the present epoch."""
    failovers: int = 0
    """How many failovers were begun; numbers the receipts."""
    generations_used: int = 0
    """The highest generation that any label was made with, adopted or not."""
    retiring: tuple[str, ...] = ()
    """Labels of former instances that are kept until what only they have is rescued."""
    kept_standby: str | None = None
    """Label of a lost standby whose disk is kept until another one has everything."""
    running_since: datetime | None = None
    """When people could last begin to work on a GPU; None: not known."""
    usable: str | None = None
    """Label of the instance that people may work on although its big files are still coming back."""
    restoring: str | None = None
    """The snapshot that the next instance gets its files from, until it has them all."""
    standbys_used: int = 0
    """The highest number of a standby that was given back; the next one counts on."""

    @property
    def lives_on_standby(self) -> bool:
        """Whether the standby is what people work on, with or without a GPU on its way."""
        resting = self.phase is MachinePhase.HIBERNATED and self.standby is not None
        return resting or self.phase in (MachinePhase.ON_STANDBY, MachinePhase.REPLACING)

    @property
    def early_home(self) -> ActiveInstance | None:
        """The instance that has its small files back, and is still getting the big ones."""
        home, coming = self.instance, self.phase in (MachinePhase.WAKING, MachinePhase.PROVISIONING)
        early = coming and self.restoring is not None
        return home if early and home is not None and home.label == self.usable else None

    @property
    def gpu(self) -> ActiveInstance | None:
        """The instance that is rented for it, as far as is known; None once it has given it back."""
        return None if self.phase is MachinePhase.HIBERNATED else self.instance
