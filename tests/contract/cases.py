"""What the suites of the stores play with."""

from __future__ import annotations

from projections.tables import Tables
from schemas.store import PendingRow, RunFilter
from tests.histories import BASE_S, Log, Story


def pending(
    run_id: str, offset: int = 0, *, workflow_id: str = "greet", created_at: str = "2026-01-01T00:00:00Z"
) -> PendingRow:
    return PendingRow(run_id, 0, offset, workflow_id, None, b'{"n":9007199254740993}', created_at)


def whole_log(*statuses: str, seed: int = 1) -> tuple[Log, list[Story]]:
    """One run per status, of a workflow each, a second apart."""
    log, stories = Log(1, seed), []
    epoch = log.take(0)
    for n, status in enumerate(statuses):
        story = log.story(0, workflow_id=f"flow-{n % 2}", payload={"n": n})
        story.clock_s = BASE_S + n
        log.append(0, story.requested(epoch))
        if status in ("RUNNING", "SUCCESS"):
            log.append(0, story.event(epoch, "StepStarted", {"step": "step_0", "attempt": 1}))
        if status == "SUCCESS":
            log.append(0, story.completed(epoch))
        stories.append(story)
    return log, stories


async def ids_of(store: Tables, where: RunFilter, after: tuple[str, str] | None = None, limit: int = 100) -> list[str]:
    return [run.view["run_id"] for run in await store.runs(where, after=after, limit=limit)]
