"""What a list is asked for, as every SQL store asks it: one named query per kind of filter, bounds always given."""

from __future__ import annotations

from typing import Final

from projections.rows import instant_us
from schemas.store import RunFilter

BIGINT_MAX: Final = 2**63 - 1
_LAST_ID: Final = "\U0010ffff"
_QUERIES: Final = {
    (False, False): "list",
    (True, False): "list_by_workflow",
    (False, True): "list_by_status",
    (True, True): "list_by_both",
}


def list_query(where: RunFilter, after: tuple[str, str] | None, limit: int) -> tuple[str, tuple[int | str, ...]]:
    """The query's name and its arguments: above, below, last key, limit, then workflow and status where given."""
    filters = [value for value in (where.workflow_id, where.status) if value is not None]
    name = _QUERIES[where.workflow_id is not None, where.status is not None]
    return name, (*_bounds(where), *_last(after), limit, *filters)


def list_then_query(
    where: RunFilter, at_ms: int, after: tuple[str, str] | None, limit: int
) -> tuple[str, tuple[int | str | None, ...]]:
    """The same for a moment of the past: that moment first, the status of then or null behind the limit."""
    args = (at_ms, *_bounds(where), *_last(after), limit, where.status)
    return ("list_then", args) if where.workflow_id is None else ("list_then_by_workflow", (*args, where.workflow_id))


def counts_query(where: RunFilter, at_ms: int | None) -> tuple[str, tuple[int | str | None, ...]]:
    """The query's name and its arguments: the moment where one is given, above, below, workflow."""
    args = (*_bounds(where), where.workflow_id)
    return ("counts", args) if at_ms is None else ("counts_then", (at_ms, *args))


def _bounds(where: RunFilter) -> tuple[int, int]:
    above = -BIGINT_MAX if where.created_after is None else instant_us(where.created_after)
    return above, BIGINT_MAX if where.created_before is None else instant_us(where.created_before)


def _last(after: tuple[str, str] | None) -> tuple[int, str]:
    return (BIGINT_MAX, _LAST_ID) if after is None else (instant_us(after[0]), after[1])


def seq_bounds(after_seq: int | None, before_seq: int | None) -> tuple[int, int]:
    """Exclusive bounds of a page of history."""
    return -1 if after_seq is None else after_seq, BIGINT_MAX if before_seq is None else before_seq
