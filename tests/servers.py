"""The Kafka and the PostgreSQL that tests run on: embedded ones, or those that the environment names."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

import asyncpg
from aiokafka.admin import AIOKafkaAdminClient

from ops.embedded.kafka import KafkaServer
from ops.embedded.postgres import PostgresServer
from ops.reaper import Reaper
from schemas.settings import Settings


@dataclass(frozen=True, slots=True)
class Address:
    """Of a server that is not ours to stop: Kafka's bootstrap servers or PostgreSQL's DSN."""

    address: str


@contextmanager
def server_folder() -> Iterator[Path]:
    """A folder for a server's data, removed at the end (pytest would keep those of the last runs)."""
    folder = Path(tempfile.mkdtemp(prefix="workflow-tests-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def kafka_server() -> Iterator[KafkaServer]:
    """A broker of the caller's own, on a free port."""
    with server_folder() as folder, closing_reaper() as reaper:
        server = KafkaServer(folder / "kafka", folder / "kafka.log", reaper, port=None)
        try:
            server.start()
            yield server
        finally:
            server.stop()


@contextmanager
def postgres_server() -> Iterator[PostgresServer]:
    """A PostgreSQL of the caller's own, on a free port."""
    with server_folder() as folder, closing_reaper() as reaper:
        server = PostgresServer(folder / "postgres", folder / "postgres.log", reaper, port=None)
        try:
            server.start()
            yield server
        finally:
            server.stop()


@contextmanager
def closing_reaper() -> Iterator[Reaper]:
    """It ends whatever was started with it and still runs."""
    reaper = Reaper()
    try:
        yield reaper
    finally:
        reaper.close()


@contextmanager
def kafka_for_tests() -> Iterator[Address]:
    if "KAFKA_BOOTSTRAP_SERVERS" in os.environ:
        yield Address(os.environ["KAFKA_BOOTSTRAP_SERVERS"])
    else:
        with kafka_server() as server:
            yield Address(server.address)


@contextmanager
def postgres_for_tests() -> Iterator[Address]:
    if "POSTGRES_HOST" in os.environ:
        yield Address(Settings().postgres_dsn)
    else:
        with postgres_server() as server:
            yield Address(server.dsn)


async def create_database(admin_dsn: str, name: str) -> str:
    """The DSN of a new, empty database."""
    connection = await asyncpg.connect(admin_dsn)
    try:
        await connection.execute(f'CREATE DATABASE "{name}" TEMPLATE template0')
    finally:
        await connection.close()
    return urlsplit(admin_dsn)._replace(path=f"/{name}").geturl()


async def drop_database(admin_dsn: str, name: str) -> None:
    connection = await asyncpg.connect(admin_dsn)
    try:
        await connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
    finally:
        await connection.close()


async def delete_topics(bootstrap_servers: str, prefix: str) -> None:
    """Delete every topic whose name starts with `prefix`, so that a long test session does not fill the broker."""
    admin = AIOKafkaAdminClient(bootstrap_servers=bootstrap_servers)
    await admin.start()
    try:
        names = [name for name in await admin.list_topics() if name.startswith(prefix)]
        if names:
            await admin.delete_topics(names)
    finally:
        await admin.close()
