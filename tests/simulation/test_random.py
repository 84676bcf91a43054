"""Random schedules, each run to rest: what must always hold, holds."""

from __future__ import annotations

from collections import Counter
from random import Random
from typing import Any

from schemas.commands import CancelRun
from streams.engine import Limits
from tests.given import delay, webhook, workflow
from tests.simulation import goals
from tests.simulation.schedule import Schedule
from tests.simulation.world import Cluster

STEPS = [
    webhook(retry={"max_attempts": 3}),
    webhook(config={"url": "http://x/${payload.n}"}),
    webhook(config={"url": "http://x/${steps}", "body": "${fail}"}),
    webhook(),
    delay(duration=0),
    delay(duration=3),
    delay(duration="${payload.n}"),
]


def one(seed: int) -> Counter[str]:
    """Play one seed to rest; which rare things it met."""
    rng = Random(-seed - 1)
    steps = [{**rng.choice(STEPS), "name": f"s{n}"} for n in range(rng.randint(1, 3))]
    limits = Limits(effects_max=rng.choice((1, 50)), held_max=rng.choice((2, 6, 50)))
    cluster = Cluster(
        seed, workflow(*steps), partitions=rng.choice((1, 1, 2, 3)), remembers=rng.random() < 0.2, limits=limits
    )
    accepted = populate(cluster, rng)
    schedule = Schedule(cluster, budget=rng.choice((1, 4, 8)))
    schedule.run(rng.randint(10, 200))
    schedule.settle()
    judge = goals.check(cluster, accepted)
    return seen(cluster) + judge.counts


def populate(cluster: Cluster, rng: Random) -> dict[str, Any]:
    """Starts, the same id again, cancels, commands away from home, messages that cannot be read. The runs that must be."""
    accepted: dict[str, Any] = {}
    for index in range(rng.randint(1, 4)):
        run_id = f"r{index}"
        accepted[run_id] = {"n": index}
        cluster.trigger(run_id, rng.choice((None, rng.randrange(cluster.partitions))), {"n": index})
        while rng.random() < 0.4:
            cluster.trigger(run_id, payload={"n": index})
        if rng.random() < 0.2:
            cluster.put(CancelRun(f"x{index}", run_id, "enough", "2026-01-01T00:00:00.000Z"))
    for value in (b"", b"{", b'{"workflow_id": 1}', b'{"workflow_id": "unknown"}', b'{"workflow_id": "w"}'):
        if rng.random() < 0.2:
            cluster.put_raw(rng.randrange(cluster.partitions), value)
    return accepted


def seen(cluster: Cluster) -> Counter[str]:
    return cluster.watch.marks
