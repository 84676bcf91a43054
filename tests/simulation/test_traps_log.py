"""Traps of a log that is not what it was, and of clocks that are not what they were, each led into by hand."""

from __future__ import annotations

import pytest

from schemas.events import encode_taken, time_text
from tests.given import delay, workflow
from tests.simulation.play import WHOLE, Play, part


def away() -> Play:
    """A has folded a run's first events; then the partition went elsewhere."""
    play = Play()
    play.trigger("r1")
    play.go()
    play.give({0: "nobody"})
    play.go()
    return play


def grown(play: Play, epochs: range) -> None:
    """Somebody else has the partition meanwhile."""
    for epoch in epochs:
        play.append(0, encode_taken(0, epoch, "somebody", f"else {epoch}", time_text(play.clock)), b"partition/0")


@pytest.mark.parametrize("length", [0, 1, 2])
def test_a_fold_is_no_fold_of_a_log_that_was_cut(length: int) -> None:
    """The log lost its tail while the partition was elsewhere, and grew again past where the worker stands: the process ends
    when it reads on, and the next one begins with the tables."""
    play = away()
    play.cut(0, length)
    grown(play, range(7, 15))
    play.assign("A")
    play.go(play.a)
    assert (play.workers, play.watch.marks["cut logs noticed by a read"]) == ({}, 1)
    assert not part(play.a).owner
    a = play.start("A")
    play.go()
    assert (part(a).owner, part(a).epoch) == (True, 15)


def test_a_fold_goes_on_where_the_log_has_only_grown() -> None:
    """The last record that it rests on is read a second time, and changes nothing."""
    play = away()
    grown(play, range(7, 9))
    play.assign("A")
    play.a.learn()
    assert play.a.reading == {0: len(play.log[0]) - 3}
    play.go(play.a)
    assert (part(play.a).owner, part(play.a).epoch, play.types()) == (True, 9, WHOLE[:2])


def test_a_log_that_was_cut_below_the_snapshot() -> None:
    """It happened after the snapshot was held against the log: the record that the snapshot rests on is not met again, and
    the partition is not taken."""
    play = Play()
    play.trigger("r1")
    play.go()
    play.cover()
    b = play.start("B")
    play.assign("B")
    b.learn()
    for _ in range(2):
        play.answer(b)
    assert (part(b).loaded, part(b).base) == (True, 3)
    play.cut(0, 1)
    grown(play, range(7, 15))
    play.go(b)
    assert (part(b).owner, "B" in play.workers) == (False, False)


def test_whoever_owns_looks_again_after_a_producer_was_lost() -> None:
    """The broker may have lost the end of the log: the record that the fold rests on is read again before anything is asked."""
    play = Play()
    play.trigger("r1")
    play.go()
    play.cut(0, 2)
    grown(play, range(7, 15))
    play.go(play.a)
    assert (play.workers, play.watch.marks["cut logs noticed by a read"]) == ({}, 1)


# ── clocks ──


@pytest.mark.parametrize("seconds", [5, 3600, 86_400])
def test_a_clock_that_goes_back_makes_no_append_wait(seconds: float) -> None:
    """What was sent by a clock that has been set right since is unknown after the same time as ever."""
    play = Play()
    del play.workers["A"]
    play.set_clock("B", seconds)
    b = play.start("B")
    play.assign("B")
    play.go()
    play.trigger("r1")
    play.go(land=False)
    play.flying.clear()
    play.set_clock("B", 0)
    play.trigger("r2")
    play.go()
    assert (b.now, play.types("r1"), play.types("r2")) == (play.clock, [], WHOLE[:2])
    play.tick(12)
    play.go()
    assert play.types("r1") == WHOLE[:2]


def test_a_clock_that_goes_back_while_a_taking_is_outstanding() -> None:
    """It is asked for again, and so is the group's word."""
    play = Play()
    play.tick(7200)
    play.assign("A")
    play.go(land=False)
    play.flying.clear()
    play.tick(-7200)
    play.tick(12)
    play.go()
    assert part(play.a).owner


def test_a_clock_that_goes_back_does_not_stop_the_questions_to_the_store() -> None:
    """Finished runs go on leaving the memory."""
    play = Play(workflow(delay(duration=0)))
    play.tick(7200)
    play.trigger("r1")
    play.go()
    play.cover()
    play.tick(-7200)
    play.tick(1)
    play.go()
    assert part(play.a).finished == {}
