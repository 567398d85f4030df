"""The account: who it is, what it has, what it was charged."""

from __future__ import annotations

import base64
import math
import time
from typing import Any

from simcloud.vast.api.endpoint import Call, Endpoint
from simcloud.vast.billing import charge_rows
from simcloud.vast.errors import VastError

_MAX_CHARGES = 500
_MAX_INVOICES = 100


async def _user(call: Call) -> Any:
    cloud = call.cloud
    keys = cloud.account.ssh_keys()
    return {
        "id": cloud.account.user_id,
        "username": "simcloud",
        # clients up to 0.5 expect the field; nobody needs its value
        "api_key": None,
        "email": "owner@example.test",
        "email_verified": True,
        "fullname": None,
        "credit": round(cloud.billing.credit, 6),
        "balance": round(min(0.0, cloud.billing.credit), 6),
        "balance_threshold": 1.0,
        "balance_threshold_enabled": False,
        "billaddress_line1": None,
        "billaddress_line2": None,
        "billaddress_city": None,
        "billaddress_zip": None,
        "billaddress_country": None,
        "billaddress_taxinfo": None,
        "billed_expected": 0.0,
        "billed_verified": 0.0,
        "billing_creditonly": 1,
        "can_pay": False,
        "got_signup_credit": 1,
        "has_billing": False,
        "has_payout": False,
        "host_agreement_accepted": False,
        "host_only": False,
        "last4": None,
        "paid_expected": 0.0,
        "paid_verified": 0.0,
        "password_resettable": 1,
        "paypal_email": None,
        "ssh_key": keys[-1].key if keys else None,
        "sid": None,
    }


async def _charges(call: Call) -> Any:
    filters = call.query_json("select_filters", {})
    first, last = _interval(filters.get("day"), default_days=7.0)
    rows = charge_rows(call.cloud.billing.charges(first=first, last=last))
    wanted = (filters.get("type") or {}).get("in")
    if wanted:
        rows = [row for row in rows if row["type"] in wanted]
    return _page(call, rows, limit=_MAX_CHARGES)


async def _invoices(call: Call) -> Any:
    filters = call.query_json("select_filters", {})
    if "when" not in filters:
        return {
            "success": False,
            "error": "invalid_request",
            "msg": "select_filters must have a 'when' range",
        }
    first, last = _interval(filters["when"], default_days=30.0)
    rows = [
        {
            "start": payment.time,
            "end": payment.time,
            "type": "credit",
            "source": "stripe_payments",
            "description": payment.description,
            "amount": payment.amount,
            "metadata": {"invoice_id": payment.id, "service": "stripe_payments"},
            "items": [],
        }
        for payment in call.cloud.billing.payments(first=first, last=last)
    ]
    return _page(call, rows, limit=_MAX_INVOICES)


async def _legacy_invoices(call: Call) -> Any:
    cloud = call.cloud
    now = cloud.context.clock.now()
    first = float(call.request.query_params.get("sdate") or now - 86_400)
    last = float(call.request.query_params.get("edate") or now)
    charges = cloud.billing.charges(first=first, last=last)
    rows: list[dict[str, Any]] = [
        {
            "type": "payment",
            "timestamp": payment.time,
            "description": payment.description,
            "quantity": 1,
            "rate": payment.amount,
            "amount": payment.amount,
        }
        for payment in cloud.billing.payments(first=first, last=last)
    ]
    if str(call.request.query_params.get("inc_charges", "true")).lower() != "false":
        rows += [
            {
                "type": "charge",
                "timestamp": charge.end,
                "instance_id": charge.instance,
                "description": f"Instance {charge.instance} GPU charge: hours * rate",
                "quantity": round(charge.gpu_seconds / 3600, 6),
                "rate": charge.gpu_rate,
                "amount": round(charge.amount, 6),
            }
            for charge in charges
        ]
    total = round(sum(charge.amount for charge in charges), 6)
    return {
        "invoices": rows,
        "current": {
            "charges": total,
            "service_fee": 0.0,
            "total": total,
            "credit": round(cloud.billing.credit, 6),
        },
    }


def _interval(bounds: Any, *, default_days: float) -> tuple[float, float]:
    if bounds is None:
        bounds = {}
    if not isinstance(bounds, dict):
        raise VastError(400, "invalid_request", f"{bounds} is not a valid search op")
    now = time.time()
    try:
        first = float(bounds.get("gte") or bounds.get("gt") or now - default_days * 86_400)
        last = float(bounds.get("lte") or bounds.get("lt") or math.inf)
    except (TypeError, ValueError):
        raise VastError(400, "invalid_request", "a range needs numbers (seconds)") from None
    return first, last


def _page(call: Call, rows: list[dict[str, Any]], *, limit: int) -> dict[str, Any]:
    if str(call.request.query_params.get("latest_first", "false")).lower() == "true":
        rows = rows[::-1]
    wanted = max(1, min(call.query_int("limit", 20), limit))
    start = _offset(call.request.query_params.get("after_token"))
    page = rows[start : start + wanted]
    end = start + len(page)
    token = base64.urlsafe_b64encode(str(end).encode()).decode() if end < len(rows) else None
    return {
        "success": True,
        "count": len(page),
        "total": len(rows),
        "next_token": token,
        "results": page,
    }


def _offset(token: str | None) -> int:
    if not token:
        return 0
    try:
        return int(base64.urlsafe_b64decode(token.encode()))
    except ValueError:
        raise VastError(400, "invalid_request", "after_token: is no token of this API") from None


ENDPOINTS = [
    Endpoint(operation="users.current", method="GET", path="/api/v0/users/current", handler=_user),
    Endpoint(operation="charges.list", method="GET", path="/api/v0/charges", handler=_charges),
    Endpoint(operation="invoices.list", method="GET", path="/api/v1/invoices", handler=_invoices),
    Endpoint(
        operation="invoices.legacy",
        method="GET",
        path="/api/v0/users/me/invoices",
        handler=_legacy_invoices,
    ),
]
