"""The membership's bookkeeping, with a client that only notes what it is asked."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import pytest

from schemas.errors import LogMismatch
from schemas.ports import TP, Assignment, Record
from schemas.settings import Settings
from streams import group as group_module
from streams.group import ConsumerGroup

A, B = TP("t", 0), TP("t", 1)


@dataclass
class At:
    """A record of which only the offset counts."""

    offset: int


def records(*offsets: int) -> Sequence[Record]:
    return [cast("Record", At(offset)) for offset in offsets]


class NotingLink:
    """Answers at once, and notes seeks and commits."""

    def __init__(self) -> None:
        self.seeks: list[dict[TP, tuple[int, int]]] = []
        self.commits: list[tuple[dict[TP, int], int]] = []
        self.offsets: dict[TP, int | None] = {A: None, B: None}
        self.accepts = True
        self.wakes = 0
        self.answering = asyncio.Event()
        self.answering.set()

    def seek(self, positions: Mapping[TP, tuple[int, int]]) -> None:
        self.seeks.append(dict(positions))

    def wake(self) -> None:
        self.wakes += 1

    async def commit(self, offsets: Mapping[TP, int], generation: int) -> bool:
        self.commits.append((dict(offsets), generation))
        return self.accepts

    async def committed(self, tps: Iterable[TP]) -> dict[TP, int | None]:
        await self.answering.wait()
        return {tp: self.offsets[tp] for tp in tps}

    async def begin_offsets(self, tps: Iterable[TP]) -> dict[TP, int]:
        return dict.fromkeys(tps, 0)

    async def end_offsets(self, tps: Iterable[TP]) -> dict[TP, int]:
        return dict.fromkeys(tps, 100)

    def sought(self, tp: TP) -> list[int]:
        return [positions[tp][0] for positions in self.seeks if tp in positions]

    def serial(self, tp: TP) -> int:
        return [positions[tp][1] for positions in self.seeks if tp in positions][-1]


class NotingHandler:
    def __init__(self, answer: Assignment | None = None) -> None:
        self.answer = answer or Assignment()
        self.got: list[tuple[TP, int]] = []
        self.revocations = 0
        self.slow = asyncio.Event()
        self.slow.set()
        self.clings = False

    async def assigned(self, _assignment: frozenset[TP], _generation: int) -> Assignment:
        await self.slow.wait()
        return self.answer

    async def revoked(self) -> None:
        self.revocations += 1
        if self.clings:
            await asyncio.Event().wait()

    def batch(self, tp: TP, records: Sequence[Record]) -> None:
        self.got += [(tp, record.offset) for record in records]


class Made:
    """A group with its two neighbours, joined with partitions A and B in generation 1 and flowing."""

    def __init__(self, answer: Assignment | None = None) -> None:
        self.link = NotingLink()
        self.handler = NotingHandler(answer)
        self.group = ConsumerGroup(Settings(), "g", frozenset(), self.handler)
        self.group.connect(self.link)

    async def join(self, *tps: TP, generation: int = 1) -> None:
        await self.group.rejoined(frozenset(tps), generation)
        self.group.flow_resumed()
        await self.group.place()


async def made(answer: Assignment | None = None) -> Made:
    it = Made(answer)
    await it.join(A, B)
    return it


async def test_positions_come_from_the_handler_then_the_group_then_the_first_record() -> None:
    """Every assigned partition is moved before anything may flow, also one at offset 0."""
    it = Made(Assignment({A: 7}))
    it.link.offsets[A] = 3
    await it.join(A, B)
    assert it.link.seeks == [{A: (7, it.link.serial(A)), B: (0, it.link.serial(B))}]
    assert it.group.active == {A, B}
    other = Made()
    other.link.offsets[A] = 3
    await other.join(A)
    assert other.link.sought(A) == [3]


async def test_nothing_flows_before_faust_lets_it_and_positions_are_known() -> None:
    """Between the answer of the handler and the move of the positions the set of active partitions is empty."""
    it = Made()
    await it.group.rejoined(frozenset({A}), 1)
    assert (it.group.active, it.group.must_place) == (frozenset(), False)
    it.group.flow_resumed()
    assert (it.group.active, it.group.must_place) == (frozenset(), True)
    await it.group.place()
    assert (it.group.active, it.group.must_place) == (frozenset({A}), False)
    it.group.flow_stopped()
    assert it.group.active == frozenset()


async def test_a_move_overtaken_by_a_rebalance_changes_nothing() -> None:
    """The group's offsets were asked for under one generation and come in the next."""
    it = Made()
    it.link.answering.clear()
    await it.group.rejoined(frozenset({A, B}), 1)
    it.group.flow_resumed()
    placing = asyncio.ensure_future(it.group.place())
    await asyncio.sleep(0)
    await it.group.rejoined(frozenset({A}), 2)
    it.link.answering.set()
    await placing
    assert it.link.seeks == []
    assert it.group.active == frozenset()


async def test_an_answer_that_comes_too_late_is_not_used() -> None:
    """The handler took so long that the group has moved on: its positions belong to another assignment."""
    it = Made(Assignment({A: 99}, frozenset({A})))
    it.handler.slow.clear()
    late = asyncio.ensure_future(it.group.rejoined(frozenset({A}), 1))
    await asyncio.sleep(0)
    await it.group.revoked()
    it.handler.slow.set()
    await late
    assert it.group.position(A) is None
    assert it.group.held() == frozenset()


async def test_a_seek_during_the_answer_wins() -> None:
    """A position given while the others were looked up is the later word."""
    it = Made()
    it.link.answering.clear()
    await it.group.rejoined(frozenset({A}), 1)
    it.group.flow_resumed()
    placing = asyncio.ensure_future(it.group.place())
    await asyncio.sleep(0)
    it.group.seek({A: 42, B: 1})
    it.link.answering.set()
    await placing
    assert it.link.sought(A) == [42]
    assert it.group.position(B) is None


async def test_what_was_fetched_before_a_seek_is_dropped() -> None:
    """Only records that carry the number of the partition's last seek are handed over."""
    it = await made()
    old = it.link.serial(A)
    it.group.seek({A: 5})
    it.group.deliver(A, old, records(0, 1, 2))
    assert it.handler.got == []
    it.group.deliver(A, it.link.serial(A), records(5, 6))
    assert it.handler.got == [(A, 5), (A, 6)]
    assert it.group.position(A) == 7


async def test_what_comes_while_paused_is_fetched_again() -> None:
    """A fetch that a pause overtook is not handed over and not lost."""
    it = await made()
    it.group.deliver(A, it.link.serial(A), records(0, 1))
    late = it.link.serial(A)
    it.group.pause([A])
    assert it.group.active == {B}
    it.group.deliver(A, late, records(2, 3))
    assert it.link.sought(A)[-1] == 2
    it.group.resume([A])
    it.group.deliver(A, late, records(4))
    it.group.deliver(A, it.link.serial(A), records(2, 3, 4))
    assert it.handler.got == [(A, offset) for offset in range(5)]


async def test_a_pause_lasts_through_a_rebalance() -> None:
    """What the handler paused stays paused in the next generation, until it resumes it; resuming wakes the fetch."""
    it = await made()
    it.group.pause([A])
    await it.group.revoked()
    await it.join(A, B, generation=2)
    assert it.group.active == {B}
    wakes = it.link.wakes
    it.group.resume([A])
    assert it.group.active == {A, B}
    assert it.link.wakes == wakes + 1


async def test_a_full_queue_takes_its_partition_out() -> None:
    """And a pause made meanwhile outlasts it."""
    it = await made()
    it.group.buffer_full(A)
    assert it.group.active == {B}
    it.group.pause([A])
    it.group.buffer_drop(A)
    assert it.group.active == {B}
    it.group.resume([A])
    assert it.group.active == {A, B}


async def test_a_flow_that_is_resumed_once_more_moves_everything_again() -> None:
    """Faust empties its queues when it resumes: every partition goes back to what was handed over last."""
    it = await made()
    it.group.deliver(A, it.link.serial(A), records(0, 1))
    in_a_queue = it.link.serial(A)
    it.group.flow_resumed()
    await it.group.place()
    assert it.link.sought(A) == [0, 2]
    it.group.deliver(A, in_a_queue, records(2))
    assert it.handler.got == [(A, 0), (A, 1)]


async def test_a_log_that_went_back_is_an_error() -> None:
    """Kafka's client answers a position outside the log by going to its first record, without a word."""
    it = await made(Assignment({A: 10}))
    with pytest.raises(LogMismatch, match="before offset 10"):
        it.group.deliver(A, it.link.serial(A), records(0, 1))
    assert it.handler.got == []


async def test_commits_rise_and_are_sent_once() -> None:
    """Never below what the group had, never again what it has accepted, never for what is not ours."""
    it = Made()
    it.link.offsets[A] = 5
    await it.join(A)
    assert await it.group.commit({A: 3})
    assert await it.group.commit({A: 8})
    assert await it.group.commit({A: 6})
    assert not await it.group.commit({A: 9, B: 1})
    assert it.link.commits == [({A: 5}, 1), ({A: 8}, 1), ({A: 9}, 1)]


async def test_a_refused_commit_is_sent_again_next_time() -> None:
    """The generation was gone, or the broker refused: nothing counts as accepted."""
    it = await made()
    it.link.accepts = False
    assert not await it.group.commit({A: 8})
    it.link.accepts = True
    assert await it.group.commit({A: 8})
    assert it.link.commits == [({A: 8}, 1), ({A: 8}, 1)]


async def test_confirming_asks_every_time() -> None:
    """The proof is new each time; it carries the highest offset known and no other partition's."""
    it = await made()
    assert await it.group.commit({A: 8, B: 1})
    assert await it.group.confirm(A)
    assert await it.group.confirm(A)
    assert it.link.commits[1:] == [({A: 8}, 1), ({A: 8}, 1)]
    it.link.accepts = False
    assert not await it.group.confirm(A)
    await it.group.revoked()
    sent = len(it.link.commits)
    assert not await it.group.confirm(A)
    assert len(it.link.commits) == sent


async def test_a_new_assignment_forgets_offsets_of_the_old_one() -> None:
    """Another owner may have been there in between: what counts is what the group says now."""
    it = await made()
    assert await it.group.commit({A: 8})
    await it.group.revoked()
    it.link.offsets[A] = 20
    await it.join(A, B, generation=3)
    assert await it.group.commit({A: 9})
    assert it.link.commits[-1] == ({A: 20}, 3)
    assert it.link.sought(A)[-1] == 20


async def test_a_handler_that_clings_is_cut_off(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """After the bound the assignment is over, whatever the handler does; the log says so."""
    monkeypatch.setattr(group_module, "REVOKE_S", 0.01)
    it = await made()
    it.handler.clings = True
    await it.group.revoked()
    assert it.group.assignment == frozenset()
    assert "did not let go" in caplog.text


async def test_a_stop_that_meets_a_rebalance_asks_the_handler_once() -> None:
    """Both wait for the same answer."""
    it = await made()
    await asyncio.gather(it.group.revoked(), it.group.revoked())
    await it.group.revoked()
    assert it.handler.revocations == 1
