"""The six topics: made once, and checked at every start, because a wrong retention deletes history without a word."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass

from aiokafka.admin import NewTopic, RecordsToDelete
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import (
    InvalidReplicationFactorError,
    NoError,
    TopicAlreadyExistsError,
    for_code,
)

from schemas.errors import BadSetting, BrokerAway, TopicMismatch
from schemas.ports import TP
from schemas.settings import Settings

from .kafka import FORBIDDEN, Client, admin, answering, reader_consumer, stop_client

FOR_EVER = {"retention.ms": "-1", "retention.bytes": "-1", "cleanup.policy": "delete"}
BROKER_TIME = {"message.timestamp.type": "LogAppendTime"}
NEWEST_OF_EACH = {"cleanup.policy": "compact"}
THIRTY_DAYS = {"retention.ms": str(30 * 24 * 3600 * 1000), "cleanup.policy": "delete"}

ENVELOPE_BYTES = 16 * 1024
"""What a record's batch may add to its value and key."""


@dataclass(frozen=True, slots=True)
class TopicSpec:
    """A topic as it must be. `checked` are configs that an existing topic must have; `config` is what it is made with."""

    name: str
    partitions: int
    checked: Mapping[str, str]
    config: Mapping[str, str]


def specs(settings: Settings) -> tuple[TopicSpec, ...]:
    """The six topics under the settings' prefix."""
    names, many = settings.topics, settings.workflow_partitions

    def spec(name: str, partitions: int, checked: Mapping[str, str], **config: str) -> TopicSpec:
        return TopicSpec(
            name, partitions, checked, {**checked, **config, "max.message.bytes": str(record_bytes(settings))}
        )

    return (
        spec(names.definitions, 1, FOR_EVER, **BROKER_TIME),  # of one that is older, its producers' time counts
        spec(names.trigger, many, {**FOR_EVER, **BROKER_TIME}),  # deleted by `delete_decided`, by the broker's time
        spec(names.events, many, {**FOR_EVER, **BROKER_TIME}),
        spec(names.completed, many, {"cleanup.policy": "delete"}, **THIRTY_DAYS),
        spec(names.rejected, 1, {"cleanup.policy": "delete"}, **THIRTY_DAYS),
        spec(names.keys, 1, NEWEST_OF_EACH),
    )


def record_bytes(settings: Settings) -> int:
    """The least `max.message.bytes` that a topic must allow."""
    return settings.workflow_record_bytes_max + ENVELOPE_BYTES


async def ensure_topics(settings: Settings, *, only: str | None = None, bound_s: float = 30.0) -> None:
    """Make the topics that are missing and check all of them, or the one that is named `only`. Any number of processes
    may do so at once. Raises TopicMismatch, BadSetting, or BrokerAway within the bound."""
    wanted = tuple(spec for spec in specs(settings) if only in (None, spec.name))
    async with admin(settings, bound_s) as client:
        found = await _partitions(client, wanted)
        missing = [spec for spec in wanted if spec.name not in found]
        if missing:
            await _create(client, settings, missing)
            while len(found := await _partitions(client, wanted)) < len(wanted):  # noqa: ASYNC110 - it is not ours to signal
                await asyncio.sleep(0.05)  # the brokers' metadata follows the controller's
        for spec in wanted:
            _check_partitions(spec, found[spec.name])
        configs = await _configs(client, wanted)
    for spec in wanted:
        _check_configs(settings, spec, configs[spec.name])


async def delete_decided(
    settings: Settings, offsets: Mapping[TP, int], older_than_ms: int, *, bound_s: float = 30.0
) -> dict[TP, int]:
    """Delete the commands below each partition's decided position that were appended before `older_than_ms`
    (milliseconds since the epoch). Returns the first offset now kept, for partitions from which something was deleted."""
    async with answering(settings, bound_s):
        consumer = reader_consumer(settings)
        try:
            await consumer.start()
            begins = await consumer.beginning_offsets(list(offsets))
            young = await consumer.offsets_for_times(dict.fromkeys(offsets, older_than_ms))
        finally:
            await stop_client(consumer)
    before = {tp: min(decided, young[tp].offset) if young[tp] else decided for tp, decided in offsets.items()}
    todo = {tp: RecordsToDelete(offset) for tp, offset in before.items() if offset > begins[tp]}
    if not todo:
        return {}
    async with admin(settings, bound_s) as client:
        return {TP(*tp): kept for tp, kept in (await client.delete_records(todo)).items()}


async def _partitions(client: Client, wanted: tuple[TopicSpec, ...]) -> dict[str, int]:
    """Partition counts of those of the topics that exist."""
    described = await client.describe_topics([spec.name for spec in wanted])
    return {topic["topic"]: len(topic["partitions"]) for topic in described if for_code(topic["error_code"]) is NoError}


async def _create(client: Client, settings: Settings, missing: list[TopicSpec]) -> None:
    replicas = settings.workflow_replication_factor
    answer = await client.create_topics(
        [NewTopic(spec.name, spec.partitions, replicas, topic_configs=dict(spec.config)) for spec in missing]
    )
    for name, code, *_ in answer.topic_errors:
        error = for_code(code)
        if error is InvalidReplicationFactorError:
            reason = "the cluster has fewer brokers"
            raise BadSetting(name="WORKFLOW_REPLICATION_FACTOR", value=replicas, reason=reason)
        if error is not NoError and error is not TopicAlreadyExistsError:  # another process was first: checked below
            if error.retriable or error in FORBIDDEN:
                may = "; this user may not, `workflow migrate` with one that may does" if error in FORBIDDEN else ""
                reason = f"topic {name} could not be created: {error.__name__}{may}"
                raise BrokerAway(address=settings.kafka_bootstrap_servers, reason=reason)
            raise error(name)


async def _configs(client: Client, wanted: tuple[TopicSpec, ...]) -> dict[str, dict[str, str]]:
    answers = await client.describe_configs([ConfigResource(ConfigResourceType.TOPIC, spec.name) for spec in wanted])
    found = {}
    for answer in answers:
        for code, _message, _kind, name, configs in answer.resources:
            if (error := for_code(code)) is not NoError:
                raise error(name)
            found[name] = {config: value for config, value, *_ in configs}
    return found


def _check_partitions(spec: TopicSpec, found: int) -> None:
    if found != spec.partitions:
        remedy = (
            f"The number is fixed once the topics exist: set WORKFLOW_PARTITIONS={found}, or start with another WORKFLOW_TOPIC_PREFIX."
            if spec.partitions != 1
            else "Delete the topic if it is not ours, or start with another WORKFLOW_TOPIC_PREFIX."
        )
        raise TopicMismatch(
            topic=spec.name, found=f"it has {found} partitions", wanted=f"{spec.partitions}", remedy=remedy
        )


def _check_configs(settings: Settings, spec: TopicSpec, found: Mapping[str, str]) -> None:
    wrong = {name: value for name, value in spec.checked.items() if found.get(name) != value}
    if int(found["max.message.bytes"]) < record_bytes(settings):
        wrong["max.message.bytes"] = spec.config["max.message.bytes"]
    if wrong:
        change = ",".join(f"{name}={value}" for name, value in wrong.items())
        raise TopicMismatch(
            topic=spec.name,
            found=", ".join(f"{name}={found.get(name)}" for name in wrong),
            wanted=change,
            remedy=f"kafka-configs.sh --bootstrap-server {settings.kafka_bootstrap_servers} --alter "
            f"--entity-type topics --entity-name {spec.name} --add-config {change}",
        )
