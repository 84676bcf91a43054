"""The decider over all legal histories: any prefix goes on to an end, and a replay gives the same bytes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from schemas.commands import CancelRun
from schemas.effects import EffectResult
from schemas.events import decode
from schemas.identity import digest
from schemas.run import Run, extend
from streams.decider import (
    AttemptEnded,
    AttemptLost,
    Draft,
    ExpressionFault,
    Needs,
    TimerFired,
    advance,
    decide,
    due,
)
from tests import shapes
from tests.given import DONE, NOW, REFUSED, delay, passing, start, take, webhook, workflow

STEPS_MAX = 3
EVENTS_MAX = 4 + STEPS_MAX * 80
"""More than any run below can have: steps of at most 4 attempts and 20 interruptions, of 3 events each."""

RETRIES = st.builds(
    lambda n, i, f, m: {"max_attempts": n, "initial": i, "factor": f, "max": m},
    st.integers(1, 4),
    st.sampled_from([0, 0.5, "2s"]),
    st.sampled_from([1, 2, 100]),
    st.sampled_from([0, 3, "1m"]),
)
CONFIGS = st.sampled_from(
    [
        {"url": "http://x"},
        {"url": "${payload.url}"},
        {"url": "http://x/${good}", "body": {"n": "${good}"}},
        {"url": "http://x", "method": "${good}"},
        {"url": "${bad}"},
        {"url": "${secrets.A}/${good}", "headers": {"x": "${secrets.B}"}, "sign_with": "C"},
        {"url": "${secrets.A}"},
    ]
)
STEPS = st.one_of(
    st.builds(lambda config, retry: webhook(config=config, retry=retry), CONFIGS, RETRIES),
    st.builds(lambda duration: delay(duration=duration), st.sampled_from([0, 0.001, 5, "1d", "${good}", "${bad}"])),
)


def named(steps: list[dict[str, Any]]) -> dict[str, Any]:
    return workflow(*({**step, "name": f"s{n}"} for n, step in enumerate(steps)))


DEFINITIONS = st.lists(STEPS, min_size=1, max_size=STEPS_MAX).map(named)
VALUES: dict[str, Any] = {
    "payload.url": "http://y",
    "good": 2,
    "bad": ExpressionFault(source="bad", reason="no such key"),
}
CANCEL = CancelRun("c2", "r1", "enough", "2026-01-01T00:00:00.000Z")
HAPPENINGS = st.sampled_from(
    ["cancel", "lost", "lost", "lost", "late", "start", "timer", *["done"] * 4, *["passing"] * 4, "refused", "wait"]
)
"""What may happen to a run next; most of it says nothing to most states."""


def follow(run: Run, now: float, values: Mapping[str, Any] = VALUES) -> tuple[Draft, ...]:
    drafts = advance(run, now)
    if isinstance(drafts, Needs):
        drafts = advance(run, now, {source: values[source] for source in drafts.expressions})
    assert not isinstance(drafts, Needs)
    return drafts


def happens(run: Run, what: str, now: float) -> tuple[Draft, ...]:
    results: dict[str, EffectResult] = {"done": DONE, "passing": passing(), "refused": REFUSED}
    match what:
        case "cancel":
            return decide(run, CANCEL, now)
        case "lost":
            return decide(run, AttemptLost(), now)
        case "late":
            return decide(run, AttemptEnded(run.attempt - 1, DONE), now)
        case "start":
            return decide(run, start(), now)
        case "timer":
            return decide(run, TimerFired(), now)
        case "wait":
            return follow(run, now + 100)
        case _:
            return decide(run, AttemptEnded(run.attempt, results[what]), now) if run.until is None else ()


def history(definition: dict[str, Any], happenings: list[str]) -> list[bytes]:
    """The records of a run to which all of this happens, one after the other."""
    run, now = Run("r1"), NOW
    values = take(run, decide(run, start(definition, url="http://y"), now))
    for what in happenings:
        drafts = happens(run, what, now) or follow(run, now)
        values += take(run, drafts, epoch=1 + len(values) // 5, now=now)
        now += 0.7
    return values


def folded(values: list[bytes], run: Run | None = None) -> Run:
    run = run or Run("r1")
    for value in values:
        envelope = decode(value)
        assert envelope is not None
        extend(run, envelope, digest(value))
    return run


HISTORIES = st.builds(history, DEFINITIONS, st.lists(HAPPENINGS, max_size=25))


def finish(run: Run) -> list[Draft]:
    """Let the run go on: its effects succeed, its timers fire. The drafts up to its end."""
    written: list[Draft] = []
    now = NOW + 1000
    while run.phase != "done":
        if run.phase == "started":
            now = due(run) or now
            drafts = decide(run, TimerFired() if run.until is not None else AttemptEnded(run.attempt, DONE), now)
        else:
            now = max(now, due(run) or now)
            drafts = follow(run, now)
        assert drafts, f"stuck in phase {run.phase} after {written}"
        take(run, drafts, epoch=99, now=now)
        written += drafts
        assert len(written) < EVENTS_MAX
    return written


@given(HISTORIES, st.data())
def test_every_prefix_can_be_continued(values: list[bytes], data: st.DataObject) -> None:
    """From any prefix of any legal history a run goes on to exactly one end."""
    run = folded(values[: data.draw(st.integers(1, len(values)))])
    finish(run)
    assert run.set_aside is None
    assert run.status in ("SUCCESS", "FAILED", "CANCELLED")
    assert follow(run, NOW + 1e6) == ()


@given(HISTORIES, st.data())
def test_an_interrupted_prefix_can_be_continued(values: list[bytes], data: st.DataObject) -> None:
    """The same when the open attempt's worker is gone: it is interrupted and tried again, or the step fails."""
    run = folded(values[: data.draw(st.integers(1, len(values)))])
    take(run, decide(run, AttemptLost(), NOW), epoch=98)
    finish(run)
    assert run.set_aside is None


@given(HISTORIES)
def test_a_replay_gives_equal_bytes(values: list[bytes]) -> None:
    """Folding a history again gives the same bytes of state; going through a snapshot after every event as well."""
    run, stored = Run("r1"), Run("r1")
    for value in values:
        folded([value], run)
        stored = Run.load("r1", folded([value], stored).dump())
        assert stored.dump() == run.dump()
    assert folded(values).dump() == run.dump()


@given(HISTORIES)
def test_the_same_state_decides_the_same(values: list[bytes]) -> None:
    """A decision is a function of state: a run out of a snapshot decides what the one in memory does."""
    run = folded(values)
    other = Run.load("r1", run.dump())
    for what in ("cancel", "lost", "done", "passing", "refused", "timer"):
        assert happens(run, what, NOW + 9) == happens(other, what, NOW + 9)
    assert follow(run, NOW + 9) == follow(other, NOW + 9)


@given(HISTORIES, st.floats(0, 4e9))
def test_deciding_changes_nothing(values: list[bytes], now: float) -> None:
    """Neither `decide` nor `advance` changes the run, and both answer at any time of the clock."""
    run = folded(values)
    before = run.dump()
    for what in ("cancel", "lost", "late", "start", "timer", "done", "passing", "refused", "wait"):
        happens(run, what, now)
    follow(run, now)
    assert run.dump() == before


@given(HISTORIES)
@settings(max_examples=50)
def test_events_have_their_shapes(values: list[bytes]) -> None:
    """Every event that is decided has the shape of its type, and no run is ever set aside by our own events."""
    for value in values:
        shapes.check(value)
    assert folded(values).set_aside is None


@given(HISTORIES)
def test_attempts_are_numbered_without_gaps(values: list[bytes]) -> None:
    """In every history the attempts of a step are 1, 2, 3 … and each is closed before the next one starts."""
    open_attempt, last = 0, dict[str, int]()
    for envelope in map(decode, values):
        assert envelope is not None
        data = envelope["data"]
        match envelope["type"]:
            case "StepStarted":
                assert open_attempt == 0
                assert data["attempt"] == last.get(data["step"], 0) + 1
                open_attempt = last[data["step"]] = data["attempt"]
            case "StepSucceeded" | "StepFailed" | "StepRetryScheduled" | "StepInterrupted":
                assert data["attempt"] == open_attempt
                open_attempt = 0
            case _:
                pass
