"""What each process needs of Kafka where access is controlled: pure, printed by `workflow grants`, held by a test on a broker."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import astuple
from typing import Literal, NamedTuple

from schemas.settings import Settings, Topics

Role = Literal["api", "worker", "projector", "owner"]
Operation = Literal["Read", "Write", "Create", "Delete", "Describe", "DescribeConfigs"]


class Right(NamedTuple):
    """One operation on one topic or group. Reading and writing include Describe."""

    role: Role
    operation: Operation
    kind: Literal["topic", "group"]
    name: str


def rights(settings: Settings) -> Iterator[Right]:
    """All of them. The owner is whoever runs `workflow migrate`, `verify`, `rebuild` and `keys`."""
    topics = settings.topics
    yield from _topics("api", "Read", topics.definitions, topics.keys)
    yield from _topics("api", "Write", topics.definitions, topics.trigger, topics.keys)
    yield Right("api", "Describe", "group", settings.kafka_consumer_group)  # for why a run is where it is
    yield from _topics("worker", "Read", topics.definitions, topics.trigger, topics.events)
    yield from _topics("worker", "Write", topics.trigger, topics.events, topics.completed, topics.rejected)
    yield from _topics("worker", "Delete", topics.trigger)
    yield Right("worker", "Read", "group", settings.kafka_consumer_group)
    yield from _topics("projector", "Read", topics.trigger, topics.events)
    yield Right("projector", "Read", "group", settings.workflow_projector_group)
    yield from _topics("owner", "Read", topics.trigger, topics.events, topics.keys)
    yield from _topics("owner", "Write", topics.keys)
    yield from _topics("owner", "Create", *_all(topics))
    if settings.storage_backend == "memory":
        yield from _topics("api", "Read", topics.trigger, topics.events)
    for role in ("api", "worker", "projector", "owner"):
        yield from _topics(role, "Describe", *_all(topics))
        yield from _topics(role, "DescribeConfigs", *_all(topics))  # each process checks them when it starts


def _topics(role: Role, operation: Operation, *names: str) -> Iterator[Right]:
    for name in names:
        yield Right(role, operation, "topic", name)


def _all(topics: Topics) -> tuple[str, ...]:
    return astuple(topics)
