"""What reaches the parts: everything they need, nothing that slipped in."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from dumont.cli.embedded.cloud import CloudLine
from dumont.cli.embedded.environment import (
    SERVER_FILE,
    clean_environment,
    read_server_settings,
    variable_names,
)
from dumont.cli.embedded.layout import make_layout
from dumont.cli.embedded.parts import product_env
from dumont.cli.embedded.state import StateDir
from dumont.config import Settings

CLOUD = CloudLine(
    vast_url="http://127.0.0.1:1",
    gcp_url="http://127.0.0.1:2",
    control_url="http://127.0.0.1:3",
    vast_api_key="simulated",
    project="demo-project",
)
OUR_NAMES = {name for names in variable_names().values() for name in names}


@pytest.fixture
def state(tmp_path: Path) -> Iterator[StateDir]:
    directory = StateDir(tmp_path / "state", mode="demo")
    yield directory
    directory.close()


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def settings_of(env: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Settings:
    with monkeypatch.context() as patch:
        for name in [name for names in variable_names().values() for name in names]:
            patch.delenv(name, raising=False)
        for name, value in env.items():
            patch.setenv(name, value)
        return Settings(_env_file=None)


def test_a_demo_never_sees_the_users_clouds(
    state: StateDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("VAST_API_KEY", "real-and-expensive")
    monkeypatch.setenv("GCP_PROJECT", "real-project")
    monkeypatch.setenv("S3_ENDPOINT_URL", "https://s3.real.example")
    layout = make_layout(state=state, settings=None)
    env = {**layout.env, **product_env(layout, settings=None, cloud=CLOUD)}
    assert not [name for name, value in env.items() if "real" in value and name in OUR_NAMES]
    settings = settings_of(env, monkeypatch)
    assert settings.vast_api_key
    assert settings.vast_api_key.get_secret_value() == "simulated"
    assert settings.vast_url == CLOUD.vast_url
    assert settings.gcp_project == "demo-project"
    assert settings.env == "demo"


def test_the_product_env_is_what_settings_reads(
    state: StateDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    layout = make_layout(state=state, settings=None)
    settings = settings_of(product_env(layout, settings=None, cloud=CLOUD), monkeypatch)
    assert settings.temporal_address == f"127.0.0.1:{layout.ports['temporal']}"
    assert settings.database_url.get_secret_value().endswith(f":{layout.ports['postgres']}/dumont")
    assert settings.api_url == layout.api_url
    assert settings.api_port == layout.ports["api"]
    assert settings.state_dir == state.path
    assert settings.s3_url == layout.s3_url
    assert settings.owner_password
    assert settings.owner_password.get_secret_value() == state.owner_password()


def test_serve_passes_on_what_the_user_configured(
    state: StateDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = settings_of(
        {
            "VAST_API_KEY": "mine",
            "GCP_CREDENTIALS": '{"project_id": "p"}',
            "DUMONT_FLEET_POLL_S": "7.5",
            "DUMONT_API_URL": "https://dumont.example",
            "DUMONT_OWNER_PASSWORD": "chosen",
        },
        monkeypatch,
    )
    layout = make_layout(state=state, settings=given)
    passed = settings_of(product_env(layout, settings=given, cloud=None), monkeypatch)
    assert passed.vast_api_key
    assert passed.vast_api_key.get_secret_value() == "mine"
    assert passed.gcp_credentials == {"project_id": "p"}
    assert passed.fleet_poll_s == 7.5
    assert passed.api_url == "https://dumont.example"
    assert passed.env == "prod"
    assert passed.owner_password
    assert passed.owner_password.get_secret_value() == "chosen"
    # Health checks still go to this machine, not around by the public address.
    assert layout.api_local_url == f"http://127.0.0.1:{layout.ports['api']}"


def test_every_setting_has_a_variable() -> None:
    names = variable_names()
    assert set(names) == set(Settings.model_fields)
    assert names["vast_api_key"] == ("VAST_API_KEY",)
    assert names["env"] == ("DUMONT_ENV",)


def test_the_clean_environment_keeps_what_is_not_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("VAST_API_KEY", "x")
    monkeypatch.setenv("SOMETHING_ELSE", "y")
    env = clean_environment()
    assert "VAST_API_KEY" not in env
    assert env["SOMETHING_ELSE"] == "y"


def test_the_configuration_can_be_read_again(
    state: StateDir, monkeypatch: pytest.MonkeyPatch
) -> None:
    layout = make_layout(state=state, settings=None)
    env = product_env(layout, settings=None, cloud=CLOUD)
    state.write(SERVER_FILE, json.dumps(env))
    assert read_server_settings(state.path) == settings_of(env, monkeypatch)
