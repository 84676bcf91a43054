"""Traps of writing to a log that is shared, each led into by hand: starts that come again, unknown appends, zombies."""

from __future__ import annotations

from schemas.events import encode_taken, time_text
from schemas.identity import home
from tests.simulation.play import WHOLE, Play, part


def finished(run_id: str = "r1") -> Play:
    """A run that has ended and was announced; both offsets are committed."""
    play = Play()
    play.trigger(run_id)
    play.go()
    play.a.end_effect(run_id)
    play.go()
    play.a.commit()
    return play


# ── 1. The engine forgets finished runs, and starts come again ──


def test_two_starts_with_one_id_in_a_batch() -> None:
    """They make one run, and both are settled by its first fact."""
    play = Play()
    play.trigger("r1")
    play.trigger("r1")
    play.go()
    assert play.types() == WHOLE[:2]
    play.a.commit()
    assert play.committed[0][0] == 2


def test_a_start_comes_again_after_the_end() -> None:
    """While the finished run is in memory, the repeat is settled from there."""
    play = finished()
    play.trigger("r1")
    play.go()
    assert (play.types(), part(play.a).held) == (WHOLE, {})


def test_a_start_comes_again_after_its_run_was_forgotten() -> None:
    """The store remembers what the engine forgot: the repeat is settled by a look-up."""
    play = finished()
    play.cover()
    play.tick(1)
    play.go()
    assert part(play.a).finished == {}
    play.trigger("r1")
    play.go()
    assert (play.types(), part(play.a).held) == (WHOLE, {})


def test_a_store_that_was_restored_from_yesterday() -> None:
    """Its no does not count: the start waits until the store stands again where the engine forgot, and is settled then."""
    play = finished()
    play.cover()
    play.tick(1)
    play.go()
    play.store[0] = 1
    play.trigger("r1")
    play.go()
    play.tick(1)
    play.go()
    assert (play.types(), list(part(play.a).held)) == (WHOLE, [1])
    play.cover()
    play.tick(1)
    play.go()
    assert (play.types(), part(play.a).held) == (WHOLE, {})


def test_a_store_restored_below_the_snapshot_that_was_loaded() -> None:
    """A worker that loaded a snapshot does not know the runs that had ended below it: only a store that stands there may say no."""
    play = finished()
    play.cover()
    b = play.start("B")
    play.assign("B")
    play.go()
    assert part(b).base > 0
    play.store[0] = 1
    play.trigger("r1")
    play.go()
    assert (play.types(), list(part(b).held)) == (WHOLE, [1])
    play.cover()
    play.tick(1)
    play.go()
    assert (play.types(), part(b).held) == (WHOLE, {})


def test_the_store_is_away() -> None:
    """New starts wait; runs that are under way go on to their end; when the store is back the starts are decided."""
    play = finished("r0")
    play.cover()
    play.tick(1)
    play.trigger("r1")
    play.go()
    play.store_away = True
    play.trigger("r2")
    play.go()
    play.a.end_effect("r1")
    play.go()
    assert (play.types("r1"), play.types("r2")) == (WHOLE, [])
    assert [held.looking for held in part(play.a).held.values()] == [True]
    play.store_away = False
    play.go()
    assert play.types("r2") == WHOLE[:2]


def test_a_worker_without_a_snapshot_waits_alone() -> None:
    """A partition whose snapshot cannot be loaded stands still: nothing is read, asked or committed of it."""
    play = finished()
    play.cover()
    play.store_away = True
    b = play.start("B")
    play.assign("B")
    play.trigger("r2")
    play.go()
    b.commit()
    assert (part(b).loaded, part(b).owner, play.flying, play.committed[0][0]) == (False, False, [], 1)
    play.store_away = False
    play.go()
    assert play.types("r2") == WHOLE[:2]


# ── 2. An append whose outcome is unknown ──


def unknown() -> Play:
    """A's first append of r1 has not landed for more than ten seconds, and the log was read to an end behind it."""
    play = Play()
    play.trigger("r1")
    play.go(land=False)
    assert len(play.flying) == 2
    play.tick(11)
    play.go(land=False)
    assert play.a.engine.stats["unknown_appends"] == 1
    return play


def test_an_unknown_append_that_lands_too_late() -> None:
    """The partition is taken anew, the start decided again; what the dropped producer still lands is an orphan."""
    play = unknown()
    late, taken = play.flying[:2], play.flying[2:]
    play.land(taken[0])
    play.land(late[0])
    play.land(late[1])
    play.go()
    assert (play.orphans(), play.types()) == (["old epoch", "old epoch"], WHOLE[:2])
    play.a.commit()
    assert play.committed[0][0] == 1


def test_an_unknown_append_that_lands_before_the_new_epoch() -> None:
    """It was a fact after all: nothing is decided again, its attempt is closed as interrupted and goes on under the next number."""
    play = unknown()
    play.go()
    assert play.orphans() == []
    assert play.types() == ["RunRequested", "StepStarted", "StepInterrupted", "StepStarted"]
    assert play.a.effects == {"r1": (0, 2)}


def test_an_unknown_append_of_which_half_lands() -> None:
    """The run goes on from the half that landed."""
    play = unknown()
    first, second, taken = play.flying
    play.land(first)
    play.land(taken)
    play.land(second)
    play.go()
    assert (play.orphans(), play.types()) == (["old epoch"], WHOLE[:2])


def test_a_taking_whose_outcome_is_unknown() -> None:
    """PartitionTaken is an append like any other: not read back in time, it is asked for again."""
    play = Play()
    b = play.start("B")
    play.assign("B")
    play.go(land=False)
    (lost,) = play.flying
    play.flying.clear()
    play.tick(11)
    play.go()
    assert (part(b).owner, part(b).epoch) == (True, 2)
    play.append(0, lost.value, lost.key)
    play.go()
    assert (part(b).owner, part(b).epoch, play.orphans()) == (True, 2, ["lost take"])


def test_an_append_that_the_reader_has_not_reached() -> None:
    """It is not unknown: it stands in the log, below the end that was read, and the fold has yet to come there."""
    play = Play()
    play.trigger("r1")
    play.a.take(0)
    play.tick()
    while play.flying:
        play.land(play.flying[0])
    play.tick(11)
    for _ in range(3):
        play.answer(play.a)
    assert play.a.engine.stats["producers_lost"] == 0
    play.go()
    assert (play.types(), play.a.engine.stats["producers_lost"]) == (WHOLE[:2], 0)


def test_only_partitions_with_an_append_outstanding_are_taken_anew() -> None:
    """The others keep their epoch when the producer is dropped."""
    play = Play(partitions=2)
    run_id = next(f"r{n}" for n in range(99) if home(f"r{n}", 2) == 1)
    play.trigger(run_id)
    play.go(land=False)
    play.a.lose_producer()
    play.go()
    assert [part(play.a, number).epoch for number in (0, 1)] == [1, 2]
    assert play.types(run_id)[:1] == ["RunRequested"]


# ── 3. A zombie wakes up ──


def test_a_zombie_writes_orphans_and_stops() -> None:
    """What it still decides under its old epoch is no fact; it reads the higher one, and does not ask while it is not assigned."""
    play = Play()
    play.trigger("r1")
    play.go()
    b = play.start("B")
    play.assign("B")
    play.go(b)
    play.a.end_effect("r1")
    assert [flight.worker for flight in play.flying] == ["A", "A"]
    play.go(b)
    play.a.read(0)
    play.tick(60)
    for _ in range(5):
        play.answer(play.a)
        play.tick(1)
    assert (part(play.a).owner, part(play.a).asked, play.flying) == (False, None, [])
    assert (play.orphans(), part(b).owner) == (["old epoch", "old epoch"], True)
    assert play.types() == ["RunRequested", "StepStarted", "StepInterrupted", "StepStarted"]


def test_an_owner_that_was_overtaken_but_is_still_assigned() -> None:
    """It asks again, because the group confirms that the partition is its own."""
    play = Play()
    play.append(0, encode_taken(0, 2, "somebody", "else", time_text(play.clock)), b"partition/0")
    play.go()
    assert (part(play.a).owner, part(play.a).epoch) == (True, 3)
