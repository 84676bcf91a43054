"""The parts on their own, without servers: for regressions, read them as ratios of one machine."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

from projections.fold import PartitionFold
from schemas import commands, events, jsontext
from schemas.identity import digest, home
from schemas.run import Run
from tests.bench.engine_alone import NOW, EngineAlone, Stored, start_command
from tests.bench.figures import Figure, Rounds
from tests.bench.options import Options

BATCH: Final = 500
ROUNDS: Final = 5


async def run(options: Options) -> list[Figure]:
    """Engine, fold, and what is done for every record."""
    count = 2_000 if options.quick else 10_000
    starts = [start_command(number) for number in range(count)]
    rounds = Rounds()
    for _ in range(max(ROUNDS, options.rounds)):
        log = _engine(starts, rounds)
        _fold(log, rounds)
        _records(starts, log, rounds)
    return rounds.figures()


def _engine(starts: list[Stored], rounds: Rounds) -> list[Stored]:
    alone = EngineAlone()
    began = time.perf_counter()
    for first in range(0, len(starts), BATCH):
        alone.take(starts[first : first + BATCH])
    took_s = time.perf_counter() - began
    assert alone.announced == len(starts), "not every run ended"
    rounds.add("engine alone", len(starts) / took_s, "runs/s", better="more")
    rounds.add("engine alone, events", len(alone.log) / took_s, "events/s", better="more")
    return alone.log


def _fold(log: list[Stored], rounds: Rounds) -> None:
    fold = PartitionFold(0, 1, "bench")
    began = time.perf_counter()
    for first in range(0, len(log), 10 * BATCH):
        records = log[first : first + 10 * BATCH]
        taken = fold.take(records, dict.fromkeys(fold.unknown(records)))
        assert taken == len(records), "the fold stopped"
        fold.batch()
    rounds.add("projector's fold alone", len(log) / (time.perf_counter() - began), "events/s", better="more")


def _records(starts: list[Stored], log: list[Stored], rounds: Rounds) -> None:
    """What is done for each record or run, one after the other."""
    bodies = [start.value or b"" for start in starts]
    values = [record.value or b"" for record in log[1 : len(starts) + 1]]
    envelopes = [envelope for value in values if (envelope := events.decode(value)) is not None]
    run_ids = [envelope["subject"] for envelope in envelopes]
    sleeping = _sleeping(log)
    state = sleeping.dump()

    def timed(name: str, work: Callable[[int], object]) -> None:
        began = time.perf_counter()
        for number in range(len(starts)):
            work(number)
        rounds.add(name, (time.perf_counter() - began) / len(starts) * 1e6, "us each")

    timed("jsontext.loads of a command", lambda n: jsontext.loads(bodies[n]))
    timed("commands.decode", lambda n: _decode(starts[n]))
    timed("events.decode", lambda n: events.decode(values[n]))
    timed("events.encode", lambda n: _encode(envelopes[n]))
    timed("digest", lambda n: digest(values[n]))
    timed("home", lambda n: home(run_ids[n], 8))
    timed("Run.clone", lambda _: sleeping.clone())
    timed("Run.dump", lambda _: sleeping.dump())
    timed("Run.load", lambda _: Run.load("r", state))


def _sleeping(log: list[Stored]) -> Run:
    """A run that has begun and not ended: the first two events of the log's first run."""
    fold = PartitionFold(0, 1, "bench")
    records = log[:3]  # PartitionTaken, RunRequested, StepStarted
    fold.take(records, dict.fromkeys(fold.unknown(records)))
    (run,) = fold.runs.values()
    return run


def _decode(start: Stored) -> commands.Command:
    return commands.decode(
        start.value,
        topic="workflow.trigger",
        partition=0,
        offset=start.offset,
        timestamp_ms=int(NOW * 1000),
        partitions=1,
    )


def _encode(envelope: events.Envelope) -> bytes:
    return events.encode(
        envelope["type"],
        envelope["subject"],
        envelope["data"],
        time=envelope["time"],
        epoch=envelope["epoch"],
        seq=envelope["seq"],
        prev=envelope["prev"],
    )
