"""Runs that were set aside, folded again from their histories by this program."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from typing import Final, NamedTuple

from projections.fold import Retelling
from projections.tables import StoredRow, Tables
from schemas.errors import StalePosition
from schemas.store import Batch, HistoryRow, Mark, SetAside

TRIES_MAX: Final = 20
"""A busy projector moves the partition between the look at a run and the write."""
RUNS_AT_ONCE: Final = 500


class Retried(NamedTuple):
    """What came of one run. `reason`: why it is still set aside; None where it is shown again."""

    run_id: str
    reason: str | None


class _Look(NamedTuple):
    """A run and its partition as they stood at one moment."""

    mark: Mark
    row: StoredRow
    history: Sequence[HistoryRow]


async def quarantined(store: Tables) -> AsyncIterator[SetAside]:
    """Every run that is set aside, by id."""
    last = ""
    while some := await store.set_aside(last, limit=RUNS_AT_ONCE):
        for each in some:
            yield each
        last = some[-1].run_id


async def retry(store: Tables, run_id: str) -> Retried | None:
    """Fold a run again and show it if that can be done; None where no such run is set aside. Projectors load its
    partition again. Raises StalePosition when the partition moves all the time."""
    for tries in range(TRIES_MAX):
        look = await _look(store, run_id)
        if look is None:
            return None
        try:
            await store.apply(_again(look))
            break
        except StalePosition:
            if tries == TRIES_MAX - 1:
                raise
    after = await store.run(run_id)
    return Retried(run_id, None if after is None else after.view["set_aside"])


async def _look(store: Tables, run_id: str) -> _Look | None:
    async with store.audit() as audit:
        row = (await audit.runs([run_id])).get(run_id)
        if row is None or row.chain.set_aside is None:
            return None
        mark = (await audit.marks())[row.chain.partition]
        return _Look(mark, row, (await audit.history([run_id])).get(run_id, ()))


def _again(look: _Look) -> Batch:
    """The partition stays where it is; the row is what its history comes to."""
    chain, mark = look.row.chain, look.mark
    retelling = Retelling(chain.partition, chain.run_id)
    for event in look.history:
        retelling.take(event)
    retelling.check_end(chain.seq)
    row = retelling.row()._replace(first_offset=None)
    raised = replace(mark, generation=mark.generation + 1)
    return Batch(chain.partition, mark.position, raised, [row], [], {}, generation=mark.generation)
