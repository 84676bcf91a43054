"""`workflow verify`: the tables and the log, compared. And how commands work on both."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import click
import orjson
import uvloop

from ops import checks, config, tables
from ops.client import CommandFailed, Exit
from ops.options import data_option, home_option
from projections.compare import DIFFERENCES_MAX, Difference
from projections.overview import events_behind
from projections.progress import Progress
from projections.rebuild import RebuildCancelled, RebuildFailed, RebuildOfAnother
from projections.rows import check_projection
from projections.stores import open_store
from projections.tables import Tables
from projections.verify import verify as verify_tables
from schemas.errors import BadSetting, BrokerAway, LogMismatch, StoreAway
from schemas.settings import Settings
from streams.kafka import LogReader

PROGRESS_EVERY_S: Final = 2.0

T = TypeVar("T")
Report = dict[str, Any]


@click.command()
@home_option
@data_option
def verify(home: Path | None, output: str) -> int:
    """Fold the log and compare every row of the read tables with it.

    Exit code 1 with the first differences when they differ. The platform may run meanwhile.
    """
    report = run_on_tables(home, _verify)
    if output == "json":
        click.echo(orjson.dumps(report).decode())
    else:
        tell_differences(report["differences"])
        word = "differ from" if report["differences"] else "agree with"
        click.echo(f"The tables {word} the log up to where they stand ({report['events']} events){_behind(report)}.")
    return Exit.ENDED_BADLY if report["differences"] else Exit.GOOD


def _behind(report: Report) -> str:
    return f"; they are {report['behind']} events behind" if report["behind"] else ""


def tell_differences(differences: list[Report]) -> None:
    """A line for each."""
    for each in differences:
        click.echo(str(Difference(**each)))
    if len(differences) == DIFFERENCES_MAX:
        click.echo(f"(the first {DIFFERENCES_MAX} differences)")


def run_on_tables(home: Path | None, work: Callable[[Settings, Tables, LogReader], Awaitable[T]]) -> T:
    """Do it on the tables and the log of the platform that is meant."""
    settings = config.of_platform(home)
    if settings.storage_backend == "memory":
        reason = "it keeps no tables; every process folds the log for itself"
        raise BadSetting(name="STORAGE_BACKEND", value="memory", reason=reason)

    logging.getLogger("aiokafka").setLevel(logging.CRITICAL)  # what it says of a broker that is away, we say once

    async def opened() -> T:
        store, reader = open_store(settings), LogReader(settings)
        try:
            return await work(settings, store, reader)
        finally:
            await reader.close()
            await store.close()

    try:
        checks.check_servers(settings)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(opened())
    except (BrokerAway, StoreAway) as away:
        raise CommandFailed(away.message, Exit.SERVER_AWAY) from away
    except (LogMismatch, RebuildFailed, RebuildCancelled, RebuildOfAnother) as ended:
        raise CommandFailed(ended.message, Exit.ENDED_BADLY) from ended


async def _verify(settings: Settings, store: Tables, reader: LogReader) -> Report:
    check_projection(await store.projection_version())
    say, found = _Progress(), list[Difference]()
    async for difference in verify_tables(settings, store, reader, say):
        found.append(difference)
        if len(found) == DIFFERENCES_MAX:
            break
    return {
        "differences": [each._asdict() for each in found],
        "events": say.last.events,
        "behind": await events_behind(settings, store, reader),
    }


class _Progress:
    """Says how far it is, once in a while, on standard error."""

    def __init__(self) -> None:
        self.last = Progress(0, 0, 0.0)
        self._said = time.monotonic()

    def __call__(self, progress: Progress) -> None:
        self.last = progress
        if time.monotonic() - self._said >= PROGRESS_EVERY_S:
            self._said = time.monotonic()
            left = "" if progress.eta_s is None else f", {tables.span(progress.eta_s)} left"
            click.echo(f"{progress.events} of {progress.total} events, {progress.events_per_s:.0f}/s{left}", err=True)
