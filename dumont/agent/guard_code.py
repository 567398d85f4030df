"""The agent's code, laid out on the disk and compiled, for what starts many times a minute.

From the archive Python compiles each module anew at each start, which took three quarters of the time
of a forced command.
"""

from __future__ import annotations

import compileall
import contextlib
import os
import re
import shutil
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING

from dumont.agent import store
from dumont.agent.paths import program, program_digest, program_environment

if TYPE_CHECKING:
    from dumont.agent.paths import Paths

_PLAIN = re.compile(r"[A-Za-z0-9/._+-]+")

_START = """\
import sys
from dumont.agent.receive import Places, serve
places = Places(authority={authority!r}, run={run!r}, workspace={workspace!r})
sys.exit(serve(places, epoch=int(sys.argv[1])))
"""


def receive_command(paths: Paths, *, epoch: int) -> str:
    """The forced command of `epoch`'s key; makes what it runs.

    The plain command of the archive, which does the same, where that cannot be made.
    """
    python = sys.executable if _PLAIN.fullmatch(sys.executable or "") else "python3"
    archive = Path(program()[-1])
    if archive.suffix != ".pyz":
        variables = [f"{name}={value}" for name, value in program_environment().items()]
        words = ["env", *variables, python, *program()[1:], "receive", "--epoch", str(epoch)]
        return " ".join(words)
    try:
        folder = _ensure(paths, archive)
    except OSError:
        return f"{python} -IS ~/.dumont/agent.pyz receive --epoch {epoch}"
    return f"{python} -EsS ~/.dumont/{folder}/receive {epoch}"


def _ensure(paths: Paths, archive: Path) -> str:
    name = "code-" + program_digest()
    folder = paths.base / name
    if not (folder / "dumont").is_dir():
        fresh = Path(tempfile.mkdtemp(prefix=".code-", dir=str(paths.base)))
        try:
            with zipfile.ZipFile(str(archive)) as content:
                content.extractall(str(fresh))
            compileall.compile_dir(str(fresh), quiet=2)
            with contextlib.suppress(OSError):
                os.rename(str(fresh), str(folder))
        finally:
            shutil.rmtree(str(fresh), ignore_errors=True)
    start = _START.format(
        authority=str(paths.authority), run=str(paths.run), workspace=str(paths.workspace)
    )
    if store.read_text(folder / "receive") != start:
        store.write_text(folder / "receive", start, mode=0o600)
    for old in paths.base.glob("code-*"):
        if old.name != name:
            shutil.rmtree(str(old), ignore_errors=True)
    return name
