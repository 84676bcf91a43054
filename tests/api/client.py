"""A client of the API of a whole platform: what it does all the time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

import httpx

from schemas.settings import Settings
from tests.api.platform import Platform
from tests.conftest import make_settings
from tests.kafka_dump import dump
from tests.reader import Raw

ENDED = {"SUCCESS", "FAILED", "CANCELLED"}
WAIT_S = 30.0


def platform_settings(kafka: str, dsn: str, name: str, folder: Any) -> Settings:
    return make_settings(kafka, dsn, f"{name}.", folder).model_copy(
        update={"workflow_partitions": 4, "webhook_allow": "127.0.0.1:1"}
    )


def delay(name: str, duration: float | str = 0) -> dict[str, Any]:
    return {"name": name, "type": "delay", "config": {"duration": duration}}


def define(api: httpx.Client, name: str, steps: list[dict[str, Any]]) -> str:
    answer = api.post("/api/v1/workflows", json={"name": name, "steps": steps})
    assert answer.status_code == 201, answer.text
    workflow_id: str = answer.json()["id"]
    return workflow_id


def start(api: httpx.Client, workflow: str, payload: Any = None, **headers: str) -> dict[str, Any]:
    answer = api.post("/api/v1/trigger", json={"workflow_id": workflow, "payload": payload or {}}, headers=headers)
    assert answer.status_code == 202, answer.text
    body: dict[str, Any] = answer.json()
    return body


def ended(api: httpx.Client, started: dict[str, Any]) -> dict[str, Any]:
    """The run when it is over. It is there from the first look on, and its status never goes back."""
    path = f"/api/v1/runs/{started['run_id']}"
    position, order = started["position"], ["PENDING", "RUNNING", "SUCCESS"]
    seen = "PENDING"
    ends = time.monotonic() + WAIT_S
    while time.monotonic() < ends:
        answer = api.get(path, params={"min_position": position})
        if answer.status_code == 503 and answer.json()["code"] == "position_not_reached":
            continue  # an API that waits for a moment only, on a busy machine
        assert answer.status_code == 200, answer.text
        run: dict[str, Any] = answer.json()
        if run["status"] in order:
            assert order.index(run["status"]) >= order.index(seen)
            seen = run["status"]
        if run["status"] in ENDED:
            return run
        position = run["position"]
        time.sleep(0.02)
    raise AssertionError(f"not ended within {WAIT_S} s: {run}")


def events_topic(platform: Platform) -> list[Raw]:
    """Every record of `workflow.events`."""
    settings = platform.settings
    topics = asyncio.run(dump(settings.kafka_bootstrap_servers, settings.workflow_topic_prefix))
    return [record for records in topics["workflow.events"].values() for record in records]


def eventually(holds: Callable[[], bool]) -> None:
    ends = time.monotonic() + WAIT_S
    while not holds():
        assert time.monotonic() < ends
        time.sleep(0.02)


def problem(answer: httpx.Response, status: int, code: str) -> dict[str, Any]:
    body: dict[str, Any] = answer.json()
    assert (answer.status_code, body["code"]) == (status, code), answer.text
    assert answer.headers["content-type"] == "application/problem+json"
    return body


def listed(api: httpx.Client, **query: Any) -> list[str]:
    """All run ids of a list, over all its pages."""
    path, found = str(httpx.URL("/api/v1/runs", params={"limit": 70, **query})), list[str]()
    while path:
        answer = api.get(path)
        assert answer.status_code == 200, answer.text
        found += [item["run_id"] for item in answer.json()["items"]]
        path = answer.links.get("next", {}).get("url", "")
    return found
