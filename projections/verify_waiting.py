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


class Waiting:
    """The starts of a partition that are no runs, by their topic. `take` its records from `begin` to `end`, in order, then
    see the `differences` of tables that have seen the commands up to `position`.

    Of what the topic does not keep any more nothing is said. Memory: the starts that wait.
    """

    def __init__(self, settings: Settings, tp: TP, *, begin: int, position: int) -> None:
        self.tp, self.begin, self.position = tp, begin, position
        self._partitions, self._depth_max = settings.workflow_partitions, settings.workflow_json_depth_max
        self._first: dict[str, PendingRow] = {}

    async def take(self, records: Sequence[Record], audit: Audit) -> None:
        """Remember those of the records that are starts and have not begun."""
        rows = [row for each in records if (row := pending_row(each, self.tp, self._partitions, self._depth_max))]
        begun = await audit.begun([row.run_id for row in rows])
        for row in rows:
            if row.run_id not in begun:
                self._first.setdefault(row.run_id, row)

    async def differences(self, audit: Audit) -> list[Difference]:
        """What the tables of this moment say otherwise; if they have gone on since, nothing is said of what came meanwhile."""
        stands = (await audit.positions()).get(("t", self.tp.partition), 0)
        begun: set[str] = set()
        logged = list(self._first)
        for at in range(0, len(logged), RUNS_AT_ONCE):
            begun.update(await audit.begun(logged[at : at + RUNS_AT_ONCE]))
        rows = await audit.pending(self.tp.partition)
        forgotten = {row.run_id for row in rows if row.offset < self.begin}
        stored = {row.run_id: row for row in rows if not self.position <= row.offset < stands}
        found: list[Difference] = []
        for run_id in sorted((stored.keys() | self._first.keys()) - forgotten - begun):
            found += _differences(run_id, stored.get(run_id), self._first.get(run_id))
        return found


async def waiting_differences(
    settings: Settings, audit: Audit, reader: Reader, partition: int, position: int
) -> AsyncIterator[Difference]:
    """What the tables, which have seen the commands of a partition up to `position`, say otherwise of those that are no runs."""
    tp = TP(settings.topics.trigger, partition)
    begin, end = (await reader.begin_offsets([tp]))[tp], (await reader.end_offsets([tp]))[tp]
    waiting = Waiting(settings, tp, begin=begin, position=position)
    try:
        async for records in reader.read(tp, begin, min(position, end)):
            for at in range(0, len(records), RUNS_AT_ONCE):
                await waiting.take(records[at : at + RUNS_AT_ONCE], audit)
    except LogMismatch as mismatch:  # the topic forgets while it is read
        yield difference(f"partition {partition}", "waiting commands", f"position {position}", mismatch.message)
        return
    for found in await waiting.differences(audit):
        yield found


def _differences(run_id: str, stored: PendingRow | None, logged: PendingRow | None) -> list[Difference]:
    if stored is None or logged is None:
        return [difference(run_id, "waiting command", stored and "a row", logged and "a command that is no run")]
    names = [each.name for each in fields(PendingRow)]
    pairs = [(name, getattr(stored, name), getattr(logged, name)) for name in names]
    return [difference(run_id, f"waiting command, {name}", ours, its) for name, ours, its in pairs if ours != its]
