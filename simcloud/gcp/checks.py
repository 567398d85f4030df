"""Checks of single values in requests, and references to what Google has, resolved."""

from __future__ import annotations

import re

from simcloud.gcp import bodies, errors, wire
from simcloud.gcp.images import Image, find_image, newest_in_family
from simcloud.gcp.machine_types import find_machine_type

_NAME = re.compile(r"(?:[a-z](?:[-a-z0-9]{0,61}[a-z0-9])?)")
_LABEL_KEY = re.compile(r"[a-z][a-z0-9_-]{0,62}")
_LABEL_VALUE = re.compile(r"[a-z0-9_-]{0,63}")
_LABELS_AT_MOST = 64
_METADATA_BYTES_AT_MOST = 512 * 1024


def check_name(name: str) -> None:
    """Refuse a name that Google would not take.

    Raises:
        errors.GoogleError: 400 `invalid`.
    """
    if not _NAME.fullmatch(name):
        raise errors.invalid("resource.name", name, f"Must be a match of regex '{_NAME.pattern}'")


def check_labels(labels: dict[str, str] | None) -> dict[str, str]:
    """Return labels after checking them.

    Raises:
        errors.GoogleError: 400 `invalid`.
    """
    found = labels or {}
    if len(found) > _LABELS_AT_MOST:
        raise errors.invalid("resource.labels", len(found), "At most 64 labels are allowed.")
    for key, value in found.items():
        if not _LABEL_KEY.fullmatch(key):
            raise errors.invalid(
                "resource.labels", key, f"Label key '{key}' violates format constraints."
            )
        if not _LABEL_VALUE.fullmatch(value):
            raise errors.invalid(
                "resource.labels", value, f"Label value '{value}' violates format constraints."
            )
    return found


def check_tags(tags: bodies.Tags | None) -> list[str]:
    """Return network tags after checking them.

    Raises:
        errors.GoogleError: 400 `invalid`.
    """
    found = (tags.items if tags else None) or []
    for tag in found:
        if not _NAME.fullmatch(tag):
            raise errors.invalid(
                "resource.tags.items", tag, f"Must be a match of regex '{_NAME.pattern}'"
            )
    return sorted(set(found))


def check_metadata(requested: bodies.Metadata | None) -> list[dict[str, str]]:
    """Return metadata items after checking them.

    Raises:
        errors.GoogleError: 400 `invalid`.
    """
    items = [
        {"key": item.key, "value": item.value or ""}
        for item in ((requested.items if requested else None) or [])
    ]
    keys = [item["key"] for item in items]
    for key in keys:
        if keys.count(key) > 1:
            raise errors.invalid("resource.metadata.items", key, f"Duplicate metadata key: {key}.")
    if sum(len(item["key"]) + len(item["value"]) for item in items) > _METADATA_BYTES_AT_MOST:
        raise errors.invalid(
            "resource.metadata", "", "The total size of all keys and values must be <= 512 KB."
        )
    return items


def resolve_machine_type(reference: str, *, zone: str) -> str:
    """Return the name of a machine type named by full or partial link.

    Raises:
        errors.GoogleError: 400 `invalid`.
    """
    name = wire.segment_after(reference, "machineTypes")
    where = wire.segment_after(reference, "zones")
    if name is None or where is None:
        raise errors.invalid("resource.machineType", reference, "The URL is malformed.")
    if where != zone:
        raise errors.invalid(
            "resource.machineType", reference, f"The machine type must be in zone '{zone}'."
        )
    if find_machine_type(name) is None:
        raise errors.invalid(
            "resource.machineType",
            reference,
            f"Machine type with name '{name}' does not exist in zone '{zone}'.",
        )
    return name


def resolve_image(reference: str, *, field_name: str) -> Image:
    """Return the image named by a link: by name, by family, or by a family view of a zone.

    Raises:
        errors.GoogleError: 400 `invalid`.
    """
    project = wire.segment_after(reference, "projects") or ""
    family = wire.segment_after(reference, "family") or wire.segment_after(
        reference, "imageFamilyViews"
    )
    found = (
        newest_in_family(project=project, family=family)
        if family is not None
        else find_image(project=project, name=wire.tail(reference))
    )
    if found is None:
        raise errors.invalid(
            field_name, reference, "The referenced image resource cannot be found."
        )
    return found
