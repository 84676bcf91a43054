"""When a release begins a rebuild by itself."""

from __future__ import annotations

from dataclasses import replace

import pytest

from ops.rebuilding import AGAIN_S, FAILED_S, is_needed, wants_help
from projections.board import Claim, Part, Phase, Rebuild
from projections.rows import PROJECTION_VERSION as OURS


def last(version: int, phase: Phase, *, ended_s: float | None = None) -> Rebuild:
    return Rebuild("x", phase, "somebody", version, 0.0, ended_s=ended_s)


@pytest.mark.parametrize("stands", [None, OURS, OURS + 1])
def test_tables_that_are_ours_or_newer_are_let_be(stands: int | None) -> None:
    """No tables yet, our own, and those of a release after this one."""
    assert not is_needed(stands, None, 0.0)


@pytest.mark.parametrize(
    ("before", "needed"),
    [
        (None, True),
        (last(OURS - 1, "folding"), True),
        (last(OURS - 1, "cancelled"), True),
        (last(OURS, "done"), True),
        (last(OURS, "preparing"), False),
        (last(OURS, "swapping"), False),
        (last(OURS, "cancelled"), False),
        (last(OURS, "failed", ended_s=100.0), False),
        (last(OURS, "failed", ended_s=100.0 - 2 * FAILED_S), True),
        (last(OURS + 1, "folding"), False),
        (last(OURS + 1, "cancelled"), True),
    ],
)
def test_older_tables_are_made_anew_once(before: Rebuild | None, needed: bool) -> None:
    """Unless that runs, was cancelled by somebody, has failed a moment ago, or a newer release does its own."""
    assert is_needed(OURS - 1, before, 100.0) is needed


def test_help_is_lent_to_what_was_asked_for_and_to_what_was_left() -> None:
    """Not to the rebuild of an operator whose processes work on it."""
    asked = replace(last(OURS, "folding"), parts=(Part(0, 9, Claim("one", 50.0)), Part(9, 9)))
    own = replace(asked, helped=False)
    assert wants_help(asked, 10.0)
    assert not wants_help(own, 49.0)
    assert wants_help(own, 51.0)
    assert not wants_help(replace(own, parts=()), AGAIN_S - 1)
    assert wants_help(replace(own, parts=()), AGAIN_S + 1)
    assert not wants_help(replace(own, parts=(), one=Claim("one", 50.0)), 49.0)
