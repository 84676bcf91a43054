"""The API of a whole platform, as a client sees it: two API processes, a worker and a projector on a real Kafka and PostgreSQL."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from hashlib import blake2b
from typing import Any

import httpx
import pytest

from tests import servers
from tests.api.client import define, delay, ended, events_topic, eventually, listed, platform_settings, problem, start
from tests.api.platform import Platform

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def platform(
    kafka: servers.Address, postgres: servers.Address, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Platform]:
    """One platform for all tests of this module; each test defines a workflow of its own."""
    name, folder = f"test_{uuid.uuid4().hex[:12]}", tmp_path_factory.mktemp("platform")
    settings = platform_settings(
        kafka.address, asyncio.run(servers.create_database(postgres.address, name)), name, folder
    )
    platform = Platform(settings, folder)
    try:
        platform.start("api", "api", "worker", "projector")
        yield platform
    finally:
        platform.close()
        asyncio.run(servers.delete_topics(kafka.address, f"{name}."))
        asyncio.run(servers.drop_database(postgres.address, name))


@pytest.fixture
def api(platform: Platform) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=platform.of("api")[0].address, timeout=30) as client:
        yield client


@pytest.fixture
def other(platform: Platform) -> Iterator[httpx.Client]:
    """The other API process."""
    with httpx.Client(base_url=platform.of("api")[1].address, timeout=30) as client:
        yield client


@pytest.fixture
def workflow(api: httpx.Client, request: pytest.FixtureRequest) -> str:
    """A workflow of this test alone: two delays of 0."""
    return define(api, request.node.name, [delay("first"), delay("second")])


def test_a_run_goes_to_its_end(api: httpx.Client, workflow: str) -> None:
    """Triggered, then SUCCESS with the results of both steps, each with one attempt and its times."""
    run = ended(api, start(api, workflow, {"user": "ada"}))
    assert (run["status"], run["workflow_id"], run["version"], run["payload"]) == (
        "SUCCESS",
        workflow,
        1,
        {"user": "ada"},
    )
    assert run["results"].keys() == {"first", "second"}
    assert [(step["name"], step["status"], step["attempts"]) for step in run["steps"]] == [
        ("first", "SUCCESS", 1),
        ("second", "SUCCESS", 1),
    ]
    assert run["created_at"] <= run["started_at"] <= run["finished_at"]


def test_definitions_have_versions(api: httpx.Client, other: httpx.Client) -> None:
    """201, the same body 200, a changed body the next version; old ones stay readable, on every process."""
    body = {"id": "versions", "name": "Versions", "steps": [delay("a")]}
    outcomes = [api.post("/api/v1/workflows", json={**body, "description": text}) for text in ("one", "one", "two")]
    assert [(answer.status_code, answer.json()["version"]) for answer in outcomes] == [(201, 1), (200, 1), (201, 2)]
    position = outcomes[-1].json()["position"]
    assert other.get("/api/v1/workflows/versions", params={"min_position": position}).json()["description"] == "two"
    assert other.get("/api/v1/workflows/versions", params={"version": 1}).json()["description"] == "one"


def test_a_definition_can_be_started_by_another_process_at_once(api: httpx.Client, other: httpx.Client) -> None:
    """No waiting between the 201 of one process and a start at the other."""
    for number in range(10):
        workflow = define(api, f"at once {number}", [delay("a")])
        start(other, workflow)


def test_workflows_are_listed(api: httpx.Client, workflow: str) -> None:
    """In pages, each workflow once."""
    ids, path = list[str](), "/api/v1/workflows?limit=2"
    while path:
        answer = api.get(path)
        ids += [item["id"] for item in answer.json()["items"]]
        path = answer.links.get("next", {}).get("url", "")
    assert workflow in ids
    assert ids == sorted(set(ids))


def test_a_run_uses_the_version_it_was_started_with(api: httpx.Client) -> None:
    """The newest at the start, or the one that it names."""
    body = {"id": "pinned", "name": "Pinned", "steps": [delay("a")]}
    api.post("/api/v1/workflows", json=body)
    api.post("/api/v1/workflows", json={**body, "steps": [delay("b")]})
    assert ended(api, start(api, "pinned"))["results"].keys() == {"b"}
    answer = api.post("/api/v1/trigger", json={"workflow_id": "pinned", "version": 1})
    assert ended(api, answer.json())["results"].keys() == {"a"}


def test_an_unknown_workflow_is_a_404(api: httpx.Client) -> None:
    """With a problem that says what to do, and whose type is a page."""
    body = problem(api.post("/api/v1/trigger", json={"workflow_id": "nobody-knows"}), 404, "definition_unknown")
    page = api.get(body["type"])
    assert page.status_code == 200
    assert "POST /api/v1/workflows" in page.text


def test_a_wrong_start_is_refused_and_leaves_nothing(api: httpx.Client, workflow: str) -> None:
    """Each mistake is a 4xx that names the field; no run comes of any of them."""
    wrong: list[tuple[bytes, int]] = [
        (b'{"workflow_id": "%s", "payload": [1]}', 422),
        (b'{"workflow_id": "%s", "paylaod": {}}', 422),
        (b'{"workflow_id": "%s", "payload": {"a": 1e400}}', 400),
        (b'{"workflow_id": "%s", "payload": {"a": "\\u0000"}}', 400),
        (b'{"workflow_id": "%s", "payload": {"a": 1, "a": 2}}', 400),
        (b'{"workflow_id": "%s", "payload": {"a": "' + b"x" * 600_000 + b'"}}', 413),
        (b'{"workflow_id": "%s", "payload": {"a": "' + b"x" * 1_000_000 + b'"}}', 413),
        (b'{"workflow_id": "%s"', 400),
    ]
    for text, status in wrong:
        answer = api.post(
            "/api/v1/trigger",
            content=text.replace(b"%s", workflow.encode()),
            headers={"Content-Type": "application/json"},
        )
        assert answer.status_code == status, answer.text
        assert answer.json()["detail"]
    started = start(api, workflow)
    runs = api.get("/api/v1/runs", params={"workflow_id": workflow, "min_position": started["position"]}).json()[
        "items"
    ]
    assert [run["run_id"] for run in runs] == [started["run_id"]]


def test_a_payload_comes_back_exact(api: httpx.Client, workflow: str) -> None:
    """Integers past 2^53, floats, unicode, deep nesting: what was sent is what is shown."""
    payload = {
        "big": 2**63 - 1,
        "low": -(2**63),
        "odd": 2**53 + 1,
        "x": 0.1,
        "t": "日本 😀 \u0001",
        "n": None,
        "deep": [[[[{"a": [True]}]]]],
        "": {},
    }
    run = ended(api, start(api, workflow, payload))
    assert run["payload"] == payload
    assert isinstance(run["payload"]["odd"], int)


def test_an_accepted_run_is_never_a_404(api: httpx.Client, other: httpx.Client, workflow: str) -> None:
    """With the token of the 202 the very first read shows it, at whichever process."""
    for number in range(30):
        started = start(api, workflow, {"n": number})
        for client in (other, api):
            answer = client.get(f"/api/v1/runs/{started['run_id']}", params={"min_position": started["position"]})
            assert (answer.status_code, answer.json()["payload"]) == (200, {"n": number})


def test_a_start_that_nobody_has_taken_is_pending(platform: Platform, api: httpx.Client, workflow: str) -> None:
    """With the worker frozen the run is shown from its command; afterwards it goes on."""
    (worker,) = platform.of("worker")
    worker.freeze()
    try:
        started = start(api, workflow, {"n": 1})
        run = api.get(f"/api/v1/runs/{started['run_id']}", params={"min_position": started["position"]}).json()
        assert (run["status"], run["seq"], run["payload"], run["started_at"]) == ("PENDING", 0, {"n": 1}, None)
        listed = api.get("/api/v1/runs", params={"workflow_id": workflow, "status": "PENDING"}).json()["items"]
        assert [item["run_id"] for item in listed] == [started["run_id"]]
    finally:
        worker.thaw()
    assert ended(api, started)["status"] == "SUCCESS"


def test_the_same_key_is_the_same_run(api: httpx.Client, other: httpx.Client, workflow: str) -> None:
    """Again at once, again at another process, again when it is over: one run; another body is a 422."""
    first = start(api, workflow, {"n": 1}, **{"Idempotency-Key": "k"})
    assert start(api, workflow, {"n": 1}, **{"Idempotency-Key": "k"})["run_id"] == first["run_id"]
    ended(other, first)
    answer = other.post(
        "/api/v1/trigger", json={"workflow_id": workflow, "payload": {"n": 1}}, headers={"Idempotency-Key": "k"}
    )
    assert (answer.status_code, answer.json()["run_id"], answer.headers["idempotent-replayed"]) == (
        202,
        first["run_id"],
        "true",
    )
    for client in (api, other):
        answer = client.post(
            "/api/v1/trigger", json={"workflow_id": workflow, "payload": {"n": 2}}, headers={"Idempotency-Key": "k"}
        )
        problem(answer, 422, "idempotency_key_reused")
    assert [run["run_id"] for run in api.get("/api/v1/runs", params={"workflow_id": workflow}).json()["items"]] == [
        first["run_id"]
    ]


def test_fifty_calls_at_once_with_one_key_are_one_run(
    platform: Platform, api: httpx.Client, other: httpx.Client, workflow: str
) -> None:
    """On two processes: fifty answers with one id, and one run in the log."""

    def call(number: int) -> dict[str, Any]:
        return start((api, other)[number % 2], workflow, {"n": 1}, **{"Idempotency-Key": "race"})

    with ThreadPoolExecutor(50) as pool:
        answers = list(pool.map(call, range(50)))
    (run_id,) = {answer["run_id"] for answer in answers}
    for answer in answers:
        ended(api, answer)
    values = [record.value or b"" for record in events_topic(platform) if record.key == run_id.encode()]
    assert sum(b'"RunRequested"' in value for value in values) == 1
    assert sum(b'"RunCompleted"' in value for value in values) == 1


def test_a_batch_becomes_as_many_runs(api: httpx.Client, workflow: str) -> None:
    """In the order of its items, all of them, to their ends."""
    items = [{"workflow_id": workflow, "payload": {"n": number}} for number in range(300)]
    answer = api.post("/api/v1/trigger/batch", json={"items": items})
    assert answer.status_code == 202, answer.text
    run_ids, position = answer.json()["run_ids"], answer.json()["position"]
    for number in (0, 150, 299):
        run = ended(api, {"run_id": run_ids[number], "position": position})
        assert (run["status"], run["payload"]) == ("SUCCESS", {"n": number})
    eventually(lambda: len(listed(api, workflow_id=workflow, status="SUCCESS")) == 300)
    assert set(listed(api, workflow_id=workflow)) == set(run_ids)


def test_one_wrong_item_stops_a_batch(api: httpx.Client, workflow: str) -> None:
    """Nothing is sent, and every mistake is named."""
    items: list[dict[str, Any]] = [{"workflow_id": workflow} for _ in range(20)]
    items[7]["payload"], items[13]["workflow_id"] = "text", "not/an/id"
    body = problem(api.post("/api/v1/trigger/batch", json={"items": items}), 422, "body_invalid")
    assert [error["pointer"] for error in body["errors"]] == ["/items/7/payload", "/items/13/workflow_id"]
    marker = start(api, workflow)
    assert listed(api, workflow_id=workflow, min_position=marker["position"]) == [marker["run_id"]]


def test_runs_are_listed_newest_first_by_filter(api: httpx.Client, workflow: str) -> None:
    """By workflow, status and time, over pages, each run once."""
    started = [start(api, workflow, {"n": number}) for number in range(8)]
    created = [ended(api, each)["created_at"] for each in started]
    newest_first = [each["run_id"] for each in started][::-1]
    assert listed(api, workflow_id=workflow, limit=3) == newest_first
    assert listed(api, workflow_id=workflow, status="SUCCESS", limit=1) == newest_first
    assert listed(api, workflow_id=workflow, status="FAILED") == []
    if len(set(created)) == len(created):  # two starts may fall into one millisecond
        assert listed(api, workflow_id=workflow, created_after=created[2]) == newest_first[:5]
        assert listed(api, workflow_id=workflow, created_before=created[2], limit=1) == newest_first[-2:]
    assert listed(api, workflow_id=workflow, created_after=datetime.now(UTC).isoformat()) == []


def test_a_cursor_is_bound_to_its_filter(api: httpx.Client, workflow: str) -> None:
    """Used for another list it is a 400 that names the filter."""
    for number in range(3):
        ended(api, start(api, workflow, {"n": number}))
    cursor = api.get("/api/v1/runs", params={"workflow_id": workflow, "limit": 1}).json()["next_cursor"]
    body = problem(
        api.get("/api/v1/runs", params={"workflow_id": "else", "limit": 1, "cursor": cursor}), 400, "cursor_refused"
    )
    assert f"workflow_id={workflow}" in body["detail"]


def test_the_history_of_a_run_is_its_chain(api: httpx.Client, workflow: str) -> None:
    """Every event, in order; each names the digest of the one before; newest first and by type as well."""
    started = start(api, workflow)
    ended(api, started)
    path = f"/api/v1/runs/{started['run_id']}/events"
    events = api.get(path).json()["items"]
    assert [event["type"] for event in events] == [
        "RunRequested",
        "StepStarted",
        "StepSucceeded",
        "StepStarted",
        "StepSucceeded",
        "RunCompleted",
    ]
    assert [event["seq"] for event in events] == [1, 2, 3, 4, 5, 6]
    assert [event["prev"] for event in events] == [None, *(event["digest"] for event in events[:-1])]
    assert [event["seq"] for event in api.get(path, params={"order": "desc", "before_seq": 4}).json()["items"]] == [
        3,
        2,
        1,
    ]
    assert [event["seq"] for event in api.get(path, params={"type": "StepStarted"}).json()["items"]] == [2, 4]


def test_the_digests_are_those_of_the_log(platform: Platform, api: httpx.Client, workflow: str) -> None:
    """What the API calls an event's digest is BLAKE2b of the record's bytes."""
    started = start(api, workflow)
    ended(api, started)
    events = api.get(f"/api/v1/runs/{started['run_id']}/events").json()["items"]
    by_offset = {(record.key, record.offset): record.value for record in events_topic(platform)}
    for event in events:
        value = by_offset[started["run_id"].encode(), event["offset"]] or b""
        assert blake2b(value, digest_size=16).hexdigest() == event["digest"]


def test_an_etag_saves_the_body(api: httpx.Client, workflow: str) -> None:
    """304 while the run stands still, 200 after it has moved."""
    slow = define(api, "etag", [delay("a", "400ms"), delay("b")])
    started = start(api, slow)
    path = f"/api/v1/runs/{started['run_id']}"

    def running() -> bool:
        return bool(api.get(path, params={"min_position": started["position"]}).json()["status"] == "RUNNING")

    eventually(running)
    first = api.get(path)
    assert api.get(path, headers={"If-None-Match": first.headers["etag"]}).status_code == 304
    ended(api, started)
    moved = api.get(path, headers={"If-None-Match": first.headers["etag"]})
    assert (moved.status_code, moved.json()["status"]) == (200, "SUCCESS")
    assert moved.headers["etag"].startswith(f'"{moved.json()["seq"]}-')


def test_a_failed_run_says_why(api: httpx.Client) -> None:
    """FAILED with the error of the step that failed; what came after it was never started."""
    call = {
        "name": "call",
        "type": "webhook",
        "config": {"url": "http://127.0.0.1:1/"},
        "retry": {"max_attempts": 2, "initial": "10ms"},
    }
    workflow = define(api, "failing", [delay("before"), call, delay("after")])
    run = ended(api, start(api, workflow))
    assert run["status"] == "FAILED"
    assert run["error"]["step"] == "call"
    assert run["error"]["message"]
    assert [(step["status"], step["attempts"]) for step in run["steps"]] == [
        ("SUCCESS", 1),
        ("FAILED", 2),
        ("PENDING", 0),
    ]
    assert run["results"].keys() == {"before"}


def test_a_position_that_is_not_reached_is_a_503(platform: Platform, api: httpx.Client) -> None:
    """Within the bound, with Retry-After."""
    answer = api.get("/api/v1/runs", params={"min_position": "e0.999999999"})
    problem(answer, 503, "position_not_reached")
    assert answer.headers["retry-after"]


def test_every_process_answers_its_probes(platform: Platform, api: httpx.Client) -> None:
    """/health and /ready of all roles; the API's tells of Kafka, store and projection."""
    for member in platform.processes:
        assert httpx.get(f"{member.address}/health").json() == {"status": "ok"}
        assert httpx.get(f"{member.address}/ready").status_code == 200
    assert api.get("/ready").json()["components"].keys() >= {"kafka", "store", "projection"}


def test_the_documentation_is_served(api: httpx.Client) -> None:
    """/ leads to /docs, and the OpenAPI document has short operation ids."""
    assert api.get("/", follow_redirects=True).url.path == "/docs"
    paths = api.get("/api/v1/openapi.json").json()["paths"]
    assert paths["/api/v1/runs/{run_id}"]["get"]["operationId"] == "runs_get"


def test_a_request_id_goes_through(platform: Platform, api: httpx.Client) -> None:
    """It comes back, and the log of the process has it."""
    request_id = f"req-{uuid.uuid4()}"
    assert api.get("/api/v1/runs", headers={"X-Request-Id": request_id}).headers["x-request-id"] == request_id
    log = platform.of("api")[0].log
    eventually(lambda: request_id in log.read_text())


def test_an_api_process_stops_cleanly(platform: Platform, workflow: str) -> None:
    """SIGTERM ends it with 0, and a new one serves what the old one accepted."""
    (extra,) = platform.start("api")
    with httpx.Client(base_url=extra.address, timeout=30) as client:
        started = start(client, workflow)
    assert extra.stop() == 0
    (again,) = platform.start("api")
    with httpx.Client(base_url=again.address, timeout=30) as client:
        assert ended(client, started)["status"] == "SUCCESS"
    assert again.stop() == 0
