"""What a workflow is: its steps, their configs, retry and timeout. Checked once at the edge; the log carries the checked form."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, field_validator, model_validator

from schemas import durations, templates, webhooks
from schemas.identity import SECRET_NAME, STEP_NAME, WORKFLOW_ID

Name = Annotated[str, StringConstraints(min_length=1, max_length=200)]
Template = Annotated[str, StringConstraints(pattern=r"\$\{")]
STEPS_MAX = 200


def _duration(value: object) -> object:
    """A duration is kept as it was written; a text with `${` is known only when the step starts."""
    if isinstance(value, str) and "${" in value:
        return value
    if not isinstance(value, int | float | str) or isinstance(value, bool):
        raise ValueError(  # noqa: TRY004 - pydantic wants it
            'a duration is a number of seconds or a text such as "50ms", "2s", "1d"'
        )
    durations.seconds(value)
    return value


def _without_secrets(value: str) -> str:
    if templates.secrets(value):
        raise ValueError("a secret cannot stand here, only in url, headers and body of a webhook")
    return value


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class RetryPolicy(_Frozen):
    """Attempts of a step that fails in a way that may pass. Interrupted attempts are not counted."""

    max_attempts: int = Field(5, ge=1, le=1000)
    initial: int | float | str = Field(1, description="wait before the second attempt")
    factor: float = Field(2.0, ge=1, le=100)
    max: int | float | str = Field(60, description="longest wait between two attempts")

    @field_validator("initial", "max", mode="before")
    @classmethod
    def _durations(cls, value: object) -> object:
        if isinstance(value, str) and "${" in value:
            raise ValueError("an expression cannot stand here")
        return _duration(value)


class DelayConfig(_Frozen):
    """Wait for `duration`, seconds or a text such as "50ms", "2s", "1d", or an expression that gives one."""

    duration: int | float | str

    @field_validator("duration", mode="before")
    @classmethod
    def _known(cls, value: object) -> object:
        return _without_secrets(value) if isinstance(value, str) and "${" in value else _duration(value)


class WebhookConfig(_Frozen):
    """Call `url`. Any text but `sign_with` may hold expressions `${ … }`, and any but `method` references to secrets."""

    url: str = Field(min_length=1, max_length=8192)
    method: str = Field("POST", min_length=1, max_length=4096)
    headers: dict[str, str] = Field(default_factory=dict, max_length=webhooks.HEADERS_MAX)
    body: Any = None
    sign_with: str | None = Field(None, description="the secret with which requests are signed, by Standard Webhooks")

    @field_validator("url")
    @classmethod
    def _http(cls, value: str) -> str:
        problem = None if "${" in value else webhooks.url_problem(value)
        if problem is not None:
            raise ValueError(problem)
        return value

    @field_validator("method")
    @classmethod
    def _verb(cls, value: str) -> str:
        if "${" in value:
            return _without_secrets(value)
        if value.upper() not in webhooks.METHODS:
            raise ValueError(f"one of {', '.join(webhooks.METHODS)} is needed")
        return value

    @field_validator("headers")
    @classmethod
    def _sendable(cls, value: dict[str, str]) -> dict[str, str]:
        for name, text in value.items():
            problem = webhooks.header_problem(name, "" if "${" in text else text)
            if problem is not None:
                raise ValueError(f"{name[:100]!r}: {problem}")
        return value

    @field_validator("sign_with")
    @classmethod
    def _secret(cls, value: str | None) -> str | None:
        if value is not None and not SECRET_NAME.match(value):
            raise ValueError("the name of a secret is a letter or _ and then up to 63 letters, digits or _")
        return value


class _Step(_Frozen):
    name: str = Field(max_length=64)

    @field_validator("name")
    @classmethod
    def _sound(cls, value: str) -> str:
        if not STEP_NAME.match(value):
            raise ValueError("a step's name is a letter or _ and then up to 63 letters, digits, _ or -")
        return value

    @model_validator(mode="before")
    @classmethod
    def _lift(cls, data: Any) -> Any:
        """`retry` and `timeout` may be written in the config as well; they are kept beside it."""
        if not isinstance(data, dict) or not isinstance(data.get("config"), dict):
            return data
        lifted = {key: data["config"][key] for key in ("retry", "timeout") if key in data["config"]}
        twice = sorted(key for key in lifted if key in data)
        if twice:
            raise ValueError(f"{twice[0]} is given twice: at the step and in its config")
        if not lifted:
            return data
        return {**data, **lifted, "config": {k: v for k, v in data["config"].items() if k not in lifted}}


class DelayStep(_Step):
    """A step that waits."""

    type: Literal["delay"]
    config: DelayConfig


class WebhookStep(_Step):
    """A step that calls a URL."""

    type: Literal["webhook"]
    config: WebhookConfig
    retry: RetryPolicy = RetryPolicy()
    timeout: int | float | str | None = None

    @field_validator("timeout", mode="before")
    @classmethod
    def _positive(cls, value: object) -> object:
        if value is None:
            return None
        if isinstance(value, str) and "${" in value:
            raise ValueError("an expression cannot stand here")
        if durations.seconds(_duration(value)) <= 0:
            raise ValueError("a timeout is longer than 0")
        return value


Step = Annotated[DelayStep | WebhookStep, Field(discriminator="type")]


def _workflow_id(value: str) -> str:
    if not WORKFLOW_ID.match(value):
        raise ValueError("an id is a letter or digit and then up to 127 letters, digits, dots, _ or -")
    return value


class Definition(_Frozen):
    """A workflow as it runs: its steps, one after the other."""

    id: str
    name: Name
    description: str = Field("", max_length=10_000)
    steps: tuple[Step, ...] = Field(min_length=1, max_length=STEPS_MAX)

    @field_validator("id")
    @classmethod
    def _sound(cls, value: str) -> str:
        return _workflow_id(value)

    @field_validator("steps")
    @classmethod
    def _distinct(cls, value: tuple[DelayStep | WebhookStep, ...]) -> tuple[DelayStep | WebhookStep, ...]:
        names = [step.name for step in value]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"two steps are named {', '.join(map(repr, twice))}")
        return value

    @model_validator(mode="after")
    def _readable_templates(self) -> Definition:
        for step in self.steps:
            templates.expressions(step.config.model_dump())
        return self

    def dump(self) -> dict[str, Any]:
        """The plain form that the log carries: only what was given or has no default."""
        return self.model_dump(mode="json", exclude_defaults=True) | {"description": self.description}


class NewDefinition(Definition):
    """A definition as it is posted: without an id it gets one made of its name."""

    id: str = ""

    @field_validator("id")
    @classmethod
    def _sound(cls, value: str) -> str:
        return value if value == "" else _workflow_id(value)
