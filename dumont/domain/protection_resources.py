"""What `GET /machines/{machine}/protection` gives: everything that is known about how safe it is."""

from __future__ import annotations

from datetime import date, datetime

from pydantic import Field

from dumont.domain.instances import SshAddress
from dumont.domain.protection import AgentRole, Authority, GuardReport
from dumont.domain.resources import ProtectionView, Resource, StandbyView
from dumont.domain.verdict import Sign, Source, VerdictKind


class AgentView(Resource):
    """One of a machine's agents as it was heard last."""

    role: AgentRole
    instance_id: str
    epoch: int
    age_s: float = Field(description="Since its last heartbeat arrived.")
    current: bool = Field(description="It runs on a body that the machine has now.")
    host: dict[str, float | int | None] = Field(description="How busy it is; null: unknown.")


class NotMirrored(Resource):
    """What a pattern keeps from the standby."""

    pattern: str
    files: int
    bytes: int


class MirrorView(Resource):
    """The mirror as the primary's agent saw it last."""

    pending_files: int | None
    pending_bytes: int | None
    not_mirrored: list[NotMirrored] = Field(
        description="What exists only on the GPU because the policy, or its kind, excludes it."
    )


class WitnessView(Resource):
    """What one source says about the GPU instance."""

    source: Source
    sign: Sign
    words: str
    news_at: datetime | None = Field(description="Null: it never said anything.")


class VerdictView(Resource):
    """What the stored witnesses together mean. The provider is not asked for it."""

    kind: VerdictKind
    reason: str
    witnesses: list[WitnessView]


class StandbyCostView(Resource):
    """An estimate from list prices, $/h by what is paid for; null: unknown. Egress is not in it."""

    vm: float | None
    disk: float | None
    address: float | None
    total: float | None
    as_of: date
    source: str


class ProtectionDetail(Resource):
    """GET /machines/{machine}/protection."""

    machine_id: str
    name: str
    protection: ProtectionView
    epoch: int = Field(description="Counts who had authority over the workspace.")
    authority: Authority | None = Field(
        description="Which body may write, as the guard said within the last 15 s; null: unknown."
    )
    endpoint: SshAddress | None = Field(description="The stable address.")
    direct: SshAddress | None = Field(description="The GPU itself, while it may write.")
    standby: StandbyView | None
    standby_cost: StandbyCostView | None
    guard: GuardReport | None = Field(description="The endpoint as the guard saw it last.")
    mirror: MirrorView | None
    agents: list[AgentView]
    verdict: VerdictView
