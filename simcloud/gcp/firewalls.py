"""Firewall rules of the project: kept, checked and shown, not enforced.

A rule is stored as it is sent on the wire. What clients send is held to what Google would take, so
that a rule which is wrong there is refused here too; no packet is ever dropped because of one.
"""

from __future__ import annotations

import ipaddress
import re
from typing import Any

from pydantic import Field

from simcloud.gcp import bodies, catalog, checks, errors, wire
from simcloud.store import Store

_PROTOCOL = re.compile(r"tcp|udp|icmp|esp|ah|sctp|ipip|all|\d{1,3}")
_PORTS = re.compile(r"(\d{1,5})(?:-(\d{1,5}))?")
_WITH_PORTS = ("tcp", "udp", "sctp", "6", "17", "132")
_ANYWHERE = "0.0.0.0/0"


class Traffic(bodies.Body):
    """A protocol with ports."""

    ip_protocol: str = Field(alias="IPProtocol")
    ports: list[str] | None = None


class LogConfig(bodies.Body):
    """Whether Google should log what the rule matches."""

    enable: bool = False


class Rule(bodies.Body):
    """A firewall rule as clients send it; what is absent is left as it is, or gets its default."""

    name: str | None = None
    description: str | None = None
    network: str | None = None
    priority: int | None = Field(default=None, ge=0, le=65535)
    direction: str | None = Field(default=None, pattern="^(INGRESS|EGRESS)$")
    allowed: list[Traffic] | None = None
    denied: list[Traffic] | None = None
    source_ranges: list[str] | None = None
    destination_ranges: list[str] | None = None
    source_tags: list[str] | None = None
    target_tags: list[str] | None = None
    disabled: bool | None = None
    log_config: LogConfig | None = None


class Firewalls:
    """The rules by name: those that every project begins with, and what was added."""

    def __init__(self, *, store: Store, project: str) -> None:
        self._project = project
        self._documents = store.collection("gcp_firewalls")
        self._settings = store.collection("gcp_project")
        if not self._settings.get("firewalls_made"):
            with store.transaction():
                for rule in catalog.firewalls(project):
                    self._documents.put(rule["name"], rule)
                self._settings.put("firewalls_made", True)

    def list(self) -> list[dict[str, Any]]:
        """Return every rule, by name."""
        return sorted(self._documents.list(), key=lambda rule: str(rule["name"]))

    def get(self, name: str) -> dict[str, Any]:
        """Return one rule.

        Raises:
            errors.GoogleError: 404.
        """
        found = self._documents.get(name)
        if found is None:
            raise errors.not_found(self.path(name))
        return dict(found)

    def path(self, name: str) -> str:
        """Return the path of a rule from `projects/` on."""
        return f"projects/{self._project}/global/firewalls/{name}"

    def insert(self, wanted: Rule, *, now: float) -> dict[str, Any]:
        """Add a rule and return it.

        Raises:
            errors.GoogleError: 400 `invalid`, 409.
        """
        name = wanted.name or ""
        checks.check_name(name)
        if self._documents.get(name) is not None:
            raise errors.already_exists(self.path(name))
        rule = {
            "kind": "compute#firewall",
            "id": wire.numeric_id(),
            "creationTimestamp": wire.timestamp(now),
            "name": name,
            "description": "",
            "network": f"global/networks/{catalog.NETWORK}",
            "priority": 1000,
            "direction": "INGRESS",
            "logConfig": {"enable": False},
            "disabled": False,
            "selfLink": wire.link(self.path(name)),
        }
        return self._keep(rule, wanted)

    def patch(self, name: str, changes: Rule) -> dict[str, Any]:
        """Change what is given of a rule and return it.

        Raises:
            errors.GoogleError: 400 `invalid`, 404.
        """
        rule = self.get(name)
        if changes.name not in (None, name):
            raise errors.invalid("resource.name", changes.name, "A rule cannot be renamed.")
        if changes.direction not in (None, rule["direction"]):
            raise errors.invalid(
                "resource.direction", changes.direction, "The direction cannot be changed."
            )
        return self._keep(rule, changes)

    def delete(self, name: str) -> dict[str, Any]:
        """Remove a rule and return what it was.

        Raises:
            errors.GoogleError: 404.
        """
        rule = self.get(name)
        self._documents.delete(name)
        return rule

    def _keep(self, rule: dict[str, Any], wanted: Rule) -> dict[str, Any]:
        sent = wanted.model_dump(by_alias=True, exclude_none=True)
        rule = {key: value for key, value in {**rule, **sent}.items() if value != []}
        if wanted.allowed and not wanted.denied:
            rule.pop("denied", None)
        if wanted.denied and not wanted.allowed:
            rule.pop("allowed", None)
        rule["network"] = self._network(rule["network"])
        _check(rule)
        ranges = "sourceRanges" if rule["direction"] == "INGRESS" else "destinationRanges"
        if ranges not in rule and "sourceTags" not in rule:
            rule[ranges] = [_ANYWHERE]
        self._documents.put(rule["name"], rule)
        return rule

    def _network(self, reference: str) -> str:
        if wire.segment_after(reference, "networks") != catalog.NETWORK:
            raise errors.invalid(
                "resource.network", reference, "The referenced network resource cannot be found."
            )
        return wire.project_link(self._project, "global", "networks", catalog.NETWORK)


def _check(rule: dict[str, Any]) -> None:
    """Refuse a rule that Google would not take.

    Raises:
        errors.GoogleError: 400 `invalid`.
    """
    actions = [key for key in ("allowed", "denied") if key in rule]
    if len(actions) != 1:
        raise errors.invalid(
            "resource.allowed", "", "Exactly one of 'allowed' and 'denied' must be given."
        )
    for index, traffic in enumerate(rule[actions[0]]):
        _check_traffic(traffic, field=f"resource.{actions[0]}[{index}]")
    if rule["direction"] == "EGRESS" and ("sourceTags" in rule or "sourceRanges" in rule):
        raise errors.invalid("resource.direction", "EGRESS", "An egress rule has no sources.")
    for key in ("sourceRanges", "destinationRanges"):
        for text in rule.get(key, []):
            _check_range(text, field=f"resource.{key}")
    for key in ("sourceTags", "targetTags"):
        if key in rule:
            rule[key] = checks.check_tags(bodies.Tags(items=rule[key]))


def _check_traffic(traffic: dict[str, Any], *, field: str) -> None:
    protocol = traffic["IPProtocol"]
    if not _PROTOCOL.fullmatch(protocol) or (protocol.isdecimal() and int(protocol) > 255):
        raise errors.invalid(f"{field}.IPProtocol", protocol, "No such protocol.")
    ports = traffic.get("ports") or []
    if ports and protocol not in _WITH_PORTS:
        raise errors.invalid(f"{field}.ports", ports[0], f"{protocol} has no ports.")
    for text in ports:
        match = _PORTS.fullmatch(text)
        low, high = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if not low <= high <= 65535:
            raise errors.invalid(
                f"{field}.ports", text, "Must be a port or a range of ports, such as 22 or 80-90."
            )


def _check_range(text: str, *, field: str) -> None:
    try:
        ipaddress.ip_network(text)
    except ValueError as wrong:
        raise errors.invalid(field, text, "Must be an address range in CIDR format.") from wrong
