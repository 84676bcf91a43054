"""What the command line prints for people."""

from __future__ import annotations

from typing import Any, get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ops import tables
from schemas import events

ERROR = {"code": "http_status", "message": "503 from the receiver", "step": "pay"}
DETAILS: dict[str, tuple[dict[str, Any], str]] = {
    "PartitionTaken": ({"worker": "w", "token": "t"}, ""),
    "RunRequested": ({"workflow_id": "hello", "version": 3}, "hello version 3"),
    "StepStarted": (
        {"step": "wait", "attempt": 1, "until": "2026-11-01T09:30:05.000Z"},
        "attempt 1, until 09:30:05.000",
    ),
    "StepSucceeded": ({"step": "pay", "attempt": 2, "output": {"status": 200}}, "status 200"),
    "StepFailed": ({"step": "pay", "attempt": 3, "error": ERROR}, "pay: 503 from the receiver (http_status)"),
    "StepRetryScheduled": (
        {"step": "pay", "attempt": 1, "error": ERROR, "until": "2026-11-01T09:30:09.250Z"},
        "attempt 1: pay: 503 from the receiver (http_status); next at 09:30:09.250",
    ),
    "StepInterrupted": ({"step": "pay", "attempt": 1}, "attempt 1: its worker is gone"),
    "RunCompleted": ({"status": "FAILED", "error": ERROR}, "FAILED: pay: 503 from the receiver (http_status)"),
}


NAMES = {"code", "message", *(name for data, _ in DETAILS.values() for name in data)}


@pytest.mark.parametrize("type_", get_args(events.type_names))
def test_every_event_shows_its_useful_detail(type_: str) -> None:
    """Each event type of the vocabulary has a line of its own."""
    data, detail = DETAILS[type_]
    assert tables.detail({"type": type_, "data": data}) == detail


def test_an_unknown_event_still_has_a_line() -> None:
    """A newer server's event is shown by its name."""
    event = {"type": "StepDreamt", "time": "2026-11-01T09:30:00.129Z", "data": {"step": "pay"}}
    before = {"type": "x", "time": "2026-11-01T09:30:00.125Z", "data": {}}
    assert tables.event_line(event, before) == "09:30:00.129    +0.004 s  StepDreamt          pay"


@given(
    st.sampled_from(sorted(DETAILS)),
    st.recursive(
        st.none() | st.integers() | st.text(max_size=3),
        lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from(sorted(NAMES)), inner),
    ),
    st.none() | st.text(max_size=3),
)
def test_an_event_that_no_release_wrote_has_a_line(type_: str, data: Any, time: str | None) -> None:
    """Whatever stands in it: its run is set aside, and its history is what people then look at."""
    event = {"type": type_, "time": time, "data": data}
    assert type_ in tables.event_line(event, event)


def test_a_refused_start_says_why() -> None:
    """A run that could only fail shows the reason in its first line."""
    refused = {
        "workflow_id": "x",
        "version": None,
        "refused": {"code": "definition_unknown", "message": "no such workflow"},
    }
    assert tables.detail({"type": "RunRequested", "data": refused}) == "no such workflow (definition_unknown)"


def test_a_long_detail_is_cut() -> None:
    """One event is one line."""
    long = {"code": "c", "message": "many\nlines " * 100}
    detail = tables.detail({"type": "StepFailed", "data": {"error": long}})
    assert len(detail) == tables.DETAIL_CHARS_MAX
    assert "\n" not in detail


def test_columns_are_aligned_and_never_cut() -> None:
    """Missing values are a dash, and line breaks do not break the table."""
    assert tables.columns(("a", "bb"), [("x" * 5, None), (1, "two\nlines")]) == "A      BB\nxxxxx  -\n1      two lines"


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0.1251, "0.125 s"), (59.9, "59.900 s"), (245, "4 min 05 s"), (12_000, "3 h 20 min"), (183_600, "2 d 03 h")],
)
def test_spans_read_like_people_say_them(seconds: float, text: str) -> None:
    """The unit follows the size."""
    assert tables.span(seconds) == text


def run(**fields: Any) -> dict[str, Any]:
    return {
        "run_id": "r1",
        "workflow_id": "hello",
        "version": 1,
        "status": "RUNNING",
        "error": None,
        "created_at": "2026-11-01T09:30:00.000Z",
        "started_at": "2026-11-01T09:30:00.000Z",
        "finished_at": None,
        "set_aside": None,
        "steps": [
            {
                "name": "pay",
                "type": "webhook",
                "status": "RETRYING",
                "attempts": 3,
                "started_at": None,
                "finished_at": None,
                "due_at": "2026-11-01T09:31:00.000Z",
            }
        ],
        **fields,
    }


def test_a_running_run_says_what_it_does() -> None:
    """Step, attempt, and when it goes on."""
    assert tables.now(run()) == "step pay, attempt 3, due 2026-11-01T09:31:00.000Z"
    assert tables.now(run(set_aside="unknown event")) == "set aside: unknown event"
    assert tables.now(run(finished_at="2026-11-01T09:32:00.000Z")) is None
    assert tables.now(run(steps=[])) is None


def test_a_page_of_a_failed_run_shows_the_error_and_the_steps() -> None:
    """What failed and how long it took stand in the head."""
    page = tables.run_page(run(status="FAILED", finished_at="2026-11-01T09:30:02.500Z", error=ERROR))
    assert "error     pay: 503 from the receiver (http_status)" in page
    assert "took      2.500 s" in page
    assert page.splitlines()[-2:] == [
        "STEP  TYPE     STATUS    ATTEMPTS  STARTED  FINISHED",
        "pay   webhook  RETRYING  3         -        -",
    ]


def test_a_list_of_runs_has_a_line_each() -> None:
    """The list holds what people look for first."""
    lines = tables.run_rows(
        [run(), run(run_id="r2", status="SUCCESS", finished_at="2026-11-01T09:30:01.000Z")]
    ).splitlines()
    assert [line.split()[:4] for line in lines] == [
        ["RUN", "WORKFLOW", "VERSION", "STATUS"],
        ["r1", "hello", "1", "RUNNING"],
        ["r2", "hello", "1", "SUCCESS"],
    ]
