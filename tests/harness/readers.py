"""Clients that look at runs while all this goes on, and note what they were shown."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from random import Random
from typing import Any, Final

import httpx

from tests.checker_clients import Read
from tests.harness.stage import Stage

READERS: Final = 3
RECENT: Final = 100
PAUSE_S: Final = 0.05


async def read_on(stage: Stage, name: str, rng: Random, reads: list[Read]) -> None:
    """Look at recent runs again and again, at any API, each time no older than the last time."""
    positions: dict[str, str] = {}
    async with httpx.AsyncClient(timeout=15) as http:
        while True:
            await asyncio.sleep(PAUSE_S)
            apis, runs = stage.of("api"), list(stage.accepted)[-RECENT:]
            if not apis or not runs:
                continue
            run = rng.choice(runs)
            query = {"min_position": positions[run]} if run in positions else {}
            url = f"{rng.choice(apis).address}/api/v1/runs/{run}"
            body = await _shown(http, url, query)
            if body is not None:
                positions[run] = body["position"]
                reads.append(Read(name, run, body["seq"], body["status"]))


async def _shown(http: httpx.AsyncClient, url: str, query: dict[str, str]) -> dict[str, Any] | None:
    """The run as it is shown; None where it is not: a process or the store is away, or the tables are behind."""
    try:
        answer = await http.get(url, params=query)
    except httpx.TransportError:
        return None
    assert answer.status_code in {200, 404, 503}, answer.text
    found: dict[str, Any] = answer.json()
    return found if answer.status_code == 200 else None


@asynccontextmanager
async def readers(stage: Stage, seed: int) -> AsyncIterator[list[Read]]:
    """They read until the end of the block."""
    reads: list[Read] = []
    tasks = [asyncio.ensure_future(read_on(stage, f"reader {n}", Random(seed + n), reads)) for n in range(READERS)]
    try:
        yield reads
        for task in tasks:
            if task.done():
                task.result()
    finally:
        for task in tasks:
            task.cancel()
