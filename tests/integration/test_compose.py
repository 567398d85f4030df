"""The production compose file says what it should; Docker Compose itself is the parser."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from dumont.config import Settings
from dumont.temporal import queues
from tests.support import compose
from tests.support.binaries import binary

OURS = ("migrate", "worker-control", "worker-provider-vast", "worker-provider-gcp", "api")
JOBS = ("temporal-schema", "temporal-namespace", "migrate")

# Read by the image's entry point or configuration template, at the pinned version. Sources: the
# official image of PostgreSQL; temporalio/temporal (config template, entry point, tools/sql);
# temporalio/ui (server/config/docker.yaml); SeaweedFS (weed help s3); temporal --help.
IMAGE_VARIABLES = {
    "postgres": {"POSTGRES_PASSWORD", "POSTGRES_USER", "POSTGRES_DB", "PGDATA"},
    "temporalio/server": {
        "DB", "DB_PORT", "POSTGRES_SEEDS", "POSTGRES_USER", "POSTGRES_PWD", "BIND_ON_IP",
        "NUM_HISTORY_SHARDS", "DYNAMIC_CONFIG_FILE_PATH", "LOG_LEVEL", "SQL_MAX_CONNS",
    },
    "temporalio/admin-tools": {
        "SQL_PLUGIN", "SQL_HOST", "SQL_PORT", "SQL_USER", "SQL_PASSWORD",
        "TEMPORAL_ADDRESS", "TEMPORAL_NAMESPACE",
    },
    "temporalio/ui": {
        "TEMPORAL_ADDRESS", "TEMPORAL_DEFAULT_NAMESPACE", "TEMPORAL_CORS_ORIGINS",
        "TEMPORAL_CODEC_ENDPOINT", "TEMPORAL_CODEC_INCLUDE_CREDENTIALS",
        "TEMPORAL_NOTIFY_ON_NEW_VERSION",
    },
    "chrislusf/seaweedfs": {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"},
}  # fmt: skip

DEPRECATED = ("temporalio/auto-setup", "temporalio/web", "temporalio/tctl", "bitnami/")


@pytest.fixture(scope="module")
def model() -> dict[str, Any]:
    return compose.load()


@pytest.fixture(scope="module")
def services(model: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = model["services"]
    return found


def settings_variables() -> set[str]:
    prefix = Settings.model_config["env_prefix"]
    return {
        str(field.validation_alias or f"{prefix}{name.upper()}")
        for name, field in Settings.model_fields.items()
    }


def scripts_of(service: dict[str, Any]) -> list[Path]:
    mounts = (Path(m["source"]) for m in service.get("volumes", []) if m["type"] == "bind")
    return [path for path in mounts if path.suffix == ".sh"]


@pytest.mark.parametrize("missing", sorted(compose.REQUIRED))
def test_a_missing_required_variable_is_named(missing: str) -> None:
    result = compose.run_config({k: v for k, v in compose.REQUIRED.items() if k != missing})
    assert result.returncode != 0
    assert f"set {missing} in .env" in result.stderr


def test_no_secret_has_a_default() -> None:
    secret = re.compile(r"PASSWORD|SECRET|_KEY|TOKEN")
    for name, forms in compose.variables().items():
        if secret.search(name):
            assert forms == {"?"}, f"{name} must be required wherever it is used"


def test_the_example_file_documents_every_variable_and_no_other() -> None:
    documented = set(re.findall(r"^#?([A-Z_0-9]+)=", compose.ENV_EXAMPLE.read_text(), re.M))
    used = set(compose.variables()) - {"COMPOSE_PROJECT_NAME"}
    assert documented == used | {"DUMONT_OWNER_PASSWORD", "GCP_PRICES_KEY"}
    required = set(re.findall(r"^([A-Z_0-9]+)=$", compose.ENV_EXAMPLE.read_text(), re.M))
    assert required == set(compose.REQUIRED)


def test_the_example_file_states_the_true_defaults() -> None:
    for name, value in re.findall(r"^#([A-Z_0-9]+)=(.+)$", compose.ENV_EXAMPLE.read_text(), re.M):
        assert value == compose.default_of(name), name


@pytest.mark.parametrize("name", OURS)
def test_every_variable_of_our_services_is_an_option_of_the_product(
    services: dict[str, Any], name: str
) -> None:
    assert set(services[name]["environment"]) <= settings_variables()


def test_our_services_settings_are_valid(
    services: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in OURS:
        with monkeypatch.context() as patch:
            for variable in settings_variables():
                patch.delenv(variable, raising=False)
            for variable, value in services[name]["environment"].items():
                if value is not None:
                    patch.setenv(variable, value)
            settings = Settings(_env_file=None)
        assert settings.temporal_address == "temporal:7233"
        assert settings.database_url.get_secret_value().endswith("@postgres:5432/dumont")


def test_every_variable_of_other_images_is_read_by_them(services: dict[str, Any]) -> None:
    for name, service in services.items():
        image = service["image"].rsplit(":", 1)[0]
        if name in OURS:
            continue
        ours = " ".join(path.read_text() for path in scripts_of(service))
        read_by_script = set(re.findall(r"\$\{?([A-Z_]+)", ours))
        unknown = set(service["environment"]) - IMAGE_VARIABLES[image] - read_by_script
        assert not unknown, f"{name}: {unknown}"


def test_images_are_pinned_and_none_is_deprecated(services: dict[str, Any]) -> None:
    for name, service in services.items():
        image, _, tag = service["image"].rpartition(":")
        assert not image.startswith(DEPRECATED), f"{name}: {image}"
        if "build" in service:
            assert name in OURS
        else:
            assert re.fullmatch(r"\d+(\.\d+)+", tag), f"{name}: {service['image']} is not pinned"
    tools = {
        s["image"].rpartition(":")[2] for s in services.values() if "admin-tools" in s["image"]
    }
    assert tools == {services["temporal"]["image"].rpartition(":")[2]}


def test_512_history_shards_from_the_first_day(services: dict[str, Any]) -> None:
    assert services["temporal"]["environment"]["NUM_HISTORY_SHARDS"] == "512"


def test_temporals_dynamic_config_is_mounted_where_the_server_looks(
    services: dict[str, Any],
) -> None:
    temporal = services["temporal"]
    (mount,) = temporal["volumes"]
    assert mount["target"] == temporal["environment"]["DYNAMIC_CONFIG_FILE_PATH"]
    for key, values in yaml.safe_load(Path(mount["source"]).read_text()).items():
        assert [set(v) for v in values] == [{"value"}], key


def test_what_is_waited_for_can_be_reached(services: dict[str, Any]) -> None:
    for name, service in services.items():
        for other, how in service.get("depends_on", {}).items():
            if how["condition"] == "service_healthy":
                assert services[other]["healthcheck"]["test"], f"{name} waits for {other}"
            else:
                assert how["condition"] == "service_completed_successfully"
                assert other in JOBS, f"{name} waits for the end of {other}"
    for name, service in services.items():
        if name in JOBS:
            assert service["restart"].startswith("on-failure"), f"{name} would run for ever"
        else:
            assert service["restart"] == "unless-stopped"
            assert "healthcheck" in service or name == "temporal-ui"


def test_workers_and_api_start_on_a_migrated_database_and_a_namespace(
    services: dict[str, Any],
) -> None:
    for name in OURS:
        waits = services[name]["depends_on"]
        if name == "migrate":
            assert waits["postgres"]["condition"] == "service_healthy"
        else:
            assert {"migrate", "temporal-namespace"} <= set(waits)


def test_every_queue_has_one_service_and_provider_queues_one_process(
    services: dict[str, Any],
) -> None:
    polled: list[str] = []
    for name, service in services.items():
        if not name.startswith("worker-"):
            continue
        command = service["command"]
        roles = command[command.index("--roles") + 1].split(",")
        polled += roles
        if any(role.startswith("provider-") for role in roles):
            # Compose refuses to scale a service whose container has a fixed name.
            assert service["container_name"]
            assert service.get("deploy", {}).get("replicas", 1) == 1
        else:
            assert "container_name" not in service
            assert service["deploy"]["replicas"] >= 2
    assert sorted(polled) == sorted(queues.ALL)


def test_a_providers_key_reaches_only_its_own_worker(services: dict[str, Any]) -> None:
    key = compose.REQUIRED["VAST_API_KEY"]
    holders = {n for n, s in services.items() if key in str(s["environment"])}
    assert holders == {"worker-provider-vast"}


def test_each_tenant_of_postgres_knows_its_own_password_alone(services: dict[str, Any]) -> None:
    secrets = {k: v for k, v in compose.REQUIRED.items() if k.endswith("PASSWORD")}
    allowed = {
        "POSTGRES_PASSWORD": {"postgres"},
        "TEMPORAL_DB_PASSWORD": {"postgres", "temporal-schema", "temporal"},
        "DUMONT_DB_PASSWORD": {"postgres", *OURS},
    }
    for variable, value in secrets.items():
        holders = {n for n, s in services.items() if value in str(s["environment"])}
        assert holders == allowed[variable]


def test_nothing_listens_beyond_loopback_by_default(
    model: dict[str, Any], services: dict[str, Any]
) -> None:
    published = {n: s["ports"] for n, s in services.items() if s.get("ports")}
    assert set(published) == {"api", "temporal-ui"}
    for name, ports in published.items():
        assert [p["host_ip"] for p in ports] == ["127.0.0.1"], name
    assert model["networks"]["backend"]["internal"] is True
    for name in ("postgres", "temporal", "s3"):
        assert set(services[name]["networks"]) == {"backend"}


def test_api_replicas_can_have_a_range_of_ports() -> None:
    ranged = compose.load({**compose.REQUIRED, "DUMONT_API_PORTS": "8766-8773"})
    assert ranged["services"]["api"]["ports"][0]["published"] == "8766-8773"


def test_our_containers_have_no_privileges_and_write_only_to_volumes(
    services: dict[str, Any],
) -> None:
    for name in OURS:
        service = services[name]
        assert service["read_only"] is True
        assert service["cap_drop"] == ["ALL"]
        assert "no-new-privileges:true" in service["security_opt"]
        assert service["environment"]["DUMONT_STATE_DIR"] in {
            volume["target"] for volume in service["volumes"]
        }


def test_every_volume_is_used_and_every_mounted_file_exists(
    model: dict[str, Any], services: dict[str, Any]
) -> None:
    mounts = [m for s in services.values() for m in s.get("volumes", [])]
    assert {m["source"] for m in mounts if m["type"] == "volume"} == set(model["volumes"])
    for mount in mounts:
        if mount["type"] == "bind":
            assert mount["read_only"] is True
            assert Path(mount["source"]).is_file()
    for service in services.values():
        for script in scripts_of(service):
            assert os.access(script, os.X_OK), script
            assert script.read_text().startswith("#!/bin/sh\n"), "the images have no bash"
            subprocess.run(["sh", "-n", script], check=True)


def test_postgres_18_data_is_on_the_volume(services: dict[str, Any]) -> None:
    """Since 18 the official image keeps its data in /var/lib/postgresql/18/docker."""
    (volume,) = [m for m in services["postgres"]["volumes"] if m["type"] == "volume"]
    assert volume["target"] == "/var/lib/postgresql"


def test_postgres_has_room_for_everybody(services: dict[str, Any]) -> None:
    temporal = 4 * (20 + 10)  # its four parts, each with its defaults for both databases
    limit = dict(option.split("=") for option in services["postgres"]["command"] if "=" in option)[
        "max_connections"
    ]
    assert int(limit) >= 2 * temporal


def test_the_image_builds_from_files_that_exist_and_runs_as_nobody_special() -> None:
    text = compose.DOCKERFILE.read_text()
    for sources in re.findall(r"^COPY (?!--from)(.+) \S+$", text, re.M):
        for source in sources.split():
            assert (compose.ROOT / source).exists(), source
    users = re.findall(r"^USER (.+)$", text, re.M)
    assert users == ["10001"], "the last stage runs as root"
    for image in re.findall(r"^FROM (\S+)", text, re.M):
        assert re.search(r":\d+\.\d+\.\d+-", image), f"{image} is not pinned"
    lint = subprocess.run(
        [binary("hadolint"), compose.DOCKERFILE], capture_output=True, text=True, check=False
    )
    assert lint.returncode == 0, lint.stdout


def test_the_builder_is_sent_nothing_but_what_the_image_takes() -> None:
    ignore = (compose.DOCKERFILE.with_name("Dockerfile.dockerignore")).read_text().splitlines()
    sent = {line[1:] for line in ignore if line.startswith("!")}
    assert "*" in ignore
    assert sent == compose.built_from() | {"web"}
