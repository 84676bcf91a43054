"""Every setting, its default and its meaning. Environment variables have the fields' names in upper case."""

from __future__ import annotations

import os
from dataclasses import dataclass, fields
from functools import cached_property
from pathlib import Path
from typing import Any, Final, Literal
from urllib.parse import quote, urlencode

from pydantic import Field
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from schemas.durations import DURATION_MAX_S
from schemas.errors import BadSetting
from schemas.templates import EXPRESSION_BYTES_MAX

SECRET_BYTES_MAX: Final = 64 * 1024


def secret() -> Any:
    """A setting that is shown nowhere. NAME may also be given as NAME_FILE, a file that holds it."""
    return Field("", repr=False, json_schema_extra={"secret": True})


@dataclass(frozen=True, slots=True)
class Topics:
    """Names of the six topics under one prefix."""

    definitions: str
    trigger: str
    events: str
    completed: str
    rejected: str
    keys: str

    @classmethod
    def named(cls, prefix: str) -> Topics:
        return cls(*(f"{prefix}workflow.{field.name}" for field in fields(cls)))


class Settings(BaseSettings):
    """What a process is told from outside; frozen, read once at its start."""

    model_config = SettingsConfigDict(frozen=True, extra="ignore", env_file=None, hide_input_in_errors=True)

    storage_backend: Literal["memory", "filesystem", "postgres"] = "postgres"
    storage_path: Path = Path(".workflow/store")
    kafka_bootstrap_servers: str = "127.0.0.1:9092"
    kafka_consumer_group: str = "workflow-workers"
    kafka_security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    kafka_sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "SCRAM-SHA-512"
    kafka_sasl_username: str = ""
    kafka_sasl_password: str = secret()
    kafka_ssl_cafile: str = ""
    kafka_ssl_certfile: str = ""
    kafka_ssl_keyfile: str = ""
    kafka_ssl_password: str = secret()
    kafka_ssl_check_hostname: bool = True
    postgres_host: str = "127.0.0.1"
    postgres_port: int = Field(5433, ge=1, le=65535)
    postgres_user: str = "workflow"
    postgres_password: str = secret()
    postgres_db: str = "workflow"
    postgres_sslmode: Literal["disable", "allow", "prefer", "require", "verify-ca", "verify-full"] = "prefer"
    postgres_sslrootcert: str = ""
    postgres_sslcert: str = ""
    postgres_sslkey: str = ""
    api_host: str = "127.0.0.1"
    api_port: int = Field(8001, ge=0, le=65535)
    webhook_allow: str = ""
    webhook_proxy: str = Field("", repr=False)
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    log_format: Literal["json", "text"] = "text"

    workflow_home: Path = Path(".workflow")
    workflow_url: str = "http://127.0.0.1:8001"
    workflow_api_key: str = secret()
    workflow_auth: Literal["auto", "keys", "off"] = "auto"
    workflow_rate_limit: int = Field(0, ge=0, description="requests per second and key; 0 is no limit")
    workflow_cors_origins: str = Field("", description="origins whose pages may call the API, joined by commas")
    workflow_health_host: str = "127.0.0.1"
    workflow_health_port: int = Field(
        0, ge=0, le=65535, description="port of a worker's or projector's /health and /ready; 0 takes a free one"
    )
    workflow_topic_prefix: str = Field("", pattern=r"\A[A-Za-z0-9._-]{0,80}\z")
    workflow_partitions: int = Field(
        8, ge=1, le=1024, description="partitions of commands and events; fixed once the topics exist"
    )
    workflow_replication_factor: int = Field(1, ge=1)
    workflow_projector_group: str = "workflow-projectors"
    workflow_session_timeout_s: float = Field(6.0, ge=1)
    workflow_heartbeat_s: float = Field(2.0, gt=0)
    workflow_append_timeout_s: float = Field(
        10.0, gt=0, description="an append not read back by then is unknown: the partition is taken anew"
    )
    workflow_send_timeout_s: float = Field(10.0, gt=0, description="bound of a send by the API")
    workflow_watchdog_s: float = Field(
        60.0, gt=0, description="a partition that has records and does not move for so long ends the process"
    )
    workflow_stop_grace_s: float = Field(10.0, gt=0)
    workflow_effects_max: int = Field(500, ge=1, description="step effects running at once in one worker")
    workflow_held_commands_max: int = Field(
        10_000, ge=1, description="commands held per partition before its intake is paused"
    )
    workflow_definition_wait_s: float = Field(30.0, ge=0)
    workflow_step_timeout_s: float = Field(30.0, gt=0, description="default timeout of one webhook attempt")
    workflow_secrets_dir: str = ""
    workflow_projector_batch_max: int = Field(20_000, ge=1)
    workflow_rebuild_helps: bool = Field(True, description="whether a projector lends a process to each rebuild")
    workflow_verify_share: float = Field(
        0.02, ge=0, le=1, description="share of a projector's time in which it verifies its partitions; 0 is none"
    )
    workflow_command_retention_days: float = Field(7.0, ge=0)

    workflow_body_bytes_max: int = Field(900_000, ge=1024)
    workflow_batch_bytes_max: int = Field(64 * 1024 * 1024, ge=1024)
    workflow_json_depth_max: int = Field(32, ge=2, le=200)
    workflow_payload_bytes_max: int = Field(512 * 1024, ge=2)
    workflow_definition_bytes_max: int = Field(256 * 1024, ge=256)
    workflow_result_bytes_max: int = Field(256 * 1024, ge=256, description="bytes of one step's result")
    workflow_result_overflow: Literal["fail", "cut"] = "fail"
    workflow_record_bytes_max: int = Field(1_000_000, ge=64 * 1024, description="bytes of one Kafka record")
    workflow_steps_max: int = Field(200, ge=1)
    workflow_name_chars_max: int = Field(200, ge=1, le=200)
    workflow_description_chars_max: int = Field(10_000, ge=0, le=10_000)
    workflow_delay_max_s: float = Field(DURATION_MAX_S, ge=0, le=DURATION_MAX_S)
    workflow_expression_bytes_max: int = Field(4_096, ge=16, le=EXPRESSION_BYTES_MAX)
    workflow_expression_timeout_s: float = Field(5.0, gt=0, description="of the expressions of one step together")
    workflow_expression_values_bytes_max: int = Field(1_000_000, ge=1024, description="values of one step together")
    workflow_batch_items_max: int = Field(10_000, ge=1)
    workflow_pending_runs_max: int = Field(1_000_000, ge=0)
    workflow_page_items_max: int = Field(500, ge=1)
    workflow_position_wait_s: float = Field(10.0, ge=0, description="longest wait of a read for its min_position")

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - none is read
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003 - none is read
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """What is handed in, then NAME, then NAME_FILE."""
        return init_settings, env_settings, SecretFiles(settings_cls)

    @cached_property
    def topics(self) -> Topics:
        return Topics.named(self.workflow_topic_prefix)

    @property
    def postgres_dsn(self) -> str:
        """How every connection to PostgreSQL is made. It holds the password."""
        user, secret = quote(self.postgres_user, safe=""), quote(self.postgres_password, safe="")
        login = f"{user}:{secret}" if secret else user
        tls = {
            "sslmode": self.postgres_sslmode,
            "sslrootcert": self.postgres_sslrootcert,
            "sslcert": self.postgres_sslcert,
            "sslkey": self.postgres_sslkey,
        }
        query = urlencode({name: value for name, value in tls.items() if value})
        where = f"{self.postgres_host}:{self.postgres_port}/{quote(self.postgres_db, safe='')}"
        return f"postgresql://{login}@{where}?{query}"


def secret_names() -> frozenset[str]:
    """Fields that are secrets."""
    return frozenset(name for name, field in Settings.model_fields.items() if is_secret(field))


def is_secret(field: FieldInfo) -> bool:
    return isinstance(field.json_schema_extra, dict) and field.json_schema_extra.get("secret") is True


class SecretFiles(PydanticBaseSettingsSource):
    """Secrets from the files that variables of the form NAME_FILE name."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        """Raises BadSetting for a file that cannot be read."""
        name = field_name.upper()
        path = os.environ.get(f"{name}_FILE") if is_secret(field) and name not in os.environ else None
        return (_content(f"{name}_FILE", path) if path else None), field_name, False

    def __call__(self) -> dict[str, Any]:
        found = {name: self.get_field_value(field, name)[0] for name, field in Settings.model_fields.items()}
        return {name: value for name, value in found.items() if value is not None}


def _content(variable: str, path: str) -> str:
    """The text of a file, without the line break at its end that editors leave."""
    try:
        with Path(path).open("rb") as file:
            content = file.read(SECRET_BYTES_MAX + 1)
        text = content.decode()
    except OSError as error:
        raise BadSetting(name=variable, value=path, reason=f"the file cannot be read ({error.strerror})") from None
    except UnicodeDecodeError:
        raise BadSetting(name=variable, value=path, reason="the file is no text in UTF-8") from None
    if len(content) > SECRET_BYTES_MAX:
        raise BadSetting(name=variable, value=path, reason=f"the file has more than {SECRET_BYTES_MAX} bytes")
    return text.rstrip("\r\n")
