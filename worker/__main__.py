"""`python -m worker --roles control,provider-vast`: serve task queues until stopped."""

from __future__ import annotations

import argparse
import asyncio
import logging
import os
import sys

import structlog
from pydantic import ValidationError

from dumont.config import Settings
from dumont.domain.errors import DumontError
from dumont.telemetry.logs import configure_logs
from dumont.temporal.queues import CONTROL, PROVIDER_GCP, PROVIDER_VAST
from worker.process import run


def main() -> int:
    """Run a worker; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m worker", description=__doc__)
    parser.add_argument(
        "--roles",
        default=None,
        help=f"task queues to serve, comma-separated (default: {CONTROL},{PROVIDER_VAST}, and "
        f"{PROVIDER_GCP} where GCP_CREDENTIALS is set)",
    )
    parser.add_argument(
        "--health-port",
        type=int,
        default=int(os.environ.get("DUMONT_WORKER_HEALTH_PORT", "0")),
        help="port of /health and /metrics on 127.0.0.1; 0 for none",
    )
    arguments = parser.parse_args()
    try:
        settings = Settings()
        configure_logs(level=settings.log_level, form=settings.log_format)
        asyncio.run(
            run(
                settings,
                roles=_roles(arguments.roles, settings),
                health_port=arguments.health_port,
            )
        )
    except ValidationError as error:
        for problem in error.errors():
            where = ".".join(str(part) for part in problem["loc"])
            sys.stderr.write(f"error: setting {where}: {problem['msg']}\n")
        return 2
    except DumontError as error:
        structlog.get_logger("worker").error(error.message, code=error.code, hint=error.hint)
        return 1
    return 0


def _roles(asked: str | None, settings: Settings) -> list[str]:
    if asked is not None:
        return [role.strip() for role in asked.split(",") if role.strip()]
    return [CONTROL, PROVIDER_VAST, *([PROVIDER_GCP] if settings.gcp_credentials else [])]


if __name__ == "__main__":
    status = main()
    logging.shutdown()
    sys.stdout.flush()
    sys.stderr.flush()
    # temporalio's native threads can abort the interpreter's own exit (sdk-python issue 300).
    os._exit(status)
