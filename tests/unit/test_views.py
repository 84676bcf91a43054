"""What people are shown of a run."""

from __future__ import annotations

from typing import Any

import pytest

from schemas.events import time_text
from schemas.views import run_view
from tests.given import NOW, failed, given, interrupted, requested, retrying, started, succeeded, webhook, workflow

TWO = workflow(webhook("a"), webhook("b"))


@pytest.mark.parametrize(
    ("drafts", "statuses"),
    [
        ([], ["PENDING", "PENDING"]),
        ([started("a")], ["RUNNING", "PENDING"]),
        ([started("a"), retrying("a")], ["RETRYING", "PENDING"]),
        ([started("a"), interrupted("a")], ["RUNNING", "PENDING"]),
        ([started("a"), succeeded("a")], ["SUCCESS", "PENDING"]),
        ([started("a"), failed("a")], ["FAILED", "PENDING"]),
        ([started("a"), succeeded("a"), started("b")], ["SUCCESS", "RUNNING"]),
        ([started("a"), ("RunCompleted", {"status": "CANCELLED", "error": None})], ["CANCELLED", "PENDING"]),
        ([started("a"), failed("a"), ("RunCompleted", {"status": "FAILED", "error": {}})], ["FAILED", "PENDING"]),
    ],
)
def test_the_status_of_steps(drafts: list[Any], statuses: list[str]) -> None:
    """Every step of the definition is shown, as it stands."""
    view = run_view(given(requested(TWO), *drafts))
    assert [step["status"] for step in view["steps"]] == statuses


def test_a_waiting_step_says_until_when() -> None:
    """A delay and a retry show their due time on the current step alone."""
    view = run_view(given(requested(TWO), started("a"), succeeded("a"), started("b"), retrying("b", until=NOW + 5)))
    assert [step["due_at"] for step in view["steps"]] == [None, time_text(NOW + 5)]
    assert view["error"] == {"code": "http_503", "message": "http_503", "step": "b"}


def test_an_error_that_passed_is_not_shown() -> None:
    """The error of an attempt is gone when a later one succeeds."""
    view = run_view(given(requested(TWO), started("a"), retrying("a"), started("a", 2), succeeded("a", 2)))
    assert view["error"] is None
    assert view["results"] == {"a": None}


def test_a_refused_run() -> None:
    """A run without a definition has no steps to show, and its reason."""
    refused = {"code": "definition_unknown", "message": "no such workflow"}
    type_, data = requested()
    view = run_view(given((type_, {**data, "version": None, "definition": None, "refused": refused})))
    assert (view["steps"], view["error"], view["status"]) == ([], refused, "PENDING")
