"""Records into a fold, with what the store knows of runs that are not in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from typing import Final, Protocol

from projections.fold import PartitionFold
from schemas.errors import StalePosition
from schemas.ports import Record
from schemas.store import Batch, Tip

SLICE_RECORDS: Final = 500
"""Records folded before the loop gets its turn."""
SLICE_RUNS: Final = 500


class Tips(Protocol):
    """What knows the runs that are not in memory."""

    async def tips(self, partition: int, run_ids: Collection[str]) -> tuple[int, Mapping[str, Tip]]:
        """As `SnapshotStore.tips`."""
        ...


async def fold_records(fold: PartitionFold, store: Tips, records: Sequence[Record], *, part: bool = False) -> Batch:
    """Fold the records that follow, a slice of the loop's time after the other. `part`: see `PartitionFold.part`.

    Raises StoreAway, and StalePosition when the store does not stand where the fold began.
    """
    tips = await _tips(fold, store, list(fold.unknown(records)))
    taken = 0
    while taken < len(records):
        some = records[taken : taken + SLICE_RECORDS]
        count = fold.take(some, tips)
        taken += count
        if count < len(some):
            tips |= await _tips(fold, store, [fold.asks])
        else:
            await asyncio.sleep(0)
    more = True
    while more:
        more = fold.prepare(SLICE_RUNS, finished=part)
        await asyncio.sleep(0)
    return fold.part() if part else fold.batch()


async def _tips(fold: PartitionFold, store: Tips, run_ids: Sequence[str]) -> dict[str, Tip | None]:
    if not run_ids:
        return {}
    position, found = await store.tips(fold.partition, run_ids)
    if position != fold.start:
        raise StalePosition(partition=fold.partition, found=position, wanted=fold.start)
    return {run_id: found.get(run_id) for run_id in run_ids}
