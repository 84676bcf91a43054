"""TLS and login to Kafka: what every client is made with, and why a broker refused one."""

from __future__ import annotations

import ssl
import time
from collections import deque
from functools import lru_cache
from typing import Any

import aiokafka.client
from aiokafka.conn import collect_hosts, create_conn
from aiokafka.errors import KafkaError
from aiokafka.protocol.metadata import MetadataRequest

from schemas.settings import Settings

_refusals: deque[tuple[float, str]] = deque(maxlen=1)
"""The latest: when (monotonic), and who said what."""


def servers(settings: Settings) -> list[str]:
    """`KAFKA_BOOTSTRAP_SERVERS` as a list of host:port."""
    return [part.strip() for part in settings.kafka_bootstrap_servers.split(",") if part.strip()]


def security(settings: Settings) -> dict[str, Any]:
    """The arguments of every client beside its servers. The files must be readable; `ops.connections` has seen to it."""
    protocol = settings.kafka_security_protocol
    given: dict[str, Any] = {"security_protocol": protocol}
    if protocol.endswith("SSL"):
        given["ssl_context"] = tls_context(settings)
    if protocol.startswith("SASL"):
        given["sasl_mechanism"] = settings.kafka_sasl_mechanism
        given["sasl_plain_username"] = settings.kafka_sasl_username
        given["sasl_plain_password"] = settings.kafka_sasl_password
    return given


def tls_context(settings: Settings) -> ssl.SSLContext:
    """Whom to trust (KAFKA_SSL_CAFILE, else the system's authorities) and what to show of ourselves. Raises OSError."""
    return _context(
        settings.kafka_ssl_cafile,
        settings.kafka_ssl_certfile,
        settings.kafka_ssl_keyfile,
        settings.kafka_ssl_password,
        settings.kafka_ssl_check_hostname,
    )


@lru_cache  # a client is made for each look at the log, and the system's authorities are many
def _context(cafile: str, certfile: str, keyfile: str, password: str, check_hostname: bool) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=cafile or None)
    context.check_hostname = check_hostname
    if certfile:
        context.load_cert_chain(certfile, keyfile or None, lambda: password)  # never asked for on the terminal
    return context


async def say_hello(settings: Settings, bound_s: float) -> None:
    """Connect to the first of the bootstrap servers that takes us, log in and ask it something.

    Raises what the last of them said: an OSError (ssl.SSLError is one), a KafkaError, or TimeoutError.
    """
    error: Exception = OSError("no address")
    for host, port, _ in collect_hosts(servers(settings)):
        try:
            connection = await create_conn(host, port, request_timeout_ms=int(bound_s * 1000), **security(settings))
            try:
                await connection.send(MetadataRequest([]))
            finally:
                connection.close()
        except (OSError, KafkaError, TimeoutError) as refused:
            error = refused
        else:
            return
    raise error


def cause(error: BaseException) -> BaseException:
    """What ended a connection: aiokafka hides it behind its own error."""
    while error.__cause__ is not None:
        error = error.__cause__
    return error


def last_refusal(since: float) -> str | None:
    """Who refused a connection for its certificate or login since then (monotonic), the latest; aiokafka only logs it."""
    return next((said for at, said in _refusals if at >= since), None)


async def _create_conn(host: str, port: int, **kwargs: Any) -> Any:
    """As aiokafka makes every connection, with a memory for what a person has to mend."""
    try:
        return await create_conn(host, port, **kwargs)
    except (OSError, KafkaError) as error:
        if isinstance(cause(error), ssl.SSLError | KafkaError):
            _refusals.append((time.monotonic(), f"{host}:{port}: {cause(error)}"))
        raise


aiokafka.client.create_conn = _create_conn
