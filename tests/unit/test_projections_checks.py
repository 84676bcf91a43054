"""A log that is not the one that the tables know is not read."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.feeding import everything
from tests.histories import Log, command, random_log, reencoded
from tests.projecting import World, impatient_lanes, world

pytestmark = pytest.mark.usefixtures("impatient")
__all__ = ["impatient_lanes"]


def _other_cluster(w: World) -> None:
    w.topics.cluster = "cluster-2"


def _cut_short(w: World) -> None:
    del w.log.records[0][-1]


def _other_bytes(w: World) -> None:
    last = w.log.records[0][-1]
    w.log.records[0][-1] = replace(last, value=reencoded(last.value or b"{}", cause="another"))


def _beginning_lost(w: World) -> None:
    w.topics.begins[w.events] = len(w.log.records[0])


def _commands_cut_short(w: World) -> None:
    w.topics.commands[0].clear()


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_other_cluster, "cluster-2"),
        (_cut_short, "stand at"),
        (_other_bytes, "digest"),
        (_beginning_lost, "stand at"),
        (_commands_cut_short, "workflow.trigger"),
    ],
)
async def test_a_log_that_is_not_ours_is_not_read(change: Callable[[World], None], words: str) -> None:
    """Another cluster, a log that was cut, rewritten or lost its beginning: the partition stops with words, nothing changes."""
    log, _ = Log(1), None
    epoch = log.take(0)
    for value in log.story(0).whole(epoch):
        log.append(0, value)
    async with world(log) as w:
        w.topics.put_command(0, command("some-run"))
        await w.until_level()
        before = await everything(w.store)
        kept = list(log.records[0]), list(w.topics.commands[0])
        await w.group.leave()
        change(w)
        await w.group.join()
        await w.until(lambda: w.projector.status()[0].stopped)
        stopped = w.projector.status()[0].stopped or ""
        assert words in stopped
        assert "workflow rebuild" in stopped
        assert set(w.projector.excused()) == {w.events, w.commands}
        assert await everything(w.store) == before
        log.records[0][:], w.topics.commands[0][:] = kept
        w.topics.cluster = "cluster-1"
        w.topics.begins.clear()
        await w.until(lambda: w.projector.status()[0].loaded)


async def test_an_empty_store_refuses_a_log_without_its_beginning() -> None:
    """Tables that were made from half a log would be wrong without a word."""
    log = random_log(10, partitions=1)
    w = World(log)
    w.projector.connect(w.group)
    w.topics.begins[w.events] = 5
    await w.group.join()
    await w.until(lambda: w.projector.status()[0].stopped)
    assert "first 5 records are gone" in (w.projector.status()[0].stopped or "")
    await w.projector.close()
