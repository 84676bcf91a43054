"""Faust with whole fetches as messages: the same app, agents and group, a twentieth of the cost per record.

Faust's own bookkeeping of offsets is not used: positions, pauses and commits belong to `streams.group`.
"""
# mypy: disable-error-code="misc"
# Faust and aiokafka ship no types and have no public way to do what is done here; both are pinned to one version.

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import faust
from aiokafka.errors import ConsumerStoppedError, CoordinatorNotAvailableError
from faust.app.base import BootStrategy
from faust.assignor.partition_assignor import PartitionAssignor
from faust.transport.drivers import aiokafka as driver
from faust.types import ConsumerMessage
from mode import CrashingSupervisor
from yarl import URL

from schemas.ports import TP, BatchHandler
from schemas.settings import Settings

from .consumer import Fetched, Thread
from .group import ConsumerGroup
from .kafka import admin, fetch_bytes
from .security import security, servers

BATCH_RECORDS_MAX = 2_000
"""Records handed over in one call: how long the loop is held by one batch."""

_REACH_S = 5.0
_CHECK_S = 2.0
"""How often a member that waits for its group looks whether the client still lives."""


class Assignor(PartitionAssignor):
    """Faust's own, which keeps topics of equal partition count together; without replicas it also fills every worker."""

    def __init__(self, app: Any, replicas: int = 0) -> None:  # noqa: ARG002 - Faust passes its setting
        super().__init__(app, replicas=0)


class Raw(faust.Schema):
    """Keys and values as they came."""

    def loads_key(self, app: Any, message: Any, **_: Any) -> Any:  # noqa: ARG002
        return message.key

    def loads_value(self, app: Any, message: Any, **_: Any) -> Any:  # noqa: ARG002
        return message.value


class Consumer(driver.Consumer):
    """Fetches for the group and passes each fetch on as one message."""

    _thread: Thread

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._group: ConsumerGroup = self.app.group
        self._group.connect(self._thread)

    def _new_consumer_thread(self) -> Thread:
        return Thread(self, loop=self.loop, beacon=self.beacon)

    async def threadsafe_partitions_revoked(self, _: Any, revoked: Any) -> None:
        await self._on_main_loop(self.on_partitions_revoked(revoked))

    async def threadsafe_partitions_assigned(self, _: Any, assigned: Any, generation_id: int = 0) -> None:
        await self._on_main_loop(self.on_partitions_assigned(assigned, generation_id))

    async def _on_main_loop(self, work: Coroutine[Any, Any, None]) -> None:
        """Called on the thread. Not through Faust's queue of calls: it is closed before the thread, which would then wait
        for its answer for ever."""
        await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self.loop))

    def stop_flow(self) -> None:
        super().stop_flow()
        self._group.flow_stopped()

    def resume_flow(self) -> None:
        super().resume_flow()
        self._group.flow_resumed()

    def on_buffer_full(self, tp: TP) -> None:
        self._group.buffer_full(TP(*tp))

    def on_buffer_drop(self, tp: TP) -> None:
        self._group.buffer_drop(TP(*tp))

    async def perform_seek(self) -> None:
        """Nothing: the loop below moves every partition before it fetches, also when this call was cut short."""

    async def _drain_messages(self, fetcher: Any) -> None:
        """The one loop that fetches."""
        try:
            while not (self.should_stop or fetcher.should_stop):
                if not self.flow_active:
                    await self.wait(self.can_resume_flow, timeout=_CHECK_S)
                    await self._thread.check()
                    continue
                if self._group.must_place:
                    await self._group.place()
                async for message in self._messages(await self._thread.fetch()):
                    await self.wait_first(self.callback(message), self.suspend_flow.wait())
        except (ConsumerStoppedError, asyncio.CancelledError):
            if not self.app.should_stop:
                raise

    async def _messages(self, fetched: Mapping[TP, Fetched]) -> AsyncIterator[Any]:
        size, generation = self.app.batch_records_max, self._group.generation
        for tp, fetch in fetched.items():
            for start in range(0, len(fetch.records), size):
                records = fetch.records if len(fetch.records) <= size else fetch.records[start : start + size]
                last = records[-1]
                yield ConsumerMessage(
                    tp.topic, tp.partition, last.offset, last.timestamp / 1000, 1, (),
                    None, Fetched(fetch.serial, records), None, 0, 0, tp, generation_id=generation,
                )  # fmt: skip


class Transport(driver.Transport):
    Consumer = Consumer


class Boot(BootStrategy):
    """Our appends have a producer of their own."""

    enable_kafka_producer = False
    enable_web = False


class GroupFaust(faust.App):
    """One life of a member: an app cannot be started twice."""

    BootStrategy = Boot

    def __init__(self, settings: Settings, group: ConsumerGroup, batch_records_max: int) -> None:
        self.settings = settings
        self.group = group
        self.batch_records_max = batch_records_max
        brokers = [URL(f"kafka://{server}") for server in servers(settings)]
        super().__init__(group.name, broker=brokers, **faust_kwargs(settings))
        self.transport = Transport(brokers, self)

    def _on_rebalance_when_stopped(self) -> None:
        """Nothing: the stop that is under way also leaves the group, for which it needs its connections."""

    def _create_directories(self) -> None:
        """None: nothing is kept on disk."""


def credentials(settings: Settings) -> Any:
    """Faust's own word for `security`; None is PLAINTEXT. A TLS context beside SASLCredentials would be dropped in silence,
    so it goes into them."""
    given = security(settings)
    context = given.get("ssl_context")
    if "sasl_mechanism" in given:
        return faust.SASLCredentials(
            username=given["sasl_plain_username"],
            password=given["sasl_plain_password"],
            mechanism=given["sasl_mechanism"],
            ssl_context=context,
        )
    return None if context is None else faust.SSLCredentials(context)


def faust_kwargs(settings: Settings) -> dict[str, Any]:
    """Faust's settings, all that matter given explicitly; with the prefix no environment variable can change them."""
    return {
        "env_prefix": "WORKFLOW_FAUST",
        "broker_credentials": credentials(settings),
        "PartitionAssignor": Assignor,
        "table_standby_replicas": 1,  # with 0 Faust silently takes round robin, which separates commands from events
        "topic_disable_leader": True,
        "topic_allow_declare": False,
        "web_enabled": False,
        "agent_supervisor": CrashingSupervisor,  # a restarted agent would go on behind the batch that failed
        "stream_wait_empty": False,
        "stream_recovery_delay": 0,
        "stream_buffer_maxsize": max(64, 8 * settings.workflow_partitions),
        "stream_processing_timeout": 300.0,
        "broker_commit_livelock_soft_timeout": 300.0,
        "consumer_max_fetch_size": fetch_bytes(settings),
        "broker_max_poll_records": None,
        "consumer_auto_offset_reset": "earliest",
        "consumer_metadata_max_age_ms": 10_000,
        "broker_session_timeout": settings.workflow_session_timeout_s,
        "broker_heartbeat_interval": settings.workflow_heartbeat_s,
        "broker_rebalance_timeout": 60.0,
        "broker_request_timeout": 90.0,  # above the rebalance timeout: a join waits so long for its answer
        "broker_max_poll_interval": 3600.0,
        "broker_check_crcs": True,
    }


@dataclass(frozen=True, slots=True)
class GroupApp:
    """A consumer group's member, to be run by `lifecycle.run_app`."""

    settings: Settings
    group: ConsumerGroup
    topics: tuple[str, ...]
    batch_records_max: int

    async def reach(self) -> None:
        """Raises BrokerAway when Kafka does not answer, or does not let us into the group: a client that joins it all the
        same would be refused again and again, without a word."""
        async with admin(self.settings, _REACH_S) as client:
            with suppress(CoordinatorNotAvailableError):  # on a fresh broker it is made by this very question
                await client.find_coordinator(self.group.name)

    async def leave(self, life: Any) -> None:
        """Let the handler commit as the owner, and hand nothing over any more. In bounded time."""
        life.consumer.stop_flow()
        life.flow_control.suspend()
        await self.group.revoked()

    def make(self) -> GroupFaust:
        """A Faust app for one life of the membership."""
        app = GroupFaust(self.settings, self.group, self.batch_records_max)

        async def hand_over(stream: Any) -> None:
            async for event in stream.events():
                fetched = event.value
                self.group.deliver(event.message.tp, fetched.serial, fetched.records)

        async def revoked(*_: Any, **__: Any) -> None:
            await self.group.revoked()

        async def rejoined(*_: Any, **__: Any) -> None:
            assignment = frozenset(TP(*tp) for tp in app.consumer.assignment())
            await self.group.rejoined(assignment, app.consumer_generation_id)

        for topic in self.topics:
            app.agent(app.topic(topic, acks=False, schema=Raw()), name=f"{self.group.name}-{topic}")(hand_over)
        app.on_partitions_revoked.connect(revoked)
        app.on_rebalance_complete.connect(rejoined)
        return app


def build_app(
    settings: Settings,
    *,
    group: str,
    topics: Sequence[str],
    handler: BatchHandler,
    batch_records_max: int = BATCH_RECORDS_MAX,
) -> GroupApp:
    """A member of `group` that reads `topics` and gives their batches to `handler`. Commands and events, when both are
    read, are checked at every assignment to stand together."""
    together = frozenset({settings.topics.trigger, settings.topics.events}) & set(topics)
    membership = ConsumerGroup(settings, group, together, handler)
    return GroupApp(settings, membership, tuple(topics), batch_records_max)
