"""The progress of a rebuild on a terminal, in a file, and in the API."""

from __future__ import annotations

import sys
from dataclasses import replace

import pytest

from ops import projections as commands
from ops.projections import Bar, bar_line
from projections import board
from projections.board import LEASE_S, Rebuild
from projections.overview import rebuild_view
from projections.progress import Progress


@pytest.mark.parametrize(
    ("progress", "line"),
    [
        (Progress(0, 0, 0.0, "preparing"), "preparing  [------------------------] 0 of 0 events"),
        (Progress(0, 1_000, 0.0, "folding"), "folding    [------------------------] 0 of 1000 events, 0/s"),
        (
            Progress(500, 1_000, 0.01, "folding"),
            "folding    [############------------] 500 of 1000 events, 50000/s, 0.010 s left",
        ),
        (Progress(1_000, 1_000, 2.0, "comparing"), "comparing  [########################] 1000 of 1000 events"),
    ],
)
def test_the_bar(progress: Progress, line: str) -> None:
    assert bar_line(progress) == line


@pytest.mark.parametrize("moves", [True, False])
def test_it_is_drawn_in_place_in_a_terminal_and_line_by_line_elsewhere(
    moves: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """And goes away at the end where it was drawn in place."""
    monkeypatch.setattr(sys.stderr, "isatty", lambda: moves)
    monkeypatch.setattr(commands, "DRAW_S", 0.0)
    monkeypatch.setattr(commands, "SAY_S", 0.0)
    one, other = Progress(1, 2, 1.0, "folding"), Progress(2, 2, 1.0, "folding")
    with Bar() as bar:
        bar(one)
        bar(other)
    said = capsys.readouterr().err
    lines = bar_line(one), bar_line(other)
    assert said == (f"\r{lines[0]}\x1b[K\r{lines[1]}\x1b[K\r\x1b[K" if moves else f"{lines[0]}\n{lines[1]}\n")


def test_the_api_tells_rate_and_rest_of_a_rebuild_that_is_worked_on() -> None:
    """While nobody works on it nobody can tell how long it will take; the rate stays that of the work."""
    rebuild = board.share(Rebuild("1", "preparing", "ada", 1001, 5.0), "folding", [1_000], 5.0)
    shown = rebuild_view(rebuild, 500.0)
    assert (shown["events_per_s"], shown["eta_s"], shown["workers"]) == (0, None, 0)
    rebuild, _ = board.claim(rebuild, "a", 500.0)
    rebuild, _ = board.renew(rebuild, "a", {0: 250}, 501.0)
    shown = rebuild_view(rebuild, 501.0)
    assert (shown["events"], shown["events_per_s"], shown["eta_s"], shown["workers"]) == (250, 250, 3.0, 1)
    shown = rebuild_view(rebuild, 502.0 + LEASE_S)
    assert (shown["events_per_s"], shown["eta_s"], shown["workers"]) == (250, None, 0)
    assert [part["worker"] for part in shown["partitions"]] == [None]
    rebuild, _ = board.claim(rebuild, "b", 2_000.0)
    assert rebuild_view(rebuild, 2_001.0)["eta_s"] == 6.0
    cancelled = board.end(rebuild, "cancelled", 9_000.0)
    assert rebuild_view(cancelled, 9_999.0)["events_per_s"] == 250
    done = board.end(replace(rebuild, folded_s=2_003.0, events=1_000), "done", 2_009.0)
    assert (rebuild_view(done, 9_999.0)["events_per_s"], rebuild_view(done, 9_999.0)["eta_s"]) == (250, None)
