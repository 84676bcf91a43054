"""The load generator, a process of its own: the same request, again and again, over a few keep-alive connections.

`python -m tests.bench.generator` reads one JSON line (`Load`) and writes one (`Sent`).
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections import Counter
from dataclasses import asdict, dataclass
from typing import Final, cast

import orjson
import uvloop

from tests.bench.figures import percentile
from tests.bench.wire import Answers, Unreadable, request

CONNECT_S: Final = 10.0


@dataclass(frozen=True, slots=True)
class Load:
    """What to send: `count` POSTs of `body` to http://host:port/path, all within `bound_s`.

    `rate` None: each connection sends as soon as it was answered; else so many requests per second, evenly, as far as
    there is a connection that waits for no answer.
    """

    host: str
    port: int
    path: str
    body: dict[str, object]
    count: int
    connections: int
    rate: float | None
    bound_s: float
    key: str


@dataclass(frozen=True, slots=True)
class Sent:
    """What came of it. Times are seconds since 1970; `cpu_s` is the generator's own."""

    first_sent_at: float
    last_answered_at: float
    statuses: dict[str, int]
    p50_ms: float
    p99_ms: float
    cpu_s: float


class _Sending:
    """All connections together."""

    def __init__(self, load: Load) -> None:
        self.load = load
        self.raw = request("POST", f"{load.host}:{load.port}", load.path, load.body, load.key)
        self.loop = asyncio.get_running_loop()
        self.finished: asyncio.Future[None] = self.loop.create_future()
        self.statuses: Counter[int] = Counter()
        self.times_s: list[float] = []
        self.began = 0.0
        self._sent = 0

    def next(self, connection: _Connection) -> None:
        """Have the connection send the next request, when it is due."""
        number = self._sent
        if number >= self.load.count:
            return
        self._sent += 1
        due = self.began + number / self.load.rate if self.load.rate else 0.0
        if due > time.perf_counter():
            self.loop.call_later(due - time.perf_counter(), connection.send)
        else:
            connection.send()

    def answered(self, status: int, took_s: float) -> None:
        self.statuses[status] += 1
        self.times_s.append(took_s)
        if len(self.times_s) == self.load.count and not self.finished.done():
            self.finished.set_result(None)

    def failed(self, error: Exception) -> None:
        if not self.finished.done():
            self.finished.set_exception(error)


class _Connection(asyncio.Protocol):
    def __init__(self, sending: _Sending) -> None:
        self._sending = sending
        self._answers = Answers()
        self._sent_at = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def send(self) -> None:
        self._sent_at = time.perf_counter()
        self._transport.write(self._sending.raw)

    def data_received(self, data: bytes) -> None:
        try:
            answer = self._answers.feed(data)
        except Unreadable as error:
            self._sending.failed(error)
            return
        if answer is not None:
            self._sending.answered(answer.status, time.perf_counter() - self._sent_at)
            self._sending.next(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._sending.failed(Unreadable(f"a connection was closed: {exc}"))

    def close(self) -> None:
        self._transport.close()


async def generate(load: Load) -> Sent:
    """Send all of it. Raises Unreadable or TimeoutError."""
    sending = _Sending(load)
    async with asyncio.timeout(CONNECT_S):
        opened = await asyncio.gather(
            *(
                sending.loop.create_connection(lambda: _Connection(sending), load.host, load.port)
                for _ in range(load.connections)
            )
        )
    connections = [connection for _, connection in opened]
    cpu_s, first_sent_at = time.process_time(), time.time()
    sending.began = time.perf_counter()
    async with asyncio.timeout(load.bound_s):
        for connection in connections:
            sending.next(connection)
        await sending.finished
    last_answered_at = time.time()
    for connection in connections:
        connection.close()
    return Sent(
        first_sent_at,
        last_answered_at,
        {str(status): count for status, count in sending.statuses.items()},
        percentile(sending.times_s, 50) * 1000,
        percentile(sending.times_s, 99) * 1000,
        time.process_time() - cpu_s,
    )


def main() -> None:
    load = Load(**orjson.loads(sys.stdin.buffer.readline()))
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        sent = runner.run(generate(load))
    sys.stdout.buffer.write(orjson.dumps(asdict(sent)) + b"\n")


if __name__ == "__main__":
    main()
