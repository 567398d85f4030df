"""A worker that kills itself at a chosen moment: `python -m tests.chaos.dying_worker after:ensure_instance`.

It is the product's worker with one interceptor more. SIGKILL runs no handler and flushes nothing:
`before` dies with the activity received and not begun, `after` with its effect done and not reported.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from typing import Any

from temporalio import activity
from temporalio.worker import ActivityInboundInterceptor, ExecuteActivityInput, Interceptor

from dumont.config import Settings
from dumont.telemetry.logs import configure_logs
from worker.process import run


class DieAt(Interceptor):
    def __init__(self, when: str, activity_name: str) -> None:
        self.when, self.activity_name = when, activity_name

    def intercept_activity(self, next: ActivityInboundInterceptor) -> ActivityInboundInterceptor:
        return _Inbound(next, self)


class _Inbound(ActivityInboundInterceptor):
    def __init__(self, next: ActivityInboundInterceptor, at: DieAt) -> None:
        super().__init__(next)
        self._at = at

    async def execute_activity(self, input: ExecuteActivityInput) -> Any:
        if activity.info().activity_type != self._at.activity_name:
            return await super().execute_activity(input)
        if self._at.when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        result = await super().execute_activity(input)
        os.kill(os.getpid(), signal.SIGKILL)
        return result


def main() -> None:
    when, _, name = sys.argv[1].partition(":")
    assert when in {"before", "after"}
    configure_logs()
    settings = Settings()
    roles = ["control", "provider-vast", *(["provider-gcp"] if settings.has_standbys else [])]
    asyncio.run(run(settings, roles=roles, interceptors=[DieAt(when, name)]))


if __name__ == "__main__":
    main()
