"""A log that is not the one that the tables know: workers and projectors must stop there, say so, and change nothing."""

from __future__ import annotations

import asyncio
import shutil
import struct
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Final

import httpx

from ops.parts import environment
from streams.kafka import admin
from streams.topics import ensure_topics
from tests.fleet import Member, until
from tests.harness.stage import Stage
from tests.judging import differences, level, records

SAY_WITHIN_S: Final = 60.0
SAYS: Final = "workflow rebuild"


async def meet(stage: Stage, name: str) -> list[str]:
    """Stop everything, make the log another one, start, see that it is noticed; rebuild, and see that all goes on."""
    for slot in stage.slots:
        slot.held = True
    kept = stage.folder / "kept"
    if name == "log older":  # what is done from here on is missing in the log that comes back
        await _stop(stage)
        await _with_broker_down(stage, lambda data: shutil.copytree(data, kept))
        await _start(stage)
        await stage.trigger(60, stage.fresh("noop", 60), rate=60)
        await stage.ended()
        await level(stage, await records(stage.settings))
    await _stop(stage)
    if name == "log empty":
        await _make_anew(stage)
    elif name == "log cut":
        await _with_broker_down(stage, lambda data: cut(data / f"{stage.settings.topics.events}-0"))
    else:
        await _with_broker_down(stage, lambda data: _replace(data, kept))
    before = await records(stage.settings)
    for slot in stage.slots:
        stage.launch(slot)
    workers, projectors = stage.of("worker"), stage.of("projector")
    await until(lambda: _said(workers), "a worker says that the log is another one", SAY_WITHIN_S)
    await until(lambda: _said(projectors), "a projector says that the log is another one", SAY_WITHIN_S)
    after = await records(stage.settings)
    violations = _written(name, before["workflow.events"], after["workflow.events"])
    assert rebuild(stage) == 0, "the rebuild failed"
    stage.accepted.clear()
    for slot in stage.slots:
        slot.held = False
    await stage.all_ready()
    await stage.trigger(60, stage.fresh("noop", 60), rate=60)
    await stage.ended()
    await level(stage, await records(stage.settings))
    return violations + [f"I9 after {name}: {text}" for text in await differences(stage.settings)]


def _written(name: str, before: Mapping[int, object], after: Mapping[int, object]) -> list[str]:
    """Where the log is another one nothing was written. Only one partition was cut."""
    numbers = [0] if name == "log cut" else sorted(before)
    return [f"{name}: partition {number} was written to" for number in numbers if before[number] != after[number]]


async def _stop(stage: Stage) -> None:
    members = [slot.member for slot in stage.slots if slot.member is not None]
    await asyncio.gather(*(member.stop() for member in members if member.alive))


async def _start(stage: Stage) -> None:
    for slot in stage.slots:
        stage.launch(slot)
    await stage.all_ready()


async def _with_broker_down(stage: Stage, change: Callable[[Path], object]) -> None:
    """Change the broker's files while it is away. It is killed: after a clean stop it would not look at them again."""
    stage.held_servers.add(stage.kafka.name)
    await asyncio.to_thread(stage.kafka.kill)
    await asyncio.to_thread(change, stage.kafka.folder / "data")
    await stage.restarted(stage.kafka)
    stage.held_servers.discard(stage.kafka.name)


def _replace(data: Path, kept: Path) -> None:
    shutil.rmtree(data)
    kept.rename(data)


async def _make_anew(stage: Stage) -> None:
    async with admin(stage.settings, 30) as client:
        await client.delete_topics([stage.settings.topics.events])

    async def made() -> bool:
        try:
            await ensure_topics(stage.settings)
        except Exception:  # noqa: BLE001 - the broker is not done with deleting it
            return False
        return True

    await asyncio.sleep(1)
    await until(made, "the topic is there again", 30)


async def _said(members: list[Member]) -> bool:
    """Whether one of them says in /ready that the log is another one, and what to do."""
    for member in members:
        try:
            parts = (await member.report()).values()
        except (httpx.TransportError, KeyError):
            continue
        if any(SAYS in text for text in parts):
            return True
    return False


def rebuild(stage: Stage) -> int:
    """`workflow rebuild`, and its exit code."""
    line = [sys.executable, "-P", "-m", "ops", "rebuild"]
    return subprocess.run(line, env=dict(environment(stage.settings)), timeout=120, check=False).returncode


def cut(folder: Path) -> int:
    """Take the last third of its batches from a partition's newest file; how many records are left."""
    log = max(folder.glob("*.log"))
    data, starts = log.read_bytes(), [(0, int(log.stem))]
    while starts[-1][0] < len(data):
        at, _ = starts[-1]
        base, length = struct.unpack_from(">qi", data, at)
        (last,) = struct.unpack_from(">i", data, at + 23)
        starts.append((at + 12 + length, base + last + 1))
    end, offset = starts[len(starts) * 2 // 3]
    log.write_bytes(data[:end])
    return offset
