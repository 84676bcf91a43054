"""The watchdog, with an end that is only noted, and what it is told of a group."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import cast

import pytest

from schemas.errors import BrokerAway, LogMismatch
from schemas.ports import TP, Group, Reader
from streams.lifecycle import EXIT_STALLED, GroupProgress, Progress, Watchdog

A, B = TP("t", 0), TP("t", 1)
TICKS_MAX = 5
ENOUGH_TICKS = 30

State = Callable[[], dict[TP, Progress]]


def watchdog(progress: State) -> tuple[Watchdog, list[int]]:
    """A watchdog, and the exit codes with which the process would have ended."""
    ends: list[int] = []
    return Watchdog(progress, stall_s=TICKS_MAX, tick_s=1, end=ends.append), ends


async def ends_of(progress: State) -> list[int]:
    """Let the watchdog look until it ends the process, or often enough to know that it does not."""
    dog, ends = watchdog(progress)
    for _ in range(ENOUGH_TICKS):
        if not ends:
            dog.tick()
            await asyncio.sleep(0)  # the main loop is not blocked
    return ends


async def test_a_partition_that_stands_still_with_records_ends_the_process(caplog: pytest.LogCaptureFixture) -> None:
    """One log line that names the partition and where it stands, and a code of its own."""
    moves = iter(range(10**6))
    ends = await ends_of(lambda: {A: Progress(next(moves), 10**6), B: Progress(5, 9)})
    assert ends == [EXIT_STALLED]
    assert "t/1 has records up to 9 and stands at 5" in caplog.text


async def test_a_partition_that_ends_before_what_was_read_of_it_ends_the_process(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """At once: what comes to stand there now would be taken for something that was read before."""
    assert await ends_of(lambda: {A: Progress(9, 5, cut=True)}) == [EXIT_STALLED]
    assert "t/0 ends at 5 and was read further" in caplog.text


@pytest.mark.parametrize(
    "at",
    [Progress(9, 9), Progress(5, 9, excused=True)],
    ids=["at its end", "excused"],
)
async def test_a_partition_that_may_stand_still_does_no_harm(at: Progress) -> None:
    """Nothing to read, or paused, or waiting for something that is known to be away."""
    assert await ends_of(lambda: {A: at}) == []


async def test_a_partition_that_moves_now_and_then_does_no_harm() -> None:
    """The clock starts anew with each step."""
    asked = iter(range(10**6))
    assert await ends_of(lambda: {A: Progress(next(asked) // 3, 10**6)}) == []


async def test_an_excuse_starts_the_clock_anew() -> None:
    """A partition that was paused for long is given its full time when it is resumed."""
    asked = iter(range(10**6))
    assert await ends_of(lambda: {A: Progress(0, 9, excused=next(asked) % 4 == 3)}) == []


async def test_a_loop_that_is_busy_for_less_than_the_bound_does_no_harm() -> None:
    """It answers before the last tick, again and again."""
    dog, ends = watchdog(dict)
    for _ in range(ENOUGH_TICKS):
        for _ in range(TICKS_MAX):
            dog.tick()
        await asyncio.sleep(0)
    assert ends == []


async def test_a_blocked_loop_ends_the_process(caplog: pytest.LogCaptureFixture) -> None:
    """It is seen from another thread; the line says where the loop stands."""
    ended = threading.Event()
    dog = Watchdog(dict, stall_s=0.05, tick_s=0.01, end=lambda _: ended.set())
    dog.start()
    assert ended.wait(20)
    assert "The main loop is blocked, " in caplog.text
    assert "test_a_blocked_loop_ends_the_process" in caplog.text


class FakeGroup:
    """Stands still: A before the end, B without a position."""

    assignment = frozenset({A, B})

    def position(self, tp: TP) -> int | None:
        return 3 if tp == A else None


class FakeReader:
    """Partitions of ten offsets, of which A holds records at some."""

    def __init__(self, *offsets: int) -> None:
        self.offsets = offsets
        self.end = 10
        self.away = False
        self.reads = 0

    async def end_offsets(self, tps: Iterable[TP]) -> dict[TP, int]:
        if self.away:
            raise BrokerAway(address="here", reason="test")
        return dict.fromkeys(tps, self.end)

    async def read(self, _: TP, start: int, end: int) -> AsyncIterator[list[int]]:
        self.reads += 1
        if start < min(self.offsets):
            raise LogMismatch(topic="t", partition=0, reason="test")
        found = [offset for offset in self.offsets if start <= offset < end]
        if found:
            yield found


@asynccontextmanager
async def asked(reader: FakeReader, excused: frozenset[TP] = frozenset()) -> AsyncIterator[GroupProgress]:
    """The progress of the group, asked for again and again."""
    progress = GroupProgress(cast("Group", FakeGroup()), cast("Reader", reader), excused=lambda: excused)
    assert progress() == {}
    asking = asyncio.ensure_future(progress.run(0))
    for _ in range(20):
        await asyncio.sleep(0)
    yield progress
    asking.cancel()


async def test_a_partition_that_was_cut_is_noticed() -> None:
    """Its end lies before the position that the group had when it was asked. One that stands still for a known reason was
    not read at all."""
    reader = FakeReader(0)
    reader.end = 2
    async with asked(reader) as progress:
        assert progress()[A].cut
        assert not progress()[B].cut
        reader.end = 3
        for _ in range(20):
            await asyncio.sleep(0)
        assert not progress()[A].cut
    reader.end = 2
    async with asked(reader, frozenset({A})) as progress:
        assert not progress()[A].cut


async def test_progress_of_a_group() -> None:
    """Positions from the group, ends from the broker; one that never got a position stands before the first record,
    and without an answer from the broker nothing is known, so nothing is held against it."""
    reader = FakeReader(3, 4, 9)
    async with asked(reader, frozenset({B})) as progress:
        assert progress() == {A: Progress(3, 10), B: Progress(-1, 10, excused=True)}
        reader.away = True
        for _ in range(20):
            await asyncio.sleep(0)
        assert progress() == {}


async def test_offsets_without_records_are_no_backlog() -> None:
    """Behind the last record stand only markers: the partition is level."""
    async with asked(FakeReader(0, 1, 2)) as progress:
        assert progress() == {A: Progress(3, 3), B: Progress(-1, 10)}


async def test_a_position_that_the_log_does_not_hold_is_no_level() -> None:
    """Records were deleted under it: it has to move."""
    async with asked(FakeReader(8, 9)) as progress:
        assert progress()[A] == Progress(3, 10)


async def test_what_is_excused_is_not_read() -> None:
    """A long pause costs no reading."""
    reader = FakeReader(3)
    async with asked(reader, frozenset({A, B})):
        assert reader.reads == 0
