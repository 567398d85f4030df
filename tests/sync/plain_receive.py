"""A forced command that knows only one rule: nothing without the file that grants authority.

The guard's own (`agent receive`) keeps authority by epochs and is tested beside the guard; here the
file makes it easy to take authority away between any two steps.
"""

from __future__ import annotations

import os
import shlex
import sys
from pathlib import Path

sys.path.insert(0, sys.argv[3])

from dumont.agent import words


def main() -> int:
    """Answer one command of the primary."""
    workspace, grant = Path(sys.argv[1]), Path(sys.argv[2])
    said = shlex.split(os.environ.get("SSH_ORIGINAL_COMMAND", ""))
    if said in words.WORDS:
        return words.run(said, workspace=workspace, allowed=grant.exists)
    if said[:2] != ["rsync", "--server"] or said[-2:] != [".", "./"]:
        print(f"refused: {said}", file=sys.stderr)
        return 1
    if not grant.exists():
        return words.FENCED
    os.chdir(workspace)
    return os.execvp("rsync", said)


if __name__ == "__main__":
    sys.exit(main())
