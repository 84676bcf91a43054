"""Are the servers there that the settings name? Asked before a process starts, answered in one line."""

from __future__ import annotations

import asyncio
import ssl
from typing import Final

from ops import connections
from ops.connections import KAFKA, POSTGRES
from ops.errors import ConnectionRefused, PasswordRefused
from schemas.errors import BrokerAway, StoreAway
from schemas.settings import Settings
from streams.allowed import AllowList
from streams.secret_values import SecretValues
from streams.webhook_client import proxy_of

CONNECT_WITHIN_S: Final = 10.0


def check_servers(settings: Settings) -> None:
    """Raise what is wrong with the settings, with the broker, or with PostgreSQL where it is the store."""
    connections.check(settings)
    check_broker(settings)
    if settings.storage_backend == "postgres":
        check_postgres(settings)


def check_webhooks(settings: Settings) -> None:
    """Raises BadSetting for what a worker would refuse to start with: before servers are started for it."""
    AllowList.parse(settings.webhook_allow)
    proxy_of(settings.webhook_proxy)
    SecretValues.of(settings.workflow_secrets_dir)


def check_broker(settings: Settings) -> None:
    """Raises BrokerAway when none of the bootstrap servers answers, ConnectionRefused or PasswordRefused when it answers
    and does not take us, or we not it."""
    asyncio.run(_say_hello(settings))


async def _say_hello(settings: Settings) -> None:
    from aiokafka.errors import KafkaError

    from streams.security import cause, say_hello

    address = settings.kafka_bootstrap_servers
    try:
        async with asyncio.timeout(CONNECT_WITHIN_S):
            await say_hello(settings, CONNECT_WITHIN_S)
    except TimeoutError as error:
        raise BrokerAway(address=address, reason="no answer in time") from error
    except (OSError, KafkaError, ValueError, OverflowError) as error:
        match cause(error):
            case ssl.SSLError() as refused:
                raise connections.tls_refused(KAFKA, address, refused) from error
            case KafkaError() | EOFError() as refused:
                raise _refused(settings, refused) from error
            case away:
                raise BrokerAway(address=address, reason=away) from error


def _refused(settings: Settings, error: Exception) -> ConnectionRefused | PasswordRefused:
    """It answers, but not us."""
    from aiokafka.errors import SaslAuthenticationFailed, UnsupportedSaslMechanismError

    if isinstance(error, SaslAuthenticationFailed):
        names = "KAFKA_SASL_USERNAME and KAFKA_SASL_PASSWORD"
        return PasswordRefused(server="Kafka", user=settings.kafka_sasl_username, reason=error.args[0], settings=names)
    protocol = f"KAFKA_SECURITY_PROTOCOL={settings.kafka_security_protocol}"
    if isinstance(error, UnsupportedSaslMechanismError):
        reason = f"it does not take {settings.kafka_sasl_mechanism}"
        remedy = "Set KAFKA_SASL_MECHANISM to one that it takes."
    else:
        reason = "it closed the connection"
        remedy = f"It is starting, or speaks something else than {protocol} on this port."
    return ConnectionRefused(server="Kafka", address=settings.kafka_bootstrap_servers, reason=reason, remedy=remedy)


def check_postgres(settings: Settings) -> None:
    """Raises StoreAway when PostgreSQL does not answer, ConnectionRefused or PasswordRefused when it lets us not in."""
    asyncio.run(_connect(settings))


async def _connect(settings: Settings) -> None:
    import asyncpg

    where = f"{settings.postgres_host}:{settings.postgres_port}"
    try:
        async with asyncio.timeout(CONNECT_WITHIN_S):
            connection = await asyncpg.connect(settings.postgres_dsn)
            await connection.close()
    except asyncpg.InvalidAuthorizationSpecificationError as error:
        raise _not_let_in(settings, where, error) from error
    except ssl.SSLError as error:
        raise connections.tls_refused(POSTGRES, where, error) from error
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        if "rejected SSL upgrade" in str(error):
            remedy = "Look at POSTGRES_SSLMODE and the port."
            raise ConnectionRefused(
                server="PostgreSQL", address=where, reason="it has no TLS", remedy=remedy
            ) from error
        raise StoreAway(reason=f"PostgreSQL at {where}: {str(error) or 'no answer in time'}") from error


def _not_let_in(settings: Settings, where: str, error: Exception) -> ConnectionRefused | PasswordRefused:
    if "no encryption" in str(error):
        remedy = "Set POSTGRES_SSLMODE to require or more."
        return ConnectionRefused(server="PostgreSQL", address=where, reason=error, remedy=remedy)
    if "client certificate" in str(error):
        remedy = f"Set {POSTGRES.certificate}."
        return ConnectionRefused(server="PostgreSQL", address=where, reason=error, remedy=remedy)
    return PasswordRefused(
        server="PostgreSQL", user=settings.postgres_user, reason=error, settings="POSTGRES_USER and POSTGRES_PASSWORD"
    )
