"""What carrying out a step came to: the engine's input from outside."""

from __future__ import annotations

from dataclasses import dataclass

from schemas.jsontext import JSON


@dataclass(frozen=True, slots=True)
class EffectSucceeded:
    """The attempt ended well; `output` becomes the step's output."""

    output: JSON


@dataclass(frozen=True, slots=True)
class EffectFailed:
    """The attempt failed.

    `error` has `code` and `message`, and `details` where they help. `retryable`: it may pass by itself.
    `retry_after_s`: the receiver asked not to be called again sooner.
    """

    error: dict[str, JSON]
    retryable: bool
    retry_after_s: float | None = None


EffectResult = EffectSucceeded | EffectFailed
