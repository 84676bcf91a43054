"""How soon things go on: after the kill of a worker, and of a projector that was away while much happened."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Final

from tests.harness.run import Evidence
from tests.harness.stage import Stage
from tests.judging import level, records, recovery_s

KILLED_MAX_S: Final = 15.0
"""A run that a killed worker has left goes on: session timeout 6 s, heartbeat 2 s, revocation 2 s, load, take."""
LEVEL_MAX_S: Final = 5.0
AWAY_S: Final = 30.0
RATE: Final = 100.0


@dataclass(frozen=True)
class Bound:
    """A time that must not be passed."""

    name: str
    seconds: float
    most_s: float

    def shown(self) -> str:
        return f"{self.seconds:.1f} s (at most {self.most_s:g} s)"

    def violations(self) -> list[str]:
        return [f"{self.name}: {self.shown()}"] if self.seconds > self.most_s else []


async def measure(stage: Stage, evidence: Evidence) -> list[Bound]:
    """One kill of a worker, and one long absence of all projectors, with nothing else going on."""
    del evidence
    return [
        Bound("a run goes on after its worker's kill -9", await _after_kill(stage), KILLED_MAX_S),
        Bound("projectors level after 30 s away at 100 runs/s", await _after_absence(stage), LEVEL_MAX_S),
    ]


async def _after_kill(stage: Stage) -> float:
    """Seconds from the kill to the first fact of the last partition that goes on."""
    load = asyncio.ensure_future(stage.trigger(300, stage.fresh("noop", 300), rate=30))
    await asyncio.sleep(2)
    slot = max((s for s in stage.slots if s.role == "worker"), key=lambda s: s.number)
    assert slot.member is not None
    slot.held = True
    pid, killed_at_s = slot.member.pid, time.time()
    slot.member.kill()
    await load
    await stage.ended(60)
    found = recovery_s(await records(stage.settings), pid, killed_at_s)
    await stage.revive(slot)
    await stage.all_ready()
    return max(found.values())


async def _after_absence(stage: Stage) -> float:
    """Seconds from the start of the projectors to tables that are level with the log."""
    slots = [slot for slot in stage.slots if slot.role == "projector"]
    for slot in slots:
        assert slot.member is not None
        slot.held = True
        await slot.member.stop()
    count = round(AWAY_S * RATE)
    await stage.trigger(count, stage.fresh("noop", count), rate=RATE)
    await stage.ended(60)
    topics = await records(stage.settings)
    began = time.monotonic()
    for slot in slots:
        stage.launch(slot)
        slot.held = False
    await level(stage, topics)
    took_s = time.monotonic() - began
    await stage.all_ready()
    return took_s
