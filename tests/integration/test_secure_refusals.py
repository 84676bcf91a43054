"""What is said when a server refuses us or we a server: one line, the setting, and no secret."""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ops import checks
from ops.client import Exit
from ops.errors import ConnectionRefused, PasswordRefused
from schemas.errors import BrokerAway, StoreAway
from schemas.settings import Settings
from streams.topics import ensure_topics
from tests import servers
from tests.certificates import ELSEWHERE, Authority
from tests.commands import start
from tests.fleet import Member
from tests.secured import SecureKafka, SecurePostgres, secure_postgres

# asyncpg leaves the socket of a TLS upgrade that was refused to the garbage collector, which complains when it comes by.
pytestmark = [pytest.mark.long, pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")]


@pytest.fixture(autouse=True)
def _collected() -> Iterator[None]:
    """It comes by within the test."""
    yield
    gc.collect()


WRONG = "wrong-5ecret"
WITHIN_S = 60


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


@pytest.mark.parametrize("case", KAFKA_CASES)
def test_what_kafka_refuses_is_one_line(
    case: str, secure_settings: Settings, tls_kafka: SecureKafka, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """Exit code 2, because a person has to change something; which setting, and no secret."""
    cases = kafka_cases(tls_kafka, Authority(tmp_path_factory.mktemp("other")))
    assert sorted(cases) == sorted(KAFKA_CASES)
    given, says = cases[case]
    with pytest.raises((ConnectionRefused, PasswordRefused), match=says) as refused:
        checks.check_servers(secure_settings.model_copy(update=given))
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
    case: str, secure_settings: Settings, tls_postgres: SecurePostgres, tmp_path_factory: pytest.TempPathFactory
) -> None:
    """As for Kafka."""
    given, says = postgres_cases(tls_postgres, Authority(tmp_path_factory.mktemp("other")))[case]
    with pytest.raises((ConnectionRefused, PasswordRefused), match=says) as refused:
        checks.check_servers(secure_settings.model_copy(update=given))
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
def test_each_command_refuses_to_start(words: tuple[str, ...], secure_settings: Settings) -> None:
    """With a wrong password: exit code 2, one line on standard error, which does not hold it."""
    done = start(secure_settings.model_copy(update={"kafka_sasl_password": WRONG}), *words)
    assert (done.returncode, done.stdout) == (Exit.USAGE, "")
    assert [line[:32] for line in done.stderr.splitlines()] == ["workflow: Kafka refuses the user"], done.stderr
    assert WRONG not in done.stderr


def test_files_that_are_missing_stop_the_start(secure_settings: Settings) -> None:
    """Before anything is connected."""
    done = start(secure_settings.model_copy(update={"kafka_ssl_cafile": "/none.pem"}), "worker")
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
    role: Any, given: dict[str, Any], says: str, secure_settings: Settings, tls_kafka: SecureKafka, tmp_path: Path
) -> None:
    """What goes wrong after the start may be mended by others: one line that says why, no secret, and it ends when told."""
    if (listener := given.get("kafka_bootstrap_servers")) is not None:
        given = {"kafka_bootstrap_servers": tls_kafka.at(listener)}
    await ensure_topics(secure_settings)
    log = tmp_path / "log"
    member = Member(role, secure_settings.model_copy(update=given), log)
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
