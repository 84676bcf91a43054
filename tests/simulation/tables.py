"""The store of a simulation: what the projector made of the log, and the log as the worker's own checks read it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Coroutine, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeVar

from schemas.identity import digest
from schemas.ports import TP, Record
from schemas.run import Run
from schemas.store import Mark, Snapshot, Tip
from tests.simulation.truth import NOTHING, State

if TYPE_CHECKING:
    from tests.simulation.world import Cluster

CLUSTER = "this cluster"
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Table:
    """The tables of one partition: what they know of the log below their position, and which log that was."""

    position: int = 0
    state: State = NOTHING
    digest: str | None = None
    cluster: str = CLUSTER


class Tables:
    """Partition → position. Setting one makes the tables of a log as it stands up to there, be it more or less than they had."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster
        self.of = {number: Table() for number in cluster.log}

    def __getitem__(self, number: int) -> int:
        return self.of[number].position

    def __setitem__(self, number: int, position: int) -> None:
        last = self.cluster.log[number][position - 1].value if position else None
        state = self.cluster.truth[number].states[position]
        self.of[number] = Table(position, state, digest(last or b"") if position else None)

    def swap(self, number: int, position: int, cluster: str) -> None:
        """Tables of another log are put in their place."""
        self.cluster.watch.apart.add(number)
        self.of[number] = Table(position, State(self.of[number].state.epoch, {}, {}), "00" * 16, cluster)

    def items(self) -> Iterator[tuple[int, int]]:
        return ((number, table.position) for number, table in self.of.items())

    def fit(self, number: int) -> bool:
        """Whether they are of the log as it stands: if not, the projector stands still."""
        table, log = self.of[number], self.cluster.log[number]
        if not table.position:
            return table.cluster == CLUSTER
        there = table.position <= len(log) and digest(log[table.position - 1].value or b"") == table.digest
        return there and table.cluster == CLUSTER

    def snapshot(self, number: int) -> Snapshot:
        table = self.of[number]
        runs = [Run.load(run_id, dump) for run_id, dump in table.state.runs.items()]
        return Snapshot(self._mark(table) if table.position else None, runs)

    def _mark(self, table: Table) -> Mark:
        return Mark(table.position, table.state.epoch, table.digest, table.cluster)

    def tips(self, number: int, run_ids: Sequence[str]) -> tuple[int, Mapping[str, Tip]]:
        table, known = self.of[number], self.of[number].state.tips
        found = {run_id: known[run_id] for run_id in run_ids if run_id in known}
        return table.position, {run_id: Tip(seq, last or "", done) for run_id, (seq, last, done) in found.items()}


class LogOf:
    """A cluster's log as a `schemas.ports.Reader` that answers at once."""

    def __init__(self, cluster: Cluster) -> None:
        self.cluster = cluster

    async def cluster_id(self) -> str:
        return CLUSTER

    async def begin_offsets(self, tps: Iterable[TP]) -> dict[TP, int]:
        return dict.fromkeys(tps, 0)

    async def end_offsets(self, tps: Iterable[TP]) -> dict[TP, int]:
        return {tp: len(self.cluster.log[tp.partition]) for tp in tps}

    async def read_record(self, tp: TP, offset: int) -> Record | None:
        log = self.cluster.log[tp.partition]
        return log[offset] if 0 <= offset < len(log) else None

    async def read(self, tp: TP, start: int, end: int) -> AsyncIterator[Sequence[Record]]:
        yield self.cluster.log[tp.partition][start:end]


def at_once(work: Coroutine[Any, Any, T]) -> T:
    """The result of a coroutine that waits for nothing."""
    try:
        work.send(None)
    except StopIteration as done:
        value: T = done.value
        return value
    raise AssertionError("it waits for something")
