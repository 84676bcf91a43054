"""The shapes of requests and answers, as OpenAPI shows them. Answers are made without these models; tests hold them to it."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from schemas.definitions import Definition
from schemas.keys import SCOPES, Scope
from schemas.views import Status

Position = Field(
    description="How far the log had got: opaque. Pass it as `min_position` to a read, and the read shows nothing older.",
    examples=["t3.18"],
)
Instant = Field(description="RFC 3339 in UTC", examples=["2026-01-31T09:30:00.000Z"])


class Body(BaseModel):
    """Fields that are not declared are refused."""

    model_config = ConfigDict(extra="forbid")


class FieldProblem(Body):
    """What is wrong at one place."""

    pointer: str = Field(
        description="RFC 6901 pointer into the body, or query/…, path/…, header/… and the parameter's name",
        examples=["/steps/0/name"],
    )
    code: str
    detail: str
    limit: int | float | None = Field(description="the bound that was passed")


class ProblemBody(Body):
    """RFC 9457 problem details."""

    type: str = Field(description="a page of this API: meaning, cause, fix", examples=["/problems/run_unknown"])
    title: str
    status: int
    detail: str
    code: str = Field(examples=["run_unknown"])
    request_id: str
    errors: list[FieldProblem]
    run_ids: list[str] = Field(default=[], description="code `outcome_unknown`: the runs that may have been started")
    position: str = Field(default="", description="code `position_not_reached`: how far what is read has got")
    min_position: str = Field(default="", description="code `position_not_reached`: what of `min_position` is lacking")


class WorkflowBody(Definition):
    """One version of a workflow."""

    version: int = Field(ge=1)
    defined_at: str = Instant
    position: str = Position


class WorkflowPage(Body):
    """Workflows by id, each in its newest version."""

    items: list[WorkflowBody]
    next_cursor: str | None


class TriggerBody(Body):
    """A start."""

    workflow_id: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,127}$")
    payload: dict[str, Any] = {}
    version: int | None = Field(None, ge=1, le=2**31 - 1, description="of the workflow; left out: the newest")


class BatchItem(TriggerBody):
    """A start in a batch."""

    idempotency_key: str = Field(
        "",
        min_length=1,
        max_length=255,
        pattern=r"^[ -~]+$",
        description="as the header of a single start; left out: the batch's, with the item's number",
    )


class BatchBody(Body):
    """Starts, all or none of them."""

    items: list[BatchItem] = Field(min_length=1)


class TriggeredBody(Body):
    """A start that will become a run."""

    run_id: str
    status: Literal["triggered"]
    position: str = Position


class BatchTriggeredBody(Body):
    """Starts that will become runs; `run_ids` in the order of the items."""

    run_ids: list[str]
    status: Literal["triggered"]
    position: str = Position


class StepBody(Body):
    """A step of a run."""

    name: str
    type: str
    status: Literal["PENDING", "RUNNING", "RETRYING", "SUCCESS", "FAILED", "CANCELLED"]
    attempts: int
    started_at: str | None
    finished_at: str | None
    due_at: str | None = Field(description="when a delay ends, or the next attempt begins")


class RunBody(Body):
    """A run as the read tables show it."""

    run_id: str
    workflow_id: str
    version: int | None
    status: Status
    payload: Any
    results: dict[str, Any] = Field(description="output of each step that succeeded, by its name")
    error: dict[str, Any] | None
    steps: list[StepBody]
    created_at: str = Instant
    started_at: str | None
    finished_at: str | None
    seq: int = Field(description="number of its last event, 0 while PENDING; also its ETag")
    set_aside: str | None = Field(description="why nothing more is decided for this run, null for a sound one")
    position: str = Position


class RunPage(Body):
    """Runs, newest first."""

    items: list[RunBody]
    next_cursor: str | None


class CountsBody(Body):
    """How many runs have each status."""

    total: int
    pending: int = Field(alias="PENDING")
    running: int = Field(alias="RUNNING")
    success: int = Field(alias="SUCCESS")
    failed: int = Field(alias="FAILED")
    cancelled: int = Field(alias="CANCELLED")


class HeadBody(Body):
    """The last event of a run, as the row of the run has it."""

    seq: int
    digest: str | None = Field(description="null before the first event")
    done: bool = Field(description="whether it is the run's end")


class ProvenEvent(Body):
    """An event with its bytes."""

    seq: int
    offset: int = Field(description="in its partition of workflow.events")
    logged_at: str = Instant
    digest: str = Field(description="BLAKE2b of `value` in UTF-8, 16 bytes, lowercase hex")
    value: str = Field(description="the record's value, byte for byte as it stands in the log")


class ProofBody(Body):
    """A run's events with what is needed to check them: docs/check_proof.py does."""

    run_id: str
    topic: str
    partition: int
    head: HeadBody
    items: list[ProvenEvent]
    next_cursor: str | None


class EventBody(BaseModel):
    """An event as it stands in the log (a CloudEvent), and where."""

    model_config = ConfigDict(extra="allow")

    specversion: str
    id: str
    source: str
    type: str = Field(examples=["StepStarted"])
    subject: str = Field(description="the run's id")
    time: str = Instant
    data: dict[str, Any] | None = Field(
        description="null where it is nested deeper than can be written; `/proof` has its bytes"
    )
    epoch: int
    seq: int
    prev: str | None = Field(description="digest of the event before it")
    digest: str = Field(description="BLAKE2b of this event's bytes in the log, as the next event's `prev` has it")
    offset: int = Field(description="in its partition of workflow.events")
    logged_at: str = Field(description="when the log took it: RFC 3339 in UTC")


class EventPage(Body):
    """Events of one run."""

    items: list[EventBody]
    next_cursor: str | None


class ComponentBody(Body):
    """A part that this process depends on."""

    state: Literal["ok", "degraded", "unknown"]
    detail: str


class LagBody(Body):
    """How far the read tables of a partition are behind its events. `seconds`: how old the first event is that they lack."""

    partition: int
    events: int
    seconds: float


class ReadyBody(Body):
    """Whether this process wants traffic. A component that is away shows as degraded and does not make it unready."""

    status: Literal["ready", "degraded", "starting", "draining"]
    components: dict[str, ComponentBody]
    lag: list[LagBody] = Field(default=[], description="of each partition whose lag is known")


class KeyRequest(Body):
    """An API key to be made."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._@:+-]{0,63}$", description="the `actor` of what it causes")
    scopes: list[Scope] = Field(min_length=1, max_length=len(SCOPES), json_schema_extra={"uniqueItems": True})
    rate: str | None = Field(
        None,
        pattern="^[1-9][0-9]{0,6}/(second|minute|hour)$",
        description="a limit of its own in place of WORKFLOW_RATE_LIMIT",
        examples=["20/second"],
    )


class KeyBody(Body):
    """An API key, without its secret."""

    id: str
    name: str
    scopes: list[Scope]
    rate: str | None
    created_at: str = Instant
    revoked_at: str | None = Field(description="since when it may not be used")


class KeyChangeBody(KeyBody):
    """An API key as a write has left it."""

    position: str = Position


class NewKeyBody(KeyChangeBody):
    """An API key that was just made."""

    token: str = Field(description="what its owner sends; shown this once", examples=["wfk_…"])


class KeyPage(Body):
    """API keys by name."""

    items: list[KeyBody]
    next_cursor: str | None


class HealthBody(Body):
    """The process and its event loop."""

    status: Literal["ok"]
