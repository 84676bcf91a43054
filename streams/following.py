"""Topics as they grow, without a group: from given offsets on, for ever, and an error whenever that stalls."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterable, Mapping, Sequence
from typing import Final

from aiokafka import TopicPartition
from aiokafka.errors import KafkaError, OffsetOutOfRangeError

from schemas.errors import BrokerAway, LogMismatch
from schemas.ports import TP, Record
from schemas.settings import Settings
from streams.kafka import Client, LogReader, answering, reader_consumer, stop_client

ANSWER_S: Final = 5.0
"""Bound of each question to the broker."""
CHECK_S: Final = 2.0
"""How often the broker is asked for the ends of the partitions."""
STALLS_MAX: Final = 3
"""Checks in a row that found records ahead while none came: then reading begins anew."""
RECORDS_AT_ONCE: Final = 5_000
_POLL_MS: Final = 200


class TopicFollower:
    """Reads along, one stream at a time. `aclose` it at the end."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._reader = LogReader(settings, bound_s=ANSWER_S)
        self.at: dict[TP, int] = {}
        """Offset from which each partition is read on: behind holes, such as compaction leaves, there is no record to tell."""

    async def aclose(self) -> None:
        await self._reader.close()

    async def end_offsets(self, tps: Iterable[TP]) -> dict[TP, int]:
        """Offset after the last record of each. Raises BrokerAway."""
        return await self._reader.end_offsets(tps)

    async def follow(self, positions: Mapping[TP, int]) -> AsyncGenerator[tuple[TP, Sequence[Record]], None]:
        """Records in the order of each partition; offset 0 means the first record that is kept. After each check of the
        ends, which also shows that the broker answers, one partition comes with no records.

        Raises BrokerAway when the broker does not answer or brings nothing of what it has, LogMismatch when a partition
        does not hold an offset: call it again, or do not.
        """
        begins = await self._reader.begin_offsets(positions)
        at = self.at = {tp: position or begins[tp] for tp, position in positions.items()}
        consumer = reader_consumer(self._settings)
        try:
            await self._start(consumer, at)
            checked, stalls = 0.0, 0
            loop = asyncio.get_running_loop()
            while True:
                for tp, records in (await self._fetch(consumer)).items():
                    at[tp], stalls = records[-1].offset + 1, 0
                    yield tp, records
                if loop.time() - checked > CHECK_S:
                    checked = loop.time()
                    await self._pass_holes(consumer, at)
                    stalls = stalls + 1 if await self._ahead(at) else 0
                    if stalls > STALLS_MAX:
                        raise self._away("it has records that it does not bring")
                    yield next(iter(at)), ()
        finally:
            await stop_client(consumer)

    async def _start(self, consumer: Client, at: Mapping[TP, int]) -> None:
        async with answering(self._settings, ANSWER_S):
            await consumer.start()
        consumer.assign([TopicPartition(*tp) for tp in at])
        for tp, position in at.items():
            consumer.seek(TopicPartition(*tp), position)

    async def _fetch(self, consumer: Client) -> dict[TP, Sequence[Record]]:
        try:
            fetched = await consumer.getmany(timeout_ms=_POLL_MS, max_records=RECORDS_AT_ONCE)
        except OffsetOutOfRangeError as error:
            ((tp, offset), *_) = error.args[0].items()
            raise self._mismatch(TP(*tp), f"it does not hold offset {offset}") from error
        except KafkaError as error:
            raise self._away(str(error)) from error
        return {TP(*tp): records for tp, records in fetched.items() if records}

    async def _pass_holes(self, consumer: Client, at: dict[TP, int]) -> None:
        async with answering(self._settings, ANSWER_S):
            for tp, offset in at.items():
                at[tp] = max(offset, await consumer.position(TopicPartition(*tp)))

    async def _ahead(self, at: Mapping[TP, int]) -> bool:
        """Whether there are records to come. Raises LogMismatch when a partition ends before what was read of it."""
        ends = await self._reader.end_offsets(at)
        for tp, end in ends.items():
            if end < at[tp]:
                raise self._mismatch(tp, f"it ends at {end}, before offset {at[tp]}, to which it was read")
        return any(end > at[tp] for tp, end in ends.items())

    def _away(self, reason: str) -> BrokerAway:
        return BrokerAway(address=self._settings.kafka_bootstrap_servers, reason=reason)

    def _mismatch(self, tp: TP, reason: str) -> LogMismatch:
        return LogMismatch(partition=tp.partition, topic=tp.topic, reason=reason)
