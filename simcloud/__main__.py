"""`python -m simcloud`: arguments in, one start line out, then serve until stopped."""

from __future__ import annotations

import argparse
import asyncio
import json
import logging
import sys
from pathlib import Path
from typing import Any

from simcloud.context import Settings
from simcloud.server import Ports, StartError, serve


def parse_arguments(arguments: list[str]) -> argparse.Namespace:
    """Parse the command line; see `--help`."""
    parser = argparse.ArgumentParser(
        prog="simcloud",
        description="A cloud in a box: Vast.ai's and Google Compute's APIs over real processes.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--state", type=Path, required=True, help="directory that survives restarts"
    )
    for name, text in (
        ("vast", "Vast.ai's REST API"),
        ("gcp", "Google Compute's REST API"),
        ("control", "control API and page"),
    ):
        parser.add_argument(
            f"--{name}-port", type=_port, default=0, help=f"port for {text} (default: a free one)"
        )
    parser.add_argument("--json", action="store_true", help="print one JSON line when ready")
    parser.add_argument("--seed", type=int, default=1, help="seed of everything random (default 1)")
    parser.add_argument(
        "--boot-seconds",
        type=_interval,
        default=(1.5, 4.0),
        metavar="LO,HI",
        help="how long instances load (default 1.5,4)",
    )
    parser.add_argument(
        "--strict",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="enforce rate limits as the real clouds do (default: yes)",
    )
    parser.add_argument(
        "--market-tick",
        type=_positive,
        default=5.0,
        metavar="SECONDS",
        help="time between two moves of market prices (default 5)",
    )
    parser.add_argument(
        "--gcp-anonymous",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="serve Google's API to clients without credentials too (default: yes)",
    )
    parser.add_argument(
        "--gcp-preempt-hours",
        type=_positive,
        default=None,
        metavar="HOURS",
        help="mean time until a Spot VM is preempted at random (default: never)",
    )
    return parser.parse_args(arguments)


def main(arguments: list[str] | None = None) -> int:
    """Run simcloud; return the exit code."""
    options = parse_arguments(sys.argv[1:] if arguments is None else arguments)
    logging.basicConfig(
        stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s"
    )
    settings = Settings(
        state=options.state,
        seed=options.seed,
        boot_seconds=options.boot_seconds,
        strict=options.strict,
        market_tick=options.market_tick,
        gcp_anonymous=options.gcp_anonymous,
        gcp_preempt_hours=options.gcp_preempt_hours,
    )
    ports = Ports(vast=options.vast_port, gcp=options.gcp_port, control=options.control_port)

    async def announce(summary: dict[str, Any]) -> None:
        text = json.dumps(summary) if options.json else _sentences(summary)
        sys.stdout.write(text + "\n")
        sys.stdout.flush()

    try:
        asyncio.run(serve(settings, ports, announce=announce))
    except StartError as error:
        sys.stderr.write(f"simcloud: {error}\n")
        return 1
    return 0


def _sentences(summary: dict[str, Any]) -> str:
    inside = {
        "namespaces": "Machines run in namespaces of their own: /workspace is really /workspace.",
        "directory": "Not root: machines share this computer's file system, each in a directory "
        "of its own (see docs/simcloud.md).",
    }
    return "\n".join(
        (
            f"Vast.ai API      {summary['vast_url']}   key {summary['vast_api_key']}",
            f"Google Compute   {summary['gcp_url']}   project {summary['project']}",
            f"                 service account {summary['gcp_credentials']}",
            f"Control page     {summary['control_url']}",
            inside[summary["isolation"]],
        )
    )


def _port(text: str) -> int:
    value = int(text) if text.isdigit() else -1
    if not 0 <= value <= 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is not a port; give 0 to 65535")
    return value


def _interval(text: str) -> tuple[float, float]:
    try:
        low, high = (float(part) for part in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is not LO,HI in seconds, e.g. 1.5,4") from None
    if not 0 <= low <= high:
        raise argparse.ArgumentTypeError(f"{text!r}: needs 0 <= LO <= HI")
    return low, high


def _positive(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not value > 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not a positive number")
    return value


if __name__ == "__main__":
    sys.exit(main())
