"""Committed offsets on a real Kafka: they are what was asked for, never lower, and never a reason to crash."""

from __future__ import annotations

from pathlib import Path

import pytest

from schemas.errors import BrokerAway
from schemas.ports import TP
from schemas.settings import Settings
from tests.members import Recorder, child, commands, events, kafka_settings, member, produce, until
from tests.servers import Address


@pytest.fixture
async def settings(kafka: Address, topic_prefix: str) -> Settings:
    return await kafka_settings(kafka.address, topic_prefix)


async def test_nothing_is_committed_by_itself(settings: Settings) -> None:
    """Batches handed over leave no trace in the group; what is committed is exactly what was asked for."""
    first, second = commands(settings, 0), commands(settings, 1)
    for tp in (first, second):
        await produce(settings, tp.topic, tp.partition, [b"x"] * 400)
    handler = Recorder()
    async with member(settings, handler) as group:
        await until(lambda: len(handler.offsets[first]) == len(handler.offsets[second]) == 400)
        assert await group.committed([first, second]) == {first: None, second: None}
        assert await group.commit({first: 100})  # the batch from 100 on is done, this one is not: the caller says so
        assert await group.committed([first, second]) == {first: 100, second: None}
    async with member(settings, Recorder()) as group:
        await until(lambda: group.assignment)
        assert await group.committed([first, second]) == {first: 100, second: None}


async def test_an_offset_never_goes_back(settings: Settings) -> None:
    """Within an assignment, and below what an owner before it had committed."""
    tp = commands(settings)
    await produce(settings, tp.topic, 0, [b"x"] * 10)
    async with member(settings, Recorder()) as group:
        await until(lambda: group.position(tp) == 10)
        assert await group.commit({tp: 6})
        assert await group.commit({tp: 4})
        assert await group.committed([tp]) == {tp: 6}
    async with member(settings, Recorder({tp: 0})) as group:
        await until(lambda: group.position(tp) == 10)
        assert await group.commit({tp: 2})
        assert await group.committed([tp]) == {tp: 6}
        assert await group.commit({tp: 8})
        assert await group.committed([tp]) == {tp: 8}


async def test_the_next_member_starts_at_the_committed_offset(settings: Settings) -> None:
    """After a restart and after a join alike, unless the handler says otherwise."""
    tp, other = commands(settings), events(settings)
    for each in (tp, other):
        await produce(settings, each.topic, 0, [b"x"] * 10)
    async with member(settings, Recorder()) as group:
        await until(lambda: group.position(tp) == 10)
        assert await group.commit({tp: 4, other: 9})
    restarted = Recorder({other: 0})
    async with member(settings, restarted):
        await until(lambda: len(restarted.offsets[tp]) == 6 and len(restarted.offsets[other]) == 10)
    assert restarted.offsets[tp] == list(range(4, 10))
    assert restarted.offsets[other] == list(range(10))


async def test_a_commit_for_what_was_lost_is_refused_without_harm(settings: Settings) -> None:
    """A partition that went to another member a moment ago: False, its offset stays, the rest is committed."""
    async with member(settings, Recorder()) as group:
        await until(lambda: len(group.assignment) == 4)
        async with member(settings, Recorder()) as other:
            await until(lambda: len(group.assignment) == len(other.assignment) == 2)
            mine, lost = next(iter(group.assignment)), next(iter(other.assignment))
            await until(lambda: group.position(mine) == 0 and other.position(lost) == 0)
            assert not await group.commit({lost: 5, mine: 0})
            assert not await group.confirm(lost)
            assert not await group.commit({TP("no-such-topic", 0): 1})
            assert await group.committed([lost]) == {lost: None}
            assert await group.confirm(mine)
        await until(lambda: len(group.assignment) == 4)
    assert group.generation == -1
    assert not await group.commit({mine: 1})
    assert not await group.confirm(mine)


async def test_confirming_leaves_the_offset_where_it_is(settings: Settings) -> None:
    """Without any commit before, the first record's offset is what is confirmed; later the highest known."""
    tp = events(settings)
    await produce(settings, tp.topic, 0, [b"x"] * 10)
    async with member(settings, Recorder()) as group:
        await until(lambda: group.position(tp) == 10)
        assert await group.confirm(tp)
        assert await group.committed([tp]) == {tp: 0}
        assert await group.commit({tp: 7})
        assert await group.confirm(tp)
        assert await group.committed([tp]) == {tp: 7}


async def test_a_commit_inside_revoked_is_accepted(settings: Settings) -> None:
    """The handler is still the owner when it is told to let go."""
    tp, accepted = commands(settings), list[bool]()

    class Committing(Recorder):
        async def revoked(self) -> None:
            accepted.append(await group.commit({tp: 3}))

    await produce(settings, tp.topic, 0, [b"x"] * 10)
    async with member(settings, Committing()) as group:
        await until(lambda: group.position(tp) == 10)
        async with member(settings, Recorder()) as other:
            await until(lambda: len(group.assignment) == len(other.assignment) == 2)
            assert accepted == [True]
            assert await other.committed([tp]) == {tp: 3}


async def test_a_batch_that_raises_ends_the_process_uncommitted(settings: Settings, tmp_path: Path) -> None:
    """Exit code 1, nothing committed from the failed batch on, and the next process is given the batch again."""
    tp = commands(settings)
    await produce(settings, tp.topic, 0, [b"good"] * 5)
    with child(settings, "raising", tmp_path) as broken:
        await until(lambda: broken.said("committed")[-1:] == [{"what": "committed", "offsets": [[list(tp), 5]]}])
        await produce(settings, tp.topic, 0, [b"good", b"raise", b"good"])
        assert await broken.exit_code() == 1
        assert broken.said("ended") == [{"what": "ended", "code": 1}]
        assert "a batch that cannot be taken" in broken.log.read_text()
    handler = Recorder()
    async with member(settings, handler) as group:
        await until(lambda: handler.offsets[tp][-1:] == [7])
        assert await group.committed([tp]) == {tp: 5}
    assert handler.offsets[tp] == [5, 6, 7]


async def test_the_environment_changes_nothing(settings: Settings, tmp_path: Path) -> None:
    """Variables that Faust would take over its arguments have no effect."""
    hostile = {
        "BROKER_URL": "kafka://127.0.0.1:1",
        "APP_VERSION": "3",
        "APP_DEBUG": "1",
        "PROCESSING_GUARANTEE": "exactly_once",
    }
    tp = commands(settings)
    await produce(settings, tp.topic, 0, [b"x"] * 3)
    with child(settings, "telling", tmp_path, hostile) as started:
        await until(lambda: started.said("committed")[-1:] == [{"what": "committed", "offsets": [[list(tp), 3]]}])
    async with member(settings, Recorder()) as group:
        await until(lambda: group.generation > 0)
        assert await group.committed([tp]) == {tp: 3}


async def test_questions_end_in_bounded_time(settings: Settings) -> None:
    """The ends of partitions are answered; for a topic that is not there BrokerAway comes instead of waiting for ever."""
    tp = events(settings)
    await produce(settings, tp.topic, 0, [b"x"] * 10)
    async with member(settings, Recorder()) as group:
        await until(lambda: group.assignment)
        assert await group.end_offsets([tp]) == {tp: 10}
        with pytest.raises(BrokerAway):
            await group.end_offsets([TP("no-such-topic", 0)])
