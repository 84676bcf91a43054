"""One SQLite file with all tables, used by one thread: everything here blocks and belongs off the event loop."""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Literal

import orjson

from projections.collector import collector_paused
from projections.fold import ending, refold
from projections.lists import counts_query, list_query, list_then_query, seq_bounds
from projections.past import moved_since, page_then
from projections.rows import (
    CHAIN,
    PROJECTION_VERSION,
    Chain,
    Shown,
    by_run,
    check_projection,
    columns,
    instant_us,
    stored_view,
    waiting_row,
)
from projections.sql import HERE, queries
from projections.tables import StoredRow
from schemas.errors import StalePosition, StoreRefused
from schemas.position import Position
from schemas.run import EVOLVE_VERSION, Run
from schemas.store import (
    Batch,
    Clock,
    HistoryRow,
    Mark,
    PendingRow,
    RunFilter,
    SetAside,
    Snapshot,
    Standing,
    StoredRun,
    Tip,
)
from schemas.views import Status

SQL: Final = queries("sqlite")
SCHEMA_VERSION: Final = 2
BUSY_TIMEOUT_S: Final = 5.0
_IDS_AT_ONCE: Final = 1_000
SINCE_THE_FIRST: Final = (
    ("positions", "projection integer not null default 1001"),
    ("positions", "generation integer not null default 0"),
    ("runs", "began_ms integer not null default 0"),
    ("runs", "started_ms integer"),
    ("runs", "ended_ms integer"),
    ("runs", "last_ms integer not null default 0"),
)
_PRAGMAS: Final = "pragma journal_mode = wal; pragma synchronous = normal; pragma foreign_keys = off"


def create(file: Path) -> None:
    """Make the file and its tables, or find them made."""
    connection = sqlite3.connect(file, timeout=BUSY_TIMEOUT_S, isolation_level=None)
    try:
        connection.executescript(_PRAGMAS)
        found = connection.execute("pragma user_version").fetchone()[0]
        if found > SCHEMA_VERSION:
            raise StoreRefused(
                what=f"{file} is of version {found}, this program knows version {SCHEMA_VERSION} and older"
            )
        if found == 1:
            for table, column in SINCE_THE_FIRST:
                connection.execute(f"alter table {table} add column {column}")
        connection.executescript((HERE / "sqlite_schema.sql").read_text())
    finally:
        connection.close()


class SqliteTables:
    """An open file that exists. sqlite3.Error where it cannot be used."""

    def __init__(self, file: Path) -> None:
        self.file = file
        uri = f"{file.absolute().as_uri()}?mode=rw"
        self._connection = sqlite3.connect(uri, uri=True, timeout=BUSY_TIMEOUT_S, isolation_level=None)
        self._connection.executescript(_PRAGMAS)

    def close(self) -> None:
        self._connection.close()

    @contextmanager
    def transaction(self, begin: Literal["begin", "begin immediate"]) -> Iterator[None]:
        """`begin` reads at one moment, `begin immediate` writes."""
        self._connection.execute(begin)
        try:
            yield
            self._connection.execute("commit")
        except BaseException:
            if self._connection.in_transaction:
                self._connection.execute("rollback")
            raise

    def _rows(self, query: str, *args: Any) -> list[Any]:
        return self._connection.execute(SQL[query], args).fetchall()

    # the engine's side

    def snapshot(self, partition: int) -> Snapshot:
        with self.transaction("begin"), collector_paused():
            mark = self._mark(partition)
            rows = self._connection.execute(SQL["unfinished"], (partition,))
            return Snapshot(mark, [self._load(*row) for row in rows])

    def _load(self, run_id: str, state: bytes, version: int) -> Run:
        if version == EVOLVE_VERSION:
            return Run.load(run_id, state)
        return refold(run_id, [row[5] for row in self._rows("histories", _json([run_id]))])

    def tips(self, partition: int, run_ids: Collection[str]) -> tuple[int, Mapping[str, Tip]]:
        with self.transaction("begin"):
            mark = self._mark(partition)
            rows = self._rows("tips", partition, _json(run_ids)) if run_ids else []
        return mark.position if mark else 0, {row[0]: Tip(row[1], row[2], bool(row[3])) for row in rows}

    # the projector's side

    def clocks(self, partition: int) -> dict[str, Clock]:
        return {run_id: Clock(*times) for run_id, *times in self._rows("clocks", partition)}

    def mark(self, partition: int) -> Mark | None:
        with self.transaction("begin"):
            return self._mark(partition)

    def _mark(self, partition: int) -> Mark | None:
        rows = self._rows("mark", partition)
        return Mark(*rows[0]) if rows else None

    def apply(self, batch: Batch) -> None:
        new, known = _split(batch)
        with self.transaction("begin immediate"):
            self._move(batch)
            if batch.commands is not None:
                self._move_commands(batch.partition, *batch.commands)
            many = self._connection.executemany
            many(SQL["insert_history"], batch.history)
            many(SQL["insert_run"], [(*chain, *shown) for chain, shown in new])
            many(SQL["delete_pending"], [(chain.run_id,) for chain, _ in new])
            updated = many(SQL["update_run"], [(*chain[3:], *shown, chain[0]) for chain, shown in known]).rowcount
            if updated != len(known):
                raise StoreRefused(what=f"of {len(known)} runs that had begun only {updated} have a row")

    def _move(self, batch: Batch) -> None:
        """Move the position; the row is the fence between two projectors."""
        mark = batch.mark
        if batch.start == 0:
            self._connection.execute(SQL["first_position"], ("e", batch.partition))
        to = (mark.position, mark.epoch, mark.digest, mark.cluster_id, mark.generation)
        if (
            self._connection.execute(SQL["advance"], (*to, batch.partition, batch.start, batch.generation)).rowcount
            != 1
        ):
            self._stale("e", batch.partition, batch.start)

    def _move_commands(self, partition: int, start: int, end: int) -> None:
        if start == 0:
            self._connection.execute(SQL["first_position"], ("t", partition))
        if self._connection.execute(SQL["advance_commands"], (end, partition, start)).rowcount != 1:
            self._stale("t", partition, start)

    def _stale(self, topic: str, partition: int, wanted: int) -> None:
        rows = self._rows("position", topic, partition)
        found, projection = rows[0] if rows else (0, PROJECTION_VERSION)
        check_projection(projection)
        raise StalePosition(partition=partition, found=found, wanted=wanted)

    def apply_pending(self, partition: int, start: int, end: int, rows: Sequence[PendingRow]) -> None:
        with self.transaction("begin immediate"):
            self._move_commands(partition, start, end)
            self._connection.executemany(SQL["insert_pending"], map(_pending, rows))

    # the API's side

    def run(self, run_id: str) -> StoredRun | None:
        rows = self._rows("run", run_id)
        return stored_view(rows[0]) if rows else None

    def runs(self, where: RunFilter, after: tuple[str, str] | None, limit: int) -> list[StoredRun]:
        query, args = list_query(where, after, limit)
        return [stored_view(row) for row in self._rows(query, *args)]

    def runs_then(self, where: RunFilter, at_ms: int, after: tuple[str, str] | None, limit: int) -> list[StoredRun]:
        query, args = list_then_query(where, at_ms, after, limit)
        with self.transaction("begin"):
            rows = [row[:-1] for row in self._rows(query, *args)]
            moved = [row[0] for row in rows if moved_since(row, at_ms)]
            histories = self.histories(moved) if moved else {}
        return page_then(rows, histories, at_ms)

    def counts(self, where: RunFilter, at_ms: int | None) -> dict[Status, int]:
        query, args = counts_query(where, at_ms)
        return dict(self._rows(query, *args))

    def events(
        self,
        run_id: str,
        order: Literal["asc", "desc"],
        before_seq: int | None,
        after_seq: int | None,
        types: Collection[str],
        limit: int,
    ) -> list[HistoryRow]:
        rows = self._rows(f"events_{order}", run_id, *seq_bounds(after_seq, before_seq), _json(types), limit)
        return [HistoryRow(*row) for row in rows]

    def standing(self, run_id: str) -> Standing | None:
        with self.transaction("begin"):
            rows = self._rows("standing", run_id)
            if not rows:
                return None
            done, state, version, value, *stands = rows[0]
            return Standing(ending(run_id, value) if done else self._load(run_id, state, version), *stands)

    def unfinished(self, workflow_id: str, limit: int) -> int:
        return min(int(self._rows("unfinished_of", workflow_id, limit)[0][0]), limit)

    def set_aside(self, after: str, limit: int) -> list[SetAside]:
        return [SetAside(*row) for row in self._rows("set_aside", after, limit)]

    def count_set_aside(self) -> int:
        return int(self._rows("count_set_aside")[0][0])

    def positions(self) -> Position:
        return {(topic, partition): position for topic, partition, position in self._rows("positions")}

    # rebuild and verify

    def hold(self) -> None:
        """Everything read from now until `close` is as it stands now."""
        self._connection.execute("begin")
        self._rows("positions")

    def marks(self) -> Mapping[int, Mark]:
        return {row[0]: Mark(*row[1:]) for row in self._rows("marks")}

    def stored_rows(self, run_ids: Collection[str]) -> Mapping[str, StoredRow]:
        parts = len(CHAIN)
        return {
            row[0]: StoredRow(_chain(row[:parts]), Shown(*row[parts:])) for row in self._rows("rows", _json(run_ids))
        }

    def begun(self, run_ids: Collection[str]) -> set[str]:
        """Those that have a row."""
        return {row[0] for row in self._rows("begun", _json(run_ids))}

    def pending(self, partition: int) -> list[PendingRow]:
        """All commands of a partition that wait."""
        return [waiting_row(*row) for row in self._rows("waiting", partition)]

    def histories(self, run_ids: Collection[str]) -> Mapping[str, Sequence[HistoryRow]]:
        rows = self._rows("histories", _json(run_ids))
        return by_run(rows)

    def run_ids(self, partition: int, last: str) -> list[str]:
        """The ids after `last`, some at a time."""
        return [row[0] for row in self._rows("run_ids", partition, last, _IDS_AT_ONCE)]

    def rows_below(self, partition: int, offset: int) -> int:
        """How many runs began below an offset."""
        count: int = self._rows("rows_below", partition, offset)[0][0]
        return count

    def stray_history(self) -> list[str]:
        return [row[0] for row in self._rows("stray_history")]

    def keep_writers_out(self) -> Mapping[int, Mark]:
        """Until `retire` or `close`; where the tables stand."""
        self._connection.execute("begin immediate")
        return self.marks()

    def follow(self, marks: Mapping[int, Mark]) -> None:
        """Stand for tables with these marks: a projector that knows those loads these."""
        with self.transaction("begin immediate"):
            rows = [(mark.generation + 1, partition) for partition, mark in marks.items()]
            self._connection.executemany(SQL["raise_generation"], rows)

    def let_writers_in(self) -> None:
        self._connection.execute("rollback")

    def projection_version(self) -> int | None:
        version: int | None = self._rows("projection")[0][0]
        return version

    def retire(self) -> None:
        """Nobody can write to this file any more."""
        self._connection.execute(SQL["retire"])
        self._connection.execute("commit")


def _split(batch: Batch) -> tuple[list[tuple[Chain, Shown]], list[tuple[Chain, Shown]]]:
    """Runs that the batch begins, and runs that had begun."""
    rows = [columns(row) for row in batch.runs]
    return [row for row in rows if row[0].first_offset is not None], [
        row for row in rows if row[0].first_offset is None
    ]


def _chain(row: Sequence[Any]) -> Chain:
    chain = Chain(*row)
    return chain._replace(done=bool(chain.done))


def _pending(row: PendingRow) -> tuple[Any, ...]:
    payload = row.payload.decode()
    created_us = instant_us(row.created_at)
    return (row.run_id, row.partition, row.offset, row.workflow_id, row.version, payload, row.created_at, created_us)


def _json(texts: Iterable[str]) -> str:
    return orjson.dumps(list(texts)).decode()
