"""Values of the expressions in a step's config: at once where that is cheap, in a process of their own where it may not be."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from schemas.jsontext import JSON
from schemas.run import Run
from streams.decider import ExpressionFault
from streams.expressions import LIGHT_WORK_MAX, ExpressionFailed, evaluate, heavy
from streams.expressions_apart import ApartEvaluator


class RunEvaluator:
    """Evaluates over `payload`, `steps.<name>.output` and `run` of a run as it stands."""

    def __init__(self, apart: ApartEvaluator) -> None:
        self._apart = apart
        self._light_max = min(LIGHT_WORK_MAX, apart.values_bytes_max)

    def now(self, run: Run, expressions: Sequence[str]) -> Mapping[str, Any] | None:
        """The values, None when they may take long."""
        roots = _roots(run)
        return None if heavy(expressions, roots, self._light_max) else _faults(evaluate(expressions, roots))

    async def later(self, run: Run, expressions: Sequence[str]) -> Mapping[str, Any]:
        """The values, within the evaluator's deadline."""
        return _faults(await self._apart.evaluate(expressions, _roots(run)))

    async def close(self) -> None:
        await self._apart.close()


def _roots(run: Run) -> dict[str, JSON]:
    return {
        "payload": run.payload,
        "steps": {name: {"output": output} for name, output in run.outputs.items()},
        "run": {
            "id": run.id,
            "workflow_id": run.workflow_id,
            "version": run.version,
            "created_at": run.created_at,
            "started_at": run.started_at,
        },
    }


def _faults(values: Mapping[str, JSON | ExpressionFailed]) -> dict[str, Any]:
    return {
        source: ExpressionFault(source=source, reason=value.message) if isinstance(value, ExpressionFailed) else value
        for source, value in values.items()
    }
