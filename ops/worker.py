"""A worker process."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Collection
from itertools import chain

from api.metrics import MetricsPage, of_report
from api.ports import Component, ReadyReport
from ops.errors import PartitionsNotOwned
from ops.member import run_member
from ops.metrics import of_worker
from ops.roles import clock, new_token, process_name, until_there
from projections.stores import open_store
from schemas.errors import BrokerAway
from schemas.ports import TP, Producer
from schemas.settings import Settings
from streams.allowed import AllowList
from streams.catalog_reader import CatalogReader
from streams.clock import WorkerClock
from streams.evaluator import RunEvaluator
from streams.expressions_apart import ApartEvaluator
from streams.kafka import LogReader
from streams.outlet import MakeProducer, Outlet
from streams.producer import LogProducer
from streams.resolver import Resolver
from streams.secret_values import SecretValues
from streams.steps import StepEffects
from streams.topics import delete_decided, ensure_topics
from streams.webhook_client import new_client, proxy_of
from streams.worker import Parts, Worker

log = logging.getLogger(__name__)

CLOSE_S = 5.0
OWNERSHIP_S = 2.0


async def worker(settings: Settings, stop: asyncio.Event) -> int:
    """Run one worker until `stop`; 0, or the code of what ended it."""
    client = new_client(
        connections_max=settings.workflow_effects_max,
        allowed=AllowList.parse(settings.webhook_allow),
        proxy=proxy_of(settings.webhook_proxy),
    )
    secrets = SecretValues.of(settings.workflow_secrets_dir)
    store = open_store(settings)
    reader = LogReader(settings)
    catalog = CatalogReader(settings, clock=clock)
    evaluator = RunEvaluator(
        ApartEvaluator(
            deadline_s=settings.workflow_expression_timeout_s,
            values_bytes_max=settings.workflow_expression_values_bytes_max,
        )
    )
    member: list[Worker] = []
    outlet = Outlet(_producers(settings), lambda: member[0].lost_producer())  # noqa: PLW0108 - made below
    try:
        await until_there(lambda: ensure_topics(settings), stop, "the topics are not there yet")
        await until_there(store.migrate, stop, "the tables are not there yet")
        catalog.start()
        await until_there(catalog.level, stop, "the definitions are not read yet")
        if stop.is_set():
            return 0
        effects = StepEffects(
            client,
            secrets,
            limit=settings.workflow_effects_max,
            timeout_s=settings.workflow_step_timeout_s,
            result_bytes_max=settings.workflow_result_bytes_max,
            cut=settings.workflow_result_overflow == "cut",
        )
        own_clock = WorkerClock()
        resolver = Resolver(catalog, wait_s=settings.workflow_definition_wait_s)
        parts = Parts(store, reader, outlet, resolver, effects, evaluator, new_token, own_clock)
        one = Worker(settings, process_name("worker"), parts)
        member.append(one)
        return await _run(settings, one, catalog, stop)
    finally:
        await outlet.close(CLOSE_S)
        await evaluator.close()
        await client.aclose()
        await catalog.stop()
        await reader.close()
        await store.close()


async def _run(settings: Settings, one: Worker, catalog: CatalogReader, stop: asyncio.Event) -> int:
    leave = asyncio.Event()
    background = [
        asyncio.ensure_future(one.parts.outlet.start()),
        asyncio.ensure_future(_drain(one, stop, leave, settings.workflow_stop_grace_s)),
        asyncio.ensure_future(_tidy(settings, one)),
        asyncio.ensure_future(watch_ownership(one, settings.workflow_watchdog_s)),
    ]
    for task in background:
        task.add_done_callback(lambda task: _tell_failure(one, task))

    def report() -> ReadyReport:
        return _report(one, catalog, stop)

    try:
        return await run_member(
            settings,
            one,
            group=settings.kafka_consumer_group,
            reader=one.parts.reader,
            excused=lambda: _excused(settings, one),
            report=report,
            metrics=MetricsPage("worker", lambda: chain(of_report(report()), of_worker(one))),
            leave=leave,
        )
    finally:
        one.close()
        for task in background:
            task.cancel()


async def _drain(one: Worker, stop: asyncio.Event, left: asyncio.Event, grace_s: float) -> None:
    await stop.wait()
    try:
        await one.stop(grace_s)
    finally:
        left.set()


def _tell_failure(one: Worker, task: asyncio.Task[None]) -> None:
    """What runs beside the member must not end without a word: the process ends with it."""
    error = None if task.cancelled() else task.exception()
    if error is not None:
        log.critical("a task of the worker failed; the process ends", exc_info=error)
        one.on_failure(error)


async def watch_ownership(one: Worker, stall_s: float) -> None:
    """A member that its group has forgotten reads on and never owns anything: that ends the process, too.

    It counts its own looks, so a process that was frozen is not punished for it.
    """
    looks: Counter[int] = Counter()
    while True:
        await asyncio.sleep(OWNERSHIP_S)
        lacking = unowned(one)
        looks = Counter({number: looks[number] + 1 for number in lacking})
        if max(looks.values(), default=0) * OWNERSHIP_S >= stall_s:
            raise PartitionsNotOwned(partitions=sorted(lacking), seconds=f"{stall_s:g}")


def unowned(one: Worker) -> set[int]:
    """Partitions that could be owned by now: given by the group, read to their end, and nothing is known to be away."""
    if not one.parts.outlet.up:
        return set()
    return {
        number
        for number, part in one.engine.partitions.items()
        if part.assigned and part.loaded and not part.owner
        if number not in one.mismatches and number not in one.store_waits
        if part.end is None or part.position >= part.end
    }


async def _tidy(settings: Settings, one: Worker) -> None:
    """Once in a while, delete commands that were decided long ago."""
    while True:
        await asyncio.sleep(3600)
        offsets = {
            TP(settings.topics.trigger, n): part.safe_commands()
            for n, part in one.engine.partitions.items()
            if part.owner
        }
        try:
            keep_s = settings.workflow_command_retention_days * 86_400
            await delete_decided(settings, offsets, int((clock() - keep_s) * 1000))
        except BrokerAway as away:
            log.warning("old commands are not deleted now: %s", away)


def _producers(settings: Settings) -> MakeProducer:
    async def make(on_lost: Callable[[Exception], None]) -> Producer:
        producer = LogProducer(settings, deadline_s=settings.workflow_append_timeout_s, on_lost=on_lost)
        await producer.start()
        return producer

    return make


def _excused(settings: Settings, one: Worker) -> Collection[TP]:
    """Partitions that may stand still: loading, stopped by a mismatch, paused, or waiting for the store."""
    topics, excused = settings.topics, set[TP]()
    for number, part in one.engine.partitions.items():
        waits = not part.loaded or number in one.mismatches or number in one.store_waits
        if waits:
            excused |= {TP(topics.events, number), TP(topics.trigger, number)}
        elif part.paused:
            excused.add(TP(topics.trigger, number))
    return excused


def _report(one: Worker, catalog: CatalogReader, stop: asyncio.Event) -> ReadyReport:
    """What `/ready` of a worker says."""
    parts = [part for part in one.engine.partitions.values() if part.assigned]
    owned = sum(part.owner for part in parts)
    components = {
        "partitions": Component("ok" if owned == len(parts) else "degraded", f"owns {owned} of {len(parts)} assigned"),
        "kafka": Component("ok" if one.parts.outlet.up and catalog.away is None else "degraded", catalog.away or ""),
        "store": Component("degraded", next(iter(one.store_waits.values()))) if one.store_waits else Component("ok"),
        "clock": Component("ok" if abs(one.skew_s) < 2 else "degraded", f"{one.skew_s:+.1f} s from the broker's"),
        "effects": Component("ok", f"{len(one.engine.running)} running"),
        "orphans": Component("ok", ", ".join(f"{why}: {n}" for p in parts for why, n in p.orphans.items())),
    }
    for number, mismatch in one.mismatches.items():
        components[f"partition {number}"] = Component("degraded", mismatch.message)
    status = (
        "draining" if stop.is_set() else "ready" if all(c.state == "ok" for c in components.values()) else "degraded"
    )
    return ReadyReport(not stop.is_set(), status, components)
