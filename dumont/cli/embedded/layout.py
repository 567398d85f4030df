"""What the parts of one stack have to know of each other: ports, addresses, environment."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from dumont.cli.embedded.environment import clean_environment
from dumont.cli.embedded.state import StateDir
from dumont.config import Settings

PORTS: Mapping[str, int | None] = {
    "api": 8766,
    "temporal": 7233,
    "temporal_ui": 8233,
    "control": 8770,
    "vast": None,
    "gcp": None,
    "postgres": None,
    "worker_health": None,
    "temporal_http": None,
    "temporal_metrics": None,
    "s3": 8333,
    "s3_grpc": None,
    "s3_master": None,
    "s3_master_grpc": None,
    "s3_volume": None,
    "s3_volume_grpc": None,
    "s3_filer": None,
    "s3_filer_grpc": None,
}
"""Every port of a stack and the one people expect, where they expect one."""


@dataclass(frozen=True, kw_only=True)
class Layout:
    """One stack on this machine."""

    state: StateDir
    ports: Mapping[str, int]
    env: Mapping[str, str]
    """What every process gets: this process's environment without the product's own variables."""
    owner_email: str
    owner_password: str
    api_host: str = "127.0.0.1"
    public_url: str | None = None
    """Where people reach the API, if not at `api_local_url`."""
    temporal_namespace: str = "default"
    s3_bucket: str = "dumont"

    @property
    def api_local_url(self) -> str:
        """API and dashboard, from this machine."""
        host = "127.0.0.1" if self.api_host in ("0.0.0.0", "::", "") else self.api_host  # noqa: S104
        return f"http://{host}:{self.ports['api']}"

    @property
    def api_url(self) -> str:
        """API and dashboard, for people."""
        return self.public_url or self.api_local_url

    @property
    def temporal_ui_url(self) -> str:
        """Temporal's Web UI."""
        return f"http://127.0.0.1:{self.ports['temporal_ui']}"

    @property
    def control_url(self) -> str:
        """The built-in cloud's control page."""
        return f"http://127.0.0.1:{self.ports['control']}"

    @property
    def s3_url(self) -> str:
        """The object store."""
        return f"http://127.0.0.1:{self.ports['s3']}"

    @property
    def s3_key(self) -> tuple[str, str]:
        """Key id and secret of the object store."""
        return "dumont", self.state.secret("s3")


def make_layout(*, state: StateDir, settings: Settings | None) -> Layout:
    """Lay a stack out on its state directory.

    Args:
        state: The locked directory.
        settings: The user's configuration; None for a demo.
    """
    given = Settings.model_construct() if settings is None else settings
    password = given.owner_password
    return Layout(
        state=state,
        ports=state.ports({**PORTS, "api": given.api_port or PORTS["api"]}),
        env=clean_environment(),
        owner_email=given.owner_email,
        owner_password=password.get_secret_value() if password else state.owner_password(),
        api_host=given.api_host,
        public_url=given.api_url if "api_url" in given.model_fields_set else None,
        temporal_namespace=given.temporal_namespace,
        s3_bucket=given.s3_bucket,
    )
