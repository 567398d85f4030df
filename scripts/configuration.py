"""Writes `.env.example` and `docs/configuration.md` from `dumont.config.Settings`.

python scripts/configuration.py            write them
python scripts/configuration.py --check    exit 1 when they are not what they should be
"""

from __future__ import annotations

import sys
import textwrap
from pathlib import Path
from typing import Any

from pydantic import SecretStr
from pydantic.fields import FieldInfo

from dumont.cli.embedded.environment import variable_names
from dumont.config import Settings

ROOT = Path(__file__).resolve().parent.parent

GROUPS: dict[str, tuple[str, ...]] = {
    "Clouds": (
        "env", "vast_api_key", "vast_url", "gcp_credentials", "gcp_project", "gcp_url",
    ),
    "Money": ("gcp_prices_url", "gcp_prices_key", "storage_usd_per_gb_month"),
    "Databases and stores": (
        "database_url", "temporal_address", "temporal_namespace", "temporal_ui_url",
        "s3_url", "s3_bucket", "s3_access_key_id", "s3_secret_access_key", "s3_region",
        "s3_machines_url", "s3_lending", "sts_url", "s3_role_arn", "r2_account_id", "r2_api_token",
    ),
    "API and log-in": (
        "api_host", "api_port", "api_url", "web_dir",
        "owner_email", "owner_password", "access_token_s", "refresh_token_s",
    ),
    "Files": ("state_dir", "keys_file"),
    "Watching the clouds": (
        "fleet_poll_s", "reconcile_every_s", "create_window_s", "gone_confirm_s",
        "end_leftovers",
    ),
    "Protection": (
        "standby_provider", "standby_zone", "agent_api_url", "rescue_s", "failback_idle_s",
    ),
    "Logs": ("log_level", "log_format"),
}  # fmt: skip
OTHER = "Other"

PROCESS_VARIABLES = (
    ("DUMONT_API_URL", "`dumont`", "The server commands talk to; wins over the stored default."),
    ("DUMONT_API_KEY", "`dumont`", "The key to use there, instead of a stored log-in."),
    ("DUMONT_CREDENTIALS", "`dumont`", "Another file for stored log-ins."),
    ("DUMONT_DEBUG", "`dumont`", "Any value: show the traceback of an unexpected failure."),
    (
        "DUMONT_WORKER_HEALTH_PORT",
        "worker",
        "Port of its `/health` and `/metrics`; none when unset.",
    ),
)
"""Variables outside `Settings`: who reads them, and what for."""

SHOWN_DEFAULTS = {"web_dir": "web/dist"}
"""Defaults that are paths of this very checkout, as everybody should read them."""


def grouped() -> dict[str, list[str]]:
    """The fields by group; one that nobody grouped yet still shows."""
    known = {name for names in GROUPS.values() for name in names}
    groups = {
        title: [name for name in names if name in Settings.model_fields]
        for title, names in GROUPS.items()
    }
    rest = [name for name in Settings.model_fields if name not in known]
    return {**groups, OTHER: rest} if rest else groups


def default_of(name: str, field: FieldInfo) -> str:
    """The default as one would write it in a file; empty for none."""
    if name in SHOWN_DEFAULTS:
        return SHOWN_DEFAULTS[name]
    value: Any = field.default
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return "" if value is None else str(value)


def env_example() -> str:
    """The text of `.env.example`."""
    names = variable_names()
    lines = [
        "# Every variable of Dumont Cloud, with its default. Made by scripts/configuration.py.",
        "#",
        "# Copy to .env and uncomment what you change. `dumont serve` needs VAST_API_KEY alone: it",
        "# brings its own database, Temporal and object store. `dumont demo` needs nothing at all,",
        "# and reads none of this. `dumont doctor` checks what you set with calls that cost nothing.",
    ]
    for title, fields in grouped().items():
        lines += ["", "", f"# --- {title} ".ljust(98, "-")]
        for name in fields:
            field = Settings.model_fields[name]
            text = textwrap.wrap(field.description or "", 96)
            lines += ["", *(f"# {line}" for line in text)]
            lines.append(f"# {names[name][0]}={default_of(name, field)}")
    return "\n".join(lines) + "\n"


def configuration_page() -> str:
    """The text of `docs/configuration.md`."""
    names = variable_names()
    lines = [
        "# Configuration",
        "",
        "<!-- Made by scripts/configuration.py from dumont/config.py; do not edit. -->",
        "",
        "Every process reads the same environment variables, and a `.env` file in the directory it "
        "starts in (the environment wins). A wrong value ends the process with a message that names "
        "the variable. `dumont doctor` checks keys and addresses with calls that cost nothing.",
        "",
        "`dumont demo` reads none of them. `dumont serve` sets the databases and stores itself and "
        "takes the rest from you.",
    ]
    for title, fields in grouped().items():
        lines += ["", f"## {title}", "", "| variable | default | meaning |", "|---|---|---|"]
        for name in fields:
            field = Settings.model_fields[name]
            default = default_of(name, field)
            shown = f"`{default}`" if default else "none"
            meaning = (field.description or "").replace("|", "\\|")
            lines.append(f"| `{names[name][0]}` | {shown} | {meaning} |")
    lines += ["", "## Processes", "", "| variable | read by | meaning |", "|---|---|---|"]
    lines += [f"| `{name}` | {reader} | {meaning} |" for name, reader, meaning in PROCESS_VARIABLES]
    return "\n".join(lines) + "\n"


def files() -> dict[Path, str]:
    """What should stand where."""
    return {
        ROOT / ".env.example": env_example(),
        ROOT / "docs" / "configuration.md": configuration_page(),
    }


def stale() -> list[Path]:
    """Files that are not what they should be."""
    return [path for path, text in files().items() if not path.exists() or path.read_text() != text]


def main() -> int:
    """Write the files, or check them; returns the exit code."""
    if sys.argv[1:] == ["--check"]:
        for path in stale():
            sys.stderr.write(f"{path.relative_to(ROOT)} is stale: run `make docs`\n")
        return 1 if stale() else 0
    for path, text in files().items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
