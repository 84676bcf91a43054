"""docker-compose.yml: sound, complete, and told of nothing that the platform does not know."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pytest
from ruamel.yaml import YAML

from schemas.settings import Settings

ROOT: Final = Path(__file__).parents[2]
OWN: Final = ("workflow", "worker", "projector")
SERVERS: Final = ("kafka", "workflow_db")
SETTINGS: Final = {name.upper(): field for name, field in Settings.model_fields.items()}
COMPOSE_ONLY: Final = {"DOCKER_TARGET", "KAFKA_PORT", "KAFKA_LOG_FLUSH_INTERVAL_MESSAGES"}
_UNITS_S: Final = {"s": 1, "m": 60}


def compose() -> dict[str, Any]:
    loaded: dict[str, Any] = YAML(typ="safe").load(ROOT / "docker-compose.yml")
    return loaded


def services() -> dict[str, dict[str, Any]]:
    found: dict[str, dict[str, Any]] = compose()["services"]
    return found


def interpolated() -> dict[str, str]:
    """The variables that the file asks for, with the defaults it gives them."""
    return dict(re.findall(r"\$\{([A-Z_]+):-([^}]*)\}", (ROOT / "docker-compose.yml").read_text()))


def example() -> dict[str, str]:
    lines = (ROOT / ".env.example").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def seconds(duration: str) -> int:
    return int(duration[:-1]) * _UNITS_S[duration[-1]]


def test_the_file_follows_the_compose_specification() -> None:
    """A checker with the specification's schema takes it."""
    checker = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    done = subprocess.run([*checker, "docker-compose.yml"], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_services_are_the_promised_ones() -> None:
    """Names and ports that scripts rely on."""
    assert set(services()) == {*OWN, *SERVERS}
    assert {name: service.get("ports", []) for name, service in services().items()} == {
        "workflow": ["127.0.0.1:${API_PORT:-8001}:8001"],
        "workflow_db": ["127.0.0.1:${POSTGRES_PORT:-5433}:5432"],
        "kafka": ["127.0.0.1:${KAFKA_PORT:-9092}:9092"],
        "worker": [],
        "projector": [],
    }
    assert {service["image"].partition(":")[0] for service in services().values()} == {
        "workflow-platform",
        "postgres",
        "apache/kafka",
    }
    assert services()["workflow_db"]["image"] == "postgres:16"


def test_workers_can_be_scaled() -> None:
    """Nothing of a worker is there only once: no fixed name, no port of this machine."""
    worker = services()["worker"]
    assert not {"container_name", "ports", "hostname"} & worker.keys()


@pytest.mark.parametrize("name", [*OWN, *SERVERS])
def test_a_service_is_watched_and_ends_well(name: str) -> None:
    """Health check with a start period, restart, a grace to stop in, bounded logs."""
    service = services()[name]
    check = service["healthcheck"]
    assert check["test"][0] in {"CMD", "CMD-SHELL"}
    assert seconds(check["start_period"]) >= 60
    assert seconds(check["timeout"]) < seconds(check["interval"])
    assert service["restart"] == "unless-stopped"
    assert seconds(service["stop_grace_period"]) >= Settings.model_fields["workflow_stop_grace_s"].default + 10
    assert {"max-size", "max-file"} <= service["logging"]["options"].keys()


@pytest.mark.parametrize("name", OWN)
def test_own_services_start_in_order(name: str) -> None:
    """They wait until both servers say that they are healthy."""
    assert services()[name]["depends_on"] == {server: {"condition": "service_healthy"} for server in SERVERS}


@pytest.mark.parametrize("name", OWN)
def test_own_services_are_unprivileged(name: str) -> None:
    """No capabilities, no way to get any, a first process that reaps, and nothing to write to but memory and the volume."""
    service = services()[name]
    assert service["read_only"] is True
    assert all({"noexec", "nosuid", "nodev"} <= set(re.split("[:,]", place)) for place in service["tmpfs"])
    assert service["tmpfs"][0].partition(":")[0] == "/tmp"  # noqa: S108 - that is its name there
    assert [volume.partition(":")[2] for volume in service["volumes"]] == ["/var/lib/workflow"]
    assert service["init"] is True
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]


@pytest.mark.parametrize("name", OWN)
def test_own_services_are_told_settings_that_exist(name: str) -> None:
    """Each variable is a setting, and together they are settings that can be used."""
    told = services()[name]["environment"]
    assert told.keys() <= SETTINGS.keys()
    assert "WORKFLOW_HOME" not in told  # it names an embedded platform, which no container has
    plain = {key: re.sub(r"\$\{[A-Z_]+:-([^}]*)\}", r"\1", value) for key, value in told.items()}
    settings = Settings.model_validate({key.lower(): value for key, value in plain.items()})
    assert settings.api_host == "0.0.0.0"  # noqa: S104 - inside a container
    assert settings.kafka_bootstrap_servers in services()["kafka"]["environment"]["KAFKA_ADVERTISED_LISTENERS"]
    assert settings.postgres_host in services()


def test_volumes_are_named_and_used() -> None:
    """Data outlives a container: each server's folder and the store's are named volumes, and no volume is idle."""
    used = {volume.partition(":")[0] for service in services().values() for volume in service["volumes"]}
    assert used == compose()["volumes"].keys()
    assert "kafka_data:" + services()["kafka"]["environment"]["KAFKA_LOG_DIRS"] in services()["kafka"]["volumes"]


def test_the_example_names_every_variable_with_its_default() -> None:
    """.env.example and the file agree; what is a setting has the setting's default."""
    assert interpolated().keys() <= example().keys()
    assert {name: example()[name] for name in interpolated()} == interpolated()
    assert example().keys() <= SETTINGS.keys() | COMPOSE_ONLY
    differ = {name for name in example().keys() & SETTINGS.keys() if example()[name] != str(SETTINGS[name].default)}
    # A server needs a password, containers log JSON, and the API listens beyond its container's loopback.
    assert differ == {"POSTGRES_PASSWORD", "LOG_FORMAT", "WORKFLOW_AUTH"}


def test_the_tests_can_be_run_in_the_service() -> None:
    """`docker compose run --rm workflow poetry run pytest …`: the default image of `workflow` is the one with the tests."""
    workflow = services()["workflow"]
    assert workflow["build"]["target"] == "${DOCKER_TARGET:-dev}"
    assert "entrypoint" not in workflow
    assert any(place.startswith("/home/workflow:uid=10001") for place in workflow["tmpfs"])
    assert {services()[name]["build"]["target"] for name in ("worker", "projector")} == {"runtime"}
