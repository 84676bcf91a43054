"""What comes before the first measurement."""

from __future__ import annotations

from tests.bench.errors import ScenarioFailed
from tests.bench.load import LEVEL_S, Starts, send
from tests.bench.log import Watch
from tests.bench.options import Options
from tests.bench.running import Running
from tests.bench.workflows import NOOP, start


async def warm_up(platform: Running, watch: Watch, options: Options) -> None:
    """Define the no-op workflow and run it often enough that compilers, pools and caches are warm. PostgreSQL must fsync."""
    if await watch.setting("fsync") != "on":
        raise ScenarioFailed("PostgreSQL does not fsync: the figures would be of another platform")
    await platform.define(NOOP)
    since = await watch.ends(platform.settings.topics.completed)
    load = Starts("/api/v1/trigger", start(NOOP), 100 if options.quick else 3_000)
    await send(platform, load)
    await watch.completed(since, load.runs, load.bound_s)
    await watch.level(LEVEL_S)
