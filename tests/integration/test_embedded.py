"""The embedded servers on their own."""

from __future__ import annotations

import asyncio
import os
import shutil
import subprocess
import sys
import time
from functools import partial
from pathlib import Path

import asyncpg
import psutil
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient, NewTopic

from ops.embedded.kafka import KafkaServer
from ops.embedded.postgres import PostgresServer
from ops.errors import ServerNotStarted
from schemas.settings import Settings
from tests import servers
from tests.fleet import until

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]


async def create_topic(address: str, name: str) -> None:
    admin = AIOKafkaAdminClient(bootstrap_servers=address)
    await admin.start()
    try:
        await admin.create_topics([NewTopic(name, 2, 1)])
    finally:
        await admin.close()


async def produce(address: str, topic: str, *values: bytes) -> None:
    async with AIOKafkaProducer(bootstrap_servers=address, enable_idempotence=True, compression_type="lz4") as producer:
        for value in values:
            await producer.send_and_wait(topic, value)


async def consume(address: str, topic: str, count: int) -> set[bytes]:
    consumer = AIOKafkaConsumer(topic, bootstrap_servers=address, auto_offset_reset="earliest")
    async with consumer, asyncio.timeout(30):
        return {(await consumer.getone()).value for _ in range(count)}


@pytest.mark.long
async def test_records_survive_the_kill_of_kafka(own_kafka: KafkaServer) -> None:
    """After kill -9 the broker comes back on its port with what it had acknowledged."""
    address = own_kafka.address
    await create_topic(address, "t")
    await produce(address, "t", b"1", b"2")
    own_kafka.kill()
    assert own_kafka.pid is None
    own_kafka.start()
    assert own_kafka.address == address
    await produce(address, "t", b"3")
    assert await consume(address, "t", 3) == {b"1", b"2", b"3"}


async def test_rows_survive_the_kill_of_postgres(own_postgres: PostgresServer) -> None:
    """After kill -9 PostgreSQL comes back on its port with what was committed, fsync on."""
    dsn = own_postgres.dsn
    connection = await asyncpg.connect(dsn)
    await connection.execute("CREATE TABLE t (n int); INSERT INTO t VALUES (1)")
    assert await connection.fetchval("SHOW fsync") == "on"
    own_postgres.kill()
    own_postgres.start()
    assert own_postgres.dsn == dsn
    connection.terminate()
    connection = await asyncpg.connect(dsn)
    assert await connection.fetchval("SELECT n FROM t") == 1
    await connection.close()


async def test_postgres_wants_its_password(own_postgres: PostgresServer) -> None:
    """Another user of the machine cannot log in without the password file."""
    with pytest.raises(asyncpg.InvalidPasswordError):
        await asyncpg.connect(own_postgres.dsn.replace(own_postgres.password, "wrong"))


async def test_a_frozen_postgres_answers_nothing_until_it_is_thawed(own_postgres: PostgresServer) -> None:
    """Freezing keeps connections open without an answer; thawing answers them."""
    connection = await asyncpg.connect(own_postgres.dsn)
    own_postgres.freeze()
    answer = asyncio.ensure_future(connection.fetchval("SELECT 1"))
    done, _ = await asyncio.wait({answer}, timeout=0.3)
    assert not done
    own_postgres.thaw()
    async with asyncio.timeout(20):
        assert await answer == 1
    await connection.close()


def test_a_server_that_cannot_start_names_its_log(tmp_path: Path) -> None:
    """A damaged data folder stops the start with PostgreSQL's own words and the place of its log."""
    with servers.closing_reaper() as reaper:
        server = PostgresServer(tmp_path / "postgres", tmp_path / "postgres.log", reaper, port=None)
        (tmp_path / "postgres" / "data").mkdir(parents=True)
        with pytest.raises(ServerNotStarted, match=r"PostgreSQL did not start: .*data.*postgres\.log"):
            server.start()


OWNER = """
import sys, time
from pathlib import Path
from ops.embedded.postgres import PostgresServer
from ops.reaper import Reaper
folder = Path(sys.argv[1])
server = PostgresServer(folder / "postgres", folder / "postgres.log", Reaper(), port=None)
server.start()
print(server.pid, flush=True)
time.sleep(600)
"""


def test_a_server_ends_cleanly_when_its_owner_is_killed() -> None:
    """The kill -9 of the owner leaves no server behind, and the server shut down in order."""
    with servers.server_folder() as folder:
        owner = subprocess.Popen(
            [sys.executable, "-c", OWNER, str(folder)], cwd=ROOT, stdout=subprocess.PIPE, text=True
        )
        assert owner.stdout is not None
        with owner.stdout:
            server = psutil.Process(int(owner.stdout.readline()))
        owner.kill()
        owner.wait()
        server.wait(30)
        assert "database system is shut down" in (folder / "postgres.log").read_text()


CONTAINER = """chown dac_override fowner fsetid kill setgid setuid setpcap net_bind_service net_raw sys_chroot mknod
audit_write setfcap"""
START = """
import sys
from pathlib import Path
from ops.embedded.kafka import KafkaServer
from ops.embedded.postgres import PostgresServer
from ops.reaper import Reaper
folder, reaper = Path(sys.argv[1]), Reaper()
for kind in (PostgresServer, KafkaServer):
    server = kind(folder / kind.role, folder / f"{kind.role}.log", reaper, port=None)
    server.start()
    server.stop()
"""


@pytest.mark.long
@pytest.mark.skipif(os.geteuid() != 0 or shutil.which("setpriv") is None, reason="takes privileges of root away")
def test_servers_start_with_the_privileges_of_a_container() -> None:
    """Root in a container is less than root; the servers start all the same, in a folder that is closed to others."""
    capabilities = ",".join(["-all", *(f"+{name}" for name in CONTAINER.split())])
    few = ["setpriv", f"--bounding-set={capabilities}", f"--inh-caps={capabilities}"]
    with servers.server_folder() as folder:
        folder.chmod(0o700)
        done = subprocess.run(
            [*few, sys.executable, "-c", START, str(folder)], cwd=ROOT, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr


async def test_each_test_has_a_world_of_its_own(settings: Settings, postgres_dsn: str) -> None:
    """The settings of a test name its own database, topics and groups."""
    assert settings.postgres_dsn.partition("?")[0] == postgres_dsn.partition("?")[0]
    connection = await asyncpg.connect(postgres_dsn)
    assert await connection.fetchval("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == 0
    await connection.close()
    await create_topic(settings.kafka_bootstrap_servers, settings.topics.events)
    await produce(settings.kafka_bootstrap_servers, settings.topics.events, b"1")
    assert settings.topics.events.startswith(settings.workflow_topic_prefix)
    assert settings.kafka_consumer_group.startswith(settings.workflow_topic_prefix)


async def test_the_topics_of_a_test_are_deleted(kafka: servers.Address) -> None:
    """Deleting by prefix takes the topics of one test and no others.

    The broker answers both requests before its own metadata tells of them, so both are waited for.
    """
    gone, kept = f"gone{time.monotonic_ns()}.a", f"kept{time.monotonic_ns()}.b"
    for name in (gone, kept):
        await create_topic(kafka.address, name)
    admin = AIOKafkaAdminClient(bootstrap_servers=kafka.address)
    await admin.start()
    try:

        async def left(*names: str) -> bool:
            return [name for name in (gone, kept) if name in await admin.list_topics()] == [*names]

        await until(partial(left, gone, kept), "both topics are told of", 30)
        await servers.delete_topics(kafka.address, "gone")
        await until(partial(left, kept), "one topic is left", 30)
    finally:
        await admin.close()
