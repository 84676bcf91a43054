"""The history checker turns red for every build that breaks a promise, on real servers, by what such a build does there."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from ops.embedded.postgres import PostgresServer
from schemas.events import encode, time_text
from schemas.identity import digest
from schemas.settings import Settings
from tests.checker import Judge
from tests.conftest import make_settings
from tests.faults.test_servers import start_directly
from tests.fleet import Fleet, platform, until
from tests.judging import judged, records, violations
from tests.members import produce
from tests.reader import Reader, readable
from tests.servers import Address
from tests.workload import mix

pytestmark = [pytest.mark.long, pytest.mark.timeout(180)]


def red(judge: Judge, *invariants: str) -> None:
    """Each of these was found broken."""
    found = {text.partition(" ")[0] for text in judge.violations}
    assert set(invariants) <= found, judge.violations[:20]


async def late_append(fleet: Fleet, *, epoch: int | None = None, prev: str | None = None) -> None:
    """What a deposed worker has sent may land at any time: here it does, for every run that sleeps, with an epoch or a
    `prev` that makes it an orphan."""
    topics = await records(fleet.settings)
    for number, log in topics["workflow.events"].items():
        last, reader = {}, Reader(number, fleet.settings.workflow_partitions)
        for record in log:
            if not reader.take(record.value) and reader.event["type"] != "PartitionTaken":
                last[reader.event["subject"]] = (reader.event, digest(record.value or b""))
        values = [
            encode(
                "StepSucceeded",
                run,
                {"step": event["data"]["step"], "attempt": event["data"]["attempt"], "output": {"until": "a lie"}},
                time=time_text(0),
                epoch=epoch or event["epoch"],
                seq=event["seq"] + 1,
                prev=prev or tip,
            )
            for run, (event, tip) in last.items()
            if event["type"] == "StepStarted" and "until" in event["data"]
        ]
        if values:
            await produce(fleet.settings, fleet.settings.topics.events, number, values)


async def asleep(fleet: Fleet) -> None:
    """Some runs that sleep, under the second epoch of their partitions."""
    await fleet.of("worker")[0].stop()
    fleet.start("worker")
    await fleet.owned()
    await fleet.trigger(10, mix(kinds=("sleeps",), wait_s=(4,)))

    async def all_sleep() -> bool:
        log = (await records(fleet.settings))["workflow.events"].values()
        events = [readable(record.value) for partition in log for record in partition]
        return len([event for event in events if event is not None and event["type"] == "StepStarted"]) >= 10

    await until(all_sleep, "all runs sleep", 20)


async def test_late_appends_change_nothing(settings: Settings, tmp_path: Path) -> None:
    """The sound build: what lands of an old epoch or beside a chain is an orphan, and no more."""
    async with platform(settings, tmp_path) as fleet:
        await asleep(fleet)
        await late_append(fleet, epoch=1)
        await late_append(fleet, prev="00" * 16)
        judge = await judged(fleet)
        assert judge.counts["orphan old epoch"] >= 10
        assert judge.counts["orphan not the tip"] >= 10


async def test_the_epoch_check_is_off(settings: Settings, tmp_path: Path) -> None:
    """It goes on from a step's end that is no fact: the run has no end in the log, and another one in tables and topics."""
    async with platform(settings, tmp_path, build="no_epoch_check") as fleet:
        await asleep(fleet)
        await late_append(fleet, epoch=1)
        await fleet.ended()
        red(await violations(fleet), "I4", "I8", "I9")


async def test_the_chain_check_is_off(settings: Settings, tmp_path: Path) -> None:
    """The same with an event that does not extend its run."""
    async with platform(settings, tmp_path, build="no_chain_check") as fleet:
        await asleep(fleet)
        await late_append(fleet, prev="00" * 16)
        await fleet.ended()
        red(await violations(fleet), "I4", "I8", "I9")


@pytest.mark.parametrize("build", ["committed_when_taken", "committed_one_too_far"])
async def test_the_acknowledgement_comes_before_the_append(
    build: str, kafka: Address, own_postgres: PostgresServer, topic_prefix: str, tmp_path: Path
) -> None:
    """Starts wait for the store in a worker that has committed them, and die with it: accepted runs never begin."""
    settings = make_settings(kafka.address, own_postgres.dsn, topic_prefix, tmp_path)
    async with platform(settings, tmp_path, build=build) as fleet:
        await fleet.trigger(4, mix(kinds=("noop",)))
        await fleet.ended()
        own_postgres.freeze()
        for _ in range(12):
            fleet.accepted[await start_directly(settings)] = ("noop", {"n": 1})
        await asyncio.sleep(4)
        fleet.of("worker")[0].kill()
        own_postgres.thaw()
        fleet.start("worker")
        await fleet.owned()
        await asyncio.sleep(4)
        red(await violations(fleet), "I1")


async def test_the_position_is_outside_the_transaction(settings: Settings, tmp_path: Path) -> None:
    """A projector that dies between position and rows leaves rows out for ever."""
    async with platform(settings, tmp_path, build="position_outside_the_transaction") as fleet:
        async with fleet.load(rate=30):
            for _ in range(3):
                await fleet.more(60)
                fleet.of("projector")[0].kill()
                await fleet.start("projector").ready()
        await fleet.ended()
        red(await violations(fleet), "I9")


async def test_a_retry_has_another_key(settings: Settings, tmp_path: Path) -> None:
    """The receiver cannot tell a retry from a new call."""
    async with platform(settings, tmp_path, build="another_key_for_each_attempt") as fleet:
        await fleet.trigger(3, mix(kinds=("flaky",)))
        await fleet.ended()
        red(await violations(fleet), "I7")


async def test_other_bytes_are_hashed(settings: Settings, tmp_path: Path) -> None:
    """To everybody else the chain is broken from its second event on."""
    async with platform(settings, tmp_path, build="hashed_after_writing_it_anew") as fleet:
        await fleet.trigger(3, mix(kinds=("noop",)))
        await fleet.ended()
        red(await violations(fleet), "I4", "I9")
