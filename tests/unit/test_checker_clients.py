"""The judge of what clients, receivers and processes have noted turns red for every broken promise."""

from __future__ import annotations

import pytest

from tests.checker_clients import Ask, Read, check_asks, check_deliveries, check_life, check_reads, lateness_s
from tests.forged import DELIVERY, GOOD, Topics, red, sound


@pytest.fixture
def topics() -> Topics:
    return sound()


SOUND_ASKS = [Ask(1, None, None), Ask(1, 503, None), Ask(1, 202, "r1"), Ask(2, 422, None), Ask(3, 503, None)]


def test_sound_answers(topics: Topics) -> None:
    """A start whose answers were lost is one run; a refused one and one that nobody took are none."""
    judge = topics.judge()
    check_asks(judge, SOUND_ASKS)
    assert judge.violations == []


@pytest.mark.parametrize(
    "asks",
    [
        [Ask(1, 202, "another")],
        [Ask(1, 202, "r1"), Ask(1, 202, "another")],
        [Ask(1, 422, None)],
        [Ask(7, 202, "r7")],
    ],
)
def test_answers_that_were_not_true(topics: Topics, asks: list[Ask]) -> None:
    """The run of a 202 is the one that it told; a refused start begins nothing."""
    judge = topics.judge()
    check_asks(judge, asks)
    red(judge, "I1")


def test_a_start_that_began_twice(topics: Topics) -> None:
    """Two runs of one start."""
    topics.run(GOOD, "r2")
    judge = topics.judge()
    check_asks(judge, [Ask(1, 503, None)])
    red(judge, "I1")


def test_a_step_under_two_keys(topics: Topics) -> None:
    """Every delivery of one step carries one key, a failed one as well."""
    body = {"n": 1, "run": "r1", "step": "call"}
    judge = topics.judge()
    other = {"headers": {"idempotency-key": "other"}, "body": body}
    check_deliveries(judge, [{**DELIVERY, "body": body}, other])
    red(judge, "I7")


def test_more_deliveries_than_attempts(topics: Topics) -> None:
    """However the step has ended: what is called once more than it was started was not started by the log."""
    judge = topics.judge()
    own = {**DELIVERY, "body": {"n": 1, "run": "r1", "step": "call"}}
    check_deliveries(judge, [DELIVERY, own, own])
    assert judge.violations == []
    check_deliveries(judge, [own] * 4)
    red(judge, "I7")


def test_a_key_of_two_steps(topics: Topics) -> None:
    """Nobody else uses a step's key, whatever became of the steps."""
    judge = topics.judge()
    bodies = [{"run": "other", "step": "a"}, {"run": "other", "step": "b"}]
    check_deliveries(judge, [DELIVERY, *({"headers": {"idempotency-key": "k"}, "body": body} for body in bodies)])
    red(judge, "I7")


def test_reads_that_go_on() -> None:
    """Each client sees a run at the same place or further; two clients have nothing to do with one another."""
    judge = sound().judge()
    seen = [("a", 1, "PENDING"), ("a", 3, "RUNNING"), ("b", 2, "RUNNING"), ("a", 3, "RUNNING"), ("a", 6, "SUCCESS")]
    check_reads(judge, [Read(client, "r1", seq, status) for client, seq, status in seen])
    assert judge.violations == []


@pytest.mark.parametrize(
    "seen", [[(3, "RUNNING"), (2, "RUNNING")], [(6, "SUCCESS"), (6, "RUNNING")], [(6, "SUCCESS"), (7, "FAILED")]]
)
def test_reads_that_go_back(seen: list[tuple[int, str]]) -> None:
    """A lower seq, or another status after the end."""
    judge = sound().judge()
    check_reads(judge, [Read("a", "r1", seq, status) for seq, status in seen])
    red(judge, "I10")


def test_life_after_the_last_fault(topics: Topics) -> None:
    """A worker that has written since, an API that has started runs since."""
    judge = topics.judge()
    (worker,) = set(judge.owners.values())
    check_life(judge, [worker], {"api 1": 3}, 0)
    assert judge.violations == []
    check_life(judge, [], {"api 1": 0}, 0)
    red(judge, "I13")


@pytest.mark.parametrize(("worker", "since_ms"), [("somebody", 0.0), (None, 1e15)])
def test_a_worker_that_does_nothing_any_more(topics: Topics, worker: str | None, since_ms: float) -> None:
    """One that never wrote, or wrote before only."""
    judge = topics.judge()
    check_life(judge, [worker or next(iter(judge.owners.values()))], {}, since_ms)
    red(judge, "I13")


def test_lateness(topics: Topics) -> None:
    """How long after their due times timers fired."""
    assert all(late >= 0 for late in lateness_s(topics.judge()))
