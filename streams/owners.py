"""Who works on a partition, by the broker's word: the members of the workers' group and how far they have come."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment
from aiokafka.errors import KafkaError, for_code

from schemas.errors import WorkflowError
from schemas.ports import TP, Reader
from schemas.settings import Settings
from streams.kafka import Client, admin
from streams.reasons import Worker

FRESH_S: Final = 1.0
"""An answer of the broker serves every question for so long."""
ASK_S: Final = 2.0
"""Bound of asking; a broker that takes longer does not answer."""
_SHARED_OUT: Final = "Stable"
_LEFT: Final = ("Empty", "Dead")


@dataclass(frozen=True, slots=True)
class _Seen:
    """What the broker said. `others`: of partitions that no member has; `ends` of `workflow.events`; None: not said."""

    others: Worker
    owners: Mapping[int, Worker] = field(default_factory=dict)
    settled: Mapping[int, int] | None = None
    ends: Mapping[int, int] | None = None


class Owners:
    """Asks at most once in FRESH_S, for all partitions at once, and never raises for a broker that is away."""

    def __init__(self, settings: Settings, reader: Reader) -> None:
        self._settings, self._reader = settings, reader
        self._seen, self._seen_at = _Seen(Worker("unknown")), float("-inf")
        self._asking: asyncio.Task[None] | None = None

    async def look(self) -> None:
        """Have an answer that is fresh. Ends within ASK_S."""
        if time.monotonic() < self._seen_at + FRESH_S:
            return
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._ask(), name="owners")
        await asyncio.shield(self._asking)

    def worker(self, partition: int) -> Worker:
        """Who has the partition, by the last look."""
        return self._seen.owners.get(partition, self._seen.others)

    def settled(self, partition: int) -> int | None:
        """Below this offset of `workflow.trigger` every command is settled; None: the broker did not say."""
        return None if self._seen.settled is None else self._seen.settled.get(partition, 0)

    def end(self, partition: int) -> int | None:
        """Offset after the last record of `workflow.events`; None: the broker did not say."""
        return None if self._seen.ends is None else self._seen.ends.get(partition)

    async def _ask(self) -> None:
        group, ends = await asyncio.gather(self._ask_group(), self._ask_ends())
        others, owners, settled = group
        self._seen, self._seen_at = _Seen(others, owners, settled, ends), time.monotonic()

    async def _ask_group(self) -> tuple[Worker, Mapping[int, Worker], Mapping[int, int] | None]:
        settings = self._settings
        try:
            async with admin(settings, ASK_S) as client:
                others, owners = await _members(client, settings.kafka_consumer_group, settings.topics.events)
                return others, owners, await self._settled(client)
        except WorkflowError as error:
            return Worker("unknown", detail=error.message), {}, None
        except KafkaError as error:
            return Worker("unknown", detail=f"{type(error).__name__}: {error}"), {}, None

    async def _settled(self, client: Client) -> Mapping[int, int]:
        topic = self._settings.topics.trigger
        tps = [TP(topic, number) for number in range(self._settings.workflow_partitions)]
        found = await client.list_consumer_group_offsets(self._settings.kafka_consumer_group, partitions=tps)
        return {tp.partition: max(0, committed.offset) for tp, committed in found.items()}

    async def _ask_ends(self) -> Mapping[int, int] | None:
        topic = self._settings.topics.events
        tps = [TP(topic, number) for number in range(self._settings.workflow_partitions)]
        try:
            async with asyncio.timeout(ASK_S):
                return {tp.partition: end for tp, end in (await self._reader.end_offsets(tps)).items()}
        except (TimeoutError, WorkflowError, KafkaError):
            return None


async def _members(client: Client, group: str, topic: str) -> tuple[Worker, Mapping[int, Worker]]:
    """What the members of a group have of a topic, and what to say of the partitions that none has."""
    (answer,) = await client.describe_consumer_groups([group])
    code, _, state, _, _, members, *_ = answer.groups[0]
    if code:
        raise for_code(code)
    return owners_of(state, members, topic)


def owners_of(state: str, members: list[Any], topic: str) -> tuple[Worker, Mapping[int, Worker]]:
    """The same from the broker's answer: the group's state and (member, client, host, metadata, assignment) of each."""
    if state in _LEFT:
        return Worker("none"), {}
    if state != _SHARED_OUT:
        return Worker("moving"), {}
    owners: dict[int, Worker] = {}
    for member, _, host, _, assignment in members:
        worker = Worker("owned", member, host.lstrip("/"))
        if assignment:
            tps = ConsumerProtocolMemberAssignment.decode(assignment).partitions()
            owners |= {tp.partition: worker for tp in tps if tp.topic == topic}
    return Worker("none"), owners
