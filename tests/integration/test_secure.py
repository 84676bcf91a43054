"""The platform on a Kafka and a PostgreSQL that take nobody without TLS and a login, and what it says when they refuse."""

from __future__ import annotations

import asyncio
import os
import ssl
import subprocess
import sys
import time
import uuid
from collections.abc import AsyncIterator, Iterator
from dataclasses import astuple
from pathlib import Path
from typing import Any

import asyncpg
import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.errors import TopicAuthorizationFailedError

from ops import checks, connections
from ops.client import Exit
from ops.errors import ConnectionRefused, PasswordRefused
from ops.parts import variables
from schemas.errors import BrokerAway, StoreAway
from schemas.settings import Settings
from streams.kafka import client_kwargs
from streams.rights import rights
from streams.topics import ensure_topics
from tests import servers
from tests.certificates import ELSEWHERE, Authority
from tests.fleet import Member, platform
from tests.judging import judged
from tests.rights import ROLES, allow
from tests.secured import ADMIN, SecureKafka, SecurePostgres, password, secure_kafka, secure_postgres

ROOT = Path(__file__).parents[2]
WRONG = "wrong-5ecret"
WITHIN_S = 60


@pytest.fixture(scope="module")
def tls_kafka() -> Iterator[SecureKafka]:
    with secure_kafka() as kafka:
        yield kafka


@pytest.fixture(scope="module")
def tls_postgres() -> Iterator[SecurePostgres]:
    with secure_postgres() as postgres:
        yield postgres


@pytest.fixture
async def settings(tls_kafka: SecureKafka, tls_postgres: SecurePostgres, tmp_path: Path) -> AsyncIterator[Settings]:
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


def reach(kafka: SecureKafka) -> dict[str, Any]:
    """How the test itself reaches the broker, by nothing of the product."""
    return {
        "security_protocol": "SASL_SSL",
        "ssl_context": ssl.create_default_context(cafile=str(kafka.authority.certificate)),
        "sasl_mechanism": "SCRAM-SHA-512",
        "sasl_plain_username": ADMIN,
        "sasl_plain_password": password(ADMIN),
    }


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_the_whole_platform_over_tls(settings: Settings, tls_kafka: SecureKafka, tmp_path: Path) -> None:
    """SASL_SSL with SCRAM-SHA-512 and verify-full, each process with its own user of Kafka, who has the rights of its role
    and no others: runs come to their ends. The broker has no listener without TLS, so every client of every process used it."""
    await allow(settings, rights(settings), {role: role for role in ("owner", *ROLES)})
    await ensure_topics(settings.model_copy(update=login("owner")))
    users: Any = {role: login(role) for role in ROLES}
    async with platform(settings, tmp_path, told=users, connection=reach(tls_kafka)) as fleet:
        await fleet.trigger(30)
        await judged(fleet)
        logs = "".join(member.log.read_text() for member in fleet.members)
        secrets = [settings.postgres_password, *map(password, ROLES)]
        assert not [secret for secret in secrets if secret in logs]
        assert "uthorization" not in logs
        rows = await sessions(settings)
        done = await asyncio.to_thread(start, settings.model_copy(update=login("owner")), "rebuild")
        assert done.returncode == 0, done.stderr
        assert "had the same rows" in done.stdout
        await fleet.trigger(10)
        await judged(fleet)
    assert rows
    assert all(rows)


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


@pytest.mark.slow
@pytest.mark.timeout(300)
async def test_the_whole_platform_by_certificates(
    settings: Settings, tls_kafka: SecureKafka, tls_postgres: SecurePostgres, tmp_path: Path
) -> None:
    """Mutual TLS on both sides, no password anywhere: Kafka and PostgreSQL know the client by its certificate."""
    mutual = tls_postgres.authority.sign("mutual")
    owner = await asyncpg.connect(settings.postgres_dsn)
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
    by_certificate = settings.model_copy(update=given)
    connections.check(by_certificate)
    by_hand = {"security_protocol": "SSL", "ssl_context": client_kwargs(by_certificate)["ssl_context"]}
    async with platform(by_certificate, tmp_path, connection=by_hand) as fleet:
        await fleet.trigger(10)
        await judged(fleet)


async def test_rights_are_no_wider_than_needed(settings: Settings) -> None:
    """The API writes no event, the projector starts no run, nobody creates a topic but the owner."""
    await allow(settings, rights(settings), {role: role for role in ("owner", *ROLES)})
    await ensure_topics(settings.model_copy(update=login("owner")))
    topics = settings.topics
    allowed = {
        "api": {topics.definitions, topics.trigger},
        "worker": {topics.trigger, topics.events, topics.completed, topics.rejected},
        "projector": set[str](),
    }
    for role in ROLES:
        as_role = settings.model_copy(update=login(role))
        async with AIOKafkaProducer(**client_kwargs(as_role)) as producer:
            assert {topic for topic in astuple(topics) if await may_write(producer, topic)} == allowed[role]
        await ensure_topics(as_role)
        prefix = f"{settings.workflow_topic_prefix}new."
        other = Settings(**{**as_role.model_dump(exclude_unset=True), "workflow_topic_prefix": prefix})
        with pytest.raises(BrokerAway, match="`workflow migrate`"):
            await ensure_topics(other)


def login(role: str) -> dict[str, Any]:
    return {"kafka_sasl_username": role, "kafka_sasl_password": password(role)}


async def may_write(producer: AIOKafkaProducer, topic: str) -> bool:
    try:
        await producer.send_and_wait(topic, b"x", partition=0)
    except TopicAuthorizationFailedError:
        return False
    return True


# what is said when one side refuses the other


def kafka_cases(kafka: SecureKafka, other: Authority) -> dict[str, tuple[dict[str, Any], str]]:
    """Case → what is set, and what the one line must say."""
    mutual = {
        "kafka_security_protocol": "SSL",
        "kafka_sasl_username": "",
        "kafka_sasl_password": "",
        "kafka_bootstrap_servers": kafka.at("MUTUAL"),
    }
    return {
        "password": ({"kafka_sasl_password": WRONG}, "Kafka refuses the user admin .*Set KAFKA_SASL_USERNAME and"),
        "user": ({"kafka_sasl_username": "nobody"}, "Kafka refuses the user nobody .*Set KAFKA_SASL_USERNAME and"),
        "mechanism": ({"kafka_sasl_mechanism": "PLAIN"}, "does not take PLAIN.* Set KAFKA_SASL_MECHANISM"),
        "authority": ({"kafka_ssl_cafile": str(other.certificate)}, "not accepted .*Set KAFKA_SSL_CAFILE to"),
        "name": (
            {"kafka_bootstrap_servers": kafka.at("OTHERNAME")},
            "not valid for 'localhost'.*Set KAFKA_BOOTSTRAP_SERVERS to a name",
        ),
        "expired": ({"kafka_bootstrap_servers": kafka.at("EXPIRED")}, "certificate has expired.*Renew it"),
        "no certificate of ours": (mutual, "refuses our certificate, or wants one.*Set KAFKA_SSL_CERTFILE"),
        "no TLS": (
            {"kafka_security_protocol": "SASL_PLAINTEXT", "kafka_ssl_cafile": ""},
            "closed the connection.*else than KAFKA_SECURITY_PROTOCOL=SASL_PLAINTEXT",
        ),
    }


KAFKA_CASES = ["password", "user", "mechanism", "authority", "name", "expired", "no certificate of ours", "no TLS"]


def start(settings: Settings, *words: str) -> subprocess.CompletedProcess[str]:
    """A command to its end, as a person or a container starts it."""
    line = [sys.executable, "-P", "-m", "ops", *words]
    return subprocess.run(line, env=told(settings), capture_output=True, text=True, timeout=WITHIN_S, check=False)


def told(settings: Settings) -> dict[str, str]:
    """The environment with these settings and no others."""
    names = ("KAFKA_", "POSTGRES_", "STORAGE_", "WORKFLOW_")
    bare = {name: value for name, value in os.environ.items() if not name.startswith(names)}
    return {**bare, **variables(settings), "PYTHONPATH": str(ROOT)}


@pytest.mark.parametrize("case", KAFKA_CASES)
def test_what_kafka_refuses_is_one_line(
    case: str, settings: Settings, tls_kafka: SecureKafka, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Exit code 2, because a person has to change something; which setting, and no secret."""
    cases = kafka_cases(tls_kafka, Authority(tmp_path_factory.mktemp("other")))
    assert sorted(cases) == sorted(KAFKA_CASES)
    given, says = cases[case]
    with pytest.raises((ConnectionRefused, PasswordRefused), match=says) as refused:
        checks.check_servers(settings.model_copy(update=given))
    assert WRONG not in str(refused.value)
    assert "\n" not in str(refused.value)


def postgres_cases(postgres: SecurePostgres, other: Authority) -> dict[str, tuple[dict[str, Any], str]]:
    return {
        "password": ({"postgres_password": WRONG}, "PostgreSQL refuses the user .*Set POSTGRES_USER and"),
        "authority": ({"postgres_sslrootcert": str(other.certificate)}, "not accepted .*Set POSTGRES_SSLROOTCERT to"),
        "no TLS": (
            {"postgres_sslmode": "disable", "postgres_sslrootcert": ""},
            "no encryption.* Set POSTGRES_SSLMODE to require",
        ),
        "no certificate of ours": ({"postgres_user": "mutual"}, "client certificate.*Set POSTGRES_SSLCERT"),
    }


@pytest.mark.parametrize("case", ["password", "authority", "no TLS", "no certificate of ours"])
def test_what_postgres_refuses_is_one_line(
    case: str, settings: Settings, tls_postgres: SecurePostgres, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """As for Kafka."""
    given, says = postgres_cases(tls_postgres, Authority(tmp_path_factory.mktemp("other")))[case]
    with pytest.raises((ConnectionRefused, PasswordRefused), match=says) as refused:
        checks.check_servers(settings.model_copy(update=given))
    assert WRONG not in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize(
    ("alternatives", "days", "mode", "says"),
    [
        (ELSEWHERE, 2, "verify-full", r"not valid for 'localhost'.*Set POSTGRES_HOST to a name"),
        (ELSEWHERE, 2, "verify-ca", None),
        (None, -1, "verify-full", r"certificate has expired.*Renew it"),
        (None, -1, "require", None),
    ],
)
def test_the_certificate_of_postgres_is_looked_at_as_told(
    alternatives: str | None, days: int, mode: Any, says: str | None
) -> None:
    """`verify-full` looks at the name and the time, `verify-ca` not at the name, `require` at nothing without an authority."""
    with secure_postgres(alternatives, days=days) as postgres:
        update = {"storage_backend": "postgres", "postgres_sslmode": mode}
        settings = Settings(**postgres.client_settings()).model_copy(update=update)
        if mode == "require":
            settings = settings.model_copy(update={"postgres_sslrootcert": ""})
        if says is None:
            checks.check_postgres(settings)
        else:
            with pytest.raises(ConnectionRefused, match=says):
                checks.check_postgres(settings)


def test_servers_without_tls_are_told_from_those_that_are_away(
    kafka: servers.Address, postgres: servers.Address, tls_kafka: SecureKafka
) -> None:
    """A client that wants TLS of a server that has none does not hang."""
    ours = Settings(
        kafka_bootstrap_servers=kafka.address,
        kafka_security_protocol="SSL",
        kafka_ssl_cafile=str(tls_kafka.authority.certificate),
    )
    with pytest.raises((ConnectionRefused, BrokerAway)):
        checks.check_broker(ours)
    *_, where = postgres.address.rpartition("@")
    port = int(where.partition("/")[0].rpartition(":")[2])
    with pytest.raises(ConnectionRefused, match=r"it has no TLS.*POSTGRES_SSLMODE"):
        checks.check_postgres(Settings(postgres_port=port, postgres_sslmode="require"))
    with pytest.raises(StoreAway, match="Connect call failed"):
        checks.check_postgres(Settings(postgres_port=1, postgres_sslmode="require"))


@pytest.mark.parametrize("words", [("worker",), ("api", "--port", "0"), ("projector",), ("migrate",), ("verify",)])
def test_each_command_refuses_to_start(words: tuple[str, ...], settings: Settings) -> None:
    """With a wrong password: exit code 2, one line on standard error, which does not hold it."""
    done = start(settings.model_copy(update={"kafka_sasl_password": WRONG}), *words)
    assert (done.returncode, done.stdout) == (Exit.USAGE, "")
    assert [line[:32] for line in done.stderr.splitlines()] == ["workflow: Kafka refuses the user"], done.stderr
    assert WRONG not in done.stderr


@pytest.mark.slow
@pytest.mark.timeout(180)
def test_up_uses_secure_servers_that_are_named(settings: Settings, tmp_path: Path) -> None:
    """`workflow up` starts no server of its own; its processes are told how the named ones are reached."""
    home = tmp_path / "home"
    named = Settings(**settings.model_dump(exclude_unset=True), workflow_home=home)
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
    assert settings.kafka_sasl_password not in output.read_text() + shown.stdout


def test_files_that_are_missing_stop_the_start(settings: Settings) -> None:
    """Before anything is connected."""
    done = start(settings.model_copy(update={"kafka_ssl_cafile": "/none.pem"}), "worker")
    assert done.returncode == Exit.USAGE
    assert done.stderr == (
        "workflow: KAFKA_SSL_CAFILE='/none.pem' cannot be used: No such file or directory. Change it and start again.\n"
    )


@pytest.mark.timeout(180)
@pytest.mark.parametrize(
    ("given", "says"),
    [
        ({"kafka_sasl_password": WRONG}, "SaslAuthenticationFailed"),
        ({"kafka_bootstrap_servers": "EXPIRED"}, "certificate has expired"),
        ({"kafka_bootstrap_servers": "OTHERNAME"}, "Hostname mismatch"),
        ({"postgres_password": WRONG}, "password authentication failed"),
    ],
)
@pytest.mark.parametrize("role", ["api", "worker", "projector"])
async def test_a_process_that_runs_already_waits(
    role: Any, given: dict[str, Any], says: str, settings: Settings, tls_kafka: SecureKafka, tmp_path: Path
) -> None:
    """What goes wrong after the start may be mended by others: one line that says why, no secret, and it ends when told."""
    if (listener := given.get("kafka_bootstrap_servers")) is not None:
        given = {"kafka_bootstrap_servers": tls_kafka.at(listener)}
    await ensure_topics(settings)
    log = tmp_path / "log"
    member = Member(role, settings.model_copy(update=given), log)
    process = member.process
    try:
        deadline = time.monotonic() + WITHIN_S
        while says not in log.read_text():
            assert time.monotonic() < deadline, log.read_text()
            assert process.poll() is None, log.read_text()
            await asyncio.sleep(0.1)
        await asyncio.sleep(2)  # it is tried again, and said once
        assert process.poll() is None
    finally:
        code = await member.stop(WITHIN_S)
    lines = [line for line in log.read_text().splitlines() if says in line]
    assert code == 0, log.read_text()
    assert len(lines) <= 2, log.read_text()
    assert "Traceback" not in log.read_text()
    assert WRONG not in log.read_text()
