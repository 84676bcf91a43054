"""Secrets on a whole platform: a receiver gets them and echoes everything, and they stand nowhere."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final
from urllib.parse import quote

import asyncpg
import httpx
import pytest
from standardwebhooks import Webhook

from schemas.settings import Settings
from tests.fleet import Fleet, platform
from tests.judging import differences, level, records

TOKEN: Final = 'tok/3n-"4711" ü&<'
FILED: Final = "f1led-0815-value"
KEY: Final = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"
SECRETS: Final = (TOKEN, FILED, KEY.removeprefix("whsec_"))
LOOKS_LIKE_ONE: Final = "${secrets.TOKEN} $${secrets.FILED} ${"

pytestmark = pytest.mark.slow


def forms(secret: str) -> Iterator[bytes]:
    """How a secret might stand somewhere."""
    raw = secret.encode()
    for text in (
        secret,
        quote(secret),
        quote(secret, safe=""),
        json.dumps(secret)[1:-1],
        json.dumps(json.dumps(secret))[3:-3],
    ):
        yield text.encode()
        yield text.lower().encode()
    yield json.dumps(secret, ensure_ascii=False)[1:-1].encode()
    yield base64.b64encode(raw)
    yield from (base64.b64encode(b"\0" * before + raw)[4:-4] for before in range(3))


def definition(receiver: str) -> dict[str, Any]:
    call = {
        "url": receiver + "/flaky/${run.id}/1?t=${secrets.FILED}",
        "headers": {"Authorization": "Bearer ${secrets.FILED}", "X-Data": "${payload.dollar}${secrets.FILED}"},
        "body": {"secret": "${secrets.TOKEN}", "text": "<${secrets.TOKEN}>", "data": "${payload}"},
        "sign_with": "KEY",
    }
    again = {"url": f"{receiver}/again", "body": {"echo": "${steps.call.output}", "key": "${secrets.TOKEN}"}}
    refused = {"url": receiver + "/status/${payload.status}?t=${secrets.FILED}", "body": "${secrets.TOKEN}"}
    steps = [("call", call), ("again", again), ("last", refused)]
    return {
        "id": "hooks",
        "name": "Hooks",
        "steps": [
            {"name": name, "type": "webhook", "config": config, "retry": {"initial": "10ms"}} for name, config in steps
        ],
    }


async def test_secrets_stand_nowhere(settings: Settings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs that end well and badly, tried twice: the receiver has the values, and no topic, table, answer or log line has."""
    folder = tmp_path / "secrets"
    folder.mkdir()
    (folder / "FILED").write_text(f"{FILED}\n")
    monkeypatch.setenv("WORKFLOW_SECRET_TOKEN", TOKEN)
    monkeypatch.setenv("WORKFLOW_SECRET_KEY", KEY)
    settings = settings.model_copy(update={"workflow_secrets_dir": str(folder), "log_level": "DEBUG"})
    payload = {"looks": LOOKS_LIKE_ONE, "dollar": "$", "nested": [{"${secrets.TOKEN}": LOOKS_LIKE_ONE}]}
    async with platform(settings, tmp_path) as fleet:
        await fleet.define(definition(fleet.receiver))
        await fleet.trigger(
            2, iter([("hooks", {**payload, "n": n, "status": status}) for n, status in enumerate((200, 400))])
        )
        await fleet.ended()
        topics = await records(fleet.settings)
        await level(fleet, topics)
        answers = await everything_that_is_answered(fleet)
        arrived(fleet, payload)
        shown: dict[str, bytes] = {
            f"{topic}/{number}/{record.offset}": (record.key or b"") + (record.value or b"")
            for topic, partitions in topics.items()
            for number, log in partitions.items()
            for record in log
        }
        shown |= {f"row of {table}": row for table, row in await everything_that_is_stored(fleet.settings)}
        shown |= {f"answer {path}": answer for path, answer in answers.items()}
        assert await differences(fleet.settings) == []
        assert fleet.deaths() == []
    shown |= {member.log.name: member.log.read_bytes() for member in fleet.members}
    for where, content in shown.items():
        for secret in SECRETS:
            for form in forms(secret):
                assert form not in content, f"{form!r} in {where}"
    everything = b"".join(shown.values())
    assert b"Bearer ${secrets.FILED}" in everything
    assert b"***" in everything
    assert {run["status"] for run in statuses(answers)} == {"SUCCESS", "FAILED"}


def arrived(fleet: Fleet, payload: dict[str, Any]) -> None:
    """Every request had the real values, data came through as it was, and the signatures are good."""
    got = fleet.deliveries()
    calls = [request for request in got if request["path"].startswith("/flaky/")]
    assert len(calls) == 4
    for call in calls:
        headers, data = call["headers"], call["body"].pop("data")
        assert call["query"]["t"] == FILED
        assert (headers["authorization"], headers["x-data"]) == (f"Bearer {FILED}", f"${FILED}")
        assert call["body"] == {"secret": TOKEN, "text": f"<{TOKEN}>"}
        assert {name: data[name] for name in payload} == payload
        assert headers["webhook-id"] == headers["idempotency-key"]
        sent = json.dumps({**call["body"], "data": data}, ensure_ascii=False, separators=(",", ":"))
        Webhook(KEY).verify(sent, headers, json_parse=False)
    for again in (request["body"] for request in got if request["path"] == "/again"):
        assert again["key"] == TOKEN
        echoed = again["echo"]["body"]
        assert echoed["headers"]["authorization"] == "Bearer ***"
        assert (echoed["query"]["t"], echoed["body"]["text"]) == ("***", "<***>")
        assert echoed["body"]["data"]["looks"] == LOOKS_LIKE_ONE
    last = [request for request in got if request["path"].startswith("/status/")]
    assert {(request["query"]["t"], request["body"]) for request in last} == {(FILED, TOKEN)}


async def everything_that_is_answered(fleet: Fleet) -> dict[str, bytes]:
    paths = ["/api/v1/workflows", "/api/v1/workflows/hooks", "/api/v1/runs", "/health", "/ready"]
    for run_id in fleet.accepted:
        paths += [f"/api/v1/runs/{run_id}", f"/api/v1/runs/{run_id}/events"]
    async with httpx.AsyncClient(base_url=fleet.of("api")[0].address, timeout=30) as http:
        answers = await asyncio.gather(*(http.get(path) for path in paths))
    assert {answer.status_code for answer in answers} == {200}
    return {path: answer.content for path, answer in zip(paths, answers, strict=True)}


def statuses(answers: dict[str, bytes]) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = json.loads(answers["/api/v1/runs"])["items"]
    return items


async def everything_that_is_stored(settings: Settings) -> list[tuple[str, bytes]]:
    """Each row of each table, as its bytes."""
    connection = await asyncpg.connect(settings.postgres_dsn)
    try:
        tables = await connection.fetch(
            "select schemaname || '.' || tablename from pg_tables where schemaname = 'workflow'"
        )
        found = []
        for (table,) in tables:
            for number, row in enumerate(await connection.fetch(f"select * from {table}")):  # noqa: S608 - of the catalog
                values = (value if isinstance(value, bytes) else str(value).encode() for value in row)
                found.append((f"{table} {number}", b"\n".join(values)))
        assert len(found) > 20
        return found
    finally:
        await connection.close()
