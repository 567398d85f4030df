"""Fault rules: which call or which machine goes wrong, how, how often.

A rule says where it matches (provider, operation, instance, label) and what it does (`effect` with
`parameters`). This module only decides whether a rule fires; the providers and the HTTP layer play
the effects, so that both clouds share one vocabulary and one place to inspect.
"""

from __future__ import annotations

import difflib
import fnmatch
import random
from collections.abc import Iterable
from typing import Any, Final

from pydantic import BaseModel, ConfigDict, Field, field_validator

from simcloud.store import Store

EFFECTS: Final = frozenset({
    # of any request: simcloud/traffic.py
    "slow", "hang", "hang_after", "drop", "drop_after", "truncate", "error", "server_error",
    "error_after", "html", "rate_limit",
    # of Google's API, and while a VM boots
    "google_error", "stockout", "operation_error", "stuck",
    # of Vast.ai's searches, creates, lists and rows
    "empty_offers", "search_quota_exceeded", "offer_gone", "created_but_error", "born_stopped",
    "insufficient_credit", "empty_list", "truncated_list", "destroyed_but_listed",
    "metrics_null", "metrics_unknown", "trailing_newline",
    # while an instance boots, and afterwards
    "never_leaves_loading", "oci_error", "exits", "no_ssh", "wrong_key", "unreachable",
    "ports_missing", "slow_boot", "small_disk", "outbid_after", "host_offline_after", "kill_after", "cut_after",
})  # fmt: skip
"""Every effect that some part of the cloud can play."""


class FaultRule(BaseModel):
    """One fault waiting to happen. Rules are tried oldest first; the first that fires wins."""

    model_config = ConfigDict(extra="forbid")

    id: str = ""
    """Given by simcloud when the rule is added."""
    effect: str = Field(min_length=1)
    """What happens; the effects are listed in docs/simcloud.md."""
    provider: str = "*"
    """`vast`, `gcp` or `*`."""
    operation: str = "*"
    """Glob over operation names such as `instances.create`."""
    instance: str | None = None
    """Only calls about this instance (id or name)."""
    label: str | None = None
    """Glob over the instance's label (Vast) or name (Google)."""
    zone: str | None = None
    """Glob over the zone (Google)."""
    skip: int = Field(default=0, ge=0)
    """Matching events to let pass before the rule starts to fire."""
    times: int | None = Field(default=None, ge=1)
    """How often it still fires; None is without end."""
    probability: float = Field(default=1.0, ge=0.0, le=1.0)
    """Chance that a match fires."""
    parameters: dict[str, Any] = Field(default_factory=dict)
    """Details of the effect."""
    hits: int = 0
    """How often it has fired so far."""

    @field_validator("effect")
    @classmethod
    def _is_played(cls, effect: str) -> str:
        if effect not in EFFECTS:
            near = difflib.get_close_matches(effect, EFFECTS)
            raise ValueError(
                f"nothing plays the effect {effect!r}; "
                + (f"did you mean {' or '.join(near)}?" if near else "see docs/simcloud.md")
            )
        return effect

    def number(self, name: str, default: float) -> float:
        """Return the numeric parameter `name`, or `default`."""
        value = self.parameters.get(name, default)
        return default if value is None else float(value)

    def text(self, name: str, default: str) -> str:
        """Return the text parameter `name`, or `default`."""
        value = self.parameters.get(name, default)
        return default if value is None else str(value)


class Faults:
    """The rules in force; they survive a restart of simcloud."""

    def __init__(self, store: Store, rng: random.Random) -> None:
        self._store = store
        self._documents = store.collection("fault_rules")
        self._rng = rng
        self._rules = {key: FaultRule.model_validate(doc) for key, doc in self._documents.items()}

    def add(self, rule: FaultRule) -> FaultRule:
        """Put `rule` into force and return it with its id."""
        rule.id = f"fault-{self._store.next_id('fault_rules', start=1)}"
        self._rules[rule.id] = rule
        self._documents.put(rule.id, rule.model_dump())
        return rule

    def remove(self, rule_id: str) -> bool:
        """Lift one rule; return whether it existed."""
        self._documents.delete(rule_id)
        return self._rules.pop(rule_id, None) is not None

    def clear(self) -> int:
        """Lift every rule; return how many there were."""
        count = len(self._rules)
        for rule_id in list(self._rules):
            self.remove(rule_id)
        return count

    def list(self) -> list[FaultRule]:
        """Return the rules in force, oldest first."""
        return [*self._rules.values()]

    def fire(
        self,
        *,
        provider: str,
        operation: str,
        effects: Iterable[str],
        instance: str | None = None,
        label: str | None = None,
        zone: str | None = None,
    ) -> FaultRule | None:
        """Return the first rule that strikes this event and count the hit, or None.

        Args:
            provider: `vast` or `gcp`.
            operation: What is being done, e.g. `instances.create` or `machine.boot`.
            effects: The effects that the caller can play at this point; other rules are left alone.
            instance: Id or name of the instance concerned, if one is.
            label: Its label, if known.
            zone: Google's zone that is concerned, if one is.
        """
        playable = frozenset(effects)
        assert playable <= EFFECTS, playable - EFFECTS
        for rule in self._rules.values():
            if rule.effect not in playable:
                continue
            matches = (
                rule.provider in ("*", provider)
                and fnmatch.fnmatchcase(operation, rule.operation)
                and rule.instance in (None, instance)
                and _glob(rule.label, label)
                and _glob(rule.zone, zone)
            )
            if not matches:
                continue
            if rule.skip > 0:
                rule.skip -= 1
                self._documents.put(rule.id, rule.model_dump())
                continue
            if rule.probability < 1.0 and self._rng.random() >= rule.probability:
                continue
            self._count(rule)
            return rule
        return None

    def _count(self, rule: FaultRule) -> None:
        rule.hits += 1
        if rule.times is not None:
            if rule.times <= 1:
                self.remove(rule.id)
                return
            rule.times -= 1
        self._documents.put(rule.id, rule.model_dump())


def _glob(pattern: str | None, text: str | None) -> bool:
    return pattern is None or (text is not None and fnmatch.fnmatchcase(text, pattern))
