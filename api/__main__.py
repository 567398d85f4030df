"""`python -m api`: serve the API, the event stream and the dashboard until stopped."""

from __future__ import annotations

import gc
import logging
import os
import signal
import sys
from contextlib import suppress
from types import FrameType
from typing import NoReturn

import structlog
import uvicorn
from pydantic import ValidationError

from api.app import create_app
from dumont.config import Settings
from dumont.domain.errors import DumontError
from dumont.telemetry.logs import configure_logs


def main() -> int:
    """Run the API; returns the exit code."""
    try:
        settings = Settings()
        configure_logs(level=settings.log_level, form=settings.log_format)
        app = create_app(settings)
    except ValidationError as error:
        for problem in error.errors():
            where = ".".join(str(part) for part in problem["loc"])
            sys.stderr.write(f"error: setting {where}: {problem['msg']}\n")
        return 2
    except DumontError as error:
        structlog.get_logger("api").error(error.message, code=error.code, hint=error.hint)
        return 1
    _calm_the_collector()
    server = uvicorn.Server(
        uvicorn.Config(
            app,
            host=settings.api_host,
            port=settings.api_port,
            log_config=None,
            access_log=False,
            server_header=False,
            # Event streams never end by themselves.
            timeout_graceful_shutdown=3,
        )
    )
    # uvicorn shuts down in good order and then raises the signal again: end with our own code then.
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _stop)
    with suppress(SystemExit):  # the signal; or uvicorn said why it cannot serve
        server.run()
    return 0 if server.started else 1


def _calm_the_collector() -> None:
    """Collect cycles seldom, and never walk what stays for ever.

    A page of 200 machines makes thousands of objects that reference counting frees by itself; with
    the default thresholds, looking for cycles among them took half of the time of a page.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 20, 20)


def _stop(number: int, frame: FrameType | None) -> NoReturn:
    raise SystemExit


if __name__ == "__main__":
    status = main()
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    # temporalio's native threads can abort the interpreter's own exit (sdk-python issue 300).
    os._exit(status)
