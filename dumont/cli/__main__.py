"""The process `dumont` (also `python -m dumont.cli`)."""

from __future__ import annotations

import contextlib
import os
import sys


def main() -> None:
    """Run the command line and end the process with its exit code.

    It ends at once, without the interpreter's tear-down: libraries with native threads (Temporal's
    among them, in the embedded stack) can abort there and falsify the exit code.
    """
    code: object = 0
    try:
        from dumont.cli.app import app

        app(prog_name="dumont")
    except SystemExit as end:
        code = end.code
    except KeyboardInterrupt:
        code = 130
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(code if isinstance(code, int) else 0 if code is None else 1)


if __name__ == "__main__":
    main()
