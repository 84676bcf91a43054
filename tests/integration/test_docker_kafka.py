"""The Kafka of docker-compose.yml: its settings, tried on the embedded broker."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from ruamel.yaml import YAML

from ops.embedded.kafka import KafkaServer
from ops.ports import LOOPBACK, free_port
from ops.reaper import Reaper
from tests import servers

ROOT: Final = Path(__file__).parents[2]
INSIDE, OUTSIDE, CONTROLLER = "19092", "9092", "29093"


class ComposeKafka(KafkaServer):
    """The embedded broker with the properties that the image makes of the compose file's variables."""

    def __init__(self, folder: Path, log: Path, reaper: Reaper) -> None:
        super().__init__(folder, log, reaper, port=None)
        taken = frozenset({self.port})
        self.outside = free_port(besides=taken)
        self._controller = free_port(besides=taken | {self.outside})

    def _write_properties(self) -> Path:
        self.folder.mkdir(parents=True, exist_ok=True)
        variables = YAML(typ="safe").load(ROOT / "docker-compose.yml")["services"]["kafka"]["environment"]
        lines = [
            f"{name.removeprefix('KAFKA_').replace('_', '.').lower()}={value}" for name, value in variables.items()
        ]
        text = "\n".join(lines).replace("/var/lib/kafka/data", str(self.folder / "data"))
        text = (
            text.replace("${KAFKA_PORT:-9092}", OUTSIDE)
            .replace("${KAFKA_LOG_FLUSH_INTERVAL_MESSAGES:-", "")
            .replace("}", "")
        )
        text = text.replace("kafka:", f"{LOOPBACK}:").replace("://:", f"://{LOOPBACK}:")
        for port, ours in ((INSIDE, self.port), (CONTROLLER, self._controller), (OUTSIDE, self.outside)):
            text = text.replace(f":{port}", f":{ours}")
        path = self.folder / "server.properties"
        path.write_text(text + "\n")
        return path


@pytest.mark.long
async def test_both_listeners_serve_the_platform() -> None:
    """A record written from outside is read by a group from inside."""
    with servers.server_folder() as folder, servers.closing_reaper() as reaper:
        server = ComposeKafka(folder / "kafka", folder / "kafka.log", reaper)
        server.start()
        try:
            inside, outside = f"{LOOPBACK}:{server.port}", f"{LOOPBACK}:{server.outside}"
            admin = AIOKafkaAdminClient(bootstrap_servers=inside)
            await admin.start()
            await admin.create_topics([NewTopic("asked-for", 2, 1)])
            await admin.close()
            async with AIOKafkaProducer(bootstrap_servers=outside, acks="all", enable_idempotence=True) as producer:
                await producer.send_and_wait("asked-for", b"hello")
            consumer = AIOKafkaConsumer(
                "asked-for",
                bootstrap_servers=inside,
                group_id="g",
                auto_offset_reset="earliest",
                session_timeout_ms=6000,
            )
            async with consumer:
                assert (await consumer.getone()).value == b"hello"
        finally:
            server.stop()
