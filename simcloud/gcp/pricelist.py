"""The Cloud Billing Catalog API: which services there are, and what Compute Engine's things cost."""

from __future__ import annotations

from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from simcloud.gcp import errors, skus
from simcloud.gcp.web import refuse, reply

_LARGEST_PAGE = 5000
_SERVICE = {
    "name": f"services/{skus.COMPUTE_ENGINE}",
    "serviceId": skus.COMPUTE_ENGINE,
    "displayName": "Compute Engine",
    "businessEntityName": "businessEntities/GCP",
}


def routes() -> list[Route]:
    """Return the routes. The catalogue is public: no credentials are asked for."""

    async def list_services(request: Request) -> Response:
        return reply({"services": [_SERVICE], "nextPageToken": ""})

    async def list_skus(request: Request) -> Response:
        try:
            return reply(_page(request))
        except errors.GoogleError as refused:
            return refuse(refused)

    return [
        Route("/v1/services", list_services),
        Route("/v1/services/{service}/skus", list_skus),
    ]


def _page(request: Request) -> dict[str, Any]:
    service = request.path_params["service"]
    if service != skus.COMPUTE_ENGINE:
        raise errors.GoogleError(
            code=404, reason="notFound", message=f"Service {service} was not found."
        )
    currency = request.query_params.get("currencyCode", "USD") or "USD"
    if currency != "USD":
        raise errors.invalid("currencyCode", currency, "Prices are kept in USD only.")
    size = _number(request, "pageSize") or _LARGEST_PAGE
    start = _number(request, "pageToken")
    rows = skus.all_skus()
    end = start + min(size, _LARGEST_PAGE)
    # this API, unlike Compute, says that there is no next page with an empty text
    return {"skus": rows[start:end], "nextPageToken": str(end) if end < len(rows) else ""}


def _number(request: Request, name: str) -> int:
    text = request.query_params.get(name, "") or "0"
    if not text.isdecimal():
        raise errors.invalid(name, text, "Must be a non-negative integer.")
    return int(text)
