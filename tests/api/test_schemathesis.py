"""A whole platform held to its OpenAPI document: hostile addresses, and all checks of Schemathesis with and without keys."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
import uuid
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import httpx
import pytest

from tests import servers
from tests.api.client import define, delay, ended, eventually, platform_settings, start
from tests.api.platform import Platform
from tests.hostile.platform import bad_signs
from tests.keyring import written_key

CASES_MIN = 500
EXAMPLES_MAX = 6
HOSTILE = (
    *("\0", "a\0b", "\x01", "\x7f", "\N{FACE WITH TEARS OF JOY}", "'", "%", "NaN", "1e400", "-1", "9" * 30),
    *(str(2**31), str(2**63), str(2**64), f"-{2**63 + 1}"),
    *("0000-01-01T00:00:00Z", "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59.999999999-23:59"),
)
CHECKS = Path(__file__).with_name("schemathesis_checks.py")

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def platform(
    kafka: servers.Address, postgres: servers.Address, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Platform]:
    """One platform with two APIs, of which the second one asks for keys. At its end no log tells of a mistake of ours."""
    name, folder = f"schemathesis_{uuid.uuid4().hex[:12]}", tmp_path_factory.mktemp("platform")
    dsn = asyncio.run(servers.create_database(postgres.address, name))
    settings = platform_settings(kafka.address, dsn, name, folder).model_copy(update={"workflow_position_wait_s": 0.1})
    platform = Platform(settings, folder)
    try:
        platform.start("api", "worker", "projector")
        platform.settings = platform.settings.model_copy(update={"workflow_auth": "keys"})
        platform.start("api")
        with httpx.Client(base_url=platform.of("api")[0].address, timeout=30) as api:
            ended(api, start(api, define(api, "odd", [delay("a")])))
        yield platform
        assert bad_signs([process.log for process in platform.processes]) == []
    finally:
        platform.close()
        asyncio.run(servers.delete_topics(kafka.address, f"{name}."))
        asyncio.run(servers.drop_database(postgres.address, name))


def test_no_text_of_an_address_reaches_a_table_that_cannot_hold_it(platform: Platform) -> None:
    """Each parameter of every read with what PostgreSQL, a clock or a number of 64 bits refuse: answered, never a 500."""
    tried = 0
    with httpx.Client(base_url=platform.of("api")[0].address, timeout=30) as api:
        run_id = api.get("/api/v1/runs").json()["items"][0]["run_id"]
        plain = {"run_id": run_id, "workflow_id": "odd", "name": "runs", "key_id": "a" * 12, "code": "internal_error"}
        for path, operations in api.get("/api/v1/openapi.json").json()["paths"].items():
            for parameter in operations.get("get", {}).get("parameters", ()):
                for text in HOSTILE:
                    name, in_path = parameter["name"], parameter["in"] == "path"
                    address = path.format_map({**plain, name: quote(text, safe="")} if in_path else plain)
                    answer = api.get(address, params=None if in_path else {name: text})
                    assert answer.status_code < 500, (address, name, text, answer.text)
                    tried += 1
    assert tried >= 40 * len(HOSTILE)


def test_without_keys(platform: Platform, tmp_path: Path) -> None:
    """Every operation, with valid and invalid requests, one by one and one after the other's answer."""
    assert cases(platform.of("api")[0].address, tmp_path) >= CASES_MIN


def test_with_keys(platform: Platform, tmp_path: Path) -> None:
    """The same with a key that may do everything; and without it, or with a wrong one, nobody is let in."""
    address = platform.of("api")[1].address
    token = asyncio.run(written_key(platform.settings, "boss", "admin")).text
    with httpx.Client(base_url=address, headers={"Authorization": f"Bearer {token}"}, timeout=30) as boss:
        eventually(lambda: boss.get("/api/v1/runs").status_code == 200)
        # It would revoke the key that all other requests are made with.
        kept = ("--exclude-operation-id", "keys_revoke")
        assert cases(address, tmp_path, "--header", f"Authorization: Bearer {token}", *kept) >= CASES_MIN
        assert boss.get("/api/v1/runs").status_code == 200


def cases(address: str, folder: Path, *more: str) -> int:
    """How many requests Schemathesis has made. It must have found nothing, and left no operation out that was not named."""
    program = Path(sys.executable).with_name("schemathesis")
    plan = ("--generation-deterministic", "--max-examples", str(EXAMPLES_MAX), "--request-timeout", "20", "--no-color")
    # The checks of CHECKS take the places of these two: they know the reasons of a refusal, and of a 503.
    checks = ("--checks", "all", "--exclude-checks", "positive_data_acceptance,not_a_server_error")
    done = subprocess.run(
        [program, "run", f"{address}/api/v1/openapi.json", *plan, *checks, "--continue-on-failure", *more],
        env={**os.environ, "SCHEMATHESIS_HOOKS": str(CHECKS)},
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    report = done.stdout[-8_000:] + done.stderr[-2_000:]
    print(report[-600:])
    assert done.returncode == 0, report
    found = re.search(r"Selected: (\d+)/\d+\s+Tested: (\d+)[^~]*?(\d+) generated, \3 passed", report)
    assert found is not None, report
    assert found[1] == found[2], report
    return int(found[3])
