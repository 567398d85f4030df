"""What the control plane pushes to the agents: `agent.json` of `docs/protection.md`. Pure."""

from __future__ import annotations

from typing import Any

from dumont.domain.instances import Message, SshAddress
from dumont.domain.protection import ActiveStandby, AgentRole, ProtectionPolicy

PROTOCOL = 1
HEARTBEAT_S = 5.0
"""While nothing changes; what changes is told at once. A lease outlasts three of these."""
STREAMS = 10
"""Parallel streams of the first copy and of a restore."""

DEAD_MAN_S = 86_400.0
"""An instance that nobody has answered for a day stops its own billing, once its data is safe."""


class Beat(Message):
    """Where an agent's heartbeats go."""

    url: str
    token: str


class LinkTiming(Message):
    """How the endpoint watches the primary, milliseconds.

    A connection is taken up by the kernel, however busy the machine is: one that is not, twice, is a
    dead machine or a cut link. The banner comes from sshd, which on a host at full load is late now
    and then: it gets ten times as long, or a user's session would be cut for a busy GPU.
    """

    connect_ms: int = 100
    check_ms: int = 750
    """For the banner, once connected."""
    inter_ms: int = 100
    """Between two checks, and the limit of a check's connection. Each check costs the GPU's host one
    start of an sshd: at 50 ms that is a tenth of a core, for nothing that a user could notice, since a
    user's own connection that fails is evidence at once."""
    fall: int = 2
    """Checks that must fail; the second one follows at once."""
    down_inter_ms: int = 500


def link_timing(rtt_ms: float | None) -> LinkTiming:
    """Checks that are as quick as the link allows, and never quicker.

    Four round trips are left for an answer: below that a slow packet would be taken for a death. An
    unknown round trip is taken for a long one.
    """
    patience = round(4 * (rtt_ms if rtt_ms is not None else 50.0))
    if patience <= 100:
        return LinkTiming()
    return LinkTiming(
        connect_ms=2 * patience,
        check_ms=750 + patience,
        inter_ms=min(patience, 500),
        down_inter_ms=max(500, patience),
    )


def primary_config(
    *,
    machine_id: str,
    name: str,
    generation: int,
    epoch: int,
    instance_id: str,
    beat: Beat | None,
    standby: ActiveStandby | None,
    host_key: str,
    private_key: str,
    policy: ProtectionPolicy,
    paused: bool,
    stop_call: dict[str, Any] | None,
) -> dict[str, Any]:
    """The configuration of a primary's agent.

    Args:
        machine_id: The machine.
        name: Its name, for messages to people.
        generation: Of the instance.
        epoch: Of the authority over the workspace.
        instance_id: At its provider.
        beat: Where heartbeats go; None sends none.
        standby: Where to mirror; None does not.
        host_key: The machine's public host key, which the standby must prove.
        private_key: The sync key of this epoch.
        policy: What is left out.
        paused: Keys for a restore only; nothing is written to the standby.
        stop_call: How the instance stops its own billing; None leaves that out.
    """
    return {
        **_common(AgentRole.PRIMARY, machine_id, name, generation, epoch, instance_id, beat),
        "mirror": None
        if standby is None
        else {
            "host": standby.ssh.host,
            "port": standby.ssh.port,
            "user": "root",
            "host_key": " ".join(host_key.split()[:2]),
            "private_key": private_key,
            "excludes": list(policy.excludes),
            "streams": STREAMS,
            "paused": paused,
        },
        "dead_man": None if stop_call is None else {"after_s": DEAD_MAN_S, **stop_call},
    }


def standby_config(
    *,
    machine_id: str,
    name: str,
    generation: int,
    epoch: int,
    standby: ActiveStandby,
    beat: Beat | None,
    primary: SshAddress | None,
    sync_public_key: str,
) -> dict[str, Any]:
    """The configuration of a standby's guard; arguments as `primary_config`."""
    return {
        **_common(
            AgentRole.STANDBY, machine_id, name, generation, epoch, standby.instance_id, beat
        ),
        "endpoint": {
            "host": standby.endpoint.host,
            "port": standby.endpoint.port,
            "sshd_port": standby.ssh.port,
            **link_timing(standby.rtt_ms).model_dump(),
        },
        "primary": None
        if primary is None
        else {
            "host": primary.host,
            "port": primary.port,
            "sync_public_key": sync_public_key,
        },
    }


def _common(
    role: AgentRole,
    machine_id: str,
    name: str,
    generation: int,
    epoch: int,
    instance_id: str,
    beat: Beat | None,
) -> dict[str, Any]:
    return {
        "protocol": PROTOCOL,
        "role": role.value,
        "machine_id": machine_id,
        "name": name,
        "generation": generation,
        "epoch": epoch,
        "instance_id": instance_id,
        "heartbeat": None if beat is None else {**beat.model_dump(), "every_s": HEARTBEAT_S},
    }
