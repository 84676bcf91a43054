"""What of a posted definition goes past a bound that a setting names. What is no bound's matter is passed over."""

from __future__ import annotations

from collections.abc import Iterator

from api.errors import FieldError
from schemas import durations
from schemas.jsontext import JSON
from schemas.settings import Settings


def bound_errors(body: JSON, settings: Settings) -> Iterator[FieldError]:
    """One error for each text, number of steps or length of time that is over its bound."""
    if not isinstance(body, dict):
        return
    yield from _name("/name", body.get("name"), settings)
    yield from _name("/id", body.get("id"), settings)
    description, chars_max = body.get("description"), settings.workflow_description_chars_max
    if isinstance(description, str) and len(description) > chars_max:
        yield _too_long("/description", description, chars_max, "WORKFLOW_DESCRIPTION_CHARS_MAX")
    steps = body.get("steps")
    if not isinstance(steps, list):
        return
    if len(steps) > settings.workflow_steps_max:
        detail = f"{len(steps)} steps; at most {settings.workflow_steps_max} (setting WORKFLOW_STEPS_MAX)"
        yield FieldError("/steps", "too_many", detail, settings.workflow_steps_max)
    for index, step in enumerate(steps):
        if isinstance(step, dict):
            yield from _name(f"/steps/{index}/name", step.get("name"), settings)
            yield from _waits(f"/steps/{index}", step, settings.workflow_delay_max_s)


def _name(pointer: str, name: JSON, settings: Settings) -> Iterator[FieldError]:
    if isinstance(name, str) and len(name) > settings.workflow_name_chars_max:
        yield _too_long(pointer, name, settings.workflow_name_chars_max, "WORKFLOW_NAME_CHARS_MAX")


def _waits(pointer: str, step: dict[str, JSON], delay_max_s: float) -> Iterator[FieldError]:
    """Of a delay, and between two attempts; those that an expression gives are judged when the step starts."""
    config = step.get("config")
    if isinstance(config, dict):
        yield from _wait(f"{pointer}/config/duration", config.get("duration"), delay_max_s)
        yield from _retry(f"{pointer}/config/retry", config.get("retry"), delay_max_s)
    yield from _retry(f"{pointer}/retry", step.get("retry"), delay_max_s)


def _retry(pointer: str, retry: JSON, delay_max_s: float) -> Iterator[FieldError]:
    if isinstance(retry, dict):
        for name in ("initial", "max"):
            yield from _wait(f"{pointer}/{name}", retry.get(name), delay_max_s)


def _wait(pointer: str, written: JSON, delay_max_s: float) -> Iterator[FieldError]:
    try:
        wait_s = durations.seconds(written)
    except ValueError:
        return
    if wait_s > delay_max_s:
        detail = f"{written} is longer than {delay_max_s:.15g} s (setting WORKFLOW_DELAY_MAX_S)"
        yield FieldError(pointer, "too_long", detail, delay_max_s)


def _too_long(pointer: str, text: str, chars_max: int, setting: str) -> FieldError:
    detail = f"{len(text)} characters; at most {chars_max} (setting {setting})"
    return FieldError(pointer, "string_too_long", detail, chars_max)
