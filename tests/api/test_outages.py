"""Kafka or PostgreSQL away: what the API still does, what it refuses and how fast, and that it goes on by itself."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import httpx
import pytest

from ops.embedded.kafka import KafkaServer
from ops.embedded.postgres import PostgresServer
from tests.api.platform import Platform
from tests.conftest import make_settings

pytestmark = pytest.mark.long

BOUND_S = 25.0
"""Every answer is there by then: the bound of a send or of a query, and what a busy machine adds."""
WORKFLOW = {"id": "w", "name": "w", "steps": [{"name": "a", "type": "delay", "config": {"duration": 0}}]}
KEY = {"Idempotency-Key": "k"}


@pytest.fixture
def api(own_kafka: KafkaServer, own_postgres: PostgresServer, tmp_path: Path) -> Iterator[httpx.Client]:
    """One API process on servers that may be harmed, with a definition and a run that is pending."""
    settings = make_settings(own_kafka.address, own_postgres.dsn, "", tmp_path)
    fast = {"workflow_partitions": 1, "workflow_send_timeout_s": 3.0, "workflow_position_wait_s": 1.0}
    platform = Platform(settings.model_copy(update=fast), tmp_path)
    try:
        (process,) = platform.start("api")
        with httpx.Client(base_url=process.address, timeout=BOUND_S) as client:
            assert client.post("/api/v1/workflows", json=WORKFLOW).status_code == 201
            yield client
    finally:
        platform.close()


def trigger(api: httpx.Client, headers: dict[str, str] | None = None) -> httpx.Response:
    return api.post("/api/v1/trigger", json={"workflow_id": "w"}, headers=headers)


def code(answer: httpx.Response) -> tuple[int, str]:
    """Status and code of a refusal that says when to come again."""
    assert answer.headers["retry-after"]
    return answer.status_code, answer.json()["code"]


def eventually(holds: Callable[[], bool], within_s: float = 60.0) -> None:
    ends = time.monotonic() + within_s
    while not holds():
        assert time.monotonic() < ends
        time.sleep(0.1)


def test_kafka_dies_and_comes_back(api: httpx.Client, own_kafka: KafkaServer) -> None:
    """Starts and definitions are refused cleanly; reads and known definitions go on; /ready stays green."""
    assert trigger(api).status_code == 202
    own_kafka.kill()
    for _ in range(3):
        assert code(trigger(api)) == (503, "broker_away")
    assert code(api.post("/api/v1/trigger/batch", json={"items": [{"workflow_id": "w"}] * 3})) == (503, "broker_away")
    assert code(api.post("/api/v1/trigger", json={"workflow_id": "unknown"})) == (503, "broker_away")
    assert code(api.post("/api/v1/workflows", json={**WORKFLOW, "id": "v"})) == (503, "broker_away")
    assert api.get("/api/v1/workflows/w").status_code == 200
    assert api.get("/api/v1/runs").status_code == 200
    assert api.get("/health").status_code == 200
    eventually(lambda: api.get("/ready").json()["components"]["kafka"]["state"] == "degraded")
    assert api.get("/ready").status_code == 200
    own_kafka.start()
    eventually(lambda: trigger(api).status_code == 202)
    eventually(lambda: api.post("/api/v1/workflows", json={**WORKFLOW, "id": "v"}).status_code in (200, 201))
    eventually(lambda: api.get("/ready").json()["components"]["kafka"]["state"] == "ok")


def test_kafka_freezes_in_the_middle_of_a_start(api: httpx.Client, own_kafka: KafkaServer) -> None:
    """What had begun is of unknown outcome and can be repeated with its key; what comes later is refused cleanly."""
    assert trigger(api).status_code == 202
    own_kafka.freeze()
    try:
        began = time.monotonic()
        answer = trigger(api, KEY)
        assert code(answer) == (503, "outcome_unknown")
        assert time.monotonic() - began < BOUND_S
        assert "same Idempotency-Key is safe" in answer.json()["detail"]
        assert code(trigger(api)) == (503, "broker_away")
    finally:
        own_kafka.thaw()
    eventually(lambda: trigger(api, KEY).status_code == 202)
    assert trigger(api, KEY).json()["run_id"] == answer.json()["run_ids"][0]


@pytest.mark.parametrize("how", ["killed", "frozen"])
def test_postgres_is_away_and_comes_back(api: httpx.Client, own_postgres: PostgresServer, how: str) -> None:
    """Reads and keyed starts are refused in bounded time; starts without a key and definitions go on."""
    assert api.get("/api/v1/runs").status_code == 200
    (own_postgres.kill if how == "killed" else own_postgres.freeze)()
    try:
        assert code(api.get("/api/v1/runs")) == (503, "store_away")
        assert code(api.get("/api/v1/runs/r1")) == (503, "store_away")
        assert code(trigger(api, KEY)) == (503, "store_away")
        assert trigger(api).status_code == 202
        assert api.post("/api/v1/workflows", json={**WORKFLOW, "id": f"v-{how}"}).status_code == 201
        assert api.get("/health").status_code == 200
        eventually(lambda: api.get("/ready").json()["components"]["store"]["state"] == "degraded")
        assert api.get("/ready").status_code == 200
    finally:
        (own_postgres.start if how == "killed" else own_postgres.thaw)()
    eventually(lambda: api.get("/api/v1/runs").status_code == 200)
    assert trigger(api, KEY).status_code == 202
    eventually(lambda: api.get("/ready").json()["components"]["store"]["state"] == "ok")
