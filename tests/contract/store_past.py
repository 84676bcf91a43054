"""Runs as they were, the same on every store: what a fold of the log's prefix says."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import replace
from random import Random

from projections.rows import instant_us
from projections.tables import Tables
from schemas.events import decode
from schemas.identity import digest
from schemas.run import Run, extend
from schemas.store import HistoryRow, RunFilter, StoredRun
from schemas.views import STATUSES, RunView, run_view
from tests.contract.cases import pending
from tests.feeding import feed
from tests.histories import BASE_S, Log, random_log

BASE_MS = round(BASE_S * 1000)


def shaken(log: Log, seed: int, steps_ms: Sequence[int] = (0, 0, 0, -60, 45)) -> Log:
    """The same log by a broker whose clock was stepped now and then, by one of these at a time."""
    rng = Random(seed)
    for records in log.records:
        records[:] = [replace(each, timestamp=each.timestamp + rng.choice(steps_ms)) for each in records]
    return log


async def histories(store: Tables) -> dict[str, Sequence[HistoryRow]]:
    """All events of all runs."""
    ids = [run.view["run_id"] for run in await store.runs(RunFilter(), after=None, limit=10_000)]
    async with store.audit() as audit:
        return dict(await audit.history(ids))


def folded(run_id: str, history: Sequence[HistoryRow], at_ms: int) -> RunView | None:
    """The run as the events before the first later one make it; None before the first."""
    run, seen = Run(run_id), False
    for row in history:
        if row.at_ms > at_ms:
            break
        envelope = decode(row.value)
        assert envelope is not None
        extend(run, envelope, digest(row.value))
        seen = True
    return run_view(run) if seen else None


async def then(store: Tables, at_ms: int) -> dict[str, tuple[str, RunView | None]]:
    """Run id → status and view of then, from the whole log; without a view where the run was a command only."""
    found: dict[str, tuple[str, RunView | None]] = {}
    known = await histories(store)
    for stored in await store.runs(RunFilter(), after=None, limit=10_000):
        run_id = stored.view["run_id"]
        view = folded(run_id, known.get(run_id, []), at_ms)
        if view is not None:
            found[run_id] = view["status"], view
        elif instant_us(stored.view["created_at"]) <= at_ms * 1000:
            found[run_id] = "PENDING", None
    return found


async def pages(store: Tables, where: RunFilter, at_ms: int, limit: int) -> list[StoredRun]:
    """The whole list, page by page."""
    runs: list[StoredRun] = []
    after: tuple[str, str] | None = None
    while page := await store.runs_then(where, at_ms, after=after, limit=limit):
        runs += page
        after = page[-1].view["created_at"], page[-1].view["run_id"]
    return runs


class PastContract:
    """Runs as they were."""

    async def test_lists_are_folds_of_the_prefix(self, store: Tables) -> None:
        """At many moments: the same runs, each as its own prefix folds, filters and counts by what was so then, pages whole."""
        log = shaken(random_log(61, partitions=1, runs=25), 61)
        await feed(store, log)
        await store.apply_pending(0, 0, 2, [pending("w1", 0), pending("w2", 1, workflow_id="bill")])
        times = sorted(record.timestamp for record in log.records[0])
        for at_ms in (BASE_MS - 10**6, *times[::7], times[-1], times[-1] + 10**7):
            expected = await then(store, at_ms)
            listed = await pages(store, RunFilter(), at_ms, 7)
            assert {run.view["run_id"]: run.view["status"] for run in listed} == {
                run_id: status for run_id, (status, _) in expected.items()
            }
            order = [(instant_us(run.view["created_at"]), run.view["run_id"]) for run in listed]
            assert order == sorted(order, reverse=True)
            for run in listed:
                view = expected[run.view["run_id"]][1]
                if view is not None:
                    assert run.view == view
                else:
                    assert (run.view["seq"], run.view["steps"], run.view["results"]) == (0, [], {})
            await self._filters(store, expected, listed, at_ms)

    async def _filters(
        self, store: Tables, expected: Mapping[str, tuple[str, RunView | None]], listed: list[StoredRun], at_ms: int
    ) -> None:
        assert dict(await store.counts(RunFilter(), at_ms)) == Counter(status for status, _ in expected.values())
        of_bill = [run.view for run in listed if run.view["workflow_id"] == "bill"]
        assert dict(await store.counts(RunFilter(workflow_id="bill"), at_ms)) == Counter(v["status"] for v in of_bill)
        for status in STATUSES:
            found = await pages(store, RunFilter(status=status), at_ms, 3)
            assert [run.view["run_id"] for run in found] == [
                run.view["run_id"] for run in listed if run.view["status"] == status
            ]
            both = await pages(store, RunFilter(workflow_id="bill", status=status), at_ms, 3)
            assert [run.view for run in both] == [view for view in of_bill if view["status"] == status]
        if len(listed) > 4:
            bounds = RunFilter(created_after=listed[-2].view["created_at"], created_before=listed[1].view["created_at"])
            inside = await pages(store, bounds, at_ms, 50)
            assert {run.view["run_id"] for run in inside} <= {run.view["run_id"] for run in listed[2:-1]}
            assert sum((await store.counts(bounds, at_ms)).values()) == len(inside)

    async def test_counts_of_now(self, store: Tables) -> None:
        """Every run and every waiting command once, by status."""
        log = random_log(62, partitions=1, runs=20)
        await feed(store, log)
        await store.apply_pending(0, 0, 1, [pending("w1", 0)])
        runs = await store.runs(RunFilter(), after=None, limit=10_000)
        assert dict(await store.counts(RunFilter())) == Counter(run.view["status"] for run in runs)
        some = RunFilter(workflow_id="bill", created_before=runs[3].view["created_at"])
        inside = await store.runs(some, after=None, limit=10_000)
        assert dict(await store.counts(some)) == Counter(run.view["status"] for run in inside)

    async def test_clocks_go_on_where_a_fold_stopped(self, store: Tables) -> None:
        """In however many batches and by whoever: the times are those of one fold."""
        log = shaken(random_log(63, partitions=1, runs=20), 63)
        records = log.records[0]
        for at in range(0, len(records), 11):
            await feed(store, log, cuts=[records[at : at + 11]])
        for run_id, history in (await histories(store)).items():
            async with store.audit() as audit:
                chain = (await audit.runs([run_id]))[run_id].chain
            assert chain.began_ms == history[0].at_ms
            assert chain.last_ms == max(row.at_ms for row in history)
            assert chain.ended_ms == (chain.last_ms if chain.done else None)
            statuses = {at: folded(run_id, history, at) for at in (chain.last_ms, (chain.started_ms or 1) - 1)}
            started = statuses[chain.last_ms]
            assert started is not None
            assert (chain.started_ms is not None) == (started["status"] != "PENDING")
            before = statuses[(chain.started_ms or 1) - 1]
            assert before is None or before["status"] == "PENDING"
