"""A log folded into a store, the short way: no projector, no Kafka."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from typing import Any

from projections.fold import PartitionFold
from projections.tables import Tables
from schemas.ports import Record
from schemas.store import Batch, RunFilter, Standing, Tip
from tests.histories import Log, LogRecord

CLUSTER = "cluster-1"


async def fold_batch(fold: PartitionFold, store: Tables, records: Sequence[Record]) -> Batch:
    """Fold records with the store's answers about runs that it may know."""
    tips: dict[str, Tip | None] = dict.fromkeys(fold.unknown(records))
    tips |= (await store.tips(fold.partition, list(tips)))[1]
    taken = 0
    while taken < len(records):
        taken += fold.take(records[taken:], tips)
        if taken < len(records):
            tips[fold.asks] = (await store.tips(fold.partition, [fold.asks]))[1].get(fold.asks)
    return fold.batch()


async def feed(
    store: Tables, log: Log, *, cuts: Iterable[Sequence[LogRecord]] | None = None, partition: int = 0
) -> PartitionFold:
    """Apply all records of a partition, in the given batches or in one, going on from where the store stands."""
    snapshot = await store.snapshot(partition)
    clocks = await store.clocks(partition)
    fold = PartitionFold(partition, log.partitions, CLUSTER, snapshot.mark, snapshot.runs, clocks)
    for batch in [log.records[partition]] if cuts is None else cuts:
        rest = [record for record in batch if record.offset >= fold.position]
        if rest:
            await store.apply(await fold_batch(fold, store, rest))
    return fold


async def everything(store: Tables) -> dict[str, Any]:
    """All that a store shows, through every method of its port; but for generations, which every exchange raises."""
    runs = await store.runs(RunFilter(), after=None, limit=10_000)
    ids = [run.view["run_id"] for run in runs]
    partitions = sorted({partition for _, partition in await store.positions()})
    async with store.audit() as audit:
        rows, history, stray = await audit.runs(ids), await audit.history(ids), await audit.stray_history()
        by_partition = {n: sorted([i async for some in audit.run_ids(n) for i in some]) for n in partitions}
        marks = {number: replace(mark, generation=0) for number, mark in (await audit.marks()).items()}
    return {
        "positions": await store.positions(),
        "marks": marks,
        "runs": [asdict(run) for run in runs],
        "one by one": [asdict(run) for run in [await store.run(run_id) for run_id in ids] if run is not None],
        "standing": {run_id: _standing(await store.standing(run_id)) for run_id in ids},
        "rows": dict(rows),
        "history": {run_id: list(events) for run_id, events in history.items()},
        "ids": by_partition,
        "stray": list(stray),
        "tips": {n: dict((await store.tips(n, ids))[1]) for n in partitions},
        "unfinished": {n: sorted((run.id, run.dump()) for run in (await store.snapshot(n)).runs) for n in partitions},
    }


def _standing(standing: Standing | None) -> Any:
    return standing and (standing.run.dump(), *standing[1:])
