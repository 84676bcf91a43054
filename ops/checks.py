"""Are the servers there that the settings name? Asked before a process starts, answered in one line."""

from __future__ import annotations

import asyncio
import socket
from typing import Final

from ops.errors import PasswordRefused
from schemas.errors import BrokerAway, StoreAway
from schemas.settings import Settings
from streams.allowed import AllowList
from streams.secret_values import SecretValues
from streams.webhook_client import proxy_of

CONNECT_WITHIN_S: Final = 10.0


def check_servers(settings: Settings) -> None:
    """Raise what is wrong with the broker, or with PostgreSQL where it is the store."""
    check_broker(settings)
    if settings.storage_backend == "postgres":
        check_postgres(settings)


def check_webhooks(settings: Settings) -> None:
    """Raises BadSetting for what a worker would refuse to start with: before servers are started for it."""
    AllowList.parse(settings.webhook_allow)
    proxy_of(settings.webhook_proxy)
    SecretValues.of(settings.workflow_secrets_dir)


def check_broker(settings: Settings) -> None:
    """Raises BrokerAway when none of the bootstrap servers takes a connection."""
    reason: object = "no address"
    for address in filter(None, settings.kafka_bootstrap_servers.split(",")):
        host, _, port = address.strip().rpartition(":")
        try:
            socket.create_connection((host.strip("[]"), int(port)), CONNECT_WITHIN_S).close()
        except (OSError, ValueError, OverflowError) as error:
            reason = error
        else:
            return
    raise BrokerAway(address=settings.kafka_bootstrap_servers, reason=reason)


def check_postgres(settings: Settings) -> None:
    """Raises StoreAway or PasswordRefused when PostgreSQL lets nobody in."""
    asyncio.run(_connect(settings))


async def _connect(settings: Settings) -> None:
    import asyncpg

    try:
        async with asyncio.timeout(CONNECT_WITHIN_S):
            connection = await asyncpg.connect(settings.postgres_dsn)
            connection.terminate()
    except asyncpg.InvalidAuthorizationSpecificationError as error:
        raise PasswordRefused(user=settings.postgres_user, reason=error) from error
    except (OSError, TimeoutError, asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        where = f"PostgreSQL at {settings.postgres_host}:{settings.postgres_port}"
        raise StoreAway(reason=f"{where}: {str(error) or 'no answer in time'}") from error
