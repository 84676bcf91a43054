"""`workflow rebuild` and `workflow projections`: the read tables made anew, by several processes, and what is known of that."""

from __future__ import annotations

import getpass
import os
import socket
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Self

import click
import orjson

from ops import tables
from ops.audit import run_on_tables, tell_differences
from ops.client import CommandFailed, Exit
from ops.options import Nouns, data_option, home_option
from ops.parts import environment, joining
from ops.process import Child
from ops.reaper import Reaper
from ops.roles import calm_collector
from projections.board import PROJECTION
from projections.overview import overview
from projections.progress import Progress
from projections.rebuild import Rebuilt, cancel, outcome, request, work
from projections.retry import Retried, quarantined, retry
from projections.tables import Tables
from schemas.errors import BrokerAway, HistoryDamaged, StoreAway
from schemas.settings import Settings
from schemas.store import SetAside
from streams.kafka import LogReader
from streams.secret_values import without_secrets

SAY_S: Final = 2.0
DRAW_S: Final = 0.2
BAR_CHARS: Final = 24
STOP_S: Final = 10.0
INTERRUPTED: Final = (
    "The rebuild stays open: a projector, or the next `workflow rebuild`, goes on with it; "
    "`workflow projections cancel` ends it."
)

Report = dict[str, Any]


@click.command()
@home_option
@click.option(
    "--projection", type=click.Choice([PROJECTION]), default=PROJECTION, help="There is one: all that the API shows."
)
@click.option(
    "--parallel",
    type=click.IntRange(1, 64),
    help="Processes that share the partitions. Left out: one for each processor, at most one for each partition.",
)
@click.option("--join", hidden=True, help="Take part in the rebuild of this id, and say nothing.")
@click.option("--nice", hidden=True, default=0, help="Step back behind other processes by so much.")
@data_option
def rebuild(home: Path | None, projection: str, parallel: int | None, join: str | None, nice: int, output: str) -> int:  # noqa: ARG001
    """Make the read tables anew from the log, beside the ones that serve, and let them take over.

    What differed before is shown. The platform may run meanwhile. Where a rebuild runs or was broken off, this goes on
    with it: on other hosts, too. The tables that were replaced stay until `workflow projections drop-old`.
    """
    calm_collector()
    os.nice(nice)
    if join is not None:
        return run_on_tables(home, lambda settings, store, reader: _join(settings, store, reader, join))
    try:
        report = run_on_tables(home, lambda settings, store, reader: _rebuild(settings, store, reader, parallel))
    except (KeyboardInterrupt, click.Abort):
        click.echo(INTERRUPTED, err=True)
        raise
    if output == "json":
        click.echo(orjson.dumps(report).decode())
    else:
        tell_differences(report["differences"])
        click.echo(_summary(report))
    return Exit.GOOD


async def _join(settings: Settings, store: Tables, reader: LogReader, rebuild_id: str) -> int:
    await work(settings, store, reader, lambda _: None, rebuild_id)
    return Exit.GOOD


async def _rebuild(settings: Settings, store: Tables, reader: LogReader, parallel: int | None) -> Report:
    began = await request(store, f"{getpass.getuser()} on {socket.gethostname()}", helped=False)
    if began.parts:
        click.echo(f"Going on with the rebuild that {began.by} began; {began.done} events are folded.", err=True)
    helpers = min(parallel or os.cpu_count() or 1, settings.workflow_partitions) - 1
    try:
        with _helpers(settings, began.id, helpers), Bar() as bar:
            return _report(outcome(await work(settings, store, reader, bar, began.id)))
    except (BrokerAway, StoreAway):
        click.echo(INTERRUPTED, err=True)
        raise


def _report(done: Rebuilt) -> Report:
    return {
        "id": done.id,
        "events": done.events,
        "seconds": round(done.seconds, 3),
        "folded": done.folded,
        "folded_s": round(done.folded_s, 3),
        "worked_s": round(done.worked_s, 3),
        **done.compared.told(),
    }


def _summary(report: Report) -> str:
    rate = report["folded"] / max(report["worked_s"], 0.001)
    found = "had other rows" if report["differences"] else "had the same rows"
    return (
        f"Rebuilt from {report['events']} events in {report['seconds']:.1f} s (folded at {rate:.0f}/s); the old tables {found}.\n"
        f"Runs: {report['equal']} equal, {report['differing']} differing, {report['missing']} missing from the old tables, "
        f"{report['extra']} that the log does not have.\n"
        "The old tables stay until `workflow projections drop-old` or the end of the next rebuild."
    )


@contextmanager
def _helpers(settings: Settings, rebuild_id: str, count: int) -> Iterator[None]:
    """Processes that take part; they end with the rebuild, or with this process."""
    reaper = Reaper()
    with tempfile.TemporaryDirectory(prefix="workflow-rebuild-") as folder:
        children = [Child(f"rebuild {n}", Path(folder) / f"{n}.log", reaper) for n in range(2, count + 2)]
        try:
            for child in children:
                child.launch(joining(rebuild_id), env=without_secrets(environment(settings)), cwd=Path.cwd())
            yield
        finally:
            for child in children:
                child.stop(STOP_S)
            reaper.close()


class Bar:
    """How far a rebuild is, on standard error: a bar that moves in a terminal, else a line once in a while."""

    def __init__(self) -> None:
        self._moves = sys.stderr.isatty()
        self._said = time.monotonic()
        self._drawn = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._drawn:
            click.echo("\r\x1b[K", err=True, nl=False)

    def __call__(self, progress: Progress) -> None:
        if time.monotonic() - self._said < (DRAW_S if self._moves else SAY_S):
            return
        self._said, self._drawn = time.monotonic(), self._moves
        line = bar_line(progress)
        click.echo(f"\r{line}\x1b[K" if self._moves else line, err=True, nl=not self._moves)


def bar_line(progress: Progress) -> str:
    """`folding [######------] 500 of 1000 events, 65000/s, 12.000 s left`"""
    full = progress.events / progress.total if progress.total else 0.0
    done = "#" * int(BAR_CHARS * full)
    left = (
        f", {tables.span(progress.eta_s)} left" if progress.eta_s and progress.phase in ("folding", "levelling") else ""
    )
    rate = f", {progress.events_per_s:.0f}/s" if progress.phase == "folding" else ""
    return f"{progress.phase:<10} [{done:-<{BAR_CHARS}}] {progress.events} of {progress.total} events{rate}{left}"


@click.group(cls=Nouns)
def projections() -> None:
    """The read tables: their state, their rebuild, the runs that they have set aside."""


@projections.command("list")
@home_option
@data_option
def list_projections(home: Path | None, output: str) -> None:
    """Every projection: how far it is, and its rebuild."""
    found = run_on_tables(home, overview)
    if output == "json":
        click.echo(orjson.dumps([found]).decode())
    else:
        names = ("name", "version", "behind", "quarantined", "state")
        click.echo(
            tables.columns((*names, "rebuild"), [[*(found[name] for name in names), _in_short(found["rebuild"])]])
        )


def _in_short(last: Report | None) -> str | None:
    if last is None:
        return None
    ended = f", {last['ended_at']}" if last["ended_at"] else f", {last['events']} of {last['total']} events"
    return f"{last['phase']}{ended}"


@projections.command("cancel")
@home_option
def cancel_rebuild(home: Path | None) -> None:
    """End the rebuild that runs, whoever works on it. The tables that serve stay as they are."""
    cancelled = run_on_tables(home, lambda _settings, store, _reader: cancel(store))
    if cancelled is None:
        raise CommandFailed("No rebuild runs.", Exit.NOT_FOUND)
    click.echo(f"The rebuild {cancelled.id} is cancelled and its tables are gone.")


@projections.command("quarantine")
@home_option
@data_option
def list_quarantine(home: Path | None, output: str) -> None:
    """Runs that the tables set aside, because an event of theirs cannot be folded. Their histories go on."""
    found = run_on_tables(home, lambda _settings, store, _reader: _quarantined(store))
    if output == "json":
        click.echo(orjson.dumps([each._asdict() for each in found]).decode())
    elif found:
        click.echo(tables.columns(SetAside._fields, found))
    else:
        click.echo("No run is set aside.")


async def _quarantined(store: Tables) -> list[SetAside]:
    return [each async for each in quarantined(store)]


@projections.command("retry")
@click.argument("run_ids", nargs=-1, metavar="[RUN_ID]...")
@home_option
@data_option
def retry_runs(run_ids: tuple[str, ...], home: Path | None, output: str) -> int:
    """Fold runs that are set aside again, from their histories, with this release. Left out: all of them.

    Exit code 1 when a run stays set aside; its reason is shown.
    """
    found, unknown = run_on_tables(home, lambda _settings, store, _reader: _retried(store, run_ids))
    still = [each for each in found if each.reason is not None]
    if output == "json":
        click.echo(orjson.dumps([each._asdict() for each in found]).decode())
    else:
        for each in still:
            click.echo(f"{each.run_id} stays set aside: {each.reason}")
        click.echo(f"Runs: {len(found) - len(still)} shown again, {len(still)} still set aside.")
    if unknown:
        raise CommandFailed(f"Not set aside: {', '.join(map(repr, unknown))}.", Exit.NOT_FOUND)
    return Exit.ENDED_BADLY if still else Exit.GOOD


async def _retried(store: Tables, run_ids: Sequence[str]) -> tuple[list[Retried], list[str]]:
    """What came of each run, and those named that are not set aside. A damaged one does not stand in the others' way."""
    found, unknown = list[Retried](), list[str]()
    for run_id in dict.fromkeys(run_ids) or [each.run_id for each in await _quarantined(store)]:
        try:
            retried = await retry(store, run_id)
        except HistoryDamaged as damaged:
            retried = Retried(run_id, damaged.message)
        if retried is not None:
            found.append(retried)
        elif run_ids:
            unknown.append(run_id)
    return found, unknown


@projections.command("drop-old")
@home_option
def drop_old(home: Path | None) -> None:
    """Delete the tables that the last rebuild has replaced."""
    dropped = run_on_tables(home, lambda _settings, store, _reader: store.drop_old())
    click.echo("The old tables are deleted." if dropped else "There are no old tables.")
