"""Whether Google takes this VM back: the metadata server tells 30 seconds before.

The question is asked with `wait_for_change`, so that the answer comes at once. Where there is no
metadata server this is not Google, and after some tries nobody asks any more.
"""

from __future__ import annotations

import http.client
import os
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable
    from logging import Logger

_HOST = "metadata.google.internal"
_PATH = "/computeMetadata/v1/instance/preempted"
_TRIES = 5
_PAUSE_S = 5.0
_LONGEST_WAIT_S = 300.0


class PreemptionWatch:
    """Calls `on_preempted` once, in a thread of its own."""

    def __init__(self, *, on_preempted: Callable[[], None], log: Logger) -> None:
        self._on_preempted = on_preempted
        self._log = log
        self._closed = threading.Event()
        self.preempting = False

    def start(self) -> None:
        """Begin to ask."""
        threading.Thread(target=self._run, name="preemption", daemon=True).start()

    def close(self) -> None:
        """Stop asking."""
        self._closed.set()

    def _run(self) -> None:
        failures, known = 0, False
        wait = False
        while not self._closed.is_set():
            began = time.monotonic()
            try:
                preempted = ask(wait=wait)
            except (OSError, ValueError, http.client.HTTPException) as error:
                failures += 1
                if not known and failures >= _TRIES:
                    self._log.info("no metadata server (%s): not on Google", error)
                    return
                self._closed.wait(_PAUSE_S)
                continue
            failures, known = 0, True
            if preempted:
                self.preempting = True
                self._log.warning("this VM is being preempted")
                self._on_preempted()
                return
            if wait and time.monotonic() - began < 0.1:
                # A server that does not hold the question must not be asked in a circle.
                self._closed.wait(1.0)
            wait = True


def ask(*, wait: bool) -> bool:
    """Whether this VM is being preempted; with `wait` the answer comes when it changes.

    Raises:
        OSError: Nobody answers.
        ValueError: The answer is not one of a metadata server.
    """
    host = os.environ.get("GCE_METADATA_HOST") or _HOST
    query = f"?wait_for_change=true&timeout_sec={_LONGEST_WAIT_S - 10:.0f}" if wait else ""
    connection = http.client.HTTPConnection(host, timeout=_LONGEST_WAIT_S if wait else 3.0)
    try:
        connection.request("GET", _PATH + query, headers={"Metadata-Flavor": "Google"})
        answer = connection.getresponse()
        text = answer.read(64).decode("ascii", "replace").strip().upper()
    finally:
        connection.close()
    if answer.status != 200 or text not in ("TRUE", "FALSE"):
        raise ValueError(f"the metadata server answered {answer.status} {text[:20]!r}")
    return text == "TRUE"
