"""Fixtures: real servers, started once and only when a test asks for them, and a fresh world on them per test."""

from __future__ import annotations

import contextlib
import gc
import os
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

import hypothesis
import pytest

from ops.embedded import jars
from ops.embedded.kafka import KafkaServer
from ops.embedded.postgres import PostgresServer
from ops.errors import DownloadFailed
from projections.postgres import PostgresStore
from schemas.settings import Settings
from tests import secured, servers

SERVERLESS = {"unit", "property", "simulation"}

# How long an example takes says more about the machine than about the code.
hypothesis.settings.register_profile("ours", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("ours")


def pytest_collection_finish(session: pytest.Session) -> None:
    """Fetch Kafka's jars before the first test, whose timeout is no measure of the network; and what few tests need."""
    if any("tls_postgres" in getattr(item, "fixturenames", ()) for item in session.items):
        with contextlib.suppress(DownloadFailed):
            secured.install(lambda line: print(f"\n{line}", flush=True))
    if all(SERVERLESS & set(item.path.parts) for item in session.items) or "KAFKA_BOOTSTRAP_SERVERS" in os.environ:
        return
    with contextlib.suppress(DownloadFailed):  # the tests that need them will say so
        jars.install(jars.cache_folder(), lambda line: print(f"\n{line}", flush=True))


@pytest.fixture(scope="module", autouse=True)
def nothing_left_open() -> Iterator[None]:
    """What a file's tests left open is theirs: else the garbage collector finds it when it comes by, in any other test."""
    yield
    gc.collect()


@pytest.fixture(scope="session")
def kafka() -> Iterator[servers.Address]:
    """The broker that tests share."""
    with servers.kafka_for_tests() as kafka:
        yield kafka


@pytest.fixture(scope="session")
def postgres() -> Iterator[servers.Address]:
    """The PostgreSQL that tests share; `postgres_dsn` is a database of one's own on it."""
    with servers.postgres_for_tests() as postgres:
        yield postgres


@pytest.fixture
def own_kafka() -> Iterator[KafkaServer]:
    """A broker of this test alone, to be killed, frozen and started again."""
    with servers.kafka_server() as kafka:
        yield kafka


@pytest.fixture
def own_postgres() -> Iterator[PostgresServer]:
    """A PostgreSQL of this test alone, to be killed, frozen and started again."""
    with servers.postgres_server() as postgres:
        yield postgres


@pytest.fixture
async def postgres_dsn(postgres: servers.Address) -> AsyncIterator[str]:
    """A fresh, empty database; it is dropped after the test."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    yield await servers.create_database(postgres.address, name)
    await servers.drop_database(postgres.address, name)


@pytest.fixture
async def postgres_store(postgres_dsn: str) -> AsyncIterator[PostgresStore]:
    """The tables in a database of one's own, empty."""
    store = PostgresStore(postgres_dsn)
    await store.migrate()
    yield store
    await store.close()


@pytest.fixture
async def topic_prefix(kafka: servers.Address) -> AsyncIterator[str]:
    """A prefix that no other test has; topics that start with it are deleted after the test."""
    prefix = f"t{uuid.uuid4().hex[:12]}."
    yield prefix
    await servers.delete_topics(kafka.address, prefix)


@pytest.fixture
def settings(kafka: servers.Address, postgres_dsn: str, topic_prefix: str, tmp_path: Path) -> Settings:
    """Settings of a platform of this test alone, on PostgreSQL; `settings.model_copy(update={…})` for other ones."""
    return make_settings(kafka.address, postgres_dsn, topic_prefix, tmp_path)


def make_settings(bootstrap_servers: str, dsn: str, topic_prefix: str, home: Path) -> Settings:
    parts = urlsplit(dsn)
    return Settings(
        storage_backend="postgres",
        storage_path=home / "store",
        kafka_bootstrap_servers=bootstrap_servers,
        kafka_consumer_group=f"{topic_prefix}workers",
        postgres_host=parts.hostname or "",
        postgres_port=parts.port or 5432,
        postgres_user=unquote(parts.username or ""),
        postgres_password=unquote(parts.password or ""),
        postgres_db=parts.path.lstrip("/"),
        workflow_home=home,
        workflow_topic_prefix=topic_prefix,
        workflow_projector_group=f"{topic_prefix}projectors",
    )


@pytest.fixture(scope="session")
def tls_kafka() -> Iterator[secured.SecureKafka]:
    """The broker without a listener that takes everybody, shared by tests."""
    with secured.secure_kafka() as kafka:
        yield kafka


@pytest.fixture(scope="session")
def tls_postgres() -> Iterator[secured.SecurePostgres]:
    """The PostgreSQL that wants TLS, shared by tests."""
    with secured.secure_postgres() as postgres:
        yield postgres


@pytest.fixture
async def secure_settings(
    tls_kafka: secured.SecureKafka, tls_postgres: secured.SecurePostgres, tmp_path: Path
) -> AsyncIterator[Settings]:
    """Of a platform of this test alone, with all rights: SASL_SSL and verify-full."""
    prefix, database = f"t{uuid.uuid4().hex[:12]}.", f"test_{uuid.uuid4().hex[:12]}"
    settings = Settings(
        **tls_kafka.client_settings(),
        **{**tls_postgres.client_settings(), "postgres_db": database},
        kafka_consumer_group=f"{prefix}workers",
        workflow_projector_group=f"{prefix}projectors",
        workflow_topic_prefix=prefix,
        workflow_partitions=4,
    )
    admin = settings.model_copy(update={"postgres_db": "workflow"}).postgres_dsn
    await servers.create_database(admin, database)
    yield settings
    await servers.drop_database(admin, database)
