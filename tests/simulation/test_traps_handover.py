"""Traps of handing a partition over, each led into by hand: effects, timers, gaps, ends that nobody announced."""

from __future__ import annotations

import pytest

from schemas.events import encode_taken, time_text
from tests.given import delay, workflow
from tests.simulation.member import LOST, UNHEARD, WELL
from tests.simulation.play import WHOLE, Play, part

# ── 4. A partition leaves and comes back while an effect runs ──


def test_an_effect_lives_through_a_join() -> None:
    """The partition leaves and comes back with nobody in between: the effect goes on and its result counts."""
    play = Play()
    play.trigger("r1")
    play.go()
    for _ in range(3):
        play.assign("A")
        play.go()
    assert play.a.effects == {"r1": (0, 1)}
    play.a.end_effect("r1")
    play.go()
    assert (play.types(), part(play.a).epoch) == (WHOLE, 4)


def test_a_result_that_comes_while_the_partition_is_away() -> None:
    """It is kept until the partition is back, and counts if its attempt is still open."""
    play = Play()
    play.trigger("r1")
    play.go()
    play.give({0: "nobody"})
    play.go()
    play.a.end_effect("r1")
    play.assign("A")
    play.go()
    assert play.types() == WHOLE


def test_an_effect_whose_attempt_was_closed() -> None:
    """Another owner closed the attempt: when the partition is back the effect is dropped, and so is its result."""
    play = Play()
    play.trigger("r1")
    play.go()
    b = play.start("B")
    play.assign("B")
    play.go()
    assert b.effects == {"r1": (0, 2)}
    play.assign("A")
    play.go()
    assert play.a.effects == {"r1": (0, 3)}
    play.a.end_effect("r1")
    play.go()
    assert play.types().count("StepInterrupted") == 2
    assert play.types()[-2:] == WHOLE[-2:]


# ── 5. Timers of a lost owner ──


@pytest.mark.parametrize("asleep_s", [1, 100])
def test_a_delay_outlives_its_owner(asleep_s: float) -> None:
    """A delay is armed again, not interrupted; one that is over when the partition is taken ends at once."""
    play = Play(workflow(delay(duration=30)))
    play.trigger("r1")
    play.go()
    del play.workers["A"]
    play.tick(asleep_s)
    b = play.start("B")
    play.assign("B")
    play.go()
    assert play.types() == (WHOLE if asleep_s > 30 else WHOLE[:2])
    play.tick(29)
    play.go()
    assert play.types() == WHOLE
    assert b.effects == {}


# ── 6. Records lost or repeated between fetch and agent ──


@pytest.mark.parametrize(("skip", "hole", "gaps"), [(1, 0, 1), (2, 0, 1), (-1, 0, 0), (-9, 0, 0), (0, 1, 1)])
def test_events_lost_or_repeated_between_fetch_and_agent(skip: int, hole: int, gaps: int) -> None:
    """A batch that does not start at the position is cut, or asked for again; so is what is missing inside it."""
    play = Play()
    b = play.start("B")
    for run_id in ("r1", "r2"):
        play.trigger(run_id)
    play.go(play.a)
    play.assign("B")
    b.learn()
    for _ in range(2):
        play.answer(b)
    b.read(0, 2)
    b.read(0, skip=skip, hole=hole)
    assert b.engine.stats["gaps"] == gaps
    play.go(b)
    assert part(b).owner
    assert {run.id for run in part(b).runs.values()} == {"r1", "r2"}


def test_commands_with_a_hole() -> None:
    """A hole is asked for once; when the same first offset comes again, the records are gone, and the rest is taken."""
    play = Play()
    for run_id in ("r1", "r2"):
        play.trigger(run_id)
    play.a.take(0, skip=1)
    assert play.a.commanding[0] == 0
    play.commands[0] = play.commands[0][1:]
    play.a.engine.on_commands(0, play.commands[0], play.clock)
    play.tick()
    play.go(play.a, take=False)
    assert (play.types("r1"), play.types("r2")) == ([], WHOLE[:2])


def test_commands_lost_twice_in_different_places() -> None:
    """A batch that starts at the same offset as an earlier gap, after other records were taken, is a gap of its own."""
    play = Play()
    for run_id in ("r1", "r2", "r3"):
        play.trigger(run_id)
    play.a.take(0, skip=2)
    play.a.take(0, 1)
    play.a.take(0, skip=1)
    play.go()
    assert [play.types(run_id) for run_id in ("r1", "r2", "r3")] == [WHOLE[:2]] * 3


def test_commands_that_are_repeated() -> None:
    """What was taken before is passed over."""
    play = Play()
    for run_id in ("r1", "r2"):
        play.trigger(run_id)
    play.a.take(0)
    play.a.take(0, skip=-2)
    assert list(part(play.a).held) == [0, 1]
    play.go()
    assert [play.types(run_id) for run_id in ("r1", "r2")] == [WHOLE[:2]] * 2


# ── 7. The end is announced by nobody ──


def ended_unannounced() -> Play:
    """A's run has ended in the log; A was lost before it announced anything."""
    play = Play()
    play.trigger("r1")
    play.go()
    play.a.end_effect("r1")
    while play.flying:
        play.land(play.flying[0])
    del play.workers["A"]
    return play


@pytest.mark.parametrize("covered", [False, True])
def test_the_owner_dies_between_the_end_and_its_announcement(covered: bool) -> None:
    """The next owner announces it, whether the end stands above or below the snapshot that it starts from."""
    play = ended_unannounced()
    if covered:
        play.cover()
    b = play.start("B")
    play.assign("B")
    play.go()
    play.tick(1)
    play.go()
    assert play.told() == ["r1"]
    b.commit()
    assert play.committed[0][1] == len(play.log[0])


def test_an_end_below_the_snapshot_waits_for_a_store_above_it() -> None:
    """Whether it is a fact is asked of a store that stands above it; a lower one is waited for, and so is the offset."""
    play = ended_unannounced()
    play.cover()
    b = play.start("B")
    play.assign("B")
    b.learn()
    for _ in range(3):
        play.answer(b)
    play.store[0] = 1
    play.go()
    b.commit()
    assert (part(b).owner, part(b).base, play.told()) == (True, len(play.log[0]) - 1, [])
    assert play.committed[0][1] < len(play.log[0])
    play.cover()
    play.tick(1)
    play.go()
    assert play.told() == ["r1"]


def test_an_orphaned_end_below_the_snapshot_is_not_announced() -> None:
    """Below the snapshot nothing is folded: the store's last digest of the run tells facts from orphans."""
    play = ended_unannounced()
    end = play.log[0][-1].value or b""
    play.append(0, end.replace(b'"SUCCESS"', b'"FAILED"'), b"r1")
    play.append(0, encode_taken(0, 2, "somebody", "else", time_text(play.clock)), b"partition/0")
    play.cover()
    play.start("B")
    play.assign("B")
    play.go()
    play.tick(1)
    play.go()
    assert play.completed == [end]


def test_an_end_that_was_folded_by_a_worker_that_was_not_the_owner() -> None:
    """It is kept until the worker owns the partition, and announced then."""
    play = Play()
    b = play.start("B")
    play.trigger("r1")
    play.go(play.a)
    play.assign("B")
    b.learn()
    play.go(b, land=False)
    play.a.end_effect("r1")
    late = [flight for flight in play.flying if flight.worker == "A"]
    for flight in late:
        play.land(flight)
    b.read(0)
    assert (part(b).owner, list(part(b).ends)) == (False, [len(play.log[0]) - 1])
    del play.workers["A"]
    play.go()
    assert play.told() == ["r1"]


def test_an_end_survives_that_the_partition_leaves() -> None:
    """The list of ends that were not acknowledged stays with the fold, and is announced when the partition is back."""
    play = Play()
    play.trigger("r1")
    play.go()
    play.fate = LOST
    play.a.end_effect("r1")
    play.go()
    assert play.told() == []
    play.give({0: "nobody"})
    play.go()
    play.fate = WELL
    play.assign("A")
    play.go()
    assert play.told() == ["r1"]


def test_the_offset_waits_for_the_brokers_word() -> None:
    """An announcement that may not have arrived is made again, and the offset stays below the end until it has."""
    play = Play()
    play.trigger("r1")
    play.go()
    play.fate = UNHEARD
    play.a.end_effect("r1")
    play.go()
    play.a.commit()
    assert play.committed[0][1] == len(play.log[0]) - 1
    play.fate = WELL
    play.go()
    play.a.commit()
    assert play.committed[0][1] == len(play.log[0])
    assert len(set(play.completed)) == 1
    assert len(play.completed) > 1


# ── 8. The log is not the one that is known; what the tables know of it is the worker's part, here: what the engine makes of silence ──


def test_a_partition_that_is_stopped_says_nothing() -> None:
    """A worker that found another log hands no snapshot over: the engine neither reads nor asks nor commits, for ever."""
    play = Play()
    b = play.start("B")
    play.store_away = True
    play.assign("B")
    play.trigger("r1")
    for _ in range(50):
        play.go(b)
        play.tick(60)
        b.commit()
    assert (part(b).loaded, part(b).owner, play.flying) == (False, False, [])
    assert play.committed[0] == (0, 0)
