"""Scenario `latency`: from a POST to the end of its run, in the log and at the API, with nothing else to do."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Final

from schemas.events import RUN_COMPLETED, decode
from schemas.ports import Record
from tests.bench.errors import ScenarioFailed
from tests.bench.figures import Figure, Rounds, percentile
from tests.bench.log import Watch, following
from tests.bench.options import Options
from tests.bench.running import Running, running
from tests.bench.warm import warm_up
from tests.bench.wire import Client
from tests.bench.workflows import NOOP, start

STARTS_PER_S: Final = 5
END_S: Final = 30.0
POLL_S: Final = 0.003


async def run(options: Options) -> list[Figure]:
    """Both ways of seeing the end, one after the other, so that the one that polls does not disturb the other."""
    in_log, at_api = (25, 25) if options.quick else (250, 100)
    rounds = Rounds()
    with running(options.folder) as platform:
        async with Watch.open(platform.settings) as watch:
            await warm_up(platform, watch, options)
        for _ in range(options.rounds):
            await _in_log(platform, in_log, rounds)
            await _at_api(platform, at_api, rounds)
    return rounds.figures()


async def _in_log(platform: Running, count: int, rounds: Rounds) -> None:
    """Until the bench has read `RunCompleted` back from the log."""
    ended: dict[str, tuple[float, int]] = {}

    def take(records: Sequence[Record], now: float) -> None:
        for record in records:
            event = decode(record.value)
            if event is not None and event["type"] == RUN_COMPLETED:
                ended[event["subject"]] = now, record.timestamp

    sent: dict[str, tuple[float, float]] = {}
    answered: list[float] = []

    async def once(client: Client, raw: bytes) -> None:
        at, began = time.time(), time.perf_counter()
        sent[await _started(client, raw)] = began, at
        answered.append(time.perf_counter() - began)

    async with following(platform.settings, take):
        await _evenly(platform, count, once)
        deadline = time.monotonic() + END_S
        while not sent.keys() <= ended.keys():
            if time.monotonic() > deadline:
                raise ScenarioFailed(f"{len(sent.keys() - ended.keys())} runs did not end within {END_S:g} s")
            await asyncio.sleep(0.05)
    read = [ended[run_id][0] - began for run_id, (began, _) in sent.items()]
    appended = [ended[run_id][1] / 1000 - at for run_id, (_, at) in sent.items()]
    _add(rounds, "POST to its answer", answered)
    _add(rounds, "POST to RunCompleted in the log", read, p50_ms=15.0, p99_ms=60.0)
    _add(rounds, "POST to RunCompleted, broker's time", appended)


async def _at_api(platform: Running, count: int, rounds: Rounds) -> None:
    """Until GET shows SUCCESS, asked every few milliseconds."""
    took: list[float] = []
    reader = await platform.client()

    async def once(client: Client, raw: bytes) -> None:
        began = time.perf_counter()
        ask = platform.request("GET", f"/api/v1/runs/{await _started(client, raw)}")
        while True:
            answer = await reader.call(ask)
            if answer.status == 200 and answer.json()["status"] == "SUCCESS":
                break
            if answer.status not in {200, 404} or time.perf_counter() - began > END_S:
                raise ScenarioFailed(f"the API does not show the run's end: {answer.status} {answer.body[:300]!r}")
            await asyncio.sleep(POLL_S)
        took.append(time.perf_counter() - began)

    await _evenly(platform, count, once)
    reader.close()
    _add(rounds, "POST to SUCCESS at the API", took, p50_ms=40.0)


async def _evenly(platform: Running, count: int, once: Callable[[Client, bytes], Awaitable[None]]) -> None:
    """Start `count` runs at a fixed rate over one connection."""
    client, raw = await platform.client(), platform.request("POST", "/api/v1/trigger", start(NOOP))
    began = time.monotonic()
    for number in range(count):
        await asyncio.sleep(max(0.0, began + number / STARTS_PER_S - time.monotonic()))
        await once(client, raw)
    client.close()


async def _started(client: Client, raw: bytes) -> str:
    """Start a run; its id."""
    answer = await client.call(raw)
    if answer.status != 202:
        raise ScenarioFailed(f"a start was refused: {answer.status} {answer.body[:300]!r}")
    return str(answer.json()["run_id"])


def _add(
    rounds: Rounds, name: str, took_s: Sequence[float], *, p50_ms: float | None = None, p99_ms: float | None = None
) -> None:
    rounds.add(f"{name}, p50", percentile(took_s, 50) * 1000, "ms", target=p50_ms)
    rounds.add(f"{name}, p99", percentile(took_s, 99) * 1000, "ms", target=p99_ms)
    rounds.add(f"{name}, longest", max(took_s) * 1000, "ms")
