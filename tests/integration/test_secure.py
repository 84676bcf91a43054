"""The platform on a Kafka and a PostgreSQL that take nobody without TLS and a login."""

from __future__ import annotations

import asyncio
import ssl
import subprocess
import sys
import time
from dataclasses import astuple
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.errors import TopicAuthorizationFailedError

from ops import connections
from ops.client import Exit
from schemas.errors import BrokerAway
from schemas.settings import Settings
from streams.kafka import client_kwargs
from streams.rights import rights
from streams.topics import ensure_topics
from tests.commands import start, told
from tests.fleet import Fleet, Member, platform, until
from tests.judging import judged
from tests.rights import ROLES, allow
from tests.secured import ADMIN, SecureKafka, SecurePostgres, login, password

WRONG = "wrong-5ecret"
WITHIN_S = 60


def reach(kafka: SecureKafka) -> dict[str, Any]:
    """How the test itself reaches the broker, by nothing of the product."""
    return {
        "security_protocol": "SASL_SSL",
        "ssl_context": ssl.create_default_context(cafile=str(kafka.authority.certificate)),
        "sasl_mechanism": "SCRAM-SHA-512",
        "sasl_plain_username": ADMIN,
        "sasl_plain_password": password(ADMIN),
    }


@pytest.mark.long
@pytest.mark.timeout(300)
async def test_the_whole_platform_over_tls(secure_settings: Settings, tls_kafka: SecureKafka, tmp_path: Path) -> None:
    """SASL_SSL with SCRAM-SHA-512 and verify-full, each process with its own user of Kafka, who has the rights of its role
    and no others: runs come to their ends. The broker has no listener without TLS, so every client of every process used it."""
    await allow(secure_settings, rights(secure_settings), {role: role for role in ("owner", *ROLES)})
    await ensure_topics(secure_settings.model_copy(update=login("owner")))
    users: Any = {role: login(role) for role in ROLES}
    async with platform(secure_settings, tmp_path, told=users, connection=reach(tls_kafka)) as fleet:
        await fleet.trigger(30)
        await judged(fleet)
        assert await told_by_the_broker(fleet) == ("owned", 0)
        logs = "".join(member.log.read_text() for member in fleet.members)
        secrets = [secure_settings.postgres_password, *map(password, ROLES)]
        assert not [secret for secret in secrets if secret in logs]
        assert "uthorization" not in logs
        rows = await sessions(secure_settings)
        done = await asyncio.to_thread(start, secure_settings.model_copy(update=login("owner")), "rebuild")
        assert done.returncode == 0, done.stderr
        assert "had the same rows" in done.stdout
        await fleet.trigger(10)
        await judged(fleet)
    assert rows
    assert all(rows)


async def told_by_the_broker(fleet: Fleet) -> tuple[str, int | None]:
    """Who has the partition of a run, and what the tables lack of it: the API's user may ask."""
    async with httpx.AsyncClient(base_url=fleet.of("api")[0].address, timeout=30) as http:
        run = (await http.get("/api/v1/runs?limit=1")).json()["items"][0]
        why = (await http.get(f"/api/v1/runs/{run['run_id']}/why")).json()
    return why["worker"]["state"], why["tables_behind"]


async def sessions(settings: Settings) -> list[bool]:
    """Whether each connection of the platform to its database is encrypted, by what PostgreSQL says."""
    query = """
        select ssl from pg_stat_ssl join pg_stat_activity using (pid)
        where datname = current_database() and application_name = 'workflow'
    """
    client = await asyncpg.connect(settings.postgres_dsn)
    try:
        return [row[0] for row in await client.fetch(query)]
    finally:
        await client.close()


@pytest.mark.long
@pytest.mark.timeout(300)
async def test_the_whole_platform_by_certificates(
    secure_settings: Settings, tls_kafka: SecureKafka, tls_postgres: SecurePostgres, tmp_path: Path
) -> None:
    """Mutual TLS on both sides, no password anywhere: Kafka and PostgreSQL know the client by its certificate."""
    mutual = tls_postgres.authority.sign("mutual")
    owner = await asyncpg.connect(secure_settings.postgres_dsn)
    await owner.execute("create role mutual login superuser")
    await owner.close()
    given = {
        "kafka_bootstrap_servers": tls_kafka.at("MUTUAL"),
        "kafka_security_protocol": "SSL",
        "kafka_sasl_username": "",
        "kafka_sasl_password": "",
        "kafka_ssl_certfile": str(tls_kafka.client.certificate),
        "kafka_ssl_keyfile": str(tls_kafka.client.key),
        "postgres_user": "mutual",
        "postgres_password": "",
        "postgres_sslcert": str(mutual.certificate),
        "postgres_sslkey": str(mutual.key),
    }
    by_certificate = secure_settings.model_copy(update=given)
    connections.check(by_certificate)
    by_hand = {"security_protocol": "SSL", "ssl_context": client_kwargs(by_certificate)["ssl_context"]}
    async with platform(by_certificate, tmp_path, connection=by_hand) as fleet:
        await fleet.trigger(10)
        await judged(fleet)


async def test_rights_are_no_wider_than_needed(secure_settings: Settings) -> None:
    """The API writes no event, the projector starts no run, nobody creates a topic but the owner."""
    await allow(secure_settings, rights(secure_settings), {role: role for role in ("owner", *ROLES)})
    await ensure_topics(secure_settings.model_copy(update=login("owner")))
    topics = secure_settings.topics
    allowed = {
        "api": {topics.definitions, topics.trigger, topics.keys},
        "worker": {topics.trigger, topics.events, topics.completed, topics.rejected},
        "projector": set[str](),
    }
    for role in ROLES:
        as_role = secure_settings.model_copy(update=login(role))
        async with AIOKafkaProducer(**client_kwargs(as_role)) as producer:
            assert {topic for topic in astuple(topics) if await may_write(producer, topic)} == allowed[role]
        await ensure_topics(as_role)
        prefix = f"{secure_settings.workflow_topic_prefix}new."
        other = Settings(**{**as_role.model_dump(exclude_unset=True), "workflow_topic_prefix": prefix})
        with pytest.raises(BrokerAway, match="`workflow migrate`"):
            await ensure_topics(other)


@pytest.mark.parametrize("role", ["worker", "projector"])
async def test_a_member_that_its_group_refuses_waits(role: Any, secure_settings: Settings, tmp_path: Path) -> None:
    """It says so, and joins when the right was granted; it would else try for ever without a word."""
    users = {role: role for role in ("owner", *ROLES)}
    mine = [right for right in rights(secure_settings) if right.role in {role, "owner"}]
    await allow(secure_settings, [right for right in mine if right.kind == "topic"], users)
    await ensure_topics(secure_settings)
    owner = secure_settings.model_copy(update=login("owner"))
    assert (await asyncio.to_thread(start, owner, "migrate")).returncode == 0
    member = Member(role, secure_settings.model_copy(update=login(role)), tmp_path / "log")
    try:
        await until(lambda: said(member, "does not allow this: [Error 30]"), "the refusal", WITHIN_S)
        assert "Traceback" not in member.log.read_text()
        await allow(secure_settings, [right for right in mine if right.kind == "group"], users)
        await member.ready()
    finally:
        code = await member.stop(WITHIN_S)
    assert code == 0


async def said(member: Member, text: str) -> bool:
    return text in member.log.read_text()


async def may_write(producer: AIOKafkaProducer, topic: str) -> bool:
    try:
        await producer.send_and_wait(topic, b"x", key=b"x", partition=0)  # a compacted topic takes none without a key
    except TopicAuthorizationFailedError:
        return False
    return True


@pytest.mark.long
@pytest.mark.timeout(180)
def test_up_uses_secure_servers_that_are_named(secure_settings: Settings, tmp_path: Path) -> None:
    """`workflow up` starts no server of its own; its processes are told how the named ones are reached."""
    home = tmp_path / "home"
    named = Settings(**secure_settings.model_dump(exclude_unset=True), workflow_home=home)
    refused = start(named.model_copy(update={"postgres_password": WRONG}), "up", "--home", str(home))
    assert (refused.returncode, len(refused.stderr.splitlines())) == (Exit.USAGE, 1)
    assert WRONG not in refused.stdout + refused.stderr
    line, output = [sys.executable, "-P", "-m", "ops", "up", "--home", str(home)], tmp_path / "out"
    with output.open("w") as out:
        up = subprocess.Popen(line, cwd=tmp_path, env=told(named), stdout=out, stderr=out)
    try:
        deadline = time.monotonic() + WITHIN_S
        while "Next:" not in output.read_text():
            assert up.poll() is None, output.read_text()
            assert time.monotonic() < deadline, output.read_text()
            time.sleep(0.1)
        shown = subprocess.run(
            [*line[:4], "ps", "--home", str(home)], env=told(named), capture_output=True, text=True, check=True
        )
        assert sorted(row.split()[0] for row in shown.stdout.splitlines()[1:]) == ["api", "projector", "worker"]
    finally:
        up.terminate()
        code = up.wait(WITHIN_S)
    assert code == 0, output.read_text()
    assert secure_settings.kafka_sasl_password not in output.read_text() + shown.stdout
