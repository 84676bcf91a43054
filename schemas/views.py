"""What people are shown of a run: the API's bodies, made of the fold."""

from __future__ import annotations

from typing import Any, Final, Literal, TypedDict

from schemas.run import Run

Status = Literal["PENDING", "RUNNING", "SUCCESS", "FAILED", "CANCELLED"]
STATUSES: Final[tuple[Status, ...]] = ("PENDING", "RUNNING", "SUCCESS", "FAILED", "CANCELLED")


class StepView(TypedDict):
    """A step as it stands. `due_at`: when a delay ends or the next attempt begins."""

    name: str
    type: str
    status: Literal["PENDING", "RUNNING", "RETRYING", "SUCCESS", "FAILED", "CANCELLED"]
    attempts: int
    started_at: str | None
    finished_at: str | None
    due_at: str | None


class RunView(TypedDict):
    """A run as `GET /api/v1/runs/{id}` answers it, except `position`, which the store adds."""

    run_id: str
    workflow_id: str
    version: int | None
    status: Status
    payload: Any
    results: dict[str, Any]
    error: dict[str, Any] | None
    steps: list[StepView]
    created_at: str
    started_at: str | None
    finished_at: str | None
    seq: int
    set_aside: str | None


def steps_of(run: Run) -> list[StepView]:
    """All steps of the definition, those not reached yet included."""
    return [_step(run, index) for index in range(len(run.plan.steps))]


def _step(run: Run, index: int) -> StepView:
    step = run.plan.steps[index]
    attempts, started, finished = run.times[index] if index < len(run.times) else (0, None, None)
    current = index == run.pc and run.phase != "done"
    return {
        "name": step.name,
        "type": step.type,
        "status": _status(run, index, step.name),
        "attempts": attempts,
        "started_at": started,
        "finished_at": finished,
        "due_at": run.until if current else None,
    }


def _status(
    run: Run, index: int, name: str
) -> Literal["PENDING", "RUNNING", "RETRYING", "SUCCESS", "FAILED", "CANCELLED"]:
    if name in run.outputs:
        return "SUCCESS"
    if index >= len(run.times):
        return "PENDING"
    if run.status == "CANCELLED":
        return "CANCELLED"
    if run.phase in ("failed", "done"):
        return "FAILED"
    return "RETRYING" if run.phase == "retrying" else "RUNNING"


def run_view(run: Run) -> RunView:
    """The body of a run."""
    return {
        "run_id": run.id,
        "workflow_id": run.workflow_id,
        "version": run.version,
        "status": run.status,
        "payload": run.payload,
        "results": run.outputs,
        "error": run.error if run.status in ("FAILED", "CANCELLED") or run.phase in ("retrying", "failed") else None,
        "steps": steps_of(run),
        "created_at": run.created_at,
        "started_at": run.started_at,
        "finished_at": run.finished_at,
        "seq": run.seq,
        "set_aside": run.set_aside,
    }
