"""The label that every rented instance carries: our idempotency key at the provider.

`dmt-<env>-<machine>-g<generation>-a<attempt>`, for example `dmt-demo-m3f9c2a71b0de-g1-a2`. It is
deterministic, so that a retry after a lost answer can look before it creates, and it names the
owner of whatever a provider bills us for. Instances without a label of our environment are never
touched.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from dumont.domain.errors import InvalidInput

MACHINE_KEY = "dumont-machine"
"""Google's label, on whatever is made for a machine there, that has the machine's id."""

_ENV = re.compile(r"[a-z][a-z0-9]{0,11}")
_LABEL = re.compile(r"dmt-([a-z][a-z0-9]{0,11})-(m[0-9a-f]{12})-g([1-9]\d{0,5})-a([1-9]\d{0,3})")


class Label(NamedTuple):
    """The parts of an instance label."""

    env: str
    """Name of the deployment (`prod`, `demo`): two deployments may share one provider account."""
    machine_id: str
    generation: int
    """Counts the instances this machine was meant to have, from 1."""
    attempt: int
    """Counts the tries within the generation, from 1."""

    def __str__(self) -> str:
        return f"{prefix(env=self.env)}{self.machine_id}-g{self.generation}-a{self.attempt}"


def prefix(*, env: str) -> str:
    """Prefix of every label of one environment.

    Raises:
        InvalidInput: `env` is not 1-12 lower-case letters or digits that start with a letter.
    """
    if not _ENV.fullmatch(env):
        raise InvalidInput(
            f"environment name {env!r} must be 1-12 lower-case letters or digits, "
            "starting with a letter",
            field="env",
        )
    return f"dmt-{env}-"


def machine_prefix(*, env: str, machine_id: str) -> str:
    """What the labels of all instances of one machine start with, and of no other machine."""
    return f"{prefix(env=env)}{machine_id}-g"


def parse(text: str | None, *, env: str) -> Label | None:
    """The label's parts, or None when it is not a label of this environment (then: hands off)."""
    match = _LABEL.fullmatch(text or "")
    if match is None or match[1] != env:
        return None
    return Label(match[1], match[2], int(match[3]), int(match[4]))
