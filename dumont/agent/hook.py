"""How training loops ask for the barrier: a command, or a file where no command can be run.

`dumont-flush` runs the agent's `flush`. A file `.dumont/flush/NAME.request` in the workspace does the
same: it is replaced by `NAME.done` (the result as JSON) or `NAME.failed` (the error).
"""

from __future__ import annotations

import json
import logging
import os
import re
import shlex
import threading
from typing import TYPE_CHECKING

from dumont.agent import store
from dumont.agent.errors import AgentError
from dumont.agent.paths import program, program_environment

if TYPE_CHECKING:
    from pathlib import Path

    from dumont.agent.context import Context
    from dumont.agent.flush import Barrier
    from dumont.agent.paths import Paths

FLUSH = ("dumont-flush", "flush", "Returns when everything written so far is on the standby.")
KEEP_ALIVE = (
    "dumont-keep-alive",
    "keep-alive",
    "Leaves this machine up for a time, however idle: dumont-keep-alive 2h (0 withdraws).",
)
WAKE = ("dumont-wake", "wake", "Asks for a GPU while this machine hibernates on its standby.")
"""Name, command of the agent, and what it is for."""
_LOOK_EVERY_S = 0.2
_REQUEST = re.compile(r"[A-Za-z0-9._-]{1,100}\.request")


def install_command(
    paths: Paths, log: logging.Logger, command: tuple[str, str, str] = FLUSH
) -> None:
    """Install a command for people and their programs, best where every shell finds it."""
    name, words_of_agent, purpose = command
    places = [paths.home / ".local/bin"]
    if paths.is_system_account:
        from pathlib import Path

        places.insert(0, Path("/usr/local/bin"))
    words = [f"{key}={value}" for key, value in program_environment().items()]
    line = shlex.join(["env", f"HOME={paths.home}", *words, *program(), words_of_agent])
    script = f'#!/bin/sh\n# {purpose}\nexec {line} "$@"\n'
    for place in places:
        target = place / name
        try:
            if store.read_text(target) == script:
                return
            place.mkdir(parents=True, exist_ok=True)
            store.write_text(target, script, mode=0o755)
            return
        except OSError as error:
            log.warning("%s: %s", name, error)


class Hook:
    """Answers request files."""

    def __init__(self, context: Context, barrier: Barrier) -> None:
        self._context = context
        self._barrier = barrier
        self._folder = context.paths.product / "flush"

    def start(self) -> None:
        """Look for requests from now on."""
        threading.Thread(target=self._run, name="hook", daemon=True).start()

    def _run(self) -> None:
        while not self._context.stop.wait(_LOOK_EVERY_S):
            try:
                self._folder.mkdir(parents=True, exist_ok=True)
                # Only whoever may write the workspace anyway can ask.
                names = [name for name in os.listdir(self._folder) if _REQUEST.fullmatch(name)]
            except OSError:
                continue  # a full disk; the mirror says so
            if names:
                self._answer([self._folder / name for name in sorted(names)])

    def _answer(self, requests: list[Path]) -> None:
        """One run answers all requests that are there when it begins."""
        ending = ".done"
        try:
            text = json.dumps(self._barrier.flush())
        except AgentError as error:
            ending, text = ".failed", json.dumps(error.document())
        for request in requests:
            try:
                store.write_text(request.with_suffix(ending), text + "\n", sync=False)
                request.unlink()
            except OSError as error:
                self._context.log.warning("answering %s: %s", request.name, error)
