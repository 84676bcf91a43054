"""The worker around the engine, on a log and a group in memory: loading, the check of the log, the store's absence, offsets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

import orjson
import pytest

from schemas.effects import EffectResult
from schemas.errors import LogMismatch, StoreAway
from schemas.identity import digest, home
from schemas.ports import TP, Done
from schemas.run import Run
from schemas.settings import Settings
from schemas.store import Mark, Snapshot, Tip
from streams import worker as module
from streams.decider import Start
from streams.worker import Parts, Worker
from tests.fake_log import FakeGroup, FakeTopics
from tests.given import DONE, webhook, workflow
from tests.histories import Log, command

PARTITIONS = 2


class Store:
    """What the tables know; away while it is told to be."""

    remembers = True

    def __init__(self) -> None:
        self.marks: dict[int, Mark] = {}
        self.known: dict[str, Tip] = {}
        self.away = False
        self.questions = 0

    async def snapshot(self, partition: int) -> Snapshot:
        self._answer()
        return Snapshot(self.marks.get(partition), [])

    async def tips(self, partition: int, run_ids: Collection[str]) -> tuple[int, Mapping[str, Tip]]:
        return (await self.tips_of({partition: run_ids}))[partition]

    async def tips_of(self, wanted: Mapping[int, Collection[str]]) -> dict[int, tuple[int, Mapping[str, Tip]]]:
        self._answer()
        self.questions += 1
        known = self.known
        return {n: (10**6, {run_id: known[run_id] for run_id in ids if run_id in known}) for n, ids in wanted.items()}

    def _answer(self) -> None:
        if self.away:
            raise StoreAway(reason="the test says so")


class Outlet:
    """What is sent stands in its topic at once."""

    def __init__(self, topics: FakeTopics) -> None:
        self.topics = topics
        self.sent: dict[str, list[bytes]] = {}

    def send(self, topic: str, partition: int, records: Sequence[tuple[bytes, bytes]], done: Done) -> None:
        for _, value in records:
            self.sent.setdefault(topic, []).append(value)
            if topic == self.topics.settings.topics.events:
                self.topics.log.append(partition, value)
        asyncio.get_running_loop().call_soon(done, 0, None)

    def send_until_acknowledged(
        self, topic: str, partition: int, key: bytes, value: bytes, then: Callable[[], None]
    ) -> None:
        self.send(topic, partition, [(key, value)], lambda _offset, _error: then())

    async def ready(self) -> None: ...

    def replace(self) -> None: ...

    async def flush(self, bound_s: float) -> None: ...


class Effects:
    """Every attempt succeeds at once."""

    def start(self, run: Run, config: dict[str, Any], done: Callable[[EffectResult], None]) -> None:
        asyncio.get_running_loop().call_soon(done, DONE)

    def cancel(self, run_id: str) -> None: ...

    async def drain(self, bound_s: float) -> None: ...


class World:
    """A worker and everything around it."""

    def __init__(self) -> None:
        self.settings = Settings(workflow_partitions=PARTITIONS)
        self.topics = FakeTopics(self.settings, Log(PARTITIONS))
        self.store, self.outlet = Store(), Outlet(self.topics)
        self.failures: list[BaseException] = []
        parts = Parts(
            store=self.store,
            reader=self.topics,
            outlet=self.outlet,  # type: ignore[arg-type]
            resolver=self,  # type: ignore[arg-type]
            effects=Effects(),
            evaluator=self,
            token=iter(map(str, range(99))).__next__,
        )
        self.worker = Worker(self.settings, "w1", parts)
        self.worker.on_failure = self.failures.append
        self.group = FakeGroup(self.topics, self.worker)
        self.worker.connect(self.group)

    def resolve(self, _partition: int, _offset: int, command: Any) -> Start:
        return Start(command, 1, workflow(webhook()), None)

    def forget(self) -> None: ...

    def now(self, _run: Run, _expressions: Sequence[str]) -> None: ...

    async def later(self, _run: Run, expressions: Sequence[str]) -> Mapping[str, Any]:
        return dict.fromkeys(expressions)

    async def until(self, reached: Callable[[], object]) -> None:
        """Let records flow until something is so."""
        async with asyncio.timeout(10):
            while not reached():
                self.group.pump()
                await asyncio.sleep(0.001)

    def told(self) -> list[str]:
        """Runs that were announced."""
        completed = self.outlet.sent.get(self.settings.topics.completed, [])
        return sorted(orjson.loads(value)["subject"] for value in completed)


@pytest.fixture
async def world() -> AsyncIterator[World]:
    """A worker that ticks; it has not joined its group yet."""
    world = World()
    world.worker.start()
    yield world
    world.worker.close()


def put(world: World, *run_ids: str) -> None:
    for run_id in run_ids:
        world.topics.put_command(home(run_id, PARTITIONS), command(run_id, "w"))


async def test_a_run_through_the_worker(world: World) -> None:
    """Commands go in, announcements come out, and the offsets that are committed lie behind both."""
    put(world, "r1", "r2", "r3")
    await world.group.join()
    await world.until(lambda: len(world.told()) == 3)
    await world.worker._commit(None)
    events, commands = world.settings.topics.events, world.settings.topics.trigger
    assert world.told() == ["r1", "r2", "r3"]
    for number in range(PARTITIONS):
        assert world.group.commits[-1][TP(events, number)] == len(world.topics.log.records[number])
        assert world.group.commits[-1][TP(commands, number)] == len(world.topics.commands[number])


async def test_a_partition_without_a_fold_is_silent_until_it_is_loaded(world: World) -> None:
    """It is paused while its snapshot is read, and the store's absence is shown; the rest is as if nothing had been."""
    world.store.away = True
    put(world, "r1")
    await world.group.join()
    assert world.group.paused == world.topics.tps
    await world.until(lambda: len(world.worker.store_waits) == PARTITIONS)
    world.store.away = False
    await world.until(lambda: world.told() == ["r1"])
    assert (world.group.paused, world.worker.store_waits) == (set(), {})


async def test_a_fold_in_memory_goes_on_at_its_position(world: World) -> None:
    """A partition that comes back is not loaded again, and flows at once, from the last record that is known on."""
    put(world, "r1")
    await world.group.join()
    await world.until(lambda: world.told() == ["r1"])
    world.store.away = True
    await world.group.leave()
    await world.group.join()
    positions = {n: world.group.position(TP(world.settings.topics.events, n)) for n in range(PARTITIONS)}
    assert positions == {n: len(records) - 1 for n, records in enumerate(world.topics.log.records)}
    assert world.group.paused == set()


async def test_offsets_of_a_log_that_was_cut_say_nothing(world: World) -> None:
    """The group remembers more than its partitions hold: commands are taken from the start, and ends are announced, also
    where they come to stand below the offset that was committed."""
    world.group.remembered = dict.fromkeys(world.topics.tps, 500)
    put(world, "r1", "r2", "r3")
    await world.group.join()
    await world.until(lambda: world.told() == ["r1", "r2", "r3"])


async def test_offsets_of_the_log_as_it_is_count(world: World) -> None:
    """Commands below the group's offset were decided, and are not taken again."""
    put(world, "r1")
    world.group.remembered = {TP(world.settings.topics.trigger, home("r1", PARTITIONS)): 1}
    put(world, "r2")
    await world.group.join()
    await world.until(lambda: world.told() == ["r2"])


async def test_look_ups_are_put_together(world: World) -> None:
    """While the store answers one question, those of all partitions are gathered for the next; a yes settles the start."""
    world.store.known = {f"r{n}": Tip(4, "00", True) for n in range(50)}
    await world.group.join()
    await world.until(lambda: all(part.owner for part in world.worker.engine.partitions.values()))
    for part in world.worker.engine.partitions.values():
        part.mark = 1
    before = world.store.questions
    put(world, *world.store.known)
    await world.until(lambda: sum(part.taken for part in world.worker.engine.partitions.values()) == 50)
    await world.until(lambda: not any(part.held for part in world.worker.engine.partitions.values()))
    assert world.store.questions - before <= 3
    assert world.told() == []


# ── the log is not the one that the tables know ──


def fitting(world: World, partition: int) -> Mark:
    """A mark that fits the log."""
    records = world.topics.log.records[partition]
    return Mark(len(records), 1, digest(records[-1].value or b""), world.topics.cluster)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"cluster_id": "another"}, "cluster another"),
        ({"position": 99}, "tables stand at 99"),
        ({"digest": "00" * 16}, "not the one that the tables know"),
    ],
)
async def test_another_log(world: World, monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any], says: str) -> None:
    """The partition stands still with an error that says what differs and what to do; the others go on, and it goes on
    by itself when the tables fit again."""
    monkeypatch.setattr(module, "RECHECK_S", 0.01)
    world.topics.log.take(0)
    fits = fitting(world, 0)
    world.store.marks[0] = replace(fits, **changes)
    put(world, "r1", "r2", "r3", "r4", "r5")
    await world.group.join()
    await world.until(lambda: 0 in world.worker.mismatches and len(world.told()) > 0)
    message = world.worker.mismatches[0].message
    assert says in message
    assert "workflow rebuild" in message
    assert len(world.topics.log.records[0]) == 1
    assert {TP(world.settings.topics.events, 0), TP(world.settings.topics.trigger, 0)} <= world.group.paused
    world.store.marks[0] = fits
    await world.until(lambda: len(world.told()) == 5)
    assert world.worker.mismatches == {}


async def test_a_log_that_became_shorter(world: World) -> None:
    """What is in memory is no fold of a log that ends below it: the process ends, and the next one asks the tables."""
    put(world, "r1", "r2", "r3")
    await world.group.join()
    await world.until(lambda: len(world.told()) == 3)
    await world.group.leave()
    for records in world.topics.log.records:
        del records[1:]
    await world.group.join()
    await world.until(lambda: world.failures)
    assert isinstance(world.failures[0], LogMismatch)


async def test_a_log_that_was_cut_and_grew_again(world: World) -> None:
    """A fold that is kept while its partition is elsewhere rests on a record that is another one now: the process ends."""
    put(world, "r1", "r2", "r3")
    await world.group.join()
    await world.until(lambda: len(world.told()) == 3)
    await world.group.leave()
    for number, records in enumerate(world.topics.log.records):
        length = len(records)
        del records[1:]
        world.topics.log.epochs[number] = 9
        while len(records) <= length:
            world.topics.log.take(number)
    await world.group.join()
    with pytest.raises(LogMismatch, match="not the one that this worker knows"):
        await world.until(lambda: False)
