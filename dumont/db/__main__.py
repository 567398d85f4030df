"""`python -m dumont.db upgrade`: create or migrate the tables. Run it before worker and API."""

from __future__ import annotations

import argparse
import sys

from dumont.config import Settings
from dumont.db import schema
from dumont.domain.errors import DumontError


def main() -> int:
    """Run one command; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m dumont.db", description=__doc__)
    parser.add_argument("command", choices=["upgrade"], help="migrate DATABASE_URL to this version")
    parser.parse_args()
    try:
        schema.upgrade(Settings().database_url.get_secret_value())
    except DumontError as error:
        hint = f" ({error.hint})" if error.hint else ""
        print(f"error: {error.message}{hint}", file=sys.stderr)  # noqa: T201
        return 1
    print(f"database is at revision {schema.head()}")  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
