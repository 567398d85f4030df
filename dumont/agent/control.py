"""Requests to the running daemon, over a unix socket in its private run folder.

One request a connection, newline-terminated JSON both ways:

    -> {"command": "flush", "arguments": {"timeout": 30}}
    <- {"progress": "copying 3 files"}          any number of these
    <- {"result": {...}}                         or {"error": "...", "code": "..."}

The daemon's parts serve commands with `Control.register`; the command line asks with `call`.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import socket
import threading
import time
from typing import Any, Callable, Dict

from dumont.agent.errors import AgentError
from dumont.agent.paths import Paths

Say = Callable[[str], None]
"""Sends a line of progress to whoever asked; never fails."""
Handler = Callable[[Dict[str, Any], Say], Dict[str, Any]]
"""Gets the arguments; returns the result or raises AgentError. Runs in a thread of its own, several
at a time."""

_LONGEST_REQUEST = 1 << 20
_SETTLING_S = 3.0


class Control:
    """The daemon's end."""

    def __init__(self, *, paths: Paths, log: logging.Logger) -> None:
        self._paths = paths
        self._log = log
        self._handlers: dict[str, Handler] = {}
        self._listener: socket.socket | None = None
        self._began = time.monotonic()

    def register(self, name: str, handler: Handler) -> None:
        """Serve `name` from now on."""
        self._handlers[name] = handler

    def start(self) -> None:
        """Listen. A socket left over by a daemon that died is replaced."""
        path = str(self._paths.control_socket)
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listener.bind(path)
        listener.listen(32)
        self._listener = listener
        threading.Thread(target=self._accept, name="control", daemon=True).start()

    def close(self) -> None:
        """Stop listening, so that callers learn at once that nobody answers."""
        if self._listener is not None:
            with contextlib.suppress(OSError):
                os.unlink(str(self._paths.control_socket))
            self._listener.close()

    def _accept(self) -> None:
        listener = self._listener
        while listener is not None:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _find(self, command: str) -> Handler | None:
        """The handler; a role that has just been started may be about to register it."""
        while command not in self._handlers and time.monotonic() - self._began < _SETTLING_S:
            time.sleep(0.02)
        return self._handlers.get(command)

    def _serve(self, connection: socket.socket) -> None:
        def send(document: dict[str, Any]) -> None:
            with contextlib.suppress(OSError):
                connection.sendall(json.dumps(document).encode() + b"\n")

        with connection:
            try:
                connection.settimeout(10)
                with connection.makefile("rb") as file:
                    request = json.loads(file.readline(_LONGEST_REQUEST))
                command, arguments = request["command"], request.get("arguments") or {}
            except (OSError, ValueError, KeyError, TypeError) as error:
                send(AgentError(f"bad request: {error}", code="invalid").document())
                return
            handler = self._find(command)
            if handler is None:
                message = f"this daemon does not serve {command}"
                send(AgentError(message, code="unknown_command").document())
                return
            try:
                result = handler(arguments, lambda line: send({"progress": line}))
                send({"result": result})
            except AgentError as error:
                send(error.document())
            except Exception as error:
                self._log.exception("command %s", command)
                send(AgentError(f"{type(error).__name__}: {error}").document())


def call(
    paths: Paths,
    command: str,
    arguments: dict[str, Any] | None = None,
    *,
    timeout_s: float | None = 60.0,
    progress: Say | None = None,
) -> dict[str, Any]:
    """Ask the running daemon.

    Args:
        paths: Whose daemon.
        command: A registered name.
        arguments: What the handler gets.
        timeout_s: Longest silence to bear; None waits for ever.
        progress: Called with each line of progress.

    Raises:
        AgentError: What the handler raised; or code `not_running` or `timeout`.
    """
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
        connection.settimeout(timeout_s)
        try:
            connection.connect(str(paths.control_socket))
        except OSError:
            raise AgentError("the daemon does not run", code="not_running") from None
        request = {"command": command, "arguments": arguments or {}}
        try:
            connection.sendall(json.dumps(request).encode() + b"\n")
            with connection.makefile("rb") as file:
                for line in file:
                    answer = json.loads(line)
                    if "progress" in answer:
                        if progress is not None:
                            progress(answer["progress"])
                    elif "error" in answer:
                        raise AgentError(answer["error"], code=answer.get("code", "failed"))
                    else:
                        result: dict[str, Any] = answer["result"]
                        return result
        except socket.timeout:
            raise AgentError("the daemon did not answer in time", code="timeout") from None
        except OSError as error:
            raise AgentError(f"the daemon ended: {error}", code="not_running") from None
    raise AgentError("the daemon ended before it answered", code="not_running")
