"""The engine at its limits: backpressure, sizes, late answers, what cannot be decided, what is kept in memory."""

from __future__ import annotations

import json
from typing import Any

import pytest

from schemas.commands import CancelRun
from schemas.effects import EffectSucceeded
from schemas.events import encode
from schemas.identity import digest
from streams import decider, engine
from streams.engine import Limits
from tests.given import DONE, delay, webhook, workflow
from tests.simulation.play import WHOLE, Play, part

TIME = "2026-01-01T00:00:00.000Z"


def started(**kwargs: Any) -> Play:
    """A run whose effect is being carried out."""
    play = Play(**kwargs)
    play.trigger("r1")
    play.go()
    return play


def cancel(play: Play, run_id: str = "r1") -> None:
    play.put(CancelRun(f"x-{run_id}", run_id, "enough", TIME))


def last(play: Play, number: int = 0) -> dict[str, Any]:
    """The newest record of the log."""
    found: dict[str, Any] = json.loads(play.log[number][-1].value or b"")
    return found


# ── bounds ──


def test_starts_wait_while_too_many_effects_run() -> None:
    """New starts wait, cancels behind them do not; when there is room again, the starts are taken."""
    play = Play(limits=Limits(effects_max=1))
    for run_id in ("r1", "r2"):
        play.trigger(run_id)
        play.go()
    assert (play.types("r2"), list(play.a.effects)) == ([], ["r1"])
    cancel(play, "r1")
    play.go()
    assert play.types("r1")[-1] == "RunCompleted"
    assert list(play.a.effects) == ["r2"]


def test_a_computed_delay_is_bounded() -> None:
    """One that its expression makes longer than the limit fails its step before it begins, by an event."""
    definition = workflow(delay("a", 0), delay("b", "${payload.n}"))
    for limit_s, types in ((1.0, "StepStarted"), (0.5, "RunCompleted")):
        play = Play(definition, limits=Limits(delay_max_s=limit_s))
        play.trigger("r1")
        play.go()
        assert play.types()[-1] == types
    assert "WORKFLOW_DELAY_MAX_S" in last(play)["data"]["error"]["message"]


def test_intake_stops_at_its_bound_and_goes_on_at_half() -> None:
    """A partition that holds too many commands takes no more until half of them are settled."""
    play = Play(limits=Limits(held_max=4))
    play.store_away = True
    play.trigger("r0")
    play.cover()
    part(play.a).mark = 1
    for n in range(1, 9):
        play.trigger(f"r{n}")
    for _ in range(9):
        play.a.take(0, 1)
    assert (len(part(play.a).held), play.a.paused) == (4, {0})
    part(play.a).mark, play.store_away = 0, False
    play.go()
    assert play.a.paused == set()
    assert all(play.types(f"r{n}") == WHOLE[:2] for n in range(9))


def test_a_payload_that_is_too_large() -> None:
    """A run that cannot be written whole is refused in the log: it ends FAILED, and says which limit it met."""
    play = Play(limits=Limits(record_bytes_max=70_000))
    play.trigger("r1", payload={"note": "x" * 80_000})
    play.go()
    assert (play.types(), last(play)["data"]["error"]["code"]) == (["RunRequested", "RunCompleted"], "too_large")
    assert play.a.engine.stats["too_large"] == 1


def test_an_event_that_nothing_makes_small(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is never appended, where it would be refused for ever: its run is set aside and says so."""
    monkeypatch.setattr(engine, "smaller", lambda draft, _: draft)
    play = started(limits=Limits(record_bytes_max=2_000))
    play.a.end_effect("r1", EffectSucceeded("x" * 3_000))
    play.go(play.a)
    assert "StepSucceeded does not fit" in (part(play.a).runs["r1"].set_aside or "")
    assert play.types() == WHOLE[:2]


# ── answers that nobody waits for ──


def test_answers_that_come_too_late() -> None:
    """A result of an attempt that is closed, an announcement that was acknowledged before, values of a step that is over:
    nothing happens."""
    play = started()
    cancel(play)
    play.go()
    before = len(play.log[0])
    play.a.engine.effect_ended("r1", 0, 1, DONE, play.clock)
    play.a.engine.announced(0, 0, acknowledged=True)
    play.a.engine.announced(7, 0, acknowledged=False)
    play.a.engine.evaluated("r1", 0, {}, play.clock)
    play.go()
    assert (len(play.log[0]), play.a.engine.results, play.a.engine.values) == (before, {}, {})


# ── what cannot be decided ──


def test_a_run_that_cannot_be_decided(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is set aside, with the reason; the other runs of the partition go on, and a cancel of it is refused."""
    play = started()
    play.trigger("r2")
    play.go()
    real = decider.decide

    def decide(run: Any, *args: Any) -> Any:
        if run.id == "r1":
            raise OverflowError("too far")
        return real(run, *args)

    monkeypatch.setattr(engine, "decide", decide)
    for check in ("read", "refused"):  # set aside in memory, not by the log
        monkeypatch.setattr(play.watch, check, lambda *_: None)
    for run_id in ("r1", "r2"):
        play.a.end_effect(run_id)
    play.go()
    assert "too far" in (part(play.a).runs["r1"].set_aside or "")
    assert (play.types("r1"), play.types("r2"), play.a.engine.stats["set_aside"]) == (WHOLE[:2], WHOLE, 1)
    cancel(play)
    play.go(play.a)
    assert "set aside" in play.passed_on[0, 2]


@pytest.mark.parametrize("until", ["soon", 5, "9999-12-31T23:59:59+24:00", {}])
def test_a_due_time_that_is_none(until: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """An event with one sets its run aside in the worker; the other runs of the partition go on."""
    play = started()
    play.trigger("r2")
    play.go()
    for check in ("read", "refused"):  # set aside in memory, not by the log
        monkeypatch.setattr(play.watch, check, lambda *_: None)
    run = part(play.a).runs["r1"]
    error = {"code": "http_500", "message": "it failed"}
    data = {"step": run.step, "attempt": run.attempt, "error": error, "until": until}
    play.append(0, encode("StepRetryScheduled", "r1", data, time=TIME, epoch=1, seq=run.seq + 1, prev=run.tip), b"r1")
    play.go()
    play.a.end_effect("r2")
    play.go()
    assert "cannot be folded" in (part(play.a).runs["r1"].set_aside or "")
    assert (play.types("r1")[-1], play.types("r2")) == ("StepRetryScheduled", WHOLE)


def test_an_event_of_a_newer_release() -> None:
    """The run is never written to by a worker that does not know what was said of it; when it is over, it is over."""
    play = started()
    run = part(play.a).runs["r1"]
    new = encode("StepSkipped", "r1", {}, time=TIME, epoch=1, seq=run.seq + 1, prev=run.tip)
    play.append(0, new, b"r1")
    play.go()
    play.a.end_effect("r1")
    play.go()
    assert play.types() == [*WHOLE[:2], "StepSkipped"]
    end = encode("RunCompleted", "r1", {}, time=TIME, epoch=1, seq=4, prev=digest(new))
    play.append(0, end, b"r1")
    play.go()
    assert (part(play.a).runs, play.told()) == ({}, ["r1"])


# ── memory ──


def test_a_partition_that_does_not_come_back_is_forgotten() -> None:
    """After a while its fold is given back, and what ran for it is given up; coming back later, it is loaded anew."""
    play = started()
    play.give({0: "nobody"})
    play.go()
    play.tick(engine.KEEP_FOLD_S)
    assert (list(play.a.engine.partitions), play.a.effects) == ([0], {"r1": (0, 1)})
    play.a.end_effect("r1")
    play.tick(1)
    assert (play.a.engine.partitions, play.a.effects, play.a.engine.results) == ({}, {}, {})
    play.assign("A")
    play.go()
    assert play.a.effects == {"r1": (0, 2)}


def test_without_a_shared_store_finished_runs_are_remembered() -> None:
    """The worker folds the log from its start and answers for repeats itself: nothing is looked up."""
    play = Play()
    play.remembers = True
    b = play.start("B")
    play.assign("B")
    play.trigger("r1")
    play.go()
    b.end_effect("r1")
    play.go()
    play.cover()
    play.tick(1)
    play.trigger("r1")
    play.go()
    assert (play.types(), list(part(b).finished), part(b).held) == (WHOLE, ["r1"], {})


def test_a_worker_that_is_about_to_leave_begins_nothing() -> None:
    """What runs may end; the next effect is left to the next owner."""
    play = started(definition=workflow(webhook("a"), webhook("b")))
    play.a.engine.draining = True
    play.a.end_effect("r1")
    play.go()
    assert (play.types(), play.a.effects) == (WHOLE[:3], {})
    b = play.start("B")
    play.assign("B")
    play.go()
    assert b.effects == {"r1": (1, 1)}


def test_one_question_to_the_store_at_a_time() -> None:
    """While the store is away, the question where it stands is not asked again and again."""
    play = started()
    play.a.end_effect("r1")
    play.go()
    play.store_away = True
    for _ in range(20):
        play.tick(1)
        play.answer(play.a)
    assert len(play.a.answers) == 1
    play.store_away = False
    play.cover()
    play.go()
    assert part(play.a).finished == {}


def test_old_ends_are_asked_about_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that finds many ends below its snapshot asks the store about so many at once, until all are judged."""
    monkeypatch.setattr(engine, "OLD_ENDS_ASKED_MAX", 2)
    play = Play(workflow(delay(duration=0)))
    for n in range(5):
        play.trigger(f"r{n}")
    play.go()
    play.cover()
    play.completed.clear()
    play.committed[0] = (5, 0)
    b = play.start("B")
    play.assign("B")
    play.go()
    for left in (5, 3, 1, 0):
        assert len(part(b).unjudged) == left
        play.tick(1)
        play.go()
    assert sorted(play.told()) == [f"r{n}" for n in range(5)]


def test_timers_of_runs_that_are_over_are_swept_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """Cancelled delays of many days leave nothing behind."""
    monkeypatch.setattr(engine, "TIMERS_SLACK", 3)
    play = Play(workflow(delay(duration="30d")))
    for n in range(8):
        play.trigger(f"r{n}")
        play.go()
        cancel(play, f"r{n}")
        play.go()
    play.trigger("r9")
    play.go()
    assert list(play.a.engine.armed) == ["r9"]
    assert len(play.a.engine.timers) <= 5
    play.tick(30 * 86_400)
    play.go()
    assert play.types("r9") == WHOLE
