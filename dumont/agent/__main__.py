"""`python agent.pyz COMMAND`: prints one line of JSON."""

from __future__ import annotations

import json
import sys

from dumont.agent.hello import hello


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    words = sys.argv[1:] if arguments is None else arguments
    if words != ["hello"]:
        print("usage: agent hello", file=sys.stderr)  # noqa: T201
        return 2
    print(json.dumps(hello()))  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
