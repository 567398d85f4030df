"""Tells the control plane how this body is, and hears whether it is fenced.

A thread of its own: a slow or dead control plane never holds up anything else. Only the newest state
is sent; a failed post is simply followed by the next beat.
"""

from __future__ import annotations

import json
import logging
import threading
import time
import urllib.error
import urllib.request
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

    from dumont.agent.config import HeartbeatConfig

_TIMEOUT_S = 5.0
_LONGEST_ANSWER = 65536
_POKE_GAP_S = 0.2
"""However often the state changes, posts are this far apart."""


class Heartbeat:
    """Posts the newest state every `every_s` seconds and at once when poked.

    Attributes:
        last_acknowledged: Monotonic time of the last beat that was answered with `ok`; None: none
            since this worker started.
        last_error: Why the last post failed; empty when it did not.
    """

    def __init__(
        self,
        *,
        config: HeartbeatConfig | None,
        identity: Callable[[], dict[str, Any]],
        host: Callable[[], dict[str, Any]],
        fenced: threading.Event,
        log: logging.Logger,
    ) -> None:
        self._config = config
        self._identity = identity
        self._host = host
        self._fenced = fenced
        self._log = log
        self._state: dict[str, Any] = {}
        self._lock = threading.Lock()
        self._wake = threading.Event()
        self._closed = False
        # Larger than any number of an earlier worker, which posted at most a few beats a second.
        self._sequence = int(time.time())
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirects())
        self.last_acknowledged: float | None = None
        self.on_acknowledged: Callable[[], None] | None = None
        self.last_error = ""

    def set(self, state: dict[str, Any]) -> None:
        """Merge `state` into what the next beat says."""
        with self._lock:
            self._state.update(state)

    def poke(self) -> None:
        """Beat now."""
        self._wake.set()

    def configure(self, config: HeartbeatConfig | None) -> None:
        """Use another address from the next beat on."""
        self._config = config
        self.poke()

    def start(self) -> None:
        """Begin to beat."""
        threading.Thread(target=self._run, name="heartbeat", daemon=True).start()

    def close(self) -> None:
        """Stop beating."""
        self._closed = True
        self.poke()

    def _run(self) -> None:
        while not self._closed:
            config = self._config
            if config is not None:
                try:
                    self._beat(config)
                except Exception:
                    self._log.exception("heartbeat")
                time.sleep(_POKE_GAP_S)
            self._wake.wait(config.every_s if config is not None else 60.0)
            self._wake.clear()

    def _beat(self, config: HeartbeatConfig) -> None:
        host = self._host()
        with self._lock:
            self._sequence += 1
            body = {**self._identity(), "sequence": self._sequence, **self._state, "host": host}
        from dumont.agent.context import timestamp

        body["sent_at"] = timestamp()
        try:
            answer = self._post(config, body)
        except (OSError, ValueError) as error:
            if str(error) != self.last_error:
                self._log.warning("heartbeat: %s", error)
            self.last_error = str(error)
            return
        if self.last_error:
            self._log.info("heartbeat: heard again")
        self.last_error = ""
        if answer.get("ok") is True:
            self.last_acknowledged = time.monotonic()
            if self.on_acknowledged is not None:
                self.on_acknowledged()
        if answer.get("fenced") is True and not self._fenced.is_set():
            self._log.warning("the control plane says that this body is fenced")
            self._fenced.set()

    def _post(self, config: HeartbeatConfig, body: dict[str, Any]) -> dict[str, Any]:
        request = urllib.request.Request(  # noqa: S310
            config.url,
            data=json.dumps(body).encode(),
            headers={
                "Authorization": "Bearer " + config.token,
                "Content-Type": "application/json",
            },
            method="POST",
        )
        with self._opener.open(request, timeout=_TIMEOUT_S) as response:
            answer = json.loads(response.read(_LONGEST_ANSWER))
        if not isinstance(answer, dict):
            raise ValueError("the answer to a heartbeat is no object")
        return answer


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    """The token goes to the address that was configured, and nowhere else."""

    def redirect_request(self, *_: Any) -> None:
        """Follow none."""
        return
