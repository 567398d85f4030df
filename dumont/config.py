"""Every option of the product: name, type, meaning, default. `.env.example` is made from this.

Settings are read once, in a process's `main()`, and passed down. Nothing else reads the environment.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from dumont.domain.labels import prefix
from dumont.domain.machine import Timing


class Settings(BaseSettings):
    """Read from environment variables (and a `.env` file beside the process); see each field."""

    model_config = SettingsConfigDict(
        env_file=".env", env_prefix="DUMONT_", extra="ignore", frozen=True, populate_by_name=True
    )

    env: str = Field(default="prod", description="Name of this deployment; part of every label.")
    vast_api_key: SecretStr | None = Field(
        default=None, validation_alias="VAST_API_KEY", description="Vast.ai API key."
    )
    vast_url: str = Field(
        default="https://console.vast.ai",
        validation_alias="VAST_URL",
        description="Vast.ai's API, without path.",
    )
    gcp_credentials: Annotated[dict[str, Any] | None, NoDecode] = Field(
        default=None,
        validation_alias="GCP_CREDENTIALS",
        description="Google service account: its JSON, or the path of its file.",
        repr=False,
    )
    gcp_url: str | None = Field(
        default=None,
        validation_alias="GCP_URL",
        description="Another Compute endpoint than Google's, if any.",
    )
    gcp_project: str | None = Field(
        default=None,
        validation_alias="GCP_PROJECT",
        description="Google project; the service account's own when unset.",
    )
    gcp_prices_url: str | None = Field(
        default=None,
        description="Google's Cloud Billing Catalog, without path, for the prices of standbys; GCP_URL "
        "when unset. Without either, and without GCP_PRICES_KEY, they come from a dated list.",
    )
    gcp_prices_key: SecretStr | None = Field(
        default=None,
        validation_alias="GCP_PRICES_KEY",
        description="Google API key that may read the Cloud Billing Catalog.",
    )
    storage_usd_per_gb_month: float | None = Field(
        default=None,
        ge=0,
        description="What the object store costs, $ per GB and month. When unset the ledger shows its "
        "cost as unknown, never as zero.",
    )
    database_url: SecretStr = Field(
        default=SecretStr("postgresql://dumont@127.0.0.1:5432/dumont"),
        validation_alias="DATABASE_URL",
        description="PostgreSQL, as a postgresql:// URL.",
    )
    temporal_address: str = Field(
        default="127.0.0.1:7233",
        validation_alias="TEMPORAL_ADDRESS",
        description="host:port of Temporal's frontend.",
    )
    temporal_namespace: str = Field(
        default="default", validation_alias="TEMPORAL_NAMESPACE", description="Temporal namespace."
    )
    temporal_ui_url: str | None = Field(
        default=None,
        validation_alias="TEMPORAL_UI_URL",
        description="Temporal's Web UI, for links from machines.",
    )
    s3_url: str | None = Field(
        default=None, validation_alias="S3_ENDPOINT_URL", description="S3-compatible store."
    )
    s3_bucket: str = Field(
        default="dumont", validation_alias="S3_BUCKET", description="Bucket for snapshots."
    )
    s3_access_key_id: str | None = Field(
        default=None, validation_alias="AWS_ACCESS_KEY_ID", description="Key id of the store."
    )
    s3_secret_access_key: SecretStr | None = Field(
        default=None, validation_alias="AWS_SECRET_ACCESS_KEY", description="Secret of the store."
    )
    s3_region: str = Field(
        default="us-east-1", validation_alias="AWS_REGION", description="Region of the store."
    )
    s3_machines_url: str | None = Field(
        default=None,
        description="Where rented machines reach the store; S3_ENDPOINT_URL when unset.",
    )
    s3_lending: Literal["sts", "b2", "r2"] = Field(
        default="sts",
        description="Who makes the credentials that rented machines get, for their owner's prefix and "
        "for hours: a token service (Amazon's, MinIO's, SeaweedFS's, Ceph's), Backblaze's application "
        "keys, or Cloudflare's API.",
    )
    sts_url: str | None = Field(
        default=None,
        validation_alias="STS_ENDPOINT_URL",
        description="The token service, where it is not at S3_ENDPOINT_URL: "
        "https://sts.REGION.amazonaws.com for Amazon.",
    )
    s3_role_arn: str | None = Field(
        default=None,
        description="The role that is lent, narrowed to one prefix; Amazon needs one.",
    )
    r2_account_id: str | None = Field(
        default=None, validation_alias="R2_ACCOUNT_ID", description="Cloudflare account of R2."
    )
    r2_api_token: SecretStr | None = Field(
        default=None,
        validation_alias="R2_API_TOKEN",
        description="Cloudflare API token that may edit R2, for its temporary credentials.",
    )
    state_dir: Path = Field(
        default=Path(".dumont"),
        description="Where keys are kept and, for the embedded stack, all state and logs.",
    )
    keys_file: Path | None = Field(
        default=None,
        description="File of the encryption keys; `<state_dir>/keys.json` when unset. Made at the "
        "first start, never overwritten. Without it nothing stored can be read: back it up.",
    )
    api_host: str = Field(default="127.0.0.1", description="Address the API listens on.")
    api_port: int = Field(default=8766, ge=0, le=65535, description="Port of API and dashboard.")
    api_url: str = Field(
        default="http://127.0.0.1:8766",
        description="Where people reach the API (links, CORS, the command line's default).",
    )
    owner_email: str = Field(
        default="owner@dumont.local",
        description="Log-in name of the owner that the first start creates.",
    )
    owner_password: SecretStr | None = Field(
        default=None,
        description="The first owner's password; a random one is made and printed when unset.",
    )
    access_token_s: int = Field(default=900, ge=30, description="Life of an access token, seconds.")
    refresh_token_s: int = Field(
        default=30 * 86400, ge=60, description="Life of a refresh token, seconds."
    )
    web_dir: Path = Field(
        default=Path(__file__).resolve().parent.parent / "web" / "dist",
        description="The built dashboard.",
    )
    fleet_poll_s: float = Field(
        default=5.0, gt=0, description="Seconds between two listings of a provider account."
    )
    reconcile_every_s: float = Field(
        default=60.0, gt=0, description="Seconds between two sweeps for forgotten instances."
    )
    create_window_s: float = Field(
        default=900.0,
        gt=0,
        description="How long after its first sighting an instance without a live owner may still "
        "belong to a create that is under way.",
    )
    gone_confirm_s: float = Field(
        default=30.0,
        gt=0,
        description="Two empty listings this far apart prove that an instance is gone.",
    )
    end_leftovers: bool = Field(
        default=True,
        description="Whether sweeps end what costs money without a machine: detached disks, unused "
        "addresses, stopped instances and schedules that the database and Temporal both say nobody "
        "owns. `false` finds and shows them only. The sweep over instances is not affected.",
    )
    standby_provider: Literal["gcp", "none"] | None = Field(
        default=None,
        description="Cloud that standbys are rented from; `gcp` where GCP_CREDENTIALS is set, when "
        "this is not. The API's process needs to know it without the credentials.",
    )
    standby_zone: str = Field(
        default="us-central1-a",
        description="Zone of a standby whose machine's place is unknown.",
    )
    agent_api_url: str | None = Field(
        default=None,
        description="Where rented machines reach the API for their heartbeats; `DUMONT_API_URL` when "
        "unset. Failover works without it, and is noticed later by us.",
    )
    rescue_s: float = Field(
        default=900.0,
        ge=0,
        description="How long a former GPU instance is kept for files that only it has, after another "
        "has taken its place.",
    )
    failback_idle_s: float = Field(
        default=30.0,
        ge=0,
        description="Nobody typed or wrote on the standby for this long: the address may return to "
        "the GPU.",
    )
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = Field(
        default="INFO", description="Least severe log line."
    )
    log_format: Literal["json", "console"] = Field(
        default="console", description="How log lines look."
    )

    @field_validator("env")
    @classmethod
    def _env(cls, value: str) -> str:
        prefix(env=value)
        return value

    @field_validator(
        "vast_url", "api_url", "gcp_url", "temporal_ui_url", "s3_url", "s3_machines_url", "sts_url",
        "agent_api_url", "gcp_prices_url",
    )  # fmt: skip
    @classmethod
    def _url(cls, value: str | None) -> str | None:
        if value is None or value == "":
            return None
        if not value.startswith(("http://", "https://")):
            raise ValueError(f"must start with http:// or https://, not {value!r}")
        return value.rstrip("/")

    @field_validator(
        "gcp_project", "agent_api_url", "s3_machines_url", "sts_url", "s3_role_arn", "r2_account_id",
        "r2_api_token", "gcp_prices_url", "gcp_prices_key", mode="before",
    )  # fmt: skip
    @classmethod
    def _unset(cls, value: Any) -> Any:
        """An empty variable, as compose files pass it on, is one that is not set."""
        return value or None

    @field_validator("storage_usd_per_gb_month", mode="before")
    @classmethod
    def _no_price(cls, value: Any) -> Any:
        """Zero is a price; an empty variable is none."""
        return None if value == "" else value

    @field_validator("gcp_credentials", mode="before")
    @classmethod
    def _credentials(cls, value: Any) -> Any:
        """Accept the JSON itself or the path of a file that holds it."""
        if not isinstance(value, str):
            return value
        text = value.strip()
        if not text:
            return None
        if not text.startswith("{"):
            path = Path(text).expanduser()
            if not path.is_file():
                raise ValueError(f"neither JSON nor an existing file: {text!r}")
            text = path.read_text()
        try:
            return json.loads(text)
        except json.JSONDecodeError as error:
            raise ValueError(f"not valid JSON: {error}") from None

    @property
    def has_standbys(self) -> bool:
        """Whether machines of this deployment can be protected."""
        if self.standby_provider is not None:
            return self.standby_provider != "none"
        return self.gcp_credentials is not None

    @property
    def timing(self) -> Timing:
        """How patient the workflows of machines are."""
        return Timing(
            gone_confirm_s=self.gone_confirm_s,
            rescue_s=self.rescue_s,
            idle_s=self.failback_idle_s,
        )

    @property
    def keys_path(self) -> Path:
        """Where the encryption keys are."""
        return self.keys_file or self.state_dir / "keys.json"
