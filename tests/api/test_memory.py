"""A platform without a shared store: every API process folds the topics itself."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from schemas.settings import Settings
from tests import servers
from tests.api.platform import Platform

pytestmark = pytest.mark.slow


def test_every_process_shows_every_run(kafka: servers.Address, topic_prefix: str, tmp_path: Path) -> None:
    """Each answers from a fold of its own; one that starts later is ready when it has read everything."""
    settings = Settings(
        storage_backend="memory",
        kafka_bootstrap_servers=kafka.address,
        kafka_consumer_group=f"{topic_prefix}workers",
        workflow_topic_prefix=topic_prefix,
        workflow_partitions=2,
        workflow_home=tmp_path,
    )
    platform = Platform(settings, tmp_path)
    try:
        one, other, _ = platform.start("api", "api", "worker")
        steps = [{"name": "a", "type": "delay", "config": {"duration": 0}}]
        assert (
            httpx.post(f"{one.address}/api/v1/workflows", json={"id": "w", "name": "w", "steps": steps}).status_code
            == 201
        )
        started = httpx.post(f"{one.address}/api/v1/trigger", json={"workflow_id": "w", "payload": {"n": 1}}).json()
        assert ended(other.address, started)["status"] == "SUCCESS"
        assert ended(one.address, started)["payload"] == {"n": 1}
        for api in (one, other):
            why = httpx.get(f"{api.address}/api/v1/runs/{started['run_id']}/why").json()
            assert (why["code"], why["status"], why["worker"]["state"]) == ("finished", "SUCCESS", "owned")
        (late,) = platform.start("api")
        run = httpx.get(f"{late.address}/api/v1/runs/{started['run_id']}").json()
        assert (run["status"], run["results"].keys()) == ("SUCCESS", {"a"})
        assert [item["run_id"] for item in httpx.get(f"{late.address}/api/v1/runs").json()["items"]] == [
            started["run_id"]
        ]
        assert late.stop() == 0
    finally:
        platform.close()


def ended(address: str, started: dict[str, Any]) -> dict[str, Any]:
    """The run when it is over."""
    ends = time.monotonic() + 60
    while time.monotonic() < ends:
        answer = httpx.get(
            f"{address}/api/v1/runs/{started['run_id']}", params={"min_position": started["position"]}, timeout=30
        )
        assert answer.status_code == 200, answer.text
        run: dict[str, Any] = answer.json()
        if run["finished_at"] is not None:
            return run
        time.sleep(0.02)
    raise AssertionError(f"not ended: {run}")
