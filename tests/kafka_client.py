"""A Kafka client that knows the documents and nothing of the product's code."""

from __future__ import annotations

import json
from typing import Any, Final

from aiokafka import AIOKafkaProducer

from schemas.settings import Settings
from tests.fleet import until
from tests.kafka_dump import dump
from tests.reader import Raw, Reader

WITHIN_S: Final = 40.0


class Client:
    """Puts commands and reads topics."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings

    async def put(self, value: Any, *, key: bytes | None = None, partition: int | None = None) -> tuple[int, int]:
        """Put a message (JSON, or bytes as they are) on the commands' topic; where it stands."""
        producer = AIOKafkaProducer(bootstrap_servers=self.settings.kafka_bootstrap_servers)
        await producer.start()
        try:
            data = value if isinstance(value, bytes) else json.dumps(value).encode()
            told = await producer.send_and_wait(self.settings.topics.trigger, data, key=key, partition=partition)
            return told.partition, told.offset
        finally:
            await producer.stop()

    async def topic(self, name: str) -> dict[int, list[Raw]]:
        settings = self.settings
        return (await dump(settings.kafka_bootstrap_servers, settings.workflow_topic_prefix, [name]))[
            f"workflow.{name}"
        ]

    async def history(self, run_id: str) -> list[dict[str, Any]]:
        """The facts of a run, in order, wherever they stand."""
        facts = []
        for number, log in (await self.topic("events")).items():
            reader = Reader(number, self.settings.workflow_partitions)
            facts += [
                reader.event for record in log if not reader.take(record.value) and reader.event["subject"] == run_id
            ]
        return facts

    async def ended(self, run_id: str) -> list[dict[str, Any]]:
        """Its facts, once there is an end among them."""
        found: list[dict[str, Any]] = []

        async def has_end() -> bool:
            found[:] = await self.history(run_id)
            return bool(found) and found[-1]["type"] == "RunCompleted"

        await until(has_end, f"the end of {run_id}", WITHIN_S)
        return found

    async def run_of(self, payload: dict[str, Any]) -> str:
        """The id of the one run with this payload."""
        found: list[str] = []

        async def is_there() -> bool:
            records = [
                json.loads(record.value or b"") for log in (await self.topic("events")).values() for record in log
            ]
            begun = [event for event in records if event["type"] == "RunRequested"]
            found[:] = [event["subject"] for event in begun if event["data"]["payload"] == payload]
            return bool(found)

        await until(is_there, f"a run with the payload {payload}", WITHIN_S)
        assert len(found) == 1
        return found[0]

    async def rejected(self, partition: int, offset: int) -> dict[str, Any]:
        """What is said of the record that stood there."""
        found: list[dict[str, Any]] = []

        async def is_there() -> bool:
            records = [json.loads(record.value or b"") for record in (await self.topic("rejected"))[0]]
            found[:] = [
                each["data"]
                for each in records
                if (each["data"]["partition"], each["data"]["offset"]) == (partition, offset)
            ]
            return bool(found)

        await until(is_there, f"the rejection of {partition}/{offset}", WITHIN_S)
        assert found[0]["topic"] == self.settings.topics.trigger
        return found[0]
