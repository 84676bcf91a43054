"""Members of a consumer group for tests of the transport: in this process, or each in a process of its own."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections import defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any

from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType

from schemas.ports import TP, Assignment, Record
from schemas.settings import Settings
from streams.group import ConsumerGroup
from streams.kafka import admin
from streams.lifecycle import run_app
from streams.producer import LogProducer
from streams.topics import ensure_topics
from streams.transport import build_app

WAIT_S = 60.0


async def kafka_settings(address: str, prefix: str, **more: Any) -> Settings:
    """Settings of a platform without a store, its topics made."""
    settings = Settings(
        kafka_bootstrap_servers=address,
        kafka_consumer_group=f"{prefix}workers",
        workflow_topic_prefix=prefix,
        workflow_partitions=more.pop("partitions", 2),
        **more,
    )
    await ensure_topics(settings)
    return settings


async def until(condition: Callable[[], object], what: str = "it") -> None:
    """Wait for something that must come to be."""
    ends = time.monotonic() + WAIT_S
    while not condition():
        assert time.monotonic() < ends, f"{what} did not come to be within {WAIT_S:g} s"
        await asyncio.sleep(0.01)


class Recorder:
    """A handler that remembers what it was handed."""

    def __init__(
        self,
        positions: dict[TP, int] | None = None,
        paused: Callable[[frozenset[TP]], Iterable[TP]] = lambda _: (),
        on_batch: Callable[[TP, Sequence[Record]], None] = lambda _tp, _records: None,
    ) -> None:
        self.offsets: dict[TP, list[int]] = defaultdict(list)
        self.generations: list[tuple[int, frozenset[TP]]] = []
        self.revocations = 0
        self.positions = positions or {}
        self.paused = paused
        self.on_batch = on_batch

    async def assigned(self, assignment: frozenset[TP], generation: int) -> Assignment:
        self.generations.append((generation, assignment))
        return Assignment(
            {tp: at for tp, at in self.positions.items() if tp in assignment}, frozenset(self.paused(assignment))
        )

    async def revoked(self) -> None:
        self.revocations += 1

    def batch(self, tp: TP, records: Sequence[Record]) -> None:
        self.offsets[tp] += [record.offset for record in records]
        self.on_batch(tp, records)


@asynccontextmanager
async def member(
    settings: Settings, handler: Any, *, environ: dict[str, str] | None = None
) -> AsyncIterator[ConsumerGroup]:
    """A member in this process, until the end of the block; its end must be a clean one."""
    topics = settings.topics
    app = build_app(
        settings, group=settings.kafka_consumer_group, topics=[topics.trigger, topics.events], handler=handler
    )
    stop = asyncio.Event()
    running = asyncio.ensure_future(run_app(app, stop, grace_s=30))
    try:
        yield app.group
    finally:
        stop.set()
        code = await running
    assert code == 0


async def produce(settings: Settings, topic: str, partition: int, values: Sequence[bytes]) -> int:
    """Append values; returns the last one's offset."""
    loop = asyncio.get_running_loop()
    last: asyncio.Future[int] = loop.create_future()

    def done(offset: int | None, error: Exception | None) -> None:
        if error is not None:
            last.set_exception(error)
        else:
            last.set_result(offset or 0)

    producer = LogProducer(settings, deadline_s=30, on_lost=lambda _: None)
    await producer.start()
    try:
        producer.send_many(topic, partition, [(b"key", value) for value in values], done)
        return await last
    finally:
        await producer.drop(5)


async def found_configs(settings: Settings, topic: str) -> dict[str, str]:
    async with admin(settings, 10) as client:
        answers = await client.describe_configs([ConfigResource(ConfigResourceType.TOPIC, topic)])
    return {name: value for name, value, *_ in answers[0].resources[0][4]}


async def change_configs(settings: Settings, topic: str, **configs: str) -> None:
    """Change a topic's configs (with _ for the dots of their names); all others go back to the broker's defaults."""
    wanted = {name.replace("_", "."): value for name, value in configs.items()}
    async with admin(settings, 10) as client:
        await client.alter_configs([ConfigResource(ConfigResourceType.TOPIC, topic, wanted)])
    while wanted.items() - (await found_configs(settings, topic)).items():  # noqa: ASYNC110 - it is not ours to signal
        await asyncio.sleep(0.05)


def events(settings: Settings, partition: int = 0) -> TP:
    return TP(settings.topics.events, partition)


def commands(settings: Settings, partition: int = 0) -> TP:
    return TP(settings.topics.trigger, partition)


class Child:
    """A member in a process of its own. It says what happens in lines of JSON; `behaviour` is a name in `BEHAVIOURS`."""

    def __init__(self, settings: Settings, behaviour: str, folder: Path, environ: dict[str, str]) -> None:
        self.out = folder / f"{behaviour}-{time.monotonic_ns()}.jsonl"
        self.log = self.out.with_suffix(".log")
        with self.out.open("wb") as out, self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "tests.members", behaviour, settings.model_dump_json(exclude_none=True)],
                stdout=out,
                stderr=log,
                cwd=Path(__file__).parents[1],
                env={**os.environ, **environ},
            )

    def said(self, what: str) -> list[dict[str, Any]]:
        """What it has said so far under this name."""
        lines = [json.loads(line) for line in self.out.read_text().splitlines() if line.endswith("}")]
        return [line for line in lines if line["what"] == what]

    def send_signal(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    async def exit_code(self) -> int:
        """Wait for its end."""
        await until(lambda: self.process.poll() is not None, f"the end of the member ({self.log.read_text()[-2000:]})")
        return self.process.returncode


@contextmanager
def child(settings: Settings, behaviour: str, folder: Path, environ: dict[str, str] | None = None) -> Iterator[Child]:
    """A member in a process of its own, killed at the end of the block if it still runs."""
    started = Child(settings, behaviour, folder, environ or {})
    try:
        yield started
    finally:
        with contextlib.suppress(ProcessLookupError):
            started.process.kill()
        started.process.wait()


def say(what: str, **more: Any) -> None:
    print(json.dumps({"what": what, **more}), flush=True)


class Telling(Recorder):
    """Says what it is handed, and commits all of it once a second."""

    group: ConsumerGroup

    async def assigned(self, assignment: frozenset[TP], generation: int) -> Assignment:
        say("assigned", generation=generation, partitions=sorted(assignment))
        return await super().assigned(assignment, generation)

    async def revoked(self) -> None:
        say("revoked", accepted=await self.group.commit(self.done()))

    def batch(self, tp: TP, records: Sequence[Record]) -> None:
        say("batch", tp=tp, first=records[0].offset, last=records[-1].offset)
        super().batch(tp, records)

    def done(self) -> dict[TP, int]:
        return {tp: offsets[-1] + 1 for tp, offsets in self.offsets.items() if tp in self.group.assignment}


class Raising(Telling):
    """Fails on a value that says so."""

    def batch(self, tp: TP, records: Sequence[Record]) -> None:
        if any(record.value == b"raise" for record in records):
            raise ValueError("a batch that cannot be taken")
        super().batch(tp, records)


class Hanging(Telling):
    """Never answers what it is given, and never lets go of it."""

    async def assigned(self, assignment: frozenset[TP], generation: int) -> Assignment:
        await super().assigned(assignment, generation)
        await asyncio.Event().wait()
        raise AssertionError("unreachable")

    async def revoked(self) -> None:
        say("revoked")
        await asyncio.Event().wait()


class Confirming(Telling):
    """Asks again and again whether the first partition of the events is its own, and says each change of the answer."""

    async def ask(self, tp: TP) -> None:
        before: tuple[bool, int] | None = None
        while True:
            asked_under = self.group.generation
            answer = (await self.group.confirm(tp), asked_under)
            if answer != before:
                say("confirmed" if answer[0] else "refused", generation=asked_under)
            before = answer
            await asyncio.sleep(0.2)


BEHAVIOURS: dict[str, type[Telling]] = {
    "telling": Telling,
    "raising": Raising,
    "hanging": Hanging,
    "confirming": Confirming,
}


async def run_child(behaviour: str, settings: Settings) -> int:
    handler = BEHAVIOURS[behaviour]()
    topics = settings.topics
    app = build_app(
        settings, group=settings.kafka_consumer_group, topics=[topics.trigger, topics.events], handler=handler
    )
    handler.group = app.group
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)

    async def commit() -> None:
        while True:
            await asyncio.sleep(1)
            if await app.group.commit(handler.done()):
                say("committed", offsets=sorted(handler.done().items()))

    beside = [asyncio.ensure_future(commit())]
    if isinstance(handler, Confirming):
        beside.append(asyncio.ensure_future(handler.ask(events(settings))))
    say("started")
    code = await run_app(app, stop, grace_s=3)
    say("ended", code=code)
    for task in beside:
        task.cancel()
    return code


if __name__ == "__main__":
    sys.exit(asyncio.run(run_child(sys.argv[1], Settings.model_validate_json(sys.argv[2]))))
