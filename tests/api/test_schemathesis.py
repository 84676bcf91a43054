"""The OpenAPI document against the API: Schemathesis makes requests from it, sound and unsound, and looks at every answer."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests import servers
from tests.api.client import platform_settings
from tests.api.platform import Platform

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
EXAMPLES = "6"
KNOWN_S = 20.0
REPLACED = "positive_data_acceptance"
"""By `tests.api.schemathesis_checks`, which is stricter: the built-in check knows status codes and not reasons."""


@pytest.fixture(params=["off", "keys"])
def platform(
    request: pytest.FixtureRequest, kafka: servers.Address, postgres: servers.Address, tmp_path: Path
) -> Iterator[Platform]:
    """One of each process, which asks for keys or does not."""
    name = f"test_{uuid.uuid4().hex[:12]}"
    dsn = asyncio.run(servers.create_database(postgres.address, name))
    settings = platform_settings(kafka.address, dsn, name, tmp_path)
    platform = Platform(settings.model_copy(update={"workflow_auth": request.param}), tmp_path)
    try:
        platform.start("api", "worker", "projector")
        yield platform
    finally:
        platform.close()
        asyncio.run(servers.delete_topics(kafka.address, f"{name}."))
        asyncio.run(servers.drop_database(postgres.address, name))


def key(platform: Platform) -> list[str]:
    """What the requests carry: a key that may do everything, where keys are asked for."""
    if platform.settings.workflow_auth == "off":
        return []
    told = {
        "KAFKA_BOOTSTRAP_SERVERS": platform.settings.kafka_bootstrap_servers,
        "WORKFLOW_TOPIC_PREFIX": platform.settings.workflow_topic_prefix,
    }
    line = [sys.executable, "-P", "-m", "ops", "keys", "create", "fuzz", "--scope", "admin"]
    made = subprocess.run(
        line,
        env={**os.environ, **told, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert made.returncode == 0, made.stderr
    header = {"Authorization": f"Bearer {made.stdout.strip()}"}
    ends = time.monotonic() + KNOWN_S
    while httpx.get(f"{platform.of('api')[0].address}/api/v1/runs", headers=header).status_code != 200:
        assert time.monotonic() < ends, "the API does not hear of a new key"
        time.sleep(0.1)
    return ["--header", f"Authorization:{header['Authorization']}"]


@pytest.mark.timeout(180)
def test_every_answer_is_as_documented(platform: Platform, tmp_path: Path) -> None:
    """All checks: no 5xx, only documented statuses, types, headers and shapes; unsound requests refused, sound ones taken;
    methods, authentication and resources as the document says. The seed is fixed."""
    url = platform.of("api")[0].address
    line = [
        *(str(Path(sys.executable).parent / "st"), "run", f"{url}/api/v1/openapi.json", *key(platform)),
        *("--checks", "all", "--exclude-checks", REPLACED, "--max-examples", EXAMPLES, "--seed", "7", "--workers", "2"),
        *("--generation-database", "none", "--no-color", "--continue-on-failure", "--no-shrink"),
    ]
    env = {**os.environ, "SCHEMATHESIS_HOOKS": "tests.api.schemathesis_checks", "PYTHONPATH": str(ROOT)}
    done = subprocess.run(line, env=env, cwd=tmp_path, capture_output=True, text=True, timeout=170, check=False)
    print(done.stdout[-600:])
    assert done.returncode == 0, done.stdout[-6000:] + done.stderr[-2000:]
    for log in tmp_path.glob("*.log"):
        assert "Traceback" not in log.read_text(), log
