"""What a test of the whole platform ends with: the history checker over all topics, the receiver's journal and the tables."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from typing import Any, Final, assert_never

import asyncpg
import httpx

from projections.stores import open_store
from projections.verify import verify
from schemas.settings import Settings
from streams.kafka import LogReader
from tests.checker import Judge, Topics
from tests.checker_clients import check_deliveries
from tests.fleet import Fleet, until
from tests.kafka_dump import dump
from tests.reader import Raw, readable
from tests.workload import ENDS

LEVEL_S: Final = 30.0

Rows = dict[str, dict[str, Any]]
"""Run id → columns as `Judge.check_rows` wants them."""

_RUNS: Final = "select run_id, status, seq, digest, results, payload from runs"
_POSITIONS: Final = "select partition, position from positions where topic = 'e'"


async def judged(
    fleet: Fleet, *, earlier: Topics | None = None, orphans_max: int = 1000, foreign: bytes | None = None
) -> Judge:
    """Wait for rest, then hold everything against everything. `earlier`: the topics before the faults; `foreign`: the
    key of announcements that are somebody else's."""
    await fleet.ended()
    judge = await violations(fleet, foreign)
    judge.check_waste(orphans_max)
    if earlier is not None:
        judge.check_nothing_vanished(earlier)
    assert judge.violations == [], judge.violations[:5]
    ends = {run: judge.columns(run)["status"] for run in fleet.accepted}
    assert ends == {run: ENDS[workflow] for run, (workflow, _) in fleet.accepted.items()}
    assert fleet.deaths() == []
    assert await differences(fleet.settings) == []
    print(f"{len(fleet.accepted)} runs: {dict(judge.counts)}")
    return judge


async def violations(fleet: Fleet, foreign: bytes | None = None) -> Judge:
    """The verdict on all topics, the receiver's journal and the tables, once these are level."""
    topics = await records(fleet.settings, **fleet.connection)
    await level(fleet, topics)
    judge = Judge(topics)
    judge.check_accepted({run: payload for run, (_, payload) in fleet.accepted.items()})
    extra = judge.runs.keys() - fleet.accepted.keys()
    judge.bad(extra, f"I1 runs that nobody was promised: {[judge.runs[run][0][0] for run in extra][:3]}")
    judge.check_announcements(foreign)
    check_deliveries(judge, fleet.deliveries())
    judge.check_rows(await rows(fleet))
    return judge


async def records(settings: Settings, **connection: Any) -> dict[str, dict[int, list[Raw]]]:
    """All topics as they stand."""
    return await dump(settings.kafka_bootstrap_servers, settings.workflow_topic_prefix, **connection)


async def level(fleet: Fleet, topics: Topics, within_s: float = LEVEL_S) -> None:
    """Wait until the tables stand where these topics end, or beyond: events of runs that go on may have come since."""
    ends = {number: len(log) for number, log in topics["workflow.events"].items() if log}

    async def is_level() -> bool:
        if fleet.settings.storage_backend == "memory":
            found = await rows(fleet)
            return all(run in found and found[run]["status"] in {"SUCCESS", "FAILED"} for run in fleet.accepted)
        stand = await positions(fleet.settings)
        return all(stand.get(number, 0) >= end for number, end in ends.items())

    await until(is_level, "the tables are level with the log", within_s, every_s=0.2)


async def rows(fleet: Fleet) -> Rows:
    """The read tables as they are stored, or, where nothing is, as the API tells them."""
    match fleet.settings.storage_backend:
        case "postgres":
            return {row[0]: _columns(row) for row in await _fetch(fleet.settings, _RUNS)}
        case "filesystem":
            return {row[0]: _columns(row) for row in _read(fleet.settings, _RUNS)}
        case "memory":
            return await _told(fleet.of("api")[0].address)
        case _:
            assert_never(fleet.settings.storage_backend)


def _columns(row: Any) -> dict[str, Any]:
    _, status, seq, digest, results, payload = row
    return {
        "status": status,
        "seq": seq,
        "digest": digest,
        "results": json.loads(results),
        "payload": json.loads(payload),
    }


async def positions(settings: Settings) -> dict[int, int]:
    """Where the tables stand in each partition of the log."""
    filesystem = settings.storage_backend == "filesystem"
    return dict(_read(settings, _POSITIONS) if filesystem else [tuple(r) for r in await _fetch(settings, _POSITIONS)])


async def _fetch(settings: Settings, query: str) -> list[Any]:
    connection = await asyncpg.connect(settings.postgres_dsn, server_settings={"search_path": "workflow"})
    try:
        return await connection.fetch(query)
    finally:
        await connection.close()


def _read(settings: Settings, query: str) -> list[Any]:
    file = settings.storage_path / (settings.storage_path / "current").read_text().strip()
    connection = sqlite3.connect(f"file:{file}?mode=ro", uri=True)
    try:
        return connection.execute(query).fetchall()
    finally:
        connection.close()


async def _told(api: str) -> Rows:
    found: Rows = {}
    query: dict[str, Any] = {"limit": 500}
    async with httpx.AsyncClient(base_url=api, timeout=20) as http:
        while True:
            page = (await http.get("/api/v1/runs", params=query)).json()
            for item in page["items"]:
                found[item["run_id"]] = {name: item[name] for name in ("status", "results", "payload") if name in item}
            if page["next_cursor"] is None:
                return found
            query["cursor"] = page["next_cursor"]


async def differences(settings: Settings) -> list[str]:
    """What `workflow verify` finds."""
    if settings.storage_backend == "memory":
        return []
    store = open_store(settings)
    try:
        async with LogReader(settings) as reader:
            return [str(found) async for found in verify(settings, store, reader, lambda _: None)]
    finally:
        await store.close()


def recovery_s(topics: Topics, pid: int, killed_at_s: float) -> Mapping[int, float]:
    """Partition that the process with this pid had → seconds from its kill to the first fact of a run by the next owner.

    By the broker's clock and ours, which are the same on one machine.
    """
    found: dict[int, float] = {}
    for number, log in topics["workflow.events"].items():
        had = taken = False
        for record in log:
            event = readable(record.value)
            if event is None:
                continue
            if event["type"] == "PartitionTaken":
                if record.timestamp / 1000 > killed_at_s:
                    taken = True
                    continue
                had = event["data"]["worker"].endswith(f"-{pid}")
            elif had and taken:
                found[number] = record.timestamp / 1000 - killed_at_s
                break
    return found
