"""Prints the API's OpenAPI document, for `npm run generate`. Starts nothing and connects nowhere."""

from __future__ import annotations

import contextlib
import json
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))


def main() -> None:
    """Write the document to stdout; what the API's parts say meanwhile goes to stderr."""
    with contextlib.redirect_stdout(sys.stderr), tempfile.TemporaryDirectory() as state:
        from api.app import create_app
        from dumont.config import Settings

        app = create_app(Settings(_env_file=None, state_dir=Path(state)))  # type: ignore[call-arg]
        document = app.openapi()
    json.dump(document, sys.stdout, indent=1, sort_keys=True)


if __name__ == "__main__":
    main()
