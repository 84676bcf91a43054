"""The shapes of a projection, its rebuild and its quarantine, as OpenAPI shows them."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from api.bodies import Body, Instant


class DifferenceBody(Body):
    """Where the old tables said something else than the log."""

    run: str = Field(description="a run's id, or `partition N`")
    column: str
    stored: str = Field(description="what the old tables said")
    folded: str = Field(description="what the log says")


class ComparisonBody(Body):
    """Runs of the old tables and of the new ones, compared at equal positions."""

    equal: int
    differing: int
    missing: int = Field(description="runs that the old tables did not have")
    extra: int = Field(description="runs that the log does not have")
    differences: list[DifferenceBody] = Field(description="the first ones")


class RebuiltPartition(Body):
    """How far a partition of the new tables is."""

    partition: int
    events: int = Field(description="that the new tables hold")
    total: int = Field(description="that they are to hold")
    worker: str | None = Field(description="process that works on it now: host/process id/…")


class RebuildBody(Body):
    """A rebuild of the read tables."""

    id: str
    phase: Literal["preparing", "folding", "comparing", "levelling", "swapping", "done", "failed", "cancelled"]
    by: str = Field(description="who began it")
    version: int = Field(description="of the projection that it makes")
    started_at: str = Instant
    folded_at: str | None = Field(description="when all events had been folded for the first time")
    ended_at: str | None
    events: int = Field(description="events that the new tables hold")
    total: int = Field(description="events that they are to hold")
    events_per_s: int
    eta_s: float | None = Field(description="seconds until all events are folded; null where it cannot be told")
    workers: int = Field(description="processes that work on it now")
    partitions: list[RebuiltPartition] = Field(description="empty until the new tables are there")
    report: ComparisonBody | None
    error: str | None


class ProjectedPartition(Body):
    """How far the read tables of a partition are."""

    partition: int
    position: int = Field(description="events of the log that the tables hold")
    behind: int = Field(description="events of the log that they do not hold yet; `/ready` has the lag in seconds")


class ProjectionBody(Body):
    """A projection: read tables that are folded from the log."""

    name: str
    version: int | None = Field(description="of the projection that the tables hold; null where nothing stands in them")
    code_version: int = Field(description="of the projection that this release makes")
    state: Literal["live", "rebuilding", "other version"]
    behind: int = Field(description="events of the log that the tables do not hold yet")
    quarantined: int = Field(description="runs that are set aside, because an event of theirs cannot be folded")
    partitions: list[ProjectedPartition]
    rebuild: RebuildBody | None = Field(description="the last one")
    old_tables: bool = Field(
        description="whether the tables that a rebuild replaced are still there; `workflow projections drop-old` deletes them"
    )


class QuarantinedRun(Body):
    """A run that the projection could not fold: it is shown as it was before, and its history goes on."""

    run_id: str
    partition: int
    seq: int = Field(description="of the last event that it has")
    reason: str


class QuarantinePage(Body):
    """Runs that are set aside, by id."""

    items: list[QuarantinedRun]
    next_cursor: str | None


class ProjectionList(Body):
    """All projections."""

    items: list[ProjectionBody]
