"""One batch into PostgreSQL: the fence first, then history and new runs by COPY, known runs by one UPDATE."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

from projections.database import POISON
from projections.rows import (
    CHAIN,
    PROJECTION_VERSION,
    REFUSES,
    SHOWN,
    Chain,
    Shown,
    check_projection,
    clean_text,
    columns,
)
from projections.sql import queries
from schemas.errors import StalePosition, StoreRefused
from schemas.store import Batch

SQL: Final = queries("postgres")
HISTORY: Final = ("run_id", "seq", "type", "log_offset", "at_ms", "value")
REFUSED_MAX: Final = 10_000
"""Runs remembered as refused; one that was forgotten is found again by bisecting."""

Row = tuple[Chain, Shown | None]
"""Without the second part only the chain is written: the columns of a run that the store refuses stand still."""

if TYPE_CHECKING:
    from projections.database import Connection

    Write = Callable[[Connection, Sequence[Row]], Awaitable[None]]


class Rows:
    """What of a batch goes where."""

    def __init__(self, batch: Batch, refused: dict[str, str]) -> None:
        self.batch = batch
        self.new: list[Row] = []
        self.known: list[Row] = []
        self.began: list[str] = []
        for row in batch.runs:
            chain, shown = columns(row)
            each: Row = (chain, shown)
            if chain.run_id in refused:
                each = (chain._replace(set_aside=chain.set_aside or refused[chain.run_id]), None)
            if chain.first_offset is None:
                self.known.append(each)
            else:
                self.new.append(each)
                self.began.append(chain.run_id)


def is_small(rows: Rows, events_max: int) -> bool:
    """Whether one statement will do: a round trip costs more than the rows of a small batch."""
    bare = any(view is None for _, view in (*rows.new, *rows.known))
    return 0 < len(rows.batch.history) <= events_max and rows.batch.start > 0 and not bare


async def write_small(connection: Connection, rows: Rows) -> None:
    """As `write`, in one statement. Raises POISON, too, where commands or runs are not as they must be: `write` tells."""
    batch, mark = rows.batch, rows.batch.mark
    both = [(*chain, *view) for chain, view in (*rows.new, *rows.known) if view is not None]
    moved = await connection.fetchval(
        SQL["apply_small"],
        *(batch.partition, batch.start, mark.position, mark.epoch, mark.digest, mark.cluster_id),
        *(batch.commands or (None, None)),
        *map(list, zip(*batch.history, strict=True)),
        *map(list, zip(*both, strict=True)),
        *(len(rows.known), batch.generation),
    )
    if not moved:
        await _stale(connection, "e", batch.partition, batch.start)


async def write(connection: Connection, rows: Rows) -> None:
    """Write the batch, all or nothing."""
    await _begin(connection, rows)
    await _insert(connection, rows.new)
    await _update(connection, rows.known)


async def write_around_poison(connection: Connection, rows: Rows, refused: dict[str, str]) -> None:
    """As `write`, with the runs that PostgreSQL will not take found by bisecting: their columns stand still."""
    await _begin(connection, rows)
    await _bisect(connection, _insert, rows.new, refused)
    await _bisect(connection, _update, rows.known, refused)


async def _begin(connection: Connection, rows: Rows) -> None:
    batch = rows.batch
    await _move(connection, batch)
    if batch.commands is not None:
        await move_commands(connection, batch.partition, *batch.commands)
    if batch.history:
        await connection.copy_records_to_table("history", records=batch.history, columns=HISTORY)
    if rows.began:
        await connection.execute(SQL["delete_pending"], rows.began)


async def _move(connection: Connection, batch: Batch) -> None:
    """Move the position; the row is the fence between two projectors."""
    if batch.start == 0:
        await connection.execute(SQL["first_position"], "e", batch.partition)
    mark = batch.mark
    moved = await connection.execute(
        SQL["advance"],
        *(batch.partition, batch.start, mark.position, mark.epoch, mark.digest, mark.cluster_id),
        *(batch.generation, mark.generation),
    )
    if moved != "UPDATE 1":
        await _stale(connection, "e", batch.partition, batch.start)


async def move_commands(connection: Connection, partition: int, start: int, end: int) -> None:
    """Move the position of the commands."""
    if start == 0:
        await connection.execute(SQL["first_position"], "t", partition)
    if await connection.execute(SQL["advance_commands"], partition, start, end) != "UPDATE 1":
        await _stale(connection, "t", partition, start)


async def _stale(connection: Connection, topic: str, partition: int, wanted: int) -> None:
    found, projection = await connection.fetchrow(SQL["position"], topic, partition) or (0, PROJECTION_VERSION)
    check_projection(projection)
    raise StalePosition(partition=partition, found=found, wanted=wanted)


async def _insert(connection: Connection, rows: Sequence[Row]) -> None:
    shown = [(*chain, *view) for chain, view in rows if view is not None]
    if shown:
        await connection.copy_records_to_table("runs", records=shown, columns=CHAIN + SHOWN)
    bare = [chain for chain, view in rows if view is None]
    if bare:
        await connection.copy_records_to_table("runs", records=bare, columns=CHAIN)


async def _update(connection: Connection, rows: Sequence[Row]) -> None:
    shown = [(chain[0], *chain[3:], *view) for chain, view in rows if view is not None]
    bare = [(chain[0], *chain[3:]) for chain, view in rows if view is None]
    for query, values in (("update_runs", shown), ("update_chains", bare)):
        if not values:
            continue
        updated = await connection.execute(SQL[query], *map(list, zip(*values, strict=True)))
        if updated != f"UPDATE {len(values)}":
            raise StoreRefused(what=f"of {len(values)} runs that had begun only {updated.split()[1]} have a row")


async def _bisect(connection: Connection, write_rows: Write, rows: Sequence[Row], refused: dict[str, str]) -> None:
    if not rows:
        return
    await connection.execute("savepoint part")
    try:
        await write_rows(connection, rows)
    except POISON as poison:
        await connection.execute("rollback to savepoint part")
        if len(rows) == 1:
            await _quarantine(connection, write_rows, rows[0], poison, refused)
        else:
            half = len(rows) // 2
            await _bisect(connection, write_rows, rows[:half], refused)
            await _bisect(connection, write_rows, rows[half:], refused)
        return
    await connection.execute("release savepoint part")


async def _quarantine(
    connection: Connection, write_rows: Write, row: Row, poison: Exception, refused: dict[str, str]
) -> None:
    chain, shown = row
    if shown is None:
        raise StoreRefused(what=f"run {chain.run_id!r}: {poison}") from poison
    reason = clean_text(f"{REFUSES}: {poison}")
    if len(refused) >= REFUSED_MAX:
        refused.clear()
    refused[chain.run_id] = reason
    await _bisect(connection, write_rows, [(chain._replace(set_aside=chain.set_aside or reason), None)], refused)


async def write_pending(
    connection: Connection, partition: int, start: int, end: int, rows: Sequence[tuple[Any, ...]]
) -> None:
    """Move the position of the commands and keep those that are no runs yet."""
    # A run's first event must not slip in between the look at the runs and the insert.
    await connection.execute(SQL["first_position"], "e", partition)
    await connection.execute(SQL["lock_partition"], partition)
    await move_commands(connection, partition, start, end)
    if rows:
        await connection.execute(SQL["insert_pending"], *map(list, zip(*rows, strict=True)))
