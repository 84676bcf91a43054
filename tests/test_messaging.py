"""Commands in, events and announcements out: what other Kafka clients can rely on, with real processes on real servers.

With KAFKA_BOOTSTRAP_SERVERS and POSTGRES_* set these tests run on those servers, under a prefix of their own.
"""

from __future__ import annotations

import asyncio
import base64
import json
import uuid
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import pytest_asyncio

from tests import servers
from tests.conftest import make_settings
from tests.fleet import Fleet, platform, until
from tests.kafka_client import WITHIN_S, Client
from tests.reader import Raw, digest, murmur2

pytestmark = [pytest.mark.slow, pytest.mark.asyncio(loop_scope="module")]

PARTITIONS = 4
TWO_STEPS = ["RunRequested", "StepStarted", "StepSucceeded", "StepStarted", "StepSucceeded", "RunCompleted"]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def fleet(
    kafka: servers.Address, postgres: servers.Address, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Fleet]:
    """Two API processes, a worker and a projector; a workflow `two` of two steps, and one that sleeps for long."""
    name, folder = uuid.uuid4().hex[:12], tmp_path_factory.mktemp("messaging")
    dsn = await servers.create_database(postgres.address, f"test_{name}")
    settings = make_settings(kafka.address, dsn, f"t{name}.", folder).model_copy(
        update={"workflow_partitions": PARTITIONS, "workflow_definition_wait_s": 5.0}
    )
    try:
        async with platform(settings, folder, apis=2) as fleet:
            await fleet.define({"id": "two", "name": "Two", "steps": [delay("a", 0), delay("b", 0)]})
            await fleet.define({"id": "long", "name": "Long", "steps": [delay("sleep", "1d")]})
            yield fleet
            assert fleet.deaths() == []
    finally:
        await servers.delete_topics(kafka.address, f"t{name}.")
        await servers.drop_database(postgres.address, f"test_{name}")


@pytest.fixture
def client(fleet: Fleet) -> Client:
    return Client(fleet.settings)


def delay(name: str, duration: float | str) -> dict[str, Any]:
    return {"name": name, "type": "delay", "config": {"duration": duration}}


def home(run_id: str) -> int:
    """The partition in which a run lives, as Kafka's own clients work it out of a key."""
    return (murmur2(run_id.encode()) & 0x7FFFFFFF) % PARTITIONS


def some_run(at: int = 0) -> str:
    """A new id with this home."""
    return next(run_id for run_id in iter(lambda: str(uuid.uuid4()), "") if home(run_id) == at)


def payload() -> dict[str, Any]:
    return {"mark": uuid.uuid4().hex}


def types(events: list[dict[str, Any]]) -> list[str]:
    return [event["type"] for event in events]


async def test_a_command_becomes_a_run(client: Client) -> None:
    """A TriggerRun as a CloudEvent is carried out step by step, its payload and its id as they were given."""
    run_id, given = some_run(1), payload()
    data = {"run_id": run_id, "workflow_id": "two", "version": 1, "payload": given}
    await client.put(
        {"specversion": "1.0", "id": "c-1", "source": "/test", "type": "TriggerRun", "actor": "ann", "data": data},
        key=run_id.encode(), partition=1,
    )  # fmt: skip
    events = await client.ended(run_id)
    assert types(events) == TWO_STEPS
    assert events[0]["data"]["payload"] == given
    assert events[0]["data"]["command"] == "c-1"
    assert events[0]["actor"] == "ann"
    assert events[-1]["data"]["status"] == "SUCCESS"


@pytest.mark.parametrize("key", [b"customer-7", b"\xff\x00", None], ids=["any key", "no text", "no key"])
async def test_a_foreign_message_starts_one_run(client: Client, key: bytes | None) -> None:
    """Only workflow and payload, with any key or none, in whatever partition the client's partitioner chose."""
    given = payload()
    partition, _ = await client.put({"workflow_id": "two", "payload": given}, key=key)
    run_id = await client.run_of(given)
    assert types(await client.ended(run_id)) == TWO_STEPS
    assert home(run_id) == partition


async def test_a_message_put_twice_is_one_run(client: Client) -> None:
    """The same run_id again: while the run goes on, after it has ended, and from the wrong partition."""
    run_id, given = some_run(2), payload()
    message = {"workflow_id": "two", "payload": given, "run_id": run_id}
    await client.put(message, partition=2)
    await client.put(message, partition=2)
    await client.ended(run_id)
    await client.put(message, partition=2)
    await client.put(message, partition=3)
    after = payload()
    await client.put({"workflow_id": "two", "payload": after}, partition=2)
    await client.ended(await client.run_of(after))  # all that stood before it is decided
    assert types(await client.history(run_id)) == TWO_STEPS
    assert await client.run_of(given) == run_id


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (b"{", "JSON"),
        (b"\xff\xfe", "JSON"),
        (b'{"workflow_id": "two", "payload": {"a": 1, "a": 2}}', "JSON"),
        (b'[{"workflow_id": "two"}]', "object"),
        (b'{"workflow_id": "two", "payload": 7}', "payload"),
        (b'{"workflow_id": "two", "surprise": 1}', "surprise"),
        (b'{"workflow_id": "two", "run_id": "a/b"}', "run_id"),
    ],
    ids=["cut", "no text", "twice the same field", "a list", "payload", "unknown field", "bad id"],
)  # fmt: skip
async def test_what_cannot_be_decoded_is_set_aside(client: Client, value: bytes, reason: str) -> None:
    """It stands on workflow.rejected with the reason, where it stood and its bytes, and its partition goes on."""
    partition, offset = await client.put(value, partition=1)
    after = payload()
    await client.put({"workflow_id": "two", "payload": after}, partition=1)
    told = await client.rejected(partition, offset)
    assert reason in told["reason"]
    assert base64.b64decode(told["value_base64"]) == value
    assert types(await client.ended(await client.run_of(after))) == TWO_STEPS


async def test_a_command_in_the_wrong_partition_is_sent_home(client: Client) -> None:
    """A client whose partitioner hashes otherwise: the run lives where its id says, and is one run."""
    run_id, given = some_run(3), payload()
    await client.put({"workflow_id": "two", "payload": given, "run_id": run_id}, key=run_id.encode(), partition=0)
    assert types(await client.ended(run_id)) == TWO_STEPS
    at_home = [record for record in (await client.topic("trigger"))[3] if record.key == run_id.encode()]
    assert len(at_home) == 1
    assert {
        number for number, log in (await client.topic("events")).items() if run_id.encode() in {r.key for r in log}
    } == {3}


async def test_one_announcement_per_finished_run(client: Client) -> None:
    """On workflow.completed stands, under the run's id, the last event of its history, byte for byte: a CloudEvent."""
    run_id = some_run(2)
    await client.put({"workflow_id": "two", "payload": payload(), "run_id": run_id}, partition=2)
    await client.ended(run_id)

    async def told() -> list[Raw]:
        return [r for log in (await client.topic("completed")).values() for r in log if r.key == run_id.encode()]

    async def is_told() -> bool:
        return bool(await told())

    await until(is_told, "the announcement", WITHIN_S)
    (announced,) = await told()
    logged = [r.value for r in (await client.topic("events"))[2] if r.key == run_id.encode()]
    assert announced.value == logged[-1]
    event = json.loads(announced.value or b"")
    assert (event["specversion"], event["type"], event["subject"]) == ("1.0", "RunCompleted", run_id)
    assert event["data"]["status"] == "SUCCESS"
    assert event["data"]["workflow_id"] == "two"
    assert set(event["data"]["results"]) == {"a", "b"}


async def test_two_writers_of_one_definition(fleet: Fleet, client: Client) -> None:
    """Ten bodies posted at once to two processes become versions 1 to 10, one chain of records, none lost."""

    async def post(number: int) -> int:
        definition = {"id": "busy", "name": f"Busy {number}", "steps": [delay("a", number)]}
        api = fleet.of("api")[number % 2]
        async with httpx.AsyncClient(base_url=api.address, timeout=30) as http:
            answer = await http.post("/api/v1/workflows", json=definition)
        assert answer.status_code == 201, answer.text
        return int(answer.json()["version"])

    versions = await asyncio.gather(*(post(number) for number in range(10)))
    assert sorted(versions) == list(range(1, 11))
    tip, names = None, []
    for record in (await client.topic("definitions"))[0]:
        event = json.loads(record.value or b"")
        if event["subject"] == "busy" and event["prev"] == tip:
            tip = digest(record.value or b"")
            names.append(event["data"]["definition"]["name"])
    assert sorted(names) == sorted(f"Busy {number}" for number in range(10))


async def test_a_run_is_cancelled(client: Client) -> None:
    """A CancelRun ends a run that sleeps; one for a run that does not exist is set aside."""
    run_id = some_run(0)
    await client.put({"workflow_id": "long", "payload": {}, "run_id": run_id}, partition=0)
    await client.put({"type": "CancelRun", "run_id": run_id, "reason": "no longer wanted", "actor": "ann"}, partition=0)
    events = await client.ended(run_id)
    assert events[-1]["data"]["status"] == "CANCELLED"
    assert events[-1]["data"]["error"]["message"] == "no longer wanted"
    assert events[-1]["actor"] == "ann"
    nobody = some_run(0)
    partition, offset = await client.put({"type": "CancelRun", "run_id": nobody}, partition=0)
    assert nobody in (await client.rejected(partition, offset))["reason"]


async def test_an_unknown_workflow_fails_the_run(client: Client) -> None:
    """A start that can be decoded always becomes a run: this one ends FAILED, and says why."""
    run_id = some_run(1)
    await client.put({"workflow_id": "nowhere", "payload": {}, "run_id": run_id}, partition=1)
    events = await client.ended(run_id)
    assert types(events) == ["RunRequested", "RunCompleted"]
    assert events[-1]["data"]["status"] == "FAILED"
    assert events[-1]["data"]["error"]["code"] == "definition_unknown"


async def test_a_start_waits_for_the_version_that_it_names(fleet: Fleet, client: Client) -> None:
    """It is held until the worker has read that version, and the commands behind it go on meanwhile."""
    run_id, behind = some_run(2), some_run(2)
    await client.put({"workflow_id": "later", "version": 1, "payload": {}, "run_id": run_id}, partition=2)
    await client.put({"workflow_id": "two", "payload": {}, "run_id": behind}, partition=2)
    await client.ended(behind)
    await fleet.define({"id": "later", "name": "Later", "steps": [delay("a", 0)]})
    events = await client.ended(run_id)
    assert events[-1]["data"]["status"] == "SUCCESS"
    assert events[0]["data"]["version"] == 1
