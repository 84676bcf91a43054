"""A run's row as columns: what every store can hold, and what a row says when it cannot hold all of it."""

from __future__ import annotations

from typing import Any

import pytest

from projections.rows import CHAIN, SHOWN, UNSHOWN, clean_text, columns, instant_us, stored_run, stored_view
from projections.sql import queries
from schemas.store import RunRow
from schemas.views import RunView


def view(**changes: Any) -> RunView:
    base: dict[str, Any] = {
        "run_id": "r",
        "workflow_id": "greet",
        "version": 3,
        "status": "SUCCESS",
        "payload": {"n": 2**53 + 1},
        "results": {"a": 1.0},
        "error": None,
        "steps": [],
        "created_at": "2026-01-01T00:00:00.001Z",
        "started_at": None,
        "finished_at": "2026-01-01T00:00:01Z",
        "seq": 6,
        "set_aside": None,
    }
    return base | changes  # type: ignore[return-value]


def row(reason: str | None = None, **changes: Any) -> RunRow:
    return RunRow("r", 0, 5, 9, 6, "d", True, None, 1, reason, 1, 2, 3, 3, view(**changes))


def test_a_sound_view_comes_back_whole() -> None:
    """From columns the same view is shown again, numbers exact."""
    chain, shown = columns(row())
    assert stored_run(chain, shown).view == view()
    assert (shown.payload, shown.results, shown.created_us) == ('{"n":9007199254740993}', '{"a":1.0}', 1767225600001000)


@pytest.mark.parametrize(
    ("column", "value", "kept"),
    [
        ("workflow_id", 7, ""),
        ("workflow_id", "a\0b", ""),
        ("workflow_id", "x" * 5000, ""),
        ("version", "1", None),
        ("version", 2**63, None),
        ("version", True, None),
        ("status", "GONE", "PENDING"),
        ("status", ["SUCCESS"], "PENDING"),
        ("created_at", "yesterday", ""),
        ("created_at", "2026-01-01T00:00:00.000000000000000000000000Z", ""),
        ("started_at", 5, None),
        ("finished_at", "a\0b", None),
    ],
)
def test_what_no_column_can_hold_is_left_out_and_named(column: str, value: object, kept: object) -> None:
    """One bad column hides neither the run nor its other columns."""
    chain, shown = columns(RunRow(*row()[:-1], view(**{column: value})))
    assert getattr(shown, column) == kept
    assert chain.set_aside == f"its {column} cannot be shown"
    assert stored_run(chain, shown).view == view(**{column: kept}, set_aside=chain.set_aside)


def test_a_run_whose_request_cannot_be_read() -> None:
    """Has the time at which the log took its first event: it was not there before, and is not the oldest of all."""
    chain, shown = columns(row("RunRequested at seq 1 cannot be folded", created_at=""))
    assert (shown.created_at, shown.created_us, chain.began_ms) == ("1970-01-01T00:00:00.001Z", 1000, 1)


def test_json_that_is_too_deep_is_left_out_and_named() -> None:
    """What cannot be written as JSON does not stop the batch."""
    deep: list[object] = []
    for _ in range(300):
        deep = [deep]
    chain, shown = columns(row(payload=deep, results={"a": deep}, error={"a": deep}, steps=[deep]))
    assert (shown.payload, shown.results, shown.error, shown.steps) == ("null", "{}", "null", "[]")
    assert chain.set_aside == "its payload and results and error and steps cannot be shown"


def test_the_first_reason_stays() -> None:
    """A run that was set aside by the fold keeps the fold's words."""
    assert columns(row("an event of an unknown type", workflow_id=7))[0].set_aside == "an event of an unknown type"


def test_texts_are_made_storable() -> None:
    """Bounded, and without the one character that PostgreSQL does not take."""
    assert (clean_text("a\0b"), len(clean_text("x" * 10_000))) == ("a\ufffdb", 500)


@pytest.mark.parametrize(
    ("text", "us"),
    [
        ("1970-01-01T00:00:00Z", 0),
        ("", 0),
        ("1970-01-01T00:00:01.5Z", 1_500_000),
        ("1970-01-01T01:00:00+01:00", 0),
        ("1970-01-01T00:00:00.000001", 1),
        ("1969-12-31T23:59:59Z", -1_000_000),
    ],
)
def test_instants(text: str, us: int) -> None:
    """Whatever form a time has, lists order it by the instant; without an offset it is UTC."""
    assert instant_us(text) == us


def test_stores_name_the_same_columns() -> None:
    """Both SQL stores write and read the columns in the order of the one row."""
    assert UNSHOWN._fields == SHOWN
    for file in ("postgres", "sqlite"):
        words = queries(file)["rows"].replace(",", " ").split()
        assert tuple(words[1 : 1 + len(CHAIN) + len(SHOWN)]) == CHAIN + SHOWN


def test_both_stores_have_the_same_questions() -> None:
    """A query that only one of them has is a difference between them, or is named here."""
    alone = {
        "lock_partition", "update_runs", "update_chains", "lock_migrations", "migrations_table", "migrated",
        "set_migrated", "set_readable_from", "version", "lock_positions",
        "stay_in_transaction", "apply_small", "other_owner", "grants_again", "owner",
    }  # fmt: skip
    sqlite_alone = {"raise_generation", "insert_run", "update_run", "insert_history", "retire"}
    assert set(queries("postgres")) - alone == set(queries("sqlite")) - sqlite_alone


def test_a_list_row_shows_its_place() -> None:
    """Where the run's last event stands, or its command."""
    chain, shown = columns(row())
    stored = stored_view(("r", 0, "e", 10, 6, None, *shown))
    assert stored == stored_run(chain, shown)
    assert (stored.place, stored.offset) == (("e", 0), 10)
