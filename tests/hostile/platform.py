"""What the tests of the corpus share: raw requests, the ends of all topics, looks into logs."""

from __future__ import annotations

import errno
import re
import socket
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from http.client import HTTPConnection
from pathlib import Path
from threading import Thread
from typing import Any, Final, NamedTuple
from urllib.parse import urlsplit

import orjson
from aiokafka import AIOKafkaConsumer, TopicPartition

from schemas.settings import Settings
from tests.hostile.requests import Case

ANSWER_S: Final = 10.0
BAD_SIGNS: Final = ("Traceback", "internal_error", "unexpected_error")


class Answer(NamedTuple):
    """What came back. `told`: status and code of a problem, or the status alone."""

    told: str
    body: Any


class Caller:
    """One connection to an API that sends what it is given, byte for byte; opened anew whenever the API has closed it."""

    def __init__(self, address: str) -> None:
        self._connection = HTTPConnection(urlsplit(address).netloc, timeout=ANSWER_S)

    def ask(self, case: Case) -> Answer:
        connection = self._connection
        try:
            connection.putrequest(case.method, case.path, skip_accept_encoding=True)
            for name, value in case.headers:
                connection.putheader(name, value)
            if case.body is not None:
                connection.putheader("Content-Length", str(len(case.body)))
            with suppress(BrokenPipeError, ConnectionResetError):  # an API that has heard enough
                connection.endheaders(case.body)
            with connection.getresponse() as response:
                text = response.read()
            body = orjson.loads(text) if text else None
        except BaseException:
            connection.close()
            raise
        code = body.get("code") if isinstance(body, dict) else None
        return Answer(f"{response.status} {code}" if code else str(response.status), body)

    def close(self) -> None:
        self._connection.close()


def exchanged(address: str, sent: bytes) -> list[int]:
    """Send bytes and no more, and read to the end of the connection; the statuses of all answers."""
    parts = urlsplit(address)
    received = b""
    with socket.create_connection((parts.hostname, parts.port), timeout=ANSWER_S) as connection:
        with suppress(BrokenPipeError, ConnectionResetError):
            connection.sendall(sent)
            _say_no_more(connection)
        with suppress(ConnectionResetError):
            while chunk := connection.recv(65_536):
                received += chunk
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", received)]


def _say_no_more(connection: socket.socket) -> None:
    """Close this side, unless the other one has closed both."""
    try:
        connection.shutdown(socket.SHUT_WR)
    except OSError as error:
        if error.errno != errno.ENOTCONN:
            raise


async def ends(settings: Settings) -> Mapping[str, int]:
    """Topic and partition → where it ends, of every topic of the platform."""
    consumer = AIOKafkaConsumer(bootstrap_servers=settings.kafka_bootstrap_servers)
    await consumer.start()
    try:
        names = [name for name in await consumer.topics() if name.startswith(settings.workflow_topic_prefix)]
        tps = [TopicPartition(name, n) for name in names for n in consumer.partitions_for_topic(name) or ()]
        return {f"{tp.topic}/{tp.partition}": end for tp, end in (await consumer.end_offsets(tps)).items()}
    finally:
        await consumer.stop()


def bad_signs(logs: list[Path]) -> list[str]:
    """Lines of logs that tell of something nobody had thought of."""
    lines = [line for log in logs for line in log.read_text(errors="replace").splitlines()]
    return [line[:2_000] for line in lines if any(sign in line for sign in BAD_SIGNS)]


class Listener:
    """Counts who connects, on this machine's IPv4 and IPv6 addresses."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("::", 0), family=socket.AF_INET6, dualstack_ipv6=True)
        self.port: int = self._socket.getsockname()[1]
        self.connections = 0
        Thread(target=self._count, daemon=True).start()

    def _count(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self._socket.accept()
                self.connections += 1
                connection.close()

    def close(self) -> None:
        self._socket.close()


@contextmanager
def listener() -> Iterator[Listener]:
    """A listener until the end of the block."""
    made = Listener()
    try:
        yield made
    finally:
        made.close()
