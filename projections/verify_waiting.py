"""Verify what waits: commands that are shown as PENDING, against the topic in which they stand."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import fields

from projections.compare import RUNS_AT_ONCE, Difference, difference
from projections.pending import pending_row
from projections.tables import Audit
from schemas.errors import LogMismatch
from schemas.ports import TP, Reader, Record
from schemas.settings import Settings
from schemas.store import PendingRow


async def waiting_differences(
    settings: Settings, audit: Audit, reader: Reader, partition: int, position: int
) -> AsyncIterator[Difference]:
    """What the tables, which have seen the commands of a partition up to `position`, say otherwise of those that are no runs.
    Of what the topic does not keep any more nothing is said."""
    tp = TP(settings.topics.trigger, partition)
    begin, end = (await reader.begin_offsets([tp]))[tp], (await reader.end_offsets([tp]))[tp]
    rows = await audit.pending(partition)
    stored, forgotten = [{row.run_id: row for row in rows if (row.offset < begin) is old} for old in (False, True)]
    first: dict[str, PendingRow] = {}
    try:
        async for records in reader.read(tp, begin, min(position, end)):
            for at in range(0, len(records), RUNS_AT_ONCE):
                for row in await _waiting(settings, audit, tp, records[at : at + RUNS_AT_ONCE]):
                    first.setdefault(row.run_id, row)
    except LogMismatch as mismatch:  # the topic forgets while it is read
        yield difference(f"partition {partition}", "waiting commands", f"position {position}", mismatch.message)
        return
    for run_id in sorted((stored.keys() | first.keys()) - forgotten.keys()):
        for found in _differences(run_id, stored.get(run_id), first.get(run_id)):
            yield found


async def _waiting(settings: Settings, audit: Audit, tp: TP, records: Sequence[Record]) -> list[PendingRow]:
    """Those of the records that are starts and have not begun."""
    partitions, depth = settings.workflow_partitions, settings.workflow_json_depth_max
    rows = [row for each in records if (row := pending_row(each, tp, partitions, depth)) is not None]
    begun = await audit.begun([row.run_id for row in rows])
    return [row for row in rows if row.run_id not in begun]


def _differences(run_id: str, stored: PendingRow | None, logged: PendingRow | None) -> list[Difference]:
    if stored is None or logged is None:
        return [difference(run_id, "waiting command", stored and "a row", logged and "a command that is no run")]
    names = [each.name for each in fields(PendingRow)]
    pairs = [(name, getattr(stored, name), getattr(logged, name)) for name in names]
    return [difference(run_id, f"waiting command, {name}", ours, its) for name, ours, its in pairs if ours != its]
