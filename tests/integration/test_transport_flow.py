"""What is handed over, and when, by one member on a real Kafka."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence

import pytest
from aiokafka import AIOKafkaProducer

from ops.embedded.kafka import KafkaServer
from schemas.ports import TP, Record
from schemas.settings import Settings
from streams import consumer
from streams.kafka import LogReader, client_kwargs
from streams.lifecycle import GroupProgress, Progress, run_app
from streams.topics import delete_decided
from streams.transport import build_app
from tests.members import Recorder, commands, events, kafka_settings, member, produce, until
from tests.servers import Address


@pytest.fixture
async def settings(kafka: Address, topic_prefix: str) -> Settings:
    return await kafka_settings(kafka.address, topic_prefix)


async def test_events_flow_while_intake_is_stopped(settings: Settings) -> None:
    """With the commands paused and a backlog of them, events go on; a rebalance does not start the intake again."""
    handler, tp = Recorder(), events(settings)
    paused = [commands(settings, number) for number in range(2)]
    async with member(settings, handler) as group:
        await until(lambda: len(group.assignment) == 4)
        group.pause(paused)
        for number in range(2):
            await produce(settings, settings.topics.trigger, number, [b"x" * 100] * 2_000)
        for at in range(20):
            await produce(settings, settings.topics.events, 0, [b"event"])
            await until(lambda: handler.offsets[tp][-1:] == [at])  # noqa: B023 - waited for in the same turn
        async with member(settings, Recorder(paused=lambda _: paused)) as other:
            await until(lambda: len(other.assignment) == 2)
        await until(lambda: len(group.assignment) == 4)
        await produce(settings, settings.topics.events, 0, [b"event"])
        await until(lambda: handler.offsets[tp][-1:] == [20])
        assert all(handler.offsets[each] == [] for each in paused)
        group.resume(paused)
        await until(lambda: all(handler.offsets[each][-1:] == [1_999] for each in paused))
    assert all(handler.offsets[each] == list(range(2_000)) for each in paused)


async def test_nothing_is_handed_over_after_a_pause(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """A handler that pauses in the middle of a fetch gets not one batch more; resumed, it goes on with the next record,
    without waiting for the end of a fetch that had nothing."""
    monkeypatch.setattr(consumer, "_FETCH_S", 3600)
    tp = events(settings)
    await produce(settings, tp.topic, 0, [b"x" * 50] * 5_000)
    batches: list[int] = []

    def pause_at_once(at: TP, records: Sequence[Record]) -> None:
        if at == tp:
            batches.append(records[-1].offset)
            group.pause([tp])

    handler = Recorder(on_batch=pause_at_once)
    async with member(settings, handler) as group:
        while not batches or batches[-1] < 4_999:
            count = len(batches)
            await until(lambda: len(batches) > count)  # noqa: B023 - waited for in the same turn
            await produce(settings, settings.topics.events, 1, [b"proof that the flow goes on"])
            await until(lambda: len(handler.offsets[events(settings, 1)]) == count + 1)  # noqa: B023
            assert len(batches) == count + 1
            group.resume([tp])
    assert handler.offsets[tp] == list(range(5_000))
    assert len(batches) > 1


async def test_what_was_fetched_before_a_seek_is_not_handed_over(settings: Settings) -> None:
    """Each seek is exact: the next record is the one that was asked for, however much was already fetched."""
    tp = events(settings)
    await produce(settings, tp.topic, 0, [b"x" * 50] * 9_000)
    wanted = [8_000, 1, 5_000, 0, 8_999]
    firsts: list[int] = []

    def seek_at_once(_: TP, records: Sequence[Record]) -> None:
        firsts.append(records[0].offset)
        if len(firsts) <= len(wanted):
            group.seek({tp: wanted[len(firsts) - 1]})

    async with member(settings, Recorder(on_batch=seek_at_once)) as group:
        await until(lambda: len(firsts) == 1 + len(wanted))
        assert firsts == [0, *wanted]
        assert group.position(tp) == 9_000


async def test_a_large_fetch_is_handed_over_in_pieces(settings: Settings) -> None:
    """One call of the handler holds no more than the bound, and the pieces follow each other."""
    sizes: list[int] = []
    handler = Recorder(on_batch=lambda _, records: sizes.append(len(records)))
    tp = events(settings)
    await produce(settings, tp.topic, 0, [b"x"] * 10_000)
    app = build_app(
        settings, group=settings.kafka_consumer_group, topics=[tp.topic], handler=handler, batch_records_max=700
    )
    stop = asyncio.Event()
    running = asyncio.ensure_future(run_app(app, stop, grace_s=30))
    await until(lambda: handler.offsets[tp][-1:] == [9_999])
    stop.set()
    assert await running == 0
    assert handler.offsets[tp] == list(range(10_000))
    assert max(sizes) == 700


async def test_holes_are_delivered_as_they_are(settings: Settings) -> None:
    """A topic whose first records were deleted starts where it starts, also when an older offset is committed."""
    tp = commands(settings)
    await produce(settings, tp.topic, 0, [b"%d" % at for at in range(100)])
    first = Recorder()
    async with member(settings, first) as group:
        await until(lambda: len(first.offsets[tp]) == 100)
        assert await group.commit({tp: 10})
    in_an_hour_ms = int((time.time() + 3600) * 1000)
    assert await delete_decided(settings, {tp: 40}, in_an_hour_ms) == {tp: 40}
    second = Recorder()
    async with member(settings, second):
        await until(lambda: second.offsets[tp][-1:] == [99])
    assert second.offsets[tp] == list(range(40, 100))


async def test_what_a_transaction_took_back_was_never_said(settings: Settings) -> None:
    """Other people's producers may use transactions: an aborted one is not handed over, its markers are no backlog."""
    tp, handler = commands(settings), Recorder()
    async with AIOKafkaProducer(**client_kwargs(settings), transactional_id=f"{tp.topic}-foreign") as producer:
        for value, kept in ((b"one", True), (b"taken back", False), (b"two", True), (b"taken back", False)):
            await producer.begin_transaction()
            await producer.send_and_wait(tp.topic, value, partition=tp.partition)
            await (producer.commit_transaction() if kept else producer.abort_transaction())
    values: list[bytes | None] = []
    handler.on_batch = lambda _, records: values.extend(record.value for record in records)
    async with member(settings, handler) as group, LogReader(settings) as reader:
        await until(lambda: len(values) == 2)
        assert await group.end_offsets([tp]) == await reader.end_offsets([tp]) == {tp: 8}
        progress = GroupProgress(group, reader, excused=frozenset)
        asking = asyncio.ensure_future(progress.run(0.05))
        await until(lambda: progress().get(tp) == Progress(5, 5))
        asking.cancel()
    assert values == [b"one", b"two"]


async def test_a_log_that_went_back_ends_the_member(settings: Settings, caplog: pytest.LogCaptureFixture) -> None:
    """A position beyond the end of the log is never answered by a silent return to the first record."""
    tp = events(settings)
    await produce(settings, tp.topic, 0, [b"a", b"b"])
    app = build_app(settings, group=settings.kafka_consumer_group, topics=[tp.topic], handler=Recorder({tp: 1_000}))
    assert await run_app(app, asyncio.Event(), grace_s=30) == 1
    assert "it ends before offset 1000" in caplog.text


@pytest.mark.long
async def test_reading_and_committing_survive_a_broker_that_is_killed(own_kafka: KafkaServer) -> None:
    """Kill -9 of the broker for longer than a session: nothing crashes, a commit begun meanwhile waits and is then
    accepted or refused, and records go on from where they were."""
    settings = await kafka_settings(own_kafka.address, "own.")
    tp, handler = events(settings), Recorder()
    async with member(settings, handler) as group:
        await produce(settings, tp.topic, 0, [b"before"] * 10)
        await until(lambda: len(handler.offsets[tp]) == 10)
        async with LogReader(settings, bound_s=2) as reader:
            progress = GroupProgress(group, reader, excused=frozenset)
            asking = asyncio.ensure_future(progress.run(0.1))
            await until(progress)
            own_kafka.kill()
            committing = asyncio.ensure_future(group.commit({tp: 5}))
            await until(lambda: not progress(), "the watchdog's leniency while the broker is away")
            await asyncio.sleep(settings.workflow_session_timeout_s)
            assert not committing.done()
            own_kafka.start()
            assert await committing in {True, False}
            await produce(settings, tp.topic, 0, [b"after"])
            await until(lambda: 10 in handler.offsets[tp])
            await until(progress)
            asking.cancel()
    offsets = handler.offsets[tp]
    assert offsets[: offsets.index(10) + 1] in (list(range(11)), [*range(10), *range(5, 11)], [*range(10), *range(11)])
