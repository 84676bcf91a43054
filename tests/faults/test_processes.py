"""kill -9 and SIGSTOP of the platform's own processes under load; each test ends before the history checker."""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path

import orjson
import pytest

from schemas.settings import Settings
from streams.group import ConsumerGroup
from tests.checker import Judge
from tests.fleet import Fleet, Member, platform, runs_effects, until
from tests.judging import judged, records, recovery_s
from tests.members import Recorder, member
from tests.workload import mix

pytestmark = [pytest.mark.long, pytest.mark.timeout(180)]


async def busiest(fleet: Fleet) -> Member:
    """The worker that carries out the most effects, once there are some."""
    found: list[tuple[int, Member]] = []

    async def works() -> bool:
        counts = [(runs_effects(await worker.report()), worker) for worker in fleet.of("worker")]
        found[:] = [max(counts, key=lambda pair: pair[0])]
        return found[0][0] >= 5

    await until(works, "a worker carries out effects", 30)
    return found[0][1]


async def test_a_worker_is_killed_in_the_middle_of_200_runs(settings: Settings, tmp_path: Path) -> None:
    """Of three workers on 8 partitions one dies with its webhooks under way: the others take over what it had begun."""
    async with platform(settings, tmp_path, workers=3) as fleet:
        await fleet.trigger(200, mix(kinds=("slow", "sleeps", "flaky"), wait_s=(3, 4, 5, 6)), rate=150)
        victim, before = await busiest(fleet), await records(fleet.settings)
        killed_at_s = time.time()
        victim.kill()
        await fleet.trigger(20)
        judge = await judged(fleet, earlier=before)
        assert judge.counts["StepInterrupted"] >= 1
        took_s = sorted(recovery_s(judge.topics, victim.pid, killed_at_s).values())
        print("seconds from the kill to the first fact of each partition:", [f"{each:.1f}" for each in took_s])
        assert took_s


async def test_a_frozen_worker_wakes_up_as_a_zombie(settings: Settings, tmp_path: Path) -> None:
    """SIGSTOP past the session timeout, another takes over, SIGCONT: whatever the zombie still does changes nothing, and
    then it works again."""
    async with platform(settings, tmp_path, workers=2) as fleet:
        async with fleet.load(rate=15):
            victim, before = await busiest(fleet), await records(fleet.settings)
            other = next(worker for worker in fleet.of("worker") if worker is not victim)
            victim.freeze()

            async def owns_all() -> bool:
                return (await other.report())["partitions"] == "ok: owns 8 of 8 assigned"

            await until(owns_all, "the other one owns all partitions", 60)
            victim.thaw()
            await fleet.owned()
        judge = await judged(fleet, earlier=before)
        assert judge.counts["StepInterrupted"] >= 1


async def test_a_projector_is_killed(settings: Settings, tmp_path: Path) -> None:
    """The workers go on without it; the next one reads on where the tables stand."""
    async with platform(settings, tmp_path) as fleet:
        async with fleet.load(rate=40):
            await fleet.more()
            before = await records(fleet.settings)
            fleet.of("projector")[0].kill()
            await fleet.more()
            fleet.start("projector")
            await fleet.more()
        await judged(fleet, earlier=before)


async def test_an_api_is_killed(settings: Settings, tmp_path: Path) -> None:
    """A client whose answer was lost asks another process with the same key, and it is still one run."""
    async with platform(settings, tmp_path, apis=2) as fleet:
        async with fleet.load(rate=40):
            await fleet.more()
            before = await records(fleet.settings)
            fleet.of("api")[0].kill()
            await fleet.more()
        await judged(fleet, earlier=before)


async def test_a_long_webhook_lives_through_three_joins(settings: Settings, tmp_path: Path) -> None:
    """Requests of 20 s go on while three others join, take partitions away and leave again, which takes 4 s each on a busy
    machine: none is made twice."""
    async with platform(settings, tmp_path) as fleet:
        await fleet.trigger(16, mix(kinds=("slow",), wait_s=(20,)))
        await until(lambda: received(fleet, 16), "all requests are under way", 30)
        for _ in range(3):
            async with member(settings, Recorder(paused=lambda assignment: assignment)) as other:
                await until(lambda: has_some(other), "the other one has partitions", 30)
            await fleet.owned()
        judge = await judged(fleet)
        assert judge.counts["StepInterrupted"] == 0
        calls = Counter(request["headers"]["idempotency-key"] for request in fleet.deliveries())
        assert set(calls.values()) == {1}
        assert max(takes_during_calls(judge)) >= 3, "the joins took longer than the requests"


async def received(fleet: Fleet, count: int) -> bool:
    return len(fleet.deliveries()) >= count


async def has_some(group: ConsumerGroup) -> bool:
    return bool(group.assignment)


def takes_during_calls(judge: Judge) -> list[int]:
    """For each run, how often its partition was taken between the start and the end of its first step."""
    found = []
    for log in judge.topics["workflow.events"].values():
        events = [orjson.loads(record.value or b"") for record in log]
        places = {(event["subject"], event["type"]): at for at, event in reversed(list(enumerate(events)))}
        for run in {event["subject"] for event in events if event["type"] == "RunRequested"}:
            between = events[places[run, "StepStarted"] : places[run, "StepSucceeded"]]
            found.append(sum(event["type"] == "PartitionTaken" for event in between))
    return found
