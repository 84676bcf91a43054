"""What a pass came to: every invariant of docs/guarantees.md, and the figures."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from tests.checker import Judge, Topics
from tests.checker_clients import Ask, check_asks, check_deliveries, check_life, check_reads, lateness_s
from tests.fleet import until
from tests.harness import kinds
from tests.harness.commands import GARBAGE, SPOILT
from tests.harness.run import Evidence
from tests.harness.stage import Stage
from tests.judging import Rows, differences, level, rows

WASTE_MAX: Final = 0.1
"""Orphans, as a part of all events, beside those that were put there on purpose."""
LATE_MAX_S: Final = 120.0
FILLED_S: Final = 300.0
"""For another store, whose tables come from the whole log of a long pass."""
Figures = dict[str, Any]


async def judge(stage: Stage, evidence: Evidence) -> tuple[list[str], Figures]:
    """Violations, and what was seen."""
    found = Judge(evidence.topics)
    found.check_accepted({run: payload for run, (_, payload) in stage.accepted.items()})
    check_asks(found, [Ask(asked.n, asked.status, asked.run) for asked in stage.asked])
    found.bad(found.runs.keys() - stage.accepted.keys(), "I1 runs that nobody was promised")
    found.check_announcements(SPOILT)
    found.check_nothing_vanished(evidence.before)
    deliveries = stage.deliveries()
    check_deliveries(found, deliveries)
    check_reads(found, evidence.reads)
    check_life(found, [_worker(found, pid) for pid in evidence.workers], evidence.apis, evidence.healed_s * 1000)
    for run, (kind, _) in stage.accepted.items():
        status = found.columns(run)["status"] if run in found.runs else None
        found.bad(status != kinds.ENDS[kind], f"I4 {run} of {kind} ended {status}, not {kinds.ENDS[kind]}")
    _rejected(found, evidence)
    late = lateness_s(found)
    found.bad(late and late[-1] > LATE_MAX_S, f"I6 a timer fired {late[-1:]} s late")
    orphans = found.counts["orphans"] - _on_purpose(evidence.topics)
    found.bad(orphans > WASTE_MAX * sum(map(len, found.runs.values())), f"I14 {orphans} orphans")
    differing = await _tables(stage, found)
    _worth(found, evidence, orphans)
    return found.violations, _figures(stage, evidence, found, len(deliveries), late, orphans, differing)


def _worker(found: Judge, pid: int) -> str:
    """Its name in the log, where the pid stands last."""
    return next((name for name in found.owners.values() if name.endswith(f"-{pid}")), f"the worker with pid {pid}")


def _on_purpose(topics: Topics) -> int:
    return sum(record.key == SPOILT for log in topics["workflow.events"].values() for record in log)


def _rejected(found: Judge, evidence: Evidence) -> None:
    """Whatever could not be read stands on `workflow.rejected`, with the reason."""
    times = sum(happened.fault.kind == "garbage" for happened in evidence.happened)
    told = [json.loads(record.value or b"{}") for record in _all(evidence.topics, "rejected") if record.key != SPOILT]
    reasons = [each for each in told if each["data"].get("reason")]
    found.bad(
        len(reasons) < times * len(GARBAGE), f"I1 {len(reasons)} of {times * len(GARBAGE)} commands were set aside"
    )


def _all(topics: Topics, name: str) -> list[Any]:
    return [record for log in topics[f"workflow.{name}"].values() for record in log]


def _worth(found: Judge, evidence: Evidence, orphans: int) -> None:
    """A pass that met nothing has tested nothing. `orphans`: those that no fault has put there as they are."""
    takes = len(found.owners)
    partitions = len(evidence.topics["workflow.events"])
    seen = {
        "takeover": takes > 2 * partitions,
        "orphan": orphans > 0,
        "interrupted attempt": found.counts["StepInterrupted"] > 0,
    }
    for what, met in seen.items():
        found.bad(not met, f"nothing was tested: no {what} was seen")


async def _tables(stage: Stage, found: Judge) -> int:
    """I9, in all three stores: the one that has lived through it, and two that are filled from the same log now."""
    differing = 0
    for backend in ("postgres", "filesystem", "memory"):
        before = len(found.violations)
        found.check_rows(await _rows(stage, found, backend))
        differing += len(found.violations) - before
    for text in await differences(stage.settings):
        found.violations.append(f"I9 verify: {text}")
    return differing


async def _rows(stage: Stage, found: Judge, backend: str) -> Rows:
    if backend == "postgres":
        return await rows(stage)
    settings = stage.settings.model_copy(
        update={"storage_backend": backend, "workflow_projector_group": f"{backend}-projectors"}
    )
    other = Other(settings, stage.folder / backend)
    try:
        if backend == "filesystem":
            await other.start("projector").ready()
            await level(other, found.topics, FILLED_S)
        else:
            await other.start("api").ready()
            await until(lambda: other.shows(len(found.runs)), "the memory store has all runs", FILLED_S)
        return await rows(other)
    finally:
        other.close()


class Other(Stage):
    """Another store, filled from the same log."""

    def __init__(self, settings: Any, folder: Path) -> None:
        folder.mkdir()
        super(Stage, self).__init__(settings.model_copy(update={"storage_path": folder}), folder, "", folder / "none")

    async def shows(self, count: int) -> bool:
        return len(await rows(self)) == count

    def close(self) -> None:
        super(Stage, self).close()


def _figures(
    stage: Stage, evidence: Evidence, found: Judge, deliveries: int, late: list[float], orphans: int, differing: int
) -> Figures:
    told = [record for record in _all(evidence.topics, "completed") if record.key != SPOILT]
    ends = sum(tip[2] for tip in found.tips.values())
    lost = sum(run not in found.runs or not found.tips[run][2] for run in stage.accepted)
    counts: Mapping[str, int] = found.counts
    return {
        "runs accepted": len(stage.accepted),
        "runs lost": lost,
        "runs completed twice in the log": sum("I4" in text and "after the end" in text for text in found.violations),
        "rows differing, three stores": differing,
        "faults": len(evidence.happened),
        "requests for starts": len(stage.asked),
        "events": sum(counts[name] for name in counts if name.startswith(("Run", "Step"))),
        "takeovers": len(found.owners),
        "attempts interrupted": counts["StepInterrupted"],
        "retries scheduled": counts["StepRetryScheduled"],
        "orphans": {name.removeprefix("orphan "): n for name, n in counts.items() if name.startswith("orphan ")},
        "orphans not put there on purpose": orphans,
        "announcements beyond one per run": len(told) - ends,
        "webhook deliveries": deliveries,
        "reads judged": len(evidence.reads),
        "timers late, s: half, 99 of 100, worst": [
            round(late[at], 2) for at in (len(late) // 2, -len(late) // 100, -1)
        ],
        "ended unasked": stage.unasked,
    }
