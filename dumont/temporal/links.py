"""Deep links into Temporal's Web UI."""

from __future__ import annotations

from urllib.parse import quote


def workflow_url(ui_url: str | None, *, namespace: str, workflow_id: str) -> str | None:
    """The page of a workflow's latest run, or None when no Web UI is known."""
    if ui_url is None:
        return None
    return (
        f"{ui_url}/namespaces/{quote(namespace, safe='')}/workflows/{quote(workflow_id, safe='')}"
    )
