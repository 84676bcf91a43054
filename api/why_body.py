"""The shape of the answer to why a run is where it is."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from api.bodies import Body, Position


class WorkerBody(Body):
    """The member of the workers' group that has a partition, by the broker's word."""

    state: Literal["owned", "none", "moving", "unknown"] = Field(
        description="none: no member has it; moving: the group is sharing out its partitions; unknown: the broker did not say"
    )
    member: str | None
    host: str | None
    detail: str | None = Field(description="why it is unknown")


class WhyBody(Body):
    """Why a run is where it is. Fields that are none of the code's are null."""

    run_id: str
    code: Literal[
        "finished",
        "set_aside",
        "command_waits",
        "definition_waits",
        "step_running",
        "delay",
        "retry",
        "deciding",
        "overdue",
        "no_worker",
        "tables_behind",
    ]
    reason: str = Field(description="the code and its fields as a sentence")
    status: str | None = Field(description="how it ended")
    step: str | None
    attempt: int | None = Field(description="that runs, or that comes next")
    max_attempts: int | None = Field(description="number of the last attempt that the step may have")
    since: str | None = Field(description="from when on it is so: RFC 3339")
    until: str | None = Field(description="when the delay or the wait ends, or the attempt has its timeout: RFC 3339")
    error: dict[str, Any] | None = Field(description="of the run, or of the last attempt that failed")
    next_event: str | None = Field(description="type of the event that is due", examples=["StepSucceeded"])
    before: int | None = Field(description="commands of its partition that come before its start")
    detail: str | None = Field(description="why it is set aside; the version that is not defined")
    partition: int
    worker: WorkerBody
    tables_behind: int | None = Field(
        description="records of the run's partition that the tables lack; null: not known"
    )
    position: str = Position
