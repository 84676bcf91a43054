"""One pass of the harness: load and planned faults on a stage, rest, and everything that the judge needs."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Final

from tests.checker import Topics
from tests.checker_clients import Read
from tests.harness.inject import INJECT
from tests.harness.plan import KINDS, Fault
from tests.harness.readers import readers
from tests.harness.stage import Stage
from tests.judging import level, records

AFTER_RUNS: Final = 120
"""Started after the last fault, so that every process has something to do."""
END_WITHIN_S: Final = 120.0
FAULT_WITHIN_S: Final = 150.0
FAULT_TAKES_S: Final = 9.0
"""About so long, for pacing the load."""

Say = Callable[[str], None]


@dataclass
class Happened:
    """A fault that was injected, with its times in seconds since 1970."""

    fault: Fault
    began_s: float
    ended_s: float = 0.0
    note: str = ""


@dataclass
class Evidence:
    """All that was noted during a pass. `workers`: pids of those that ran at its end; `apis`: starts since `healed_s`."""

    topics: Topics
    before: Topics
    reads: Sequence[Read]
    happened: Sequence[Happened]
    healed_s: float
    workers: Sequence[int]
    apis: dict[str, int]


async def one_pass(stage: Stage, faults: Sequence[Fault], runs: int, say: Say, seed: int, at_once: int) -> Evidence:
    """Load and faults together, then rest. `at_once`: so many faults may overlap, where they do not touch the same thing."""
    before = await records(stage.settings)
    expected_s = max(30.0, sum(fault.wait_s + FAULT_TAKES_S for fault in faults) / at_once)
    async with readers(stage, seed) as reads:
        load = asyncio.ensure_future(stage.trigger(runs, rate=runs / expected_s))
        happened = await _all(stage, faults, say, at_once)
        await load
        healed_s = time.time()
        await stage.all_ready()
        await stage.trigger(AFTER_RUNS, stage.fresh("noop", AFTER_RUNS), rate=60)
        say(f"all faults are over, {len(stage.accepted)} runs were accepted; waiting for their ends")
        await stage.ended(END_WITHIN_S)
    topics = await records(stage.settings)
    await level(stage, topics)
    apis = Counter({api.address: 0 for api in stage.of("api")})
    apis.update(asked.api for asked in stage.asked if asked.at_s >= healed_s and asked.run is not None)
    workers = [slot.member.pid for slot in stage.slots if slot.role == "worker" and slot.member is not None]
    return Evidence(topics, before, reads, happened, healed_s, workers, dict(apis))


async def _all(stage: Stage, faults: Sequence[Fault], say: Say, at_once: int) -> list[Happened]:
    happened: list[Happened] = []
    waiting, running = list(faults), dict[asyncio.Task[None], frozenset[str]]()
    while waiting or running:
        fault = next((f for f in waiting if not any(KINDS[f.kind].holds & held for held in running.values())), None)
        if fault is not None and len(running) < at_once:
            waiting.remove(fault)
            running[asyncio.ensure_future(_one(stage, fault, happened, say))] = KINDS[fault.kind].holds
            continue
        done, _ = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            del running[task]
            task.result()
    return happened


async def _one(stage: Stage, fault: Fault, happened: list[Happened], say: Say) -> None:
    await asyncio.sleep(fault.wait_s)
    entry = Happened(fault, time.time())
    happened.append(entry)
    try:
        async with asyncio.timeout(FAULT_WITHIN_S):
            entry.note = await INJECT[fault.kind](stage, Random(fault.seed))
    except BaseException as error:
        error.add_note(f"while fault {fault.number} ({fault.kind}) was on")
        raise
    entry.ended_s = time.time()
    say(f"{fault.number:3} {fault.kind:18} {entry.ended_s - entry.began_s:5.1f} s  {entry.note}")
