"""Commands that wait for their run, on a log in memory."""

from __future__ import annotations

import pytest

from schemas.store import RunFilter
from tests.histories import Log, command, id_at
from tests.projecting import impatient_lanes, world

pytestmark = pytest.mark.usefixtures("impatient")
__all__ = ["impatient_lanes"]


async def test_a_command_that_becomes_a_run_leaves_no_trace() -> None:
    """Its position moves in the transaction of its run; no row is written for it."""
    log = Log(1)
    epoch = log.take(0)
    story = log.story(0)
    async with world(log) as w:
        w.topics.put_command(0, command(story.run_id))
        await w.until(lambda: w.projector._lanes[0].held)
        log.append(0, story.requested(epoch))
        await w.until_level()
        assert w.store.pending == []
        assert [batch.commands for batch in w.store.batches if batch.commands] == [(0, 1)]


async def test_a_command_for_a_run_that_has_ended_needs_no_row() -> None:
    """A start that comes again after its run's end is not even tried: the projector remembers the last runs that ended."""
    log = Log(1)
    epoch = log.take(0)
    story = log.story(0)
    for value in story.whole(epoch):
        log.append(0, value)
    async with world(log) as w:
        await w.until_level()
        w.topics.put_command(0, command(story.run_id))
        await w.until_level()
        assert w.store.pending == []


async def test_a_command_that_waits_is_shown() -> None:
    """After a moment it shows as PENDING; its run's first event takes the row away."""
    log = Log(1)
    epoch = log.take(0)
    story = log.story(0)
    async with world(log) as w:
        w.topics.put_command(0, command(story.run_id, payload={"n": 1}))
        await w.until(lambda: w.store.pending)
        run = await w.store.run(story.run_id)
        assert run is not None
        assert (run.view["status"], run.view["payload"], run.place) == ("PENDING", {"n": 1}, ("t", 0))
        log.append(0, story.requested(epoch))
        await w.until_level()
        assert [run.place for run in await w.store.runs(RunFilter(), after=None, limit=9)] == [("e", 0)]


async def test_commands_that_are_none_are_passed_by() -> None:
    """What cannot be read, is not at home here or starts nothing makes no row; the position moves over it."""
    log = Log(2)
    log.take(0)
    log.take(1)
    async with world(log) as w:
        stray = id_at(log.rng, 1, 2)
        foreign = b'{"workflow_id": "greet", "payload": {}}'
        for value in (b"{", b'{"workflow_id": 5}', command(stray), b'{"type":"CancelRun","run_id":"x"}', foreign):
            w.topics.put_command(0, value)
        await w.until_level()
        assert [row.offset for row in w.store.pending] == [4]
        assert (await w.store.positions())["t", 0] == 5


async def test_a_hole_in_the_commands_is_passed_after_one_look_back() -> None:
    """That topic may have holes: one seek back, then reading goes on."""
    async with world(Log(1)) as w:
        w.topics.put_command(0, command("one"))
        await w.until_level()
        w.topics.put_command(0, command("two"), hole=3)
        await w.until_level()
        assert sorted(row.run_id for row in w.store.pending) == ["one", "two"]
        assert [seek for seek in w.group.seeks if seek == {w.commands: 1}] == [{w.commands: 1}]


async def test_commands_deleted_long_ago_are_not_missed() -> None:
    """The platform deletes commands that were decided: reading goes on at the first that is kept."""
    async with world(Log(1)) as w:
        w.topics.put_command(0, command("late"), hole=7)
        await w.group.leave()
        w.topics.begins[w.commands] = 7
        await w.group.join()
        await w.until_level()
        assert [row.run_id for row in w.store.pending] == ["late"]
