"""API keys on a real Kafka: made, revoked and known by several processes at once, and what compaction leaves of them."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest
from aiokafka import AIOKafkaProducer
from aiokafka.admin import AIOKafkaAdminClient

from api.commands import KafkaCommandSender
from schemas.errors import BrokerAway, KeyNameTaken, KeyRefused, KeyUnknown, LogMismatch, TopicMismatch
from schemas.keys import ApiKey, encode
from schemas.settings import Settings
from streams import following, key_reader
from streams.key_reader import KeyReader
from streams.topics import ensure_topics
from tests import servers
from tests.api.world import until
from tests.keyring import make_key
from tests.members import change_configs, found_configs


@pytest.fixture
async def ours(kafka: servers.Address, topic_prefix: str) -> Settings:
    settings = Settings(kafka_bootstrap_servers=kafka.address, workflow_topic_prefix=topic_prefix)
    await ensure_topics(settings, only=settings.topics.keys)
    return settings


@asynccontextmanager
async def process(settings: Settings) -> AsyncIterator[KeyReader]:
    """What one API process has, level with the topic."""
    sender = KafkaCommandSender(settings)
    sender.start()
    keys = KeyReader(settings, sender.append, clock=time.time)
    keys.start()
    try:
        async with asyncio.timeout(30):
            await keys.settle()
        yield keys
    finally:
        await keys.stop()
        await sender.stop()


async def test_the_topic_is_made_alone_and_compacted(ours: Settings) -> None:
    """The command that makes the first key needs no other topic, and must not choose their number of partitions."""
    admin = AIOKafkaAdminClient(bootstrap_servers=ours.kafka_bootstrap_servers)
    await admin.start()
    try:
        found = [name for name in await admin.list_topics() if name.startswith(ours.workflow_topic_prefix)]
    finally:
        await admin.close()
    assert found == [ours.topics.keys]
    assert (await found_configs(ours, ours.topics.keys))["cleanup.policy"] == "compact"


async def test_a_topic_that_would_forget_keys_stops_the_start(ours: Settings) -> None:
    """A retention by time would let a key that nobody changed for a week go."""
    await change_configs(ours, ours.topics.keys, cleanup_policy="compact,delete")
    with pytest.raises(TopicMismatch, match=r"cleanup\.policy=compact,delete"):
        await ensure_topics(ours)


async def test_a_key_is_known_to_other_processes_at_once(ours: Settings) -> None:
    """Made, seen, revoked, seen; a process that starts later knows it too."""
    key, _ = make_key()
    async with process(ours) as one, process(ours) as other:
        assert await one.create(key) == key
        await until(lambda: other.usable(key.id) == key, 2.0)
        revoked = await other.revoke(key.id)
        assert revoked.revoked_at is not None
        assert await other.revoke(key.id) == revoked
        await until(lambda: one.usable(key.id) is None, 2.0)
        async with process(ours) as later:
            assert later.usable(key.id) is None
            assert later.all() == one.all() == [revoked]


async def test_a_name_is_used_once_at_a_time(ours: Settings) -> None:
    """By processes that know of each other's key, and again once it is revoked."""
    first, second = make_key()[0], make_key()[0]
    async with process(ours) as one, process(ours) as other:
        await one.create(first)
        with pytest.raises(KeyNameTaken, match="'shop'"):
            await other.create(second)
        await one.revoke(first.id)
        await other.create(second)
        assert [key.id for key in other.named("shop")] == [second.id]


async def test_of_keys_made_at_once_under_one_name_one_is_left(ours: Settings) -> None:
    """Whoever wrote first has it; the others revoke what they wrote and are told."""
    async with process(ours) as one, process(ours) as other, process(ours) as third:
        for attempt in range(5):
            made = [make_key(f"shop-{attempt}")[0] for _ in range(3)]
            outcomes = await asyncio.gather(
                *(keys.create(key) for keys, key in zip((one, other, third), made, strict=True)), return_exceptions=True
            )
            winners = [outcome for outcome in outcomes if isinstance(outcome, ApiKey)]
            assert len(winners) == 1
            assert [type(outcome) for outcome in outcomes].count(KeyNameTaken) == 2
            await one.level()
            assert one.named(f"shop-{attempt}") == winners


async def test_keys_are_bounded(ours: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that may be used: a new one is refused until one of them is revoked."""
    monkeypatch.setattr(key_reader, "KEYS_MAX", 2)
    made = [make_key(name)[0] for name in ("a", "b", "c")]
    async with process(ours) as keys:
        for key in made[:2]:
            await keys.create(key)
        with pytest.raises(KeyRefused, match="2 keys already"):
            await keys.create(made[2])
        await keys.revoke(made[0].id)
        await keys.create(made[2])


async def test_a_key_that_is_not_there_cannot_be_revoked(ours: Settings) -> None:
    """And nothing is written."""
    async with process(ours) as keys:
        with pytest.raises(KeyUnknown, match="'aaaaaaaaaaaa'"):
            await keys.revoke("aaaaaaaaaaaa")
        assert keys.position == 0


async def test_records_that_cannot_be_read_are_counted_and_told(
    ours: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    """They open nothing and break nothing; the log says where they stand and not what they hold."""
    key, _ = make_key()
    async with process(ours) as keys:
        await keys.write(b"aaaaaaaaaaaa", b'{"id": "aaaaaaaaaaaa", "hash": "plain-text-secret"}')
        await keys.write(b"\xff", b"\xff")
        await keys.create(key)
        assert keys.unreadable == 2
        assert keys.all() == [key]
        assert keys.usable("aaaaaaaaaaaa") is None
    assert "record 0 is passed over" in caplog.text
    assert "plain-text-secret" not in caplog.text


async def test_nobody_is_let_in_before_the_topic_was_read(ours: Settings) -> None:
    """A revocation may stand at its end."""
    key, _ = make_key()
    async with process(ours) as keys:
        await keys.create(key)
    late = KeyReader(ours, clock=time.time)
    with pytest.raises(BrokerAway, match="not read to its end"):
        late.usable(key.id)
    late.start()
    try:
        await late.settle()
        assert late.usable(key.id) == key
    finally:
        await late.stop()


async def test_a_topic_that_was_made_anew_lets_nobody_in(ours: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its revocations are gone: the process refuses every key instead of going on with those that it remembers."""
    monkeypatch.setattr(following, "CHECK_S", 0.1)
    key, _ = make_key()
    async with process(ours) as keys:
        await keys.create(key)
        await servers.delete_topics(ours.kafka_bootstrap_servers, ours.topics.keys)
        async with asyncio.timeout(30):
            while True:
                try:
                    await ensure_topics(ours, only=ours.topics.keys)
                    break
                except BrokerAway:
                    await asyncio.sleep(0.1)
        await until(lambda: keys.failure is not None, 30.0)
        with pytest.raises(LogMismatch, match="lets nobody in"):
            keys.usable(key.id)


@asynccontextmanager
async def transaction(settings: Settings) -> AsyncIterator[AIOKafkaProducer]:
    """Somebody else's, which is taken back."""
    producer = AIOKafkaProducer(
        bootstrap_servers=settings.kafka_bootstrap_servers, transactional_id=settings.workflow_topic_prefix
    )
    await producer.start()
    try:
        await producer.begin_transaction()
        yield producer
        await producer.abort_transaction()
    finally:
        await producer.stop()


async def test_holes_at_the_end_keep_nobody_waiting(ours: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no record stands at the end of the topic any more, the reader is level all the same."""
    monkeypatch.setattr(following, "CHECK_S", 0.1)
    key, _ = make_key()
    async with process(ours) as keys:
        await keys.create(key)
        async with transaction(ours) as producer:
            await producer.send_and_wait(ours.topics.keys, key=b"aaaaaaaaaaaa", value=b"taken back", partition=0)
        await until(lambda: keys.position == 3)
        await keys.level()
        assert keys.unreadable == 0
        await asyncio.sleep(1.0)
        assert keys.away is None
    async with process(ours) as later:
        assert later.all() == [key]


@pytest.mark.slow
async def test_compaction_loses_no_key(ours: Settings) -> None:
    """Once the broker has dropped what was superseded, a process that starts then knows what the others know."""
    eager = {"segment_ms": "100", "min_cleanable_dirty_ratio": "0.001", "max_compaction_lag_ms": "100"}
    await change_configs(ours, ours.topics.keys, cleanup_policy="compact", **eager)
    made = [make_key(f"key-{number}")[0] for number in range(4)]
    async with process(ours) as keys:
        for key in made:
            await keys.create(key)
        await keys.revoke(made[0].id)
        await keys.write(made[1].id.encode(), b"unreadable")
        before = keys.all()
        async with asyncio.timeout(90):
            while await _first_offsets(ours) == [0, 1]:
                await asyncio.sleep(1)
                await keys.write(made[3].id.encode(), encode(made[3]))  # a new segment, so that the old one is cleaned
        async with process(ours) as later:
            assert later.all() == keys.all() == before
            assert [key.name for key in later.all()] == ["key-0", "key-2", "key-3"]
            assert later.usable(made[0].id) is None
            assert later.usable(made[2].id) == made[2]


async def _first_offsets(settings: Settings) -> list[int]:
    """Where the first two records stand that are kept."""
    from tests.kafka_dump import dump

    topics = await dump(settings.kafka_bootstrap_servers, settings.workflow_topic_prefix, ["keys"])
    return [record.offset for record in topics["workflow.keys"][0][:2]]
