"""Scenario `takeover`: a worker with many sleeping runs is killed; how soon its successor decides, and what each run costs."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Sequence
from typing import Final

import orjson
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.errors import KafkaError

from schemas.events import PARTITION_TAKEN, RUN_COMPLETED, decode
from schemas.ports import Record
from tests.bench.errors import ScenarioFailed
from tests.bench.figures import Figure, Rounds
from tests.bench.load import LEVEL_S, Starts, send
from tests.bench.log import Watch, following, until
from tests.bench.options import Options
from tests.bench.running import Running, running
from tests.bench.usage import resident_bytes
from tests.bench.warm import warm_up
from tests.bench.workflows import NOOP, PAYLOAD, SLEEPER, start, starts

TAKEOVER_S: Final = 120.0
SETTLE_S: Final = 12.0
"""After it a process has given back to the system what the burst left behind."""
POLL_S: Final = 0.02
ITEMS: Final = 10_000
PAYLOAD_BYTES: Final = len(orjson.dumps(PAYLOAD))


async def run(options: Options) -> list[Figure]:
    """One partition full of sleepers, taken over as often as there are rounds."""
    items = 500 if options.quick else ITEMS
    rounds = Rounds()
    with running(options.folder, partitions=1) as platform:
        async with Watch.open(platform.settings) as watch:
            await warm_up(platform, watch, options)
            await platform.define(SLEEPER)
            count, empty = 10 * items, resident_bytes(platform.process("worker").pid)
            began = time.monotonic()
            await send(
                platform, Starts("/api/v1/trigger/batch", starts(SLEEPER, items), 10, runs_each=items, connections=1)
            )
            await until(lambda: _sleeping(watch, count), f"{count} sleeping runs in the tables", 600.0)
            rounds.add(
                "starts until the tables show them all asleep",
                count / (time.monotonic() - began),
                "runs/s",
                better="more",
            )
            await asyncio.sleep(SETTLE_S)
            _memory(platform, rounds, "memory per sleeping run, first worker", empty, count)
            for _ in range(options.rounds):
                await watch.level(LEVEL_S)
                await _take_over(platform, rounds)
                await asyncio.sleep(SETTLE_S)
                _memory(platform, rounds, "memory per sleeping run, successor", empty, count)
    return rounds.figures()


async def _sleeping(watch: Watch, count: int) -> bool:
    return await watch.runs("RUNNING") == count


def _memory(platform: Running, rounds: Rounds, name: str, empty: int, count: int) -> None:
    grown = resident_bytes(platform.process("worker").pid) - empty
    rounds.add(f"{name}, beside its payload", grown / count - PAYLOAD_BYTES, "bytes", target=2_048.0)


async def _take_over(platform: Running, rounds: Rounds) -> None:
    """Kill the worker, start a run at once, and see the successor take the partition and end that run.

    The successor has its assignment when the group is stable with a member that it did not have before.
    """
    seen: dict[str, float] = {}

    def take(records: Sequence[Record], now: float) -> None:
        for record in records:
            event = decode(record.value)
            if event is not None and event["type"] == PARTITION_TAKEN:
                seen.setdefault("taken", now)
            elif event is not None and event["type"] == RUN_COMPLETED and "taken" in seen:
                seen.setdefault("decided", now)

    worker, group = platform.process("worker").pid, platform.settings.kafka_consumer_group
    admin = AIOKafkaAdminClient(bootstrap_servers=platform.settings.kafka_bootstrap_servers)
    await admin.start()
    try:
        async with following(platform.settings, take):
            before, _ = await _members(admin, group, besides=frozenset())
            killed = time.perf_counter()
            os.kill(worker, signal.SIGKILL)
            await send(platform, Starts("/api/v1/trigger", start(NOOP), 1))
            _, assigned = await _members(admin, group, besides=before)
            await until(lambda: _decided(seen), "a run that the successor decides", TAKEOVER_S)
    finally:
        await admin.close()
    rounds.add("assignment to PartitionTaken in the log", seen["taken"] - assigned, "s")
    rounds.add("assignment to the first run decided", seen["decided"] - assigned, "s", target=5.0)
    rounds.add("kill -9 to the successor's assignment", assigned - killed, "s")
    rounds.add("kill -9 to the first run decided", seen["decided"] - killed, "s")


async def _decided(seen: dict[str, float]) -> bool:
    return "decided" in seen


async def _members(admin: AIOKafkaAdminClient, group: str, *, besides: frozenset[str]) -> tuple[frozenset[str], float]:
    """The members of the group once it is stable with others than those, and when that was seen (perf_counter)."""
    deadline = time.monotonic() + TAKEOVER_S
    while time.monotonic() < deadline:
        members = await _stable_members(admin, group)
        if members - besides:
            return members, time.perf_counter()
        await asyncio.sleep(POLL_S)
    raise ScenarioFailed(f"no successor joined the group within {TAKEOVER_S:g} s")


async def _stable_members(admin: AIOKafkaAdminClient, group: str) -> frozenset[str]:
    """Ids of the members of a group whose assignments have been given out; none while it rebalances or cannot be asked."""
    try:
        (answer,) = await admin.describe_consumer_groups([group])
    except KafkaError as error:
        if not error.retriable:
            raise
        return frozenset()
    ((_code, _group, state, _type, _protocol, members, *_rest),) = answer.groups
    return frozenset(member[0] for member in members) if state == "Stable" else frozenset()
