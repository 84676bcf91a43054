"""The generator as a child process, and one measured load from its first POST to the tables that show its last run."""

from __future__ import annotations

import asyncio
import sys
from dataclasses import asdict, dataclass
from typing import Any, Final

import orjson

from ops.home import Process
from ops.parts import ROOT
from tests.bench.errors import ScenarioFailed
from tests.bench.figures import Rounds
from tests.bench.generator import Load, Sent
from tests.bench.log import Watch
from tests.bench.machine import Others
from tests.bench.running import Running
from tests.bench.usage import Usage, usage

SLOWEST_PER_S: Final = 50
"""Starts per second below which a load is given up."""
START_S: Final = 60.0
LEVEL_S: Final = 120.0


@dataclass(frozen=True, slots=True)
class Starts:
    """A load: `requests` POSTs of `body`, each of which starts `runs_each` runs."""

    path: str
    body: dict[str, Any]
    requests: int
    runs_each: int = 1
    connections: int = 32
    rate: float | None = None

    @property
    def runs(self) -> int:
        return self.requests * self.runs_each

    @property
    def bound_s(self) -> float:
        return START_S + self.runs / SLOWEST_PER_S


async def send(platform: Running, starts: Starts) -> Sent:
    """Have the generator send all of it. Raises ScenarioFailed unless every answer is a 202."""
    load = Load(
        platform.host,
        platform.port,
        starts.path,
        starts.body,
        starts.requests,
        min(starts.connections, starts.requests),
        starts.rate,
        starts.bound_s,
        platform.key,
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-P", "-m", "tests.bench.generator",
        stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        cwd=ROOT, env={"PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    try:
        async with asyncio.timeout(START_S + starts.bound_s):
            told, errors = await process.communicate(orjson.dumps(asdict(load)) + b"\n")
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()
    if process.returncode != 0:
        raise ScenarioFailed(f"the generator failed: {errors.decode(errors='replace')[-1000:]}")
    sent = Sent(**orjson.loads(told))
    if sent.statuses != {"202": starts.requests}:
        raise ScenarioFailed(f"not every start was taken; answers by status: {sent.statuses}")
    return sent


async def measure(platform: Running, watch: Watch, starts: Starts, rounds: Rounds, *, prefix: str = "") -> None:
    """One round: send, wait for the ends and for the tables, check that all of it is true, note the figures."""
    completed = platform.settings.topics.completed
    since, succeeded = await watch.ends(completed), await watch.runs("SUCCESS")
    processes = platform.processes()
    before, others = usage(processes), Others()
    sent = await send(platform, starts)
    completed_at = await watch.completed(since, starts.runs, starts.bound_s)
    level_at = await watch.level(LEVEL_S)
    after = usage(_unchanged(processes, platform))
    cpu_s = {role: after.cpu_s[role] - before.cpu_s[role] for role in after.cpu_s} | {"generator": sent.cpu_s}
    busy = others.cores(sum(cpu_s.values()))
    ends = await watch.ended(since)
    found = await watch.runs("SUCCESS") - succeeded
    if len(ends.runs) != starts.runs or ends.failed or found != starts.runs:
        raise ScenarioFailed(
            f"{starts.runs} runs were started; {len(ends.runs)} were announced ({ends.failed} not as SUCCESS), "
            f"{found} more show SUCCESS in the tables"
        )

    def add(name: str, value: float, unit: str, **about: Any) -> None:
        rounds.add(prefix + name, value, unit, **about)

    took_s = sent.last_answered_at - sent.first_sent_at
    add("starts accepted", starts.runs / took_s, "runs/s", better="more")
    single = starts.runs_each == 1  # a batch is accepted much faster than its runs can end
    add(
        "completed",
        starts.runs / (completed_at - sent.first_sent_at),
        "runs/s",
        target=1_000.0 if single else 2_000.0,
        better="more",
    )
    add("last POST to last run completed", completed_at - sent.last_answered_at, "s")
    add("last POST to log and tables level", level_at - sent.last_answered_at, "s", target=2.0 if single else None)
    add("POST answered, p50", sent.p50_ms, "ms")
    add("POST answered, p99", sent.p99_ms, "ms")
    add("announced more than once", ends.messages - starts.runs, "runs")
    for role, used_s in sorted(cpu_s.items()):
        add(f"CPU per 1,000 runs, {role}", used_s / starts.runs * 1000, "s")
    add("CPU per 1,000 runs, all", sum(cpu_s.values()) / starts.runs * 1000, "s")
    add("CPU used by others meanwhile", busy, "cores")
    _memory(after, add)


def _memory(after: Usage, add: Any) -> None:
    for role, size in sorted(after.memory_bytes.items()):
        add(f"resident memory, {role}", size / 2**20, "MiB")


def _unchanged(processes: tuple[Process, ...], platform: Running) -> tuple[Process, ...]:
    """A process that was started again in the middle has lost its figures, and should not have died."""
    if platform.processes() != processes:
        raise ScenarioFailed("a process of the platform died and was started again during the measurement")
    return processes
