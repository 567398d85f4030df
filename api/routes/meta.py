"""What this deployment is and where its other faces are."""

from __future__ import annotations

from fastapi import APIRouter

from api.auth import Parts
from api.version import VERSION
from dumont.domain.resources import Resource

router = APIRouter(tags=["meta"])


class Meta(Resource):
    """GET /meta."""

    version: str
    env: str
    api_url: str
    api_docs_url: str
    openapi_url: str
    temporal_ui_url: str | None
    temporal_namespace: str


@router.get("/meta")
async def meta(services: Parts) -> Meta:
    """Version, environment and links."""
    settings = services.settings
    return Meta(
        version=VERSION,
        env=settings.env,
        api_url=settings.api_url,
        api_docs_url=f"{settings.api_url}/api/docs",
        openapi_url=f"{settings.api_url}/api/v1/openapi.json",
        temporal_ui_url=settings.temporal_ui_url,
        temporal_namespace=settings.temporal_namespace,
    )
