"""What an instance's `scheduling` means: Spot, termination, restart. Defaults as Google fills them."""

from __future__ import annotations

from typing import Any

from simcloud.gcp import bodies, errors, wire

_FIELD = "resource.scheduling"
_LEGACY_CAP_S = 24 * 3600
_RUN_LIMITS_S = (30, 120 * 24 * 3600)


def normalize(requested: bodies.Scheduling | None) -> dict[str, Any]:
    """Return the full scheduling of a new instance.

    Raises:
        errors.GoogleError: 400 `invalid` when settings exclude each other.
    """
    given = requested or bodies.Scheduling()
    spot = given.provisioning_model == "SPOT"
    preemptible = spot or bool(given.preemptible)
    _check_models(given, spot=spot, preemptible=preemptible)
    scheduling: dict[str, Any] = {
        "onHostMaintenance": given.on_host_maintenance
        or ("TERMINATE" if preemptible else "MIGRATE"),
        "automaticRestart": (
            given.automatic_restart if given.automatic_restart is not None else not preemptible
        ),
        "preemptible": preemptible,
        "provisioningModel": "SPOT" if spot else "STANDARD",
    }
    limited = given.max_run_duration is not None or given.termination_time is not None
    if given.instance_termination_action is not None or spot or limited:
        scheduling["instanceTerminationAction"] = _action(given, allowed=spot or limited)
    if given.max_run_duration is not None:
        seconds = given.max_run_duration.seconds
        if not _RUN_LIMITS_S[0] <= seconds <= _RUN_LIMITS_S[1]:
            raise errors.invalid(
                f"{_FIELD}.maxRunDuration", seconds, "Must be between 30 seconds and 120 days."
            )
        scheduling["maxRunDuration"] = {"seconds": str(seconds)}
    if given.termination_time is not None:
        scheduling["terminationTime"] = _moment(given.termination_time)
    if given.preemption_notice_duration is not None:
        seconds = given.preemption_notice_duration.seconds
        if not spot or not 0 <= seconds <= 120:
            raise errors.invalid(
                f"{_FIELD}.preemptionNoticeDuration",
                seconds,
                "Must be between 0 and 120 seconds, and only Spot VMs can have it.",
            )
        scheduling["preemptionNoticeDuration"] = {"seconds": str(seconds)}
    if given.skip_guest_os_shutdown:
        scheduling["skipGuestOsShutdown"] = True
    return scheduling


def is_preemptible(scheduling: dict[str, Any]) -> bool:
    """Whether Google may take the instance away (Spot, or the older preemptible)."""
    return bool(scheduling["preemptible"])


def termination_action(scheduling: dict[str, Any]) -> str:
    """Return `STOP` or `DELETE`: what a preemption or a reached time limit does."""
    return str(scheduling.get("instanceTerminationAction", "STOP"))


def notice_seconds(scheduling: dict[str, Any]) -> float:
    """Return how long `preempted` is TRUE before the shutdown signal; 0 unless asked for."""
    return float(scheduling.get("preemptionNoticeDuration", {}).get("seconds", 0))


def termination_time(scheduling: dict[str, Any], *, started: float) -> float | None:
    """Return when the instance's time is up, in seconds since the epoch; None is never."""
    limits = []
    if "maxRunDuration" in scheduling:
        limits.append(started + float(scheduling["maxRunDuration"]["seconds"]))
    if "terminationTime" in scheduling:
        limits.append(wire.parse_timestamp(scheduling["terminationTime"]))
    if is_preemptible(scheduling) and scheduling["provisioningModel"] != "SPOT":
        limits.append(started + _LEGACY_CAP_S)
    return min(limits, default=None)


def _check_models(given: bodies.Scheduling, *, spot: bool, preemptible: bool) -> None:
    if given.provisioning_model not in (None, "STANDARD", "SPOT"):
        raise errors.invalid(
            f"{_FIELD}.provisioningModel",
            given.provisioning_model,
            "Supported values are STANDARD and SPOT.",
        )
    if spot and given.preemptible is False:
        raise errors.invalid(
            f"{_FIELD}.preemptible",
            "false",
            "Must be true or absent when provisioningModel is SPOT.",
        )
    if given.on_host_maintenance not in (None, "MIGRATE", "TERMINATE"):
        raise errors.invalid(
            f"{_FIELD}.onHostMaintenance",
            given.on_host_maintenance,
            "Supported values are MIGRATE and TERMINATE.",
        )
    if preemptible and given.automatic_restart:
        raise errors.invalid(
            f"{_FIELD}.preemptible",
            "true",
            "Scheduling must have automatic restart be false when preemptible is true.",
        )
    if preemptible and given.on_host_maintenance == "MIGRATE":
        raise errors.invalid(
            f"{_FIELD}.preemptible",
            "true",
            "Scheduling must have on host maintenance be TERMINATE when preemptible is true.",
        )


def _action(given: bodies.Scheduling, *, allowed: bool) -> str:
    action = given.instance_termination_action or "STOP"
    if action not in ("STOP", "DELETE") or not allowed:
        raise errors.invalid(
            f"{_FIELD}.instanceTerminationAction",
            action,
            "STOP and DELETE are supported, for Spot VMs or with a limited run time.",
        )
    return action


def _moment(text: str) -> str:
    try:
        wire.parse_timestamp(text)
    except ValueError as unreadable:
        raise errors.invalid(
            f"{_FIELD}.terminationTime", text, "Must be an RFC 3339 timestamp."
        ) from unreadable
    return text
