"""What one check found, and how the checks are run."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict

from dumont.domain.errors import DumontError

TIMEOUT_S = 20.0

Status = Literal["ok", "warn", "fail", "skip"]


class Finding(BaseModel):
    """One line of the report."""

    model_config = ConfigDict(frozen=True)

    group: str
    name: str
    status: Status
    detail: str
    hint: str | None = None
    """What to do about it."""


class Answer(BaseModel):
    """What a check returns when nothing raised."""

    detail: str
    status: Status = "ok"
    hint: str | None = None


@dataclass(frozen=True, kw_only=True)
class Check:
    """Something to look at.

    `look` returns an `Answer`, or raises: a `DumontError` says what is wrong and what to do itself.
    """

    group: str
    name: str
    look: Callable[[], Awaitable[Answer]]
    hint: str | None = None
    """What to do about any failure that does not say it itself."""
    needs: str | None = None
    """Another check whose failure explains this one's."""


async def run_all(checks: Sequence[Check]) -> list[Finding]:
    """Run checks side by side; one that failed because another did is only mentioned."""
    findings = dict(
        zip(
            [check.name for check in checks],
            await asyncio.gather(*(run(check) for check in checks)),
            strict=True,
        )
    )
    failed = {name for name, finding in findings.items() if finding.status == "fail"}
    for check in checks:
        if check.name in failed and check.needs in failed:
            findings[check.name] = findings[check.name].model_copy(
                update={"status": "skip", "detail": f"not without: {check.needs}", "hint": None}
            )
    return list(findings.values())


async def run(check: Check) -> Finding:
    """Run one check; whatever it raises becomes its finding."""
    try:
        answer = await asyncio.wait_for(check.look(), TIMEOUT_S)
    except TimeoutError:
        answer = Answer(status="fail", detail=f"no answer within {TIMEOUT_S:.0f} s")
    except DumontError as error:
        answer = Answer(status="fail", detail=error.message, hint=error.hint)
    except Exception as error:
        lines = str(error).strip().splitlines()
        answer = Answer(
            status="fail", detail=f"{type(error).__name__}: {lines[0]}" if lines else repr(error)
        )
    hint = answer.hint or (check.hint if answer.status in ("warn", "fail") else None)
    return Finding(
        group=check.group, name=check.name, status=answer.status, detail=answer.detail, hint=hint
    )
