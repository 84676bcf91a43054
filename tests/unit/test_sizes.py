"""Events that are too large for a record."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from schemas.events import encode, time_text
from streams.decider import Draft
from streams.sizes import ENVELOPE_BYTES_MAX, fits, smaller
from tests import shapes
from tests.given import NOW, failed, requested, retrying, started, succeeded

BYTES_MAX = 64 * 1024
BIG = "x" * 100_000


def record(draft: Draft) -> bytes:
    value = encode(
        draft[0],
        "r" * 128,
        draft[1],
        time=time_text(NOW),
        epoch=9,
        seq=7,
        prev="0" * 32,
        cause="c" * 200,
        actor="é" * 200,
    )
    shapes.check(value)
    return value


def completed(results: dict[str, Any], error: Any = None, steps: int = 0) -> Draft:
    summary = {"name": "s" * 64, "attempts": 1000, "started_at": time_text(NOW), "finished_at": time_text(NOW)}
    data = {
        "status": "FAILED" if error else "SUCCESS",
        "workflow_id": "w",
        "version": 1,
        "results": results,
        "error": error,
    }
    return "RunCompleted", {**data, "steps": [summary] * steps, "created_at": time_text(NOW), "started_at": None}


def large_error() -> dict[str, Any]:
    return {"code": "http_500", "message": "\u0001" * 90_000, "step": "call", "details": {"body": BIG}}


@pytest.mark.parametrize(
    "draft",
    [
        requested(note=BIG),
        started(input={"body": BIG}),
        succeeded(output=BIG),
        ("StepFailed", {**failed()[1], "error": large_error()}),
        ("StepRetryScheduled", {**retrying()[1], "error": large_error()}),
        completed({"a": BIG, "b": 1}),
        completed({"a": 1}, large_error()),
        completed({f"s{n}": "x" * 9_000 for n in range(7)}, large_error(), steps=7),
        completed({f"{n:064d}": "x" * 40 for n in range(300)}, None, steps=200),
        completed({f"{n:064d}": "x" * 500 for n in range(200)}, large_error(), steps=200),
    ],
    ids=lambda draft: draft[0],
)
def test_what_is_too_large_becomes_small_enough(draft: Draft) -> None:
    """One replacement is enough for every event, whatever made it large, and it has its event's shape."""
    assert not fits(record(draft), b"k" * 128, BYTES_MAX)
    assert fits(record(smaller(draft, BYTES_MAX)), b"k" * 128, BYTES_MAX)


def test_a_start_that_is_too_large() -> None:
    """The run is refused; it ends FAILED instead of never starting."""
    type_, data = smaller(requested(note=BIG), BYTES_MAX)
    assert (type_, data["payload"], data["definition"], data["refused"]["code"]) == (
        "RunRequested",
        {},
        None,
        "too_large",
    )
    assert "WORKFLOW_RECORD_BYTES_MAX" in data["refused"]["message"]


def test_a_result_that_is_too_large() -> None:
    """The step fails; its attempt keeps its number."""
    type_, data = smaller(succeeded(attempt=3, output=BIG), BYTES_MAX)
    assert (type_, data["attempt"], data["error"]["code"]) == ("StepFailed", 3, "output_too_large")


def test_an_input_that_is_too_large() -> None:
    """The step fails before any attempt."""
    type_, data = smaller(started(input={"body": BIG}), BYTES_MAX)
    assert (type_, data["attempt"], data["error"]["code"]) == ("StepFailed", 0, "input_too_large")


def test_the_largest_results_are_cut_first() -> None:
    """What downstream is told keeps the small results and says of the large ones how large they were."""
    results = {"small": 1, "large": BIG, "middle": "y" * 30_000}
    _, data = smaller(completed(results), BYTES_MAX)
    assert data["results"]["small"] == 1
    assert data["results"]["middle"] == results["middle"]
    assert data["results"]["large"]["cut"] is True
    assert data["results"]["large"]["bytes"] >= len(BIG)


def test_an_error_keeps_its_code() -> None:
    """A large error is told without its details, a small one whole."""
    _, data = smaller(completed({}, large_error()), BYTES_MAX)
    assert (data["error"]["code"], data["error"]["step"]) == ("http_500", "call")
    assert data["error"]["details"]["cut"] is True
    small = {"code": "http_500", "message": "m", "step": "call", "details": [1]}
    _, data = smaller(completed({"a": BIG}, small), BYTES_MAX)
    assert data["error"] == small


def test_the_key_and_the_record_itself_count() -> None:
    """A record fits with its key and what a broker adds to both."""
    assert fits(b"x" * 700, b"k" * 100, 1000)
    assert not fits(b"x" * 701, b"k" * 100, 1000)


def test_the_room_for_an_envelope() -> None:
    """The longest envelope stays within the room that is kept for it."""
    assert len(record(requested())) < ENVELOPE_BYTES_MAX
    assert orjson.loads(record(requested()))["subject"] == "r" * 128
