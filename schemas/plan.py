"""A definition prepared for running: durations as seconds, expressions found. Shared by all runs of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import orjson

from schemas import durations, templates

PLANS_MAX: Final = 10_000
ATTEMPTS, INITIAL, FACTOR, LONGEST = 5, 1, 2.0, 60


@dataclass(frozen=True, slots=True)
class StepPlan:
    """A step: `expressions` are the distinct sources in its config; `delay_s` is set when a delay needs none.

    With `secrets`, the names that its config refers to, the config is a template still when the step is carried out.
    """

    name: str
    type: str
    config: dict[str, Any]
    expressions: tuple[str, ...]
    secrets: tuple[str, ...]
    delay_s: float | None
    timeout_s: float | None
    max_attempts: int
    initial_s: float
    factor: float
    max_s: float


@dataclass(frozen=True, slots=True)
class Plan:
    """`definition` is the plain dict as the log carries it, null for a run that was refused at once."""

    definition: dict[str, Any] | None
    steps: tuple[StepPlan, ...]


_EMPTY: Final = Plan(None, ())
_plans: dict[bytes, Plan] = {}
"""A cache by the definition's JSON: equal definitions share one plan, and so one copy in memory."""


def plan_of(definition: dict[str, Any] | None) -> Plan:
    """The plan of a definition, the same object for equal ones.

    ValueError / KeyError / TypeError / AttributeError where it is none.
    """
    if definition is None:
        return _EMPTY
    key = orjson.dumps(definition)
    plan = _plans.get(key)
    if plan is None:
        if len(_plans) >= PLANS_MAX:
            _plans.clear()
        plan = _plans[key] = Plan(definition, tuple(_step(step) for step in definition["steps"]))
    return plan


def _step(step: dict[str, Any]) -> StepPlan:
    config, retry, timeout = step["config"], step.get("retry", {}), step.get("timeout")
    if not isinstance(step["name"], str) or not isinstance(step["type"], str):
        raise TypeError("name and type of a step are texts")
    sources, secrets = templates.expressions(config), templates.secrets(config)
    return StepPlan(
        name=step["name"],
        type=step["type"],
        config=config if sources or secrets else templates.render(config, {}),  # type: ignore[arg-type]
        expressions=sources,
        secrets=secrets,
        delay_s=durations.seconds(config["duration"]) if step["type"] == "delay" and not sources else None,
        timeout_s=None if timeout is None else durations.seconds(timeout),
        max_attempts=retry.get("max_attempts", ATTEMPTS),
        initial_s=durations.seconds(retry.get("initial", INITIAL)),
        factor=retry.get("factor", FACTOR),
        max_s=durations.seconds(retry.get("max", LONGEST)),
    )
