"""The cloud in a box as a part: started by its contract, known by what it says about itself."""

from __future__ import annotations

import sys
from pathlib import Path

from pydantic import BaseModel, ValidationError

from dumont.cli.embedded.layout import Layout
from dumont.cli.embedded.servers import http_client
from dumont.cli.embedded.supervisor import Launch, Part
from dumont.domain.errors import DependencyUnavailable


class CloudLine(BaseModel):
    """What `python -m simcloud --json` says when it is ready."""

    vast_url: str
    gcp_url: str
    control_url: str
    vast_api_key: str
    project: str
    gcp_credentials: str | None = None
    """File of the service account's key, as one would download it from Google."""


class Cloud:
    """The cloud in a box: its process, and what it said about itself when it was ready."""

    def __init__(self, layout: Layout, *, boot_seconds: str | None) -> None:
        self._layout = layout
        self._folder = layout.state.folder("simcloud")
        self._said = self._folder / "ready.json"
        self._boot_seconds = boot_seconds
        self.line: CloudLine | None = None

    def parts(self) -> list[Part]:
        """The cloud, and what switches its machines on again at the start of a demo."""
        power_on = Part(name="machine-power", launch=self._power_on, needs=("simcloud",))
        return [self._server(), power_on]

    def _server(self) -> Part:
        return Part(name="simcloud", launch=self._launch, check=self._check, grace_s=10)

    async def _launch(self) -> Launch:
        state = self._folder / "state"
        command = [sys.executable, "-m", "simcloud", "--state", str(state), "--json"]
        for name in ("vast", "gcp", "control"):
            command += [f"--{name}-port", str(self._layout.ports[name])]
        if self._boot_seconds:
            command += ["--boot-seconds", self._boot_seconds]
        return Launch(command=command, env=self._layout.env, cwd=self._folder, stdout=self._said)

    async def _power_on(self) -> Launch:
        assert self.line is not None  # it starts after a successful check
        return Launch(
            command=[sys.executable, "-m", "dumont.cli.embedded.power_on"],
            env={
                **self._layout.env,
                "VAST_URL": self.line.vast_url,
                "VAST_API_KEY": self.line.vast_api_key,
            },
            cwd=self._folder,
        )

    async def _check(self) -> None:
        line = _read_line(self._said)
        # Any answer is one: it asks for a key, which is as it should be.
        async with http_client() as client:
            await client.get(line.vast_url)
        self.line = line


def _read_line(path: Path) -> CloudLine:
    try:
        return CloudLine.model_validate_json(path.read_text())
    except (FileNotFoundError, ValidationError):
        raise DependencyUnavailable("not ready yet", dependency="simcloud") from None
