"""Joins, leaves and takeovers of a consumer group on a real Kafka."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterable
from contextlib import AsyncExitStack
from pathlib import Path

import pytest

from schemas.errors import NotCoPartitioned
from schemas.settings import Settings
from streams.group import ConsumerGroup
from tests.members import Recorder, child, commands, events, kafka_settings, member, produce, until
from tests.servers import Address


@pytest.fixture
async def settings(kafka: Address, topic_prefix: str) -> Settings:
    return await kafka_settings(kafka.address, topic_prefix)


def partitions(group: ConsumerGroup, topic: str) -> set[int]:
    return {tp.partition for tp in group.assignment if tp.topic == topic}


def spread(groups: Iterable[ConsumerGroup], settings: Settings) -> list[int]:
    """How many partitions of the events each member has, when all have the same ones of the commands; else empty."""
    topics = settings.topics
    if any(partitions(group, topics.trigger) != partitions(group, topics.events) for group in groups):
        return []
    return sorted(len(partitions(group, topics.events)) for group in groups)


async def test_commands_and_events_stay_together(kafka: Address, topic_prefix: str) -> None:
    """With 8 partitions and three members each has the same partitions of both topics, evenly, also after a restart."""
    settings = await kafka_settings(kafka.address, topic_prefix, partitions=8)
    async with AsyncExitStack() as stack:
        groups = [await stack.enter_async_context(member(settings, Recorder())) for _ in range(2)]
        async with member(settings, Recorder()) as third:
            await until(lambda: spread([*groups, third], settings) == [2, 3, 3], "an even spread over three members")
        await until(lambda: spread(groups, settings) == [4, 4], "an even spread over two")
        groups.append(await stack.enter_async_context(member(settings, Recorder())))
        await until(lambda: spread(groups, settings) == [2, 3, 3], "an even spread over three again")
        owned = [tp for group in groups for tp in group.assignment]
        assert len(owned) == len(set(owned)) == 16


async def test_a_split_assignment_ends_the_member(settings: Settings) -> None:
    """Commands and events of different partitions are refused by name, before the handler hears of them."""
    handler = Recorder()
    group = ConsumerGroup(settings, "g", frozenset({settings.topics.trigger, settings.topics.events}), handler)
    with pytest.raises(NotCoPartitioned, match="partitions \\[0\\] of the commands and \\[1\\] of the events"):
        await group.rejoined(frozenset({commands(settings, 0), events(settings, 1)}), 1)
    assert handler.generations == []


async def test_every_record_is_delivered_again_from_our_position(settings: Settings) -> None:
    """Nothing was ever committed, the state loads slowly and a second member joins meanwhile: each partition that stays
    is read from exactly the positions that were asked for, without a loss and without a repeat."""
    for number in range(2):
        await produce(settings, settings.topics.events, number, [b"%d" % at for at in range(50)])
    slow = Recorder(paused=lambda assignment: assignment)
    quick = Recorder()
    async with member(settings, slow) as group:
        await until(lambda: len(group.assignment) == 4)
        async with member(settings, quick) as other:
            await until(lambda: len(group.assignment) == 2 and len(other.assignment) == 2)
            kept = next(tp for tp in group.assignment if tp.topic == settings.topics.events)
            assert not slow.offsets
            group.seek({kept: 7})
            group.resume(group.assignment)
            await until(lambda: slow.offsets[kept] and slow.offsets[kept][-1] == 49)
            moved = next(tp for tp in other.assignment if tp.topic == settings.topics.events)
            await until(lambda: quick.offsets[moved] and quick.offsets[moved][-1] == 49)
    assert slow.offsets[kept] == list(range(7, 50))
    assert quick.offsets[moved] == list(range(50))


async def test_reading_goes_on_without_loss_or_repeat_through_joins(settings: Settings) -> None:
    """While records keep coming, members join and leave; with positions given at each assignment a partition's
    readers together see every offset once."""
    topic, seen = settings.topics.events, Recorder()
    shared = seen.positions  # what a store would tell the next owner
    seen.on_batch = lambda tp, records: shared.update({tp: records[-1].offset + 1})
    shared.update({events(settings, number): 0 for number in range(2)})

    async def write() -> None:
        for at in range(60):
            for number in range(2):
                await produce(settings, topic, number, [b"%d" % at] * 5)

    async with member(settings, seen) as group:
        await until(lambda: group.assignment)
        writing = asyncio.ensure_future(write())
        for _ in range(3):
            async with member(settings, seen) as other:
                await until(lambda: len(other.assignment) == 2)
            await until(lambda: len(group.assignment) == 4)
        await writing
        await until(lambda: all(seen.offsets[events(settings, number)][-1:] == [299] for number in range(2)))
    for number in range(2):
        assert seen.offsets[events(settings, number)] == list(range(300))
    assert seen.revocations >= 6


async def test_a_member_with_an_empty_assignment_takes_over(kafka: Address, topic_prefix: str) -> None:
    """A spare member has nothing; when the other leaves it is given all and reads from where that had committed."""
    settings = await kafka_settings(kafka.address, topic_prefix, partitions=1)
    tp, first, spare = events(settings), Recorder(), Recorder()
    await produce(settings, tp.topic, 0, [b"a", b"b", b"c"])
    async with AsyncExitStack() as stack:
        async with member(settings, first) as group:
            await until(lambda: first.offsets[tp] == [0, 1, 2])
            other = await stack.enter_async_context(member(settings, spare))
            await until(lambda: len(group.assignment) + len(other.assignment) == 2 and other.generation == 2)
            idle, busy = (group, other) if other.assignment else (other, group)
            assert idle.assignment == frozenset()
            assert await busy.commit({tp: 2})
        await until(lambda: len(other.assignment) == 2)
        await until(lambda: spare.offsets[tp][-1:] == [2])


@pytest.mark.slow
async def test_a_frozen_member_cannot_confirm_what_it_lost(settings: Settings, tmp_path: Path) -> None:
    """SIGSTOP past the session timeout, another takes all, SIGCONT: no confirmation under the old generation any more."""
    with child(settings, "confirming", tmp_path) as frozen:
        await until(lambda: frozen.said("confirmed"))
        old = frozen.said("confirmed")[-1]["generation"]
        heir = Recorder()
        async with member(settings, heir) as group:
            frozen.send_signal(signal.SIGSTOP)
            await until(lambda: len(group.assignment) == 4, "the takeover")
            before = len(frozen.said("confirmed"))
            frozen.send_signal(signal.SIGCONT)
            await until(lambda: len(group.assignment) == 2, "the return of the frozen one")
            later = frozen.said("confirmed")[before:]
            assert all(line["generation"] > old for line in later)
        await until(lambda: frozen.said("confirmed")[-1]["generation"] > old)
        frozen.send_signal(signal.SIGTERM)
        assert await frozen.exit_code() == 0


@pytest.mark.slow
async def test_a_handler_that_hangs_holds_up_neither_the_group_nor_the_stop(settings: Settings, tmp_path: Path) -> None:
    """A member whose load and release hang: another still gets its share, and SIGTERM ends the process within its grace
    time even while a third one's join is under way."""
    with child(settings, "hanging", tmp_path) as hanging:
        await until(lambda: hanging.said("assigned"))
        async with member(settings, Recorder()) as group:
            await until(lambda: len(group.assignment) == 2, "the share of the second member")
            assert hanging.said("revoked")
            async with member(settings, Recorder()):
                hanging.send_signal(signal.SIGTERM)
                assert await hanging.exit_code() in {0, 70}
            await until(lambda: len(group.assignment) == 4, "what the hanging member had")
