"""Why a run is where it is: one example of each reason, and what it says."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any, get_args

import pytest

from schemas.events import time_text
from schemas.run import Run, evolve
from streams.reasons import FIELDS, OVERDUE_S, Around, Reason, Worker, told
from streams.why import Timing, why, why_waiting
from tests.given import (
    NOW,
    delay,
    failed,
    given,
    interrupted,
    requested,
    retrying,
    started,
    succeeded,
    webhook,
    workflow,
)

OWNED = Around(3, Worker("owned", "w-1", "10.0.0.7"), settled=5, behind=0)
NONE = replace(OWNED, worker=Worker("none"))
MOVING = replace(OWNED, worker=Worker("moving"))
UNKNOWN = Around(3, Worker("unknown", detail="no answer within 2 s"), None, None)
AT = time_text(NOW)


def explained(run: Run, around: Around = OWNED, now: float = NOW) -> dict[str, Any]:
    return told(why(run, AT, around, Timing(now, 30.0)), around, now)


def waiting(offset: int, around: Around) -> dict[str, Any]:
    return told(why_waiting(offset, AT, around), around, NOW)


def shown(answer: dict[str, Any]) -> dict[str, Any]:
    """The fields that are none of every answer's and not null."""
    return {name: answer[name] for name in FIELDS if answer[name] is not None}


PAY = workflow(webhook("pay", timeout="10s", retry={"max_attempts": 5}), delay("wait", 60))
LATER = time_text(NOW + 60)
ERROR = {"code": "http_503", "message": "http_503", "step": "pay"}


def test_a_step_runs() -> None:
    """Attempt and timeout: the step's own, counted from when the attempt was decided."""
    answer = explained(given(requested(PAY), started("pay")))
    until = time_text(NOW + 10)
    assert answer["code"] == "step_running"
    assert shown(answer) == {"step": "pay", "attempt": 1, "max_attempts": 5, "since": AT, "until": until}
    assert (
        answer["reason"] == f"attempt 1 of 5 of step pay has been with its worker since {AT}, its timeout is at {until}"
    )


def test_a_step_runs_with_the_default_timeout() -> None:
    """A step that names none has the one of the settings; past it, the sentence says so."""
    answer = explained(given(requested(), started()), now=NOW + 31)
    assert answer["until"] == time_text(NOW + 30)
    assert f"its timeout was at {answer['until']}" in answer["reason"]


def test_a_later_attempt_names_the_error_of_the_one_before() -> None:
    """Also when the worker of an attempt was lost: that one was given back, so the last number is one higher."""
    run = given(
        requested(PAY), started("pay"), retrying("pay"), started("pay", 2), interrupted("pay", 2), started("pay", 3)
    )
    answer = explained(run)
    assert (answer["attempt"], answer["max_attempts"], answer["error"]) == (3, 6, ERROR)
    assert answer["reason"].endswith("; the last that failed: http_503 (http_503)")


def test_an_error_of_an_earlier_step_is_none_of_this_one() -> None:
    """It was overcome, and says nothing about the attempt that runs."""
    two = workflow(webhook("pay"), webhook("tell"))
    run = given(
        requested(two), started("pay"), retrying("pay"), started("pay", 2), succeeded("pay", 2), started("tell")
    )
    answer = explained(run)
    assert (answer["step"], answer["error"], "failed" in answer["reason"]) == ("tell", None, False)


def test_a_retry_waits() -> None:
    """Which attempt, of how many, when, and because of what."""
    answer = explained(given(requested(PAY), started("pay"), retrying("pay", until=NOW + 60)))
    expected = {"step": "pay", "attempt": 2, "max_attempts": 5, "since": AT, "until": LATER, "error": ERROR}
    assert (answer["code"], shown(answer)) == ("retry", expected)
    assert (
        answer["reason"] == f"attempt 2 of 5 of step pay begins at {LATER}; the one before failed: http_503 (http_503)"
    )


def waits() -> Run:
    return given(requested(PAY), started("pay"), succeeded("pay"), started("wait", until=LATER))


def test_a_delay_lasts() -> None:
    """Until the time that stands in the log."""
    answer = explained(waits())
    assert (answer["code"], shown(answer)) == ("delay", {"step": "wait", "since": AT, "until": LATER})
    assert answer["reason"] == f"step wait waits for its timer until {LATER}"


@pytest.mark.parametrize(
    ("around", "said"),
    [
        (NONE, "; no worker owns partition 3 now, and without one nothing happens"),
        (MOVING, "; the workers are sharing out their partitions anew"),
        (UNKNOWN, "; which worker owns partition 3 is not known: no answer within 2 s"),
        (replace(OWNED, behind=1), "; the tables lack 1 record of partition 3"),
    ],
)
def test_a_timer_says_who_would_not_hear_it(around: Around, said: str) -> None:
    """Until its time nobody has to do anything: the code stays, the sentence says what is around it."""
    answer = explained(waits(), around)
    assert answer["code"] == "delay"
    assert answer["reason"].endswith(said)


@pytest.mark.parametrize(
    ("around", "late_s", "code"),
    [
        (OWNED, 0, "deciding"),
        (OWNED, OVERDUE_S + 0.1, "overdue"),
        (UNKNOWN, OVERDUE_S + 0.1, "overdue"),
        (MOVING, 0, "deciding"),
        (NONE, 0, "no_worker"),
        (NONE, 900, "no_worker"),
        (replace(NONE, behind=2), 900, "tables_behind"),
        (replace(OWNED, behind=2), 900, "tables_behind"),
    ],
)
def test_a_timer_is_due(around: Around, late_s: float, code: str) -> None:
    """Who should act decides: somebody about now, nobody, somebody who does not, or they did and the tables lag."""
    answer = explained(waits(), around, NOW + 60 + late_s)
    assert (answer["code"], shown(answer)) == (code, {"step": "wait", "next_event": "StepSucceeded", "since": LATER})


def test_what_is_said_of_what_is_due() -> None:
    """The sentences name event, partition and time."""
    late = NOW + 90
    assert explained(waits(), OWNED, NOW + 60)["reason"] == (
        "StepSucceeded of step wait is due, and the worker of partition 3 writes it about now"
    )
    assert explained(waits(), OWNED, late)["reason"] == (
        f"StepSucceeded of step wait has been due since {LATER} and is not in the log: "
        "the worker of partition 3 is busy, frozen or cut off"
    )
    assert explained(waits(), NONE, late)["reason"] == (
        f"waiting for a worker: none owns partition 3; StepSucceeded of step wait has been due since {LATER}, "
        "and the next one writes it, unless a cancellation comes first"
    )
    not_known = "which worker owns partition 3 is not known: no answer within 2 s"
    assert explained(waits(), UNKNOWN, NOW + 60)["reason"] == f"StepSucceeded of step wait is due; {not_known}"
    assert explained(waits(), UNKNOWN, late)["reason"] == (
        f"StepSucceeded of step wait has been due since {LATER} and is not in the tables; "
        f"whether it is in the log is not known; {not_known}"
    )
    assert explained(waits(), replace(NONE, behind=7), late)["reason"] == (
        f"StepSucceeded of step wait has been due since {LATER}, and the tables may not show it yet; "
        "no worker owns partition 3 now, and without one nothing happens; the tables lack 7 records of partition 3"
    )


@pytest.mark.parametrize(
    ("around", "late_s", "said"),
    [
        (OWNED, -1, "its timeout is at {until}"),
        (OWNED, 1, "its timeout was at {until}"),
        (
            OWNED,
            OVERDUE_S + 1,
            (
                "whose timeout would have been at {until}: it waits for one of the worker's places "
                "(WORKFLOW_EFFECTS_MAX), or the worker is busy, frozen or cut off"
            ),
        ),
        (
            replace(OWNED, behind=2),
            OVERDUE_S + 1,
            "its timeout was at {until}; the tables lack 2 records of partition 3",
        ),
        (
            UNKNOWN,
            OVERDUE_S + 1,
            "its timeout was at {until}; which worker owns partition 3 is not known: no answer within 2 s",
        ),
    ],
)
def test_an_attempt_past_its_timeout(around: Around, late_s: float, said: str) -> None:
    """A worker ends in time what it carries out, so an attempt that goes on has not begun, if the tables show all."""
    answer = explained(given(requested(PAY), started("pay")), around, NOW + 10 + late_s)
    assert answer["code"] == "step_running"
    assert answer["reason"].endswith(f"since {AT}, " + said.format(until=time_text(NOW + 10)))


def test_an_attempt_whose_worker_is_gone() -> None:
    """Nobody owns the partition: the next one records that the attempt was interrupted."""
    answer = explained(given(requested(PAY), started("pay")), NONE)
    assert (answer["code"], answer["next_event"], answer["step"]) == ("no_worker", "StepInterrupted", "pay")


@pytest.mark.parametrize(
    ("run", "event", "step"),
    [
        (given(requested(PAY)), "StepStarted", "pay"),
        (given(requested(workflow(webhook(config={"url": "${payload.url}"})))), "StepStarted", "call"),
        (given(requested(), started(), interrupted()), "StepStarted", "call"),
        (given(requested(), started(), succeeded()), "RunCompleted", None),
        (given(requested(), started(), failed()), "RunCompleted", "call"),
    ],
)
def test_what_follows_by_itself(run: Run, event: str, step: str | None) -> None:
    """The event that the decider writes next."""
    answer = explained(run)
    assert (answer["code"], answer["next_event"], answer["step"]) == ("deciding", event, step)


def ended(status: str, error: Any = None) -> Run:
    data = {"status": status, "workflow_id": "w", "version": 1, "results": {}, "error": error, "steps": []}
    return given(requested(), ("RunCompleted", {**data, "created_at": AT, "started_at": None}))


@pytest.mark.parametrize("around", [OWNED, NONE, UNKNOWN])
def test_a_finished_run(around: Around) -> None:
    """How and why it ended, whoever is there now."""
    answer = explained(ended("FAILED", ERROR), around)
    assert (answer["code"], shown(answer)) == ("finished", {"status": "FAILED", "since": AT, "error": ERROR})
    assert answer["reason"] == f"finished with FAILED at {AT}: http_503 (http_503)"
    assert explained(ended("SUCCESS"), around)["reason"] == f"finished with SUCCESS at {AT}"


def test_a_run_that_is_set_aside() -> None:
    """With the reason that stands with it."""
    answer = explained(given(requested(), ("StepDreamt", {})))
    assert (answer["code"], shown(answer)["detail"]) == (
        "set_aside",
        "an event of the unknown type 'StepDreamt' at seq 2",
    )


@pytest.mark.parametrize("until", ["soon", 7, "9999-99-99"])
def test_a_run_with_a_due_time_that_is_none(until: Any) -> None:
    """A due time that is none: an answer all the same."""
    answer = explained(given(requested(), started(until=until)))
    assert answer["code"] == "set_aside"
    assert "StepStarted at seq 2 cannot be folded: " in answer["detail"]


def test_a_run_whose_next_event_cannot_be_written() -> None:
    """Its worker sets it aside as well: an output so deep that no event can carry it on."""
    output: Any = None
    for _ in range(300):
        output = [output]
    run = given(requested(), started())
    evolve(run, *succeeded(output=output), AT, 1)
    answer = explained(run)
    assert (answer["code"], answer["detail"][:23]) == ("set_aside", "it cannot be decided: T")


def test_an_end_that_cannot_be_read() -> None:
    """It stands there, and nobody can say how the run ended."""
    assert explained(given(requested(), ("RunCompleted", {})))["code"] == "set_aside"


@pytest.mark.parametrize("error", [{}, {"code": 1}, {"code": "x", "message": None}, [], "x"])
def test_an_error_of_another_shape(error: Any) -> None:
    """Nobody could show it: the run is set aside, wherever the error stands."""
    told = {"step": "call", "attempt": 1, "error": error, "until": AT}
    for run in (
        ended("FAILED", error),
        given(requested(), started(), ("StepFailed", told)),
        given(requested(), started(), ("StepRetryScheduled", told)),
    ):
        assert explained(run)["code"] == "set_aside"


@pytest.mark.parametrize(
    ("offset", "around", "code", "before"),
    [
        (5, OWNED, "command_waits", 0),
        (9, OWNED, "command_waits", 4),
        (9, UNKNOWN, "command_waits", None),
        (9, MOVING, "command_waits", 4),
        (9, NONE, "no_worker", None),
        (9, replace(NONE, behind=1), "tables_behind", None),
        (4, OWNED, "tables_behind", None),
        (4, NONE, "tables_behind", None),
    ],
)
def test_a_command_waits(offset: int, around: Around, code: str, before: int | None) -> None:
    """To be taken, behind others; or it was taken, and the tables do not show it yet."""
    answer = waiting(offset, around)
    assert (answer["code"], answer["before"], answer["since"]) == (code, before, AT)


def test_what_is_said_of_a_command() -> None:
    """Whom it waits for, and behind how many."""
    assert waiting(9, OWNED)["reason"] == (
        f"the start has waited since {AT} to be taken by the worker of partition 3, with 4 commands before it"
    )
    assert waiting(9, NONE)["reason"] == (
        f"waiting for a worker: none owns partition 3; RunRequested has been due since {AT}, and the next one writes it"
    )


def test_a_start_whose_version_is_not_defined() -> None:
    """Is said wherever a worker would wait for it; one that nobody takes waits for a worker first."""
    version = "version 9 of workflow 'w'"
    reason = why_waiting(9, AT, OWNED, version)
    answer = told(reason, OWNED, NOW)
    assert (answer["code"], answer["before"], answer["detail"]) == ("definition_waits", 4, version)
    assert answer["reason"] == (
        f"the start has waited since {AT} for {version}, which is not defined, with 4 commands before it; "
        "its worker ends it as FAILED after WORKFLOW_DEFINITION_WAIT_S"
    )
    assert told(why_waiting(9, AT, NONE, version), NONE, NOW)["code"] == "no_worker"


def test_every_reason_has_the_same_fields() -> None:
    """Each answer has all of them, and no reason has a field that the answers lack."""
    assert {field.name for kind in get_args(Reason) for field in fields(kind)} == set(FIELDS)
    assert explained(waits()).keys() == waiting(9, NONE).keys()
