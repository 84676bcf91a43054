"""Scenario `rebuild`: the tables made anew from the whole log while runs start, beside a bare consumer of the same log."""

from __future__ import annotations

import asyncio
import statistics
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import orjson
import psutil

from ops.parts import ROOT, environment
from projections.feed import SLICE_RECORDS
from projections.fold import PartitionFold
from projections.rows import columns
from schemas.ports import TP, Record
from schemas.settings import Settings
from streams.kafka import LogReader
from tests.bench.batch import ITEMS, PATH
from tests.bench.errors import ScenarioFailed
from tests.bench.figures import Figure, Rounds
from tests.bench.load import LEVEL_S, Starts, send
from tests.bench.log import Watch
from tests.bench.options import Options
from tests.bench.running import Running, running
from tests.bench.warm import warm_up
from tests.bench.workflows import NOOP, start, starts

EVENTS_A_RUN: Final = 6
EVENTS: Final = 300_000
QUICK_EVENTS: Final = 30_000
EVENTS_PER_S: Final = 60_000.0
RATIO: Final = 0.5
PARALLEL: Final = 2
TRAFFIC_PER_S: Final = 20.0
SAMPLE_S: Final = 0.25
FILLED_S: Final = 900.0
"""Longest wait for the projector, which is far behind after so many starts at once."""
COMMAND_S: Final = 1_200.0


async def run(options: Options) -> list[Figure]:
    """A log of EVENTS events, or as many as were asked for; each round rebuilds all of it."""
    events = options.events or (QUICK_EVENTS if options.quick else EVENTS)
    rounds = Rounds()
    with running(options.folder) as platform:
        async with Watch.open(platform.settings) as watch:
            await warm_up(platform, watch, options)
            since = await watch.ends(platform.settings.topics.completed)
            load = Starts(
                PATH, starts(NOOP, ITEMS), -(-events // EVENTS_A_RUN // ITEMS), runs_each=ITEMS, connections=2
            )
            await send(platform, load)
            await watch.completed(since, load.runs, load.bound_s)
            await watch.level(FILLED_S)
            await _sizes(platform, watch, rounds)
            await watch.settle()
            for _ in range(options.rounds):
                bare = await _read_all(platform.settings, _decode)
                rounds.add("a consumer that only decodes JSON", bare, "events/s", better="more")
                folds = await _read_all(platform.settings, _Folding(platform.settings).take)
                rounds.add("a consumer that only folds", folds, "events/s", better="more")
                await watch.flushed()
                curve = options.rounds == 1
                await _rebuild(platform, bare, rounds, curve=curve)
                await watch.flushed()
                async with _traffic(platform):
                    await _rebuild(platform, bare, rounds, curve=curve, prefix=f"with {TRAFFIC_PER_S:g} starts/s: ")
                await watch.level(LEVEL_S)
                rounds.add("workflow verify", await _verify(platform), "events/s", better="more")
    return rounds.figures()


async def _sizes(platform: Running, watch: Watch, rounds: Rounds) -> None:
    """What a run and an event take on disk, indexes and all, in the tables and in the log."""
    events = sum((await watch.ends(platform.settings.topics.events)).values())
    runs, size_of_runs, size_of_history = await watch.sizes()
    topics = platform.settings.topics
    events_size, around_size = (
        _on_disk(platform, topics.events),
        sum(_on_disk(platform, topic) for topic in (topics.trigger, topics.completed)),
    )
    rounds.add("events in the log", events, "events", better="more")
    rounds.add("PostgreSQL, history, per event", size_of_history / events, "bytes")
    rounds.add("PostgreSQL, rows of runs, per run", size_of_runs / runs, "bytes")
    rounds.add("Kafka, per event", events_size / events, "bytes")
    rounds.add("Kafka, start and announcement, per run", around_size / runs, "bytes")


def _on_disk(platform: Running, topic: str) -> int:
    """Bytes of a topic's records, without their indexes."""
    return sum(file.stat().st_size for file in platform.folder.rglob(f"{topic}-*/*.log"))


async def _read_all(settings: Settings, take: Callable[[TP, Sequence[Record]], None]) -> float:
    """Events per second of one process that reads the whole log and does this with it."""
    count, began = 0, time.monotonic()
    async with LogReader(settings, bound_s=30.0) as reader:
        tps = [TP(settings.topics.events, number) for number in range(settings.workflow_partitions)]
        for tp, end in (await reader.end_offsets(tps)).items():
            async for records in reader.read(tp, 0, end):
                take(tp, records)
                count += len(records)
    return count / (time.monotonic() - began)


def _decode(_: TP, records: Sequence[Record]) -> None:
    for record in records:
        orjson.loads(record.value or b"")


class _Folding:
    """The fold of the log and the columns of its rows, and nothing is written."""

    def __init__(self, settings: Settings) -> None:
        self._folds = [PartitionFold(n, settings.workflow_partitions, "") for n in range(settings.workflow_partitions)]

    def take(self, tp: TP, records: Sequence[Record]) -> None:
        """All runs are new: the log holds each once."""
        fold = self._folds[tp.partition]
        for at in range(0, len(records), SLICE_RECORDS):
            some = records[at : at + SLICE_RECORDS]
            fold.take(some, dict.fromkeys(fold.unknown(some)))
        for row in fold.part().runs:
            columns(row)


async def _rebuild(platform: Running, bare: float, rounds: Rounds, *, curve: bool, prefix: str = "") -> None:
    """`curve`: the memory of all the time is one more figure, whose values are not rounds."""
    process = await _command(platform, "rebuild", "--parallel", str(PARALLEL), "-o", "json")
    async with _watching(process.pid) as memory:
        out, err = await process.communicate()
    if process.returncode != 0:
        raise ScenarioFailed(f"the rebuild failed: {err.decode(errors='replace')[-1000:]}")
    report = orjson.loads(out)
    if report["differences"] or report["missing"] or report["extra"]:
        raise ScenarioFailed(f"the tables were not those of the log: {report}")
    folded, quiet = report["folded"] / report["folded_s"], not prefix

    def add(name: str, value: float, unit: str, target: float | None = None) -> None:
        rounds.add(prefix + name, value, unit, target=target, better="less" if unit == "MiB" else "more")

    add("events folded", report["folded"], "events")
    add("folding", folded, "events/s", EVENTS_PER_S if quiet else None)
    add("all of it, indexes and comparison too", report["events"] / report["seconds"], "events/s")
    add("folding, ratio to the bare consumer", folded / bare, "", RATIO if quiet else None)
    add("runs compared, all equal", report["equal"], "runs")
    for name, part in zip(("first", "second", "third", "last"), memory.quarters(report["folded_s"]), strict=True):
        add(f"memory of both processes, {name} quarter", part / 2**20, "MiB")
    for size in memory.curve() if curve else ():
        add("memory of both processes, from second to second", size / 2**20, "MiB")


async def _verify(platform: Running) -> float:
    """Events per second of the whole command. Raises ScenarioFailed."""
    began = time.monotonic()
    process = await _command(platform, "verify", "-o", "json")
    out, err = await process.communicate()
    if process.returncode != 0:
        raise ScenarioFailed(f"verify found differences: {(out + err).decode(errors='replace')[-1000:]}")
    events: int = orjson.loads(out)["events"]
    return events / (time.monotonic() - began)


async def _command(platform: Running, *words: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *("timeout", "--kill-after=10", str(COMMAND_S)),
        *(sys.executable, "-P", "-m", "ops", *words, "--home", str(platform.folder)),
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE, cwd=ROOT, env=environment(Settings()),
    )  # fmt: skip


@dataclass(slots=True)
class _Memory:
    """Resident bytes of a rebuild's processes over time: (seconds since the start, bytes)."""

    samples: list[tuple[float, int]] = field(default_factory=list)

    def quarters(self, folded_s: float) -> list[float]:
        """The median of each quarter of the folding, once the processes have started."""
        ends = self.samples[-1][0] if self.samples else 0.0
        began = max(0.0, min(ends, self.samples[0][0] if self.samples else 0.0))
        length = max(folded_s, SAMPLE_S * 4) / 4
        parts = [
            [size for at, size in self.samples if began + n * length <= at < began + (n + 1) * length] for n in range(4)
        ]
        return [statistics.median(part) if part else 0.0 for part in parts]

    def curve(self) -> list[int]:
        """One sample of each second, from the start to the end of the command."""
        return [size for _, size in self.samples[:: round(1 / SAMPLE_S)]]


@asynccontextmanager
async def _watching(pid: int) -> AsyncIterator[_Memory]:
    """What the process and the Python processes below it hold, again and again."""
    memory, began = _Memory(), time.monotonic()

    async def watch() -> None:
        while True:
            memory.samples.append((time.monotonic() - began, _resident(pid)))
            await asyncio.sleep(SAMPLE_S)

    task = asyncio.create_task(watch())
    try:
        yield memory
    finally:
        task.cancel()
        await asyncio.wait({task})


def _resident(pid: int) -> int:
    total = 0
    try:
        parent = psutil.Process(pid)
        for process in [parent, *parent.children(recursive=True)]:
            if "rebuild" in process.cmdline():
                total += process.memory_info().rss
    except psutil.NoSuchProcess:
        return total
    return total


@asynccontextmanager
async def _traffic(platform: Running) -> AsyncIterator[None]:
    """Runs start all the time."""
    client = await platform.client()

    async def go() -> None:
        while True:
            answer = await client.call(platform.request("POST", "/api/v1/trigger", start(NOOP)))
            if answer.status != 202:
                raise ScenarioFailed(f"a start was not taken: {answer.status} {answer.body[:300]!r}")
            await asyncio.sleep(1 / TRAFFIC_PER_S)

    task: asyncio.Task[Any] = asyncio.create_task(go())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait({task})
        client.close()
        if not task.cancelled() and (error := task.exception()) is not None:
            raise ScenarioFailed(f"runs could not start meanwhile: {error!r}")
