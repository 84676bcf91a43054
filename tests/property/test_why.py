"""Why a run is where it is agrees with what is decided next, at every point of random histories."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from schemas.events import time_s, time_text
from schemas.run import Run
from streams.decider import AttemptEnded, AttemptLost, TimerFired, advance, decide, due
from streams.reasons import (
    Around,
    Deciding,
    Delay,
    Finished,
    NoWorker,
    Overdue,
    Retry,
    StepRunning,
    TablesBehind,
    Worker,
    told,
)
from streams.why import Timing, why
from tests.given import NOW, passing, take, webhook, workflow
from tests.property.test_decider import HISTORIES, folded, follow
from tests.simulation.play import Play

WORKERS = st.sampled_from([Worker("owned", "w"), Worker("none"), Worker("moving"), Worker("unknown", detail="away")])
AROUND = st.builds(Around, st.just(0), WORKERS, st.sampled_from([None, 0, 7]), st.sampled_from([None, 0, 1]))
TIMING = st.floats(-10, 200).map(lambda passed: Timing(NOW + passed, 30.0))


@given(HISTORIES, AROUND, TIMING, st.data())
def test_the_reason_is_what_the_decider_does_next(
    values: list[bytes], around: Around, timing: Timing, data: st.DataObject
) -> None:
    """Where it says that time must pass, nothing is decided before and something then; where it names an event, that one comes."""
    run = folded(values[: data.draw(st.integers(1, len(values)))])
    reason = why(run, time_text(NOW), around, timing)
    by_itself = follow(run, timing.now) if run.phase != "started" else decide(run, TimerFired(), timing.now)
    match reason:
        case Finished():
            assert (run.phase, reason.status, by_itself) == ("done", run.status, ())
        case Delay() | Retry():
            assert (by_itself, due(run)) == ((), time_s(reason.until))
            then = time_s(reason.until)
            assert decide(run, TimerFired(), then) if isinstance(reason, Delay) else follow(run, then)
        case StepRunning():
            assert by_itself == ()
            assert decide(run, AttemptLost(), timing.now)
            assert decide(run, AttemptEnded(reason.attempt, passing()), timing.now)
        case Deciding() | Overdue() | NoWorker() | TablesBehind():
            following = by_itself or decide(run, AttemptLost(), timing.now)
            assert following[0][0] in {reason.next_event, "StepFailed"}
            assert following[0][0] == reason.next_event or not isinstance(advance(run, timing.now), tuple)
        case _:
            raise AssertionError(f"{reason} of a run of the decider's own events")


@given(HISTORIES, AROUND, TIMING)
def test_asking_changes_nothing(values: list[bytes], around: Around, timing: Timing) -> None:
    """Neither the run nor the answer to the same question."""
    run = folded(values)
    before = run.dump()
    first = told(why(run, time_text(NOW), around, timing), around, timing.now)
    assert first == told(why(run, time_text(NOW), around, timing), around, timing.now)
    assert run.dump() == before


@given(HISTORIES, TIMING)
def test_only_a_worker_that_is_seen_to_be_away_is_missed(values: list[bytes], timing: Timing) -> None:
    """`no_worker` is said where the broker says so, never where it does not answer."""
    run = folded(values)
    for state in ("owned", "moving", "unknown"):
        around = Around(0, Worker(state), None, None)
        assert not isinstance(why(run, time_text(NOW), around, timing), NoWorker)


@given(HISTORIES)
def test_the_last_attempt_is_known_beforehand(values: list[bytes]) -> None:
    """A step whose attempts all fail from here on fails for good with the attempt that `max_attempts` named."""
    run = Run("r1")
    for value in values:
        folded([value], run)
        reason = why(run, time_text(NOW), Around(0, Worker("owned"), None, None), Timing(NOW, 30.0))
        if isinstance(reason, StepRunning):
            assert last_attempt(run.clone()) == reason.max_attempts


def last_attempt(run: Run) -> int:
    """Number of the attempt with which the step fails."""
    while True:
        attempt = run.attempt
        take(run, decide(run, AttemptEnded(attempt, passing()), NOW), epoch=99)
        if run.phase == "failed":
            return attempt
        take(run, follow(run, due(run) or NOW), epoch=99)


@given(st.lists(st.floats(0.5, 3600), min_size=1, max_size=3))
def test_until_is_the_timer_that_the_engine_sets(waits: list[float]) -> None:
    """The engine wakes for the run at exactly that time, and not before."""
    play = Play(workflow(webhook(retry={"max_attempts": 4, "max": "1h"})))
    play.trigger("r1")
    play.go()
    for after_s in waits:
        play.a.end_effect("r1", passing(after_s=after_s))
        play.go()
        run = play.a.engine.partitions[0].runs["r1"]
        reason = why(run, time_text(play.clock), Around(0, Worker("owned"), None, None), Timing(play.clock, 30.0))
        assert isinstance(reason, Retry)
        assert play.a.engine.next_due() == time_s(reason.until)
        play.tick(time_s(reason.until) - play.clock)
        play.go()
        assert play.a.effects == {"r1": (0, reason.attempt)}
