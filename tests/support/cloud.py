"""simcloud as a subprocess: start it, ask it, hurt it, stop it.

    with SimCloud.started(tmp_path) as cloud:
        cloud.vast_url, cloud.vast_key, cloud.gcp_url, cloud.project
        cloud.control.add_fault("hang_after", operation="asks.create", times=1)

A test folder that wants one cloud for all its tests writes a session fixture around it.
"""

from __future__ import annotations

import contextlib
import json
import selectors
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx

ROOT = Path(__file__).parents[2]


class Control:
    """simcloud's control API; see docs/simcloud.md for what each call does."""

    def __init__(self, url: str) -> None:
        self._http = httpx.Client(base_url=url, timeout=30)

    def get(self, path: str, **query: Any) -> Any:
        return self._answer(self._http.get(path, params=query))

    def post(self, path: str, **body: Any) -> Any:
        return self._answer(self._http.post(path, json=body))

    def put(self, path: str, **body: Any) -> Any:
        return self._answer(self._http.put(path, json=body))

    def delete(self, path: str) -> Any:
        return self._answer(self._http.delete(path))

    def add_fault(self, effect: str, **rule: Any) -> str:
        """Put a fault rule into force and return its id."""
        return str(self.post("/faults", effect=effect, **rule)["id"])

    def clear_faults(self) -> None:
        self.delete("/faults")

    def requests(self, operation: str | None = None, provider: str | None = None) -> list[Any]:
        """Recent requests, oldest first."""
        wanted = {"operation": operation, "provider": provider}
        query = {key: value for key, value in wanted.items() if value is not None}
        return list(self.get("/requests", **query)["requests"])

    def totals(self) -> Any:
        """provider -> operation -> status -> count."""
        return self.get("/requests/totals")

    def reset_requests(self) -> None:
        self.delete("/requests")

    def advance(self, seconds: float) -> None:
        """Move the virtual clock (billing, contracts) forward."""
        self.post("/clock", advance=seconds)

    def machine(self, name: str, action: str) -> None:
        """`kill`, `freeze` or `thaw` a machine (`vast-<id>`, `gcp-...`)."""
        self.post(f"/machines/{name}/{action}")

    def vast(self, instance: int | str, action: str, **body: Any) -> Any:
        """Do something to a Vast instance: `outbid`, `resume`, `host-offline`, ..."""
        return self.post(f"/vast/instances/{instance}/{action}", **body)

    def knobs(self, **values: Any) -> Any:
        """Change Vast's named knobs."""
        return self.put("/vast/knobs", **values)

    def close(self) -> None:
        self._http.close()

    @staticmethod
    def _answer(response: httpx.Response) -> Any:
        assert response.is_success, f"{response.request.url}: {response.text}"
        return response.json()


class SimCloud:
    """One simcloud process over one state directory."""

    vast_url: str
    vast_key: str
    gcp_url: str
    control_url: str
    project: str
    summary: dict[str, Any]
    control: Control

    def __init__(self, state: Path, *arguments: str) -> None:
        self.state = state
        self.arguments = list(arguments)
        self._process: subprocess.Popen[str] | None = None

    @classmethod
    @contextlib.contextmanager
    def started(cls, state: Path, *arguments: str) -> Iterator[SimCloud]:
        """Start with extra command line `arguments`; stop at the end."""
        cloud = cls(state, *arguments)
        cloud.start()
        try:
            yield cloud
        finally:
            cloud.stop()

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def log(self) -> str:
        """What simcloud wrote to stderr so far, all starts together."""
        return (self.state / "stderr.log").read_text()

    def start(self, *, timeout_s: float = 30) -> None:
        """Start it and wait for its start line."""
        assert self._process is None, "already started"
        self.state.mkdir(parents=True, exist_ok=True)
        with (self.state / "stderr.log").open("a") as log:
            self._process = subprocess.Popen(
                [
                    sys.executable,
                    *("-m", "simcloud", "--state", str(self.state), "--json"),
                    *self.arguments,
                ],
                cwd=ROOT,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
            )
        line = self._first_line(timeout_s)
        if not line:
            self._reap()
            raise AssertionError(f"simcloud did not start:\n{self.log}")
        self.summary = json.loads(line)
        self.vast_url = self.summary["vast_url"]
        self.vast_key = self.summary["vast_api_key"]
        self.gcp_url = self.summary["gcp_url"]
        self.control_url = self.summary["control_url"]
        self.project = self.summary["project"]
        self.control = Control(self.control_url)

    def stop(self) -> int:
        """Stop it in an orderly way and return its exit code."""
        if self._process is None:
            return 0
        self._process.terminate()
        return self._reap()

    def kill(self) -> None:
        """SIGKILL it."""
        assert self._process is not None
        self._process.kill()
        self._reap()

    def restart(self, *, kill: bool = False) -> None:
        """End it (orderly or not) and start it again on the same state and ports."""
        ports = [
            f"--{name}-port={httpx.URL(getattr(self, name + '_url')).port}"
            for name in ("vast", "gcp", "control")
        ]
        if kill:
            self.kill()
        else:
            self.stop()
        kept = [each for each in self.arguments if "-port" not in each]
        self.arguments = [*kept, *ports]
        self.start()

    def vast(self, **options: Any) -> httpx.Client:
        """An HTTP client for Vast's API with the account's key."""
        return httpx.Client(
            base_url=self.vast_url,
            headers={"Authorization": f"Bearer {self.vast_key}"},
            timeout=options.pop("timeout", 30),
            **options,
        )

    def _first_line(self, timeout_s: float) -> str:
        assert self._process is not None
        assert self._process.stdout is not None
        deadline = time.monotonic() + timeout_s
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            if not selector.select(max(0.0, deadline - time.monotonic())):
                self._process.kill()
                return ""
        return self._process.stdout.readline()

    def _reap(self) -> int:
        assert self._process is not None
        try:
            code = self._process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            raise
        finally:
            if self._process.stdout is not None:
                self._process.stdout.close()
            self._process = None
            if hasattr(self, "control"):
                self.control.close()
        return code
