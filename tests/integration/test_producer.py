"""The producer on a real Kafka: order, outcomes, and that what was dropped stays dropped."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from ops.embedded.kafka import KafkaServer
from schemas.errors import BrokerAway, OutcomeUnknown, TooLarge
from schemas.ports import TP
from schemas.settings import Settings
from streams.kafka import LogReader
from streams.producer import BATCH_BYTES, LogProducer
from tests.members import change_configs, events, kafka_settings, produce, until
from tests.servers import Address

Outcome = tuple[int | None, Exception | None]


@pytest.fixture
async def settings(kafka: Address, topic_prefix: str) -> Settings:
    return await kafka_settings(kafka.address, topic_prefix)


class Outcomes:
    """Remembers what each send was told, by the number given to `of`."""

    def __init__(self) -> None:
        self.told: dict[int, list[Outcome]] = {}
        self.lost: list[Exception] = []

    def of(self, number: int) -> Callable[[int | None, Exception | None], None]:
        return lambda offset, error: self.told.setdefault(number, []).append((offset, error))

    def unknown(self) -> list[int]:
        return [number for number, told in self.told.items() if isinstance(told[0][1], OutcomeUnknown)]


@asynccontextmanager
async def producer(
    settings: Settings, outcomes: Outcomes, *, deadline_s: float = 30, buffer_bytes_max: int = 1024 * 1024 * 1024
) -> AsyncIterator[LogProducer]:
    made = LogProducer(settings, deadline_s=deadline_s, on_lost=outcomes.lost.append, buffer_bytes_max=buffer_bytes_max)
    await made.start()
    try:
        yield made
    finally:
        await made.drop(5)


async def values(settings: Settings, tp: TP) -> list[bytes | None]:
    """All that stands in a partition."""
    async with LogReader(settings) as reader:
        end = (await reader.end_offsets([tp]))[tp]
        return [record.value async for records in reader.read(tp, 0, end) for record in records]


async def test_records_stand_in_the_order_of_their_sends(settings: Settings) -> None:
    """Single records and groups of them, larger than a batch together: in order, each send told its last offset once."""
    tp, outcomes, sent = events(settings), Outcomes(), []
    async with producer(settings, outcomes) as appender:
        for number in range(300):
            group = [b"%d.%d " % (number, place) + b"x" * 1_500 for place in range(1 + number % 5)]
            sent += group
            appender.send_many(tp.topic, 0, [(b"key", value) for value in group], outcomes.of(number))
            if number % 20 == 0:
                await asyncio.sleep(0)
        assert await appender.flush(30)
    assert sum(map(len, sent)) > 4 * BATCH_BYTES
    assert await values(settings, tp) == sent
    lasts = [told[0][0] for told in outcomes.told.values()]
    assert lasts == [sum(1 + at % 5 for at in range(number + 1)) - 1 for number in range(300)]
    assert all(len(told) == 1 for told in outcomes.told.values())
    assert outcomes.lost == []


async def test_a_record_over_the_limit_is_refused_at_once(settings: Settings) -> None:
    """TooLarge names the setting, nothing is taken, and the producer goes on; the largest allowed record passes."""
    limit, outcomes = settings.workflow_record_bytes_max, Outcomes()
    tp = events(settings)
    async with producer(settings, outcomes) as appender:
        with pytest.raises(TooLarge, match="WORKFLOW_RECORD_BYTES_MAX"):
            appender.send_many(tp.topic, 0, [(None, b"small"), (b"k", b"x" * limit)], outcomes.of(0))
        appender.send(tp.topic, 0, b"k", b"x" * (limit - 1), outcomes.of(1))
        appender.send(tp.topic, 0, b"k", b"last", outcomes.of(2))
        assert await appender.flush(30)
    assert outcomes.told == {1: [(0, None)], 2: [(1, None)]}
    assert [len(value or b"") for value in await values(settings, tp)] == [limit - 1, 4]


async def test_a_refusal_by_the_broker_loses_the_producer(settings: Settings) -> None:
    """A batch that is refused for good uses up its place in the sequence: all that is outstanding is told, once."""
    tp, outcomes = events(settings), Outcomes()
    await change_configs(settings, tp.topic, max_message_bytes="1000")
    async with producer(settings, outcomes) as appender:
        noise = bytes(at * 37 % 251 for at in range(5_000)) * 4
        appender.send(tp.topic, 0, None, noise * 8, outcomes.of(0))
        appender.send(tp.topic, 0, None, b"behind it", outcomes.of(1))
        await until(lambda: outcomes.lost)
        assert outcomes.unknown() == [0, 1]
        assert appender.lost
        with pytest.raises(OutcomeUnknown):
            appender.send(tp.topic, 0, None, b"later", outcomes.of(2))
    assert len(outcomes.lost) == 1
    assert await values(settings, tp) == []


async def test_the_buffer_is_bounded(settings: Settings) -> None:
    """Past the bound `has_room` is False and `room` waits; past twice the bound a send is refused and nothing taken."""
    tp, outcomes = events(settings), Outcomes()
    async with producer(settings, outcomes, buffer_bytes_max=10_000) as appender:
        for number in range(2):
            appender.send(tp.topic, 0, None, b"x" * 9_990, outcomes.of(number))
        room_before = appender.has_room
        with pytest.raises(BrokerAway, match="bytes wait to be sent"):
            appender.send(tp.topic, 0, None, b"x" * 9_990, outcomes.of(2))
        await appender.room()
        assert (room_before, appender.has_room) == (False, True)
        assert await appender.flush(30)
    assert len(outcomes.told) == 2
    assert len(await values(settings, tp)) == len(outcomes.told)


async def test_an_absent_broker_is_told_by_name(settings: Settings) -> None:
    """A start without a broker ends in BrokerAway, with nothing left running."""
    away = settings.model_copy(update={"kafka_bootstrap_servers": "127.0.0.1:1"})
    before = asyncio.all_tasks()
    appender = LogProducer(away, deadline_s=5, on_lost=lambda _: None)
    with pytest.raises(BrokerAway, match="KAFKA_BOOTSTRAP_SERVERS"):
        await appender.start(bound_s=5)
    await until(lambda: asyncio.all_tasks() == before)


@pytest.mark.slow
@pytest.mark.parametrize("frozen", [True, False], ids=["frozen", "killed"])
async def test_what_was_dropped_is_never_sent_again(own_kafka: KafkaServer, frozen: bool) -> None:
    """The broker stops answering: a send misses its deadline, all that is outstanding becomes unknown, once. After the
    drop the broker comes back: of what had not left the process nothing ever stands in the log."""
    settings = await kafka_settings(own_kafka.address, "own.")
    tp, outcomes = events(settings), Outcomes()
    async with producer(settings, outcomes, deadline_s=1) as appender:
        appender.send(tp.topic, 0, None, b"acknowledged", outcomes.of(0))
        assert await appender.flush(30)
        if frozen:
            own_kafka.freeze()
        else:
            own_kafka.kill()
        appender.send(tp.topic, 0, None, b"in flight", outcomes.of(1))
        await asyncio.sleep(0.2)  # so that the next ones wait behind it
        for number in range(2, 50):
            appender.send(tp.topic, 0, None, b"behind", outcomes.of(number))
        await until(lambda: outcomes.lost)
        assert outcomes.unknown() == list(range(1, 50))
        assert not await appender.flush(1)
        await appender.drop(2)
    if frozen:
        own_kafka.thaw()
    else:
        own_kafka.start()
    await produce(settings, tp.topic, 0, [b"of a new producer"])
    await asyncio.sleep(2)  # longer than a client waits before it connects and tries again
    standing = await values(settings, tp)
    allowed = [[b"acknowledged", b"of a new producer"]]
    if frozen:  # what the frozen one had in its ears
        allowed += [[b"acknowledged", b"in flight", b"of a new producer"]]
        allowed += [[b"acknowledged", b"of a new producer", b"in flight"]]
    assert standing in allowed
    assert all(len(told) == 1 for told in outcomes.told.values())
    assert len(outcomes.lost) == 1


async def test_a_short_outage_is_no_loss(own_kafka: KafkaServer) -> None:
    """A broker that is back before the deadline: everything is written, once and in order."""
    settings = await kafka_settings(own_kafka.address, "own.")
    tp, outcomes = events(settings), Outcomes()
    async with producer(settings, outcomes, deadline_s=60) as appender:
        for number in range(100):
            appender.send(tp.topic, 0, None, b"%d" % number, outcomes.of(number))
            if number == 50:
                own_kafka.kill()
                own_kafka.start()
            await asyncio.sleep(0)
        assert await appender.flush(50)
    assert await values(settings, tp) == [b"%d" % number for number in range(100)]
    assert outcomes.told == {number: [(number, None)] for number in range(100)}
