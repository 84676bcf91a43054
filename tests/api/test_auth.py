"""API keys on a whole platform: two API processes that ask for them, a worker and a projector on a real Kafka and PostgreSQL."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from schemas.keys import read_token
from schemas.settings import Settings
from tests import servers
from tests.api.client import define, delay, ended, eventually, platform_settings, problem, start
from tests.api.platform import Platform, Process
from tests.kafka_dump import NAMES, dump
from tests.reader import Raw

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
NEWS_S = 5.0
"""By then every process has heard of a new or revoked key, however busy the machine."""


@pytest.fixture(scope="module")
def platform(
    kafka: servers.Address, postgres: servers.Address, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Platform]:
    """One platform for all tests of this module; each test makes keys and workflows of its own."""
    name, folder = f"test_{uuid.uuid4().hex[:12]}", tmp_path_factory.mktemp("platform")
    settings = platform_settings(
        kafka.address, asyncio.run(servers.create_database(postgres.address, name)), name, folder
    )
    platform = Platform(settings.model_copy(update={"workflow_auth": "keys", "log_level": "DEBUG"}), folder)
    try:
        platform.start("api", "api", "worker", "projector")
        yield platform
    finally:
        platform.close()
        asyncio.run(servers.delete_topics(kafka.address, f"{name}."))
        asyncio.run(servers.drop_database(postgres.address, name))


@pytest.fixture(scope="module")
def boss(platform: Platform) -> str:
    """The first key: made by the command line, on Kafka."""
    done = command(platform, "keys", "create", "boss", "--scope", "admin")
    assert done.returncode == 0, done.stderr
    token: str = done.stdout.strip()
    wait_for(platform, token)
    return token


@pytest.fixture
def api(platform: Platform, boss: str) -> Iterator[httpx.Client]:
    with client(platform, 0, boss) as client_:
        yield client_


@pytest.fixture
def other(platform: Platform, boss: str) -> Iterator[httpx.Client]:
    """The other API process."""
    with client(platform, 1, boss) as client_:
        yield client_


def client(platform: Platform, number: int, token: str) -> httpx.Client:
    headers = {"Authorization": f"Bearer {token}"}
    return httpx.Client(base_url=platform.of("api")[number].address, timeout=30, headers=headers)


def command(platform: Platform, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """A command of ours, told of the platform by its environment."""
    settings = platform.settings
    told = {
        "KAFKA_BOOTSTRAP_SERVERS": settings.kafka_bootstrap_servers,
        "WORKFLOW_TOPIC_PREFIX": settings.workflow_topic_prefix,
        "WORKFLOW_URL": platform.of("api")[0].address,
        **environment,
    }
    bare = {name: value for name, value in os.environ.items() if not name.startswith(("WORKFLOW_", "KAFKA_"))}
    return subprocess.run(
        [sys.executable, "-P", "-m", "ops", *arguments],
        env={**bare, "PYTHONPATH": str(ROOT), **told},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def wait_for(platform: Platform, token: str, *, status: int = 200) -> None:
    """Until both processes answer so to a caller with this key."""
    for number in range(2):
        with client(platform, number, token) as caller:
            within(lambda: caller.get("/api/v1/workflows").status_code == status)


def within(holds: Callable[[], bool], seconds: float = NEWS_S) -> None:
    ends = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < ends
        time.sleep(0.05)


def make(api: httpx.Client, name: str, *scopes: str, rate: str | None = None) -> dict[str, Any]:
    """A key made through the API: its answer."""
    body = {"name": name, "scopes": scopes, **({} if rate is None else {"rate": rate})}
    answer = api.post("/api/v1/keys", json=body)
    assert answer.status_code == 201, answer.text
    made: dict[str, Any] = answer.json()
    return made


def topics(settings: Settings, *names: str) -> list[Raw]:
    """Every record of these topics."""
    found = asyncio.run(dump(settings.kafka_bootstrap_servers, settings.workflow_topic_prefix, names))
    return [record for partitions in found.values() for records in partitions.values() for record in records]


def test_nobody_is_let_in_without_a_key(platform: Platform, boss: str) -> None:
    """At every process; what is open stays so."""
    for process in platform.of("api"):
        with httpx.Client(base_url=process.address, timeout=30) as nobody:
            answer = nobody.post("/api/v1/trigger", json={"workflow_id": "w"})
            problem(answer, 401, "not_authenticated")
            assert answer.headers["www-authenticate"] == "Bearer"
            for path in ("/health", "/ready", "/docs", "/problems", "/api/v1/openapi.json"):
                assert nobody.get(path).status_code == 200
            assert nobody.get("/ready").json()["components"]["keys"]["state"] == "ok"


def test_a_key_made_at_one_process_is_known_and_revoked_at_the_other(
    platform: Platform, api: httpx.Client, other: httpx.Client
) -> None:
    """Within a second or so in both directions; the list shows it as it is, everywhere at once."""
    made = make(api, "reader", "read")
    wait_for(platform, made["token"])
    shown = {name: value for name, value in made.items() if name not in ("token", "position")}
    assert shown in other.get("/api/v1/keys").json()["items"]
    revoked = other.delete(f"/api/v1/keys/{made['id']}").json()
    assert revoked.pop("position").startswith("k0.")
    assert revoked["revoked_at"] is not None
    assert revoked in api.get("/api/v1/keys").json()["items"]
    wait_for(platform, made["token"], status=401)


def test_a_process_knows_the_keys_before_it_is_ready(platform: Platform, api: httpx.Client) -> None:
    """What was made is let in and what was revoked is not, from its first answer on."""
    made, gone = make(api, "early", "read"), make(api, "gone", "read")
    api.delete(f"/api/v1/keys/{gone['id']}")
    (process,) = platform.start("api")
    try:
        for token, status in ((made["token"], 200), (gone["token"], 401)):
            headers = {"Authorization": f"Bearer {token}"}
            assert httpx.get(f"{process.address}/api/v1/workflows", headers=headers).status_code == status
    finally:
        process.stop()
        platform.processes.remove(process)


def test_a_key_may_do_what_its_scopes_say(platform: Platform, api: httpx.Client) -> None:
    """Start, but not look; the 403 names what is missing."""
    workflow = define(api, "scopes", [delay("a")])
    made = make(api, "starter", "trigger")
    with client(platform, 0, made["token"]) as starter:
        run = start(starter, workflow)
        body = problem(starter.get(f"/api/v1/runs/{run['run_id']}"), 403, "scope_missing")
        assert "'read'" in body["detail"]
        problem(starter.post("/api/v1/workflows", json={}), 403, "scope_missing")
        problem(starter.get("/api/v1/keys"), 403, "scope_missing")
    assert ended(api, run)["status"] == "SUCCESS"


def test_the_log_names_who_caused_what(platform: Platform, api: httpx.Client) -> None:
    """The key's name is the actor of the run's first event and of the definition."""
    made = make(api, "ann@shop", "define", "trigger", "read")
    with client(platform, 0, made["token"]) as ann:
        workflow = define(ann, "actors", [delay("a")])
        run = start(ann, workflow)
        assert ended(ann, run)["status"] == "SUCCESS"
        events = ann.get(f"/api/v1/runs/{run['run_id']}/events").json()["items"]
    assert [event.get("actor") for event in events if event["type"] == "RunRequested"] == ["ann@shop"]
    definitions = [json.loads(record.value or b"") for record in topics(platform.settings, "definitions")]
    assert [each["actor"] for each in definitions if each["subject"] == workflow] == ["ann@shop"]


def test_idempotency_keys_belong_to_their_callers(platform: Platform, api: httpx.Client) -> None:
    """The same key of two callers is two runs; of one caller one run, whichever process is asked."""
    workflow = define(api, "idempotent", [delay("a")])
    runs = []
    for name in ("one", "two"):
        made = make(api, f"caller-{name}", "trigger", "read")
        wait_for(platform, made["token"])
        ids = set()
        for number in (0, 1, 0):
            with client(platform, number, made["token"]) as caller:
                ids.add(start(caller, workflow, {}, **{"Idempotency-Key": "same"})["run_id"])
        assert len(ids) == 1
        runs.append(ids.pop())
    assert runs[0] != runs[1]
    assert {ended(api, {"run_id": run, "position": ""})["status"] for run in runs} == {"SUCCESS"}


def test_a_limit_holds_at_each_process(platform: Platform, api: httpx.Client) -> None:
    """429 with Retry-After once it is used up, counted by each process for itself, and taken again after that time."""
    workflow = define(api, "limited", [delay("a")])
    made = make(api, "limited", "trigger", "read", rate="5/minute")
    wait_for(platform, made["token"])
    for number in range(2):
        with client(platform, number, made["token"]) as caller:
            answers = [caller.post("/api/v1/trigger", json={"workflow_id": workflow}) for _ in range(6)]
            statuses = [answer.status_code for answer in answers]
            assert statuses.count(202) >= 3  # one or two were used up by waiting for the key
            problem(answers[-1], 429, "rate_limited")
            assert 1 <= int(answers[-1].headers["retry-after"]) <= 60


def test_the_commands_send_their_key(platform: Platform, api: httpx.Client, tmp_path: Path) -> None:
    """From the environment or a file; without one they are told, with an exit code of its own."""
    define(api, "commanded", [delay("a")])
    made = make(api, "commander", "trigger", "read")
    (tmp_path / "key").write_text(made["token"] + "\n")
    done = command(platform, "trigger", "commanded", "--watch", WORKFLOW_API_KEY=made["token"])
    assert done.returncode == 0, done.stderr
    assert "SUCCESS" in done.stdout
    done = command(platform, "runs", "list", "--workflow", "commanded", WORKFLOW_API_KEY_FILE=str(tmp_path / "key"))
    assert (done.returncode, "commanded" in done.stdout) == (0, True), done.stderr
    done = command(platform, "runs", "list")
    assert (done.returncode, "WORKFLOW_API_KEY" in done.stderr) == (4, True)
    done = command(platform, "workflows", "apply", "-", WORKFLOW_API_KEY=made["token"])
    assert (done.returncode, "'define'" in done.stderr) == (4, True)


def test_keys_are_made_listed_and_revoked_by_commands(platform: Platform, boss: str) -> None:
    """On Kafka alone: by name or by id, with names that are used once at a time."""
    created = command(platform, "keys", "create", "cli", "--scope", "read", "--rate", "1000/second", "-o", "json")
    made = json.loads(created.stdout)
    assert read_token(made["token"]) is not None
    wait_for(platform, made["token"])
    again = command(platform, "keys", "create", "cli", "--scope", "read")
    assert (again.returncode, "'cli'" in again.stderr) == (2, True)
    listed = json.loads(command(platform, "keys", "list", "-o", "json").stdout)
    assert {name: value for name, value in made.items() if name != "token"} in listed
    assert command(platform, "keys", "revoke", "nobody").returncode == 3
    assert command(platform, "keys", "revoke", "cli").returncode == 0
    wait_for(platform, made["token"], status=401)
    made = json.loads(command(platform, "keys", "create", "cli", "--scope", "read", "-o", "json").stdout)
    assert command(platform, "keys", "revoke", made["id"]).returncode == 0
    made = json.loads(command(platform, "keys", "create", "cli", "--scope", "read", "-o", "json").stdout)
    found = command(platform, "keys", "revoke", made["token"])
    assert (found.returncode, made["token"] in found.stdout) == (0, False)
    assert "cli" in command(platform, "keys", "list").stdout


def test_other_roles_can_be_probed_from_outside(platform: Platform, tmp_path: Path) -> None:
    """On the address that WORKFLOW_HEALTH_HOST says, without a key, and with the headers of every answer."""
    there = platform.settings.model_copy(update={"workflow_health_host": "127.0.0.2"})
    process = Process("projector", there, tmp_path / "projector.log")
    process.address = process.address.replace("127.0.0.1", "127.0.0.2")
    try:
        process.ready()
        answer = httpx.get(f"{process.address}/health")
        assert (answer.status_code, answer.headers["x-content-type-options"]) == (200, "nosniff")
    finally:
        process.kill()


def test_a_flood_of_wrong_keys_keeps_nobody_else_out(platform: Platform, api: httpx.Client) -> None:
    """A caller with a good key is answered meanwhile, and so is a probe; the wrong ones get a 401 or are told to wait."""

    async def flood(address: str, token: str) -> tuple[set[int], list[int]]:
        async with httpx.AsyncClient(base_url=address, timeout=60) as many:
            wrong = [
                many.get("/api/v1/runs", headers={"Authorization": f"Bearer wfk_{n:012d}_{n:064x}"}) for n in range(90)
            ]
            pending = asyncio.gather(*wrong)
            good = {"Authorization": f"Bearer {token}"}
            statuses = [(await many.get("/api/v1/workflows", headers=good)).status_code for _ in range(20)]
            statuses += [(await many.get("/health")).status_code for _ in range(20)]
            assert not pending.done()
            return {answer.status_code for answer in await pending}, statuses

    made = make(api, "patient", "read")
    wait_for(platform, made["token"])
    refused, statuses = asyncio.run(flood(platform.of("api")[0].address, made["token"]))
    assert refused <= {401, 503}
    assert statuses == [200] * 40


def test_no_secret_stands_anywhere(platform: Platform, api: httpx.Client) -> None:
    """Keys are made, used rightly and wrongly and put where they do not belong; then every log line (at DEBUG), every
    record of every topic, every answer and every problem is searched for them."""
    workflow = define(api, "secret", [delay("a")])
    made = make(api, "keeper", "trigger", "read")
    wrong = f"wfk_{made['id']}_{uuid.uuid4().hex * 2}"
    wait_for(platform, made["token"])
    said = []
    for token in (made["token"], wrong):
        with client(platform, 0, token) as caller:
            answers = [
                caller.post("/api/v1/trigger", json={"workflow_id": workflow}, headers={"Idempotency-Key": "s"}),
                caller.post("/api/v1/trigger", content=b"{", headers={"Content-Type": "application/json"}),
                caller.get(f"/api/v1/runs?key={token}"),
                caller.post("/api/v1/keys", json={"name": "x", "scopes": ["read"]}),
                caller.get("/api/v1/openapi.json"),
                caller.get("/ready"),
                httpx.delete(f"{caller.base_url}/api/v1/keys/{token}", headers={"Authorization": f"Basic {token}"}),
            ]
        said += [answer.content + str(answer.headers).encode() for answer in answers]
    said.append(api.get("/api/v1/keys").content)
    run = start(api, workflow)
    assert ended(api, run)["status"] == "SUCCESS"
    said.append(api.get(f"/api/v1/runs/{run['run_id']}/events").content)
    said += [process.log.read_bytes() for process in platform.processes]
    said += [(record.key or b"") + (record.value or b"") for record in topics(platform.settings, *NAMES, "keys")]
    assert sum(map(len, said)) > 10_000
    for token in (made["token"], wrong):
        secret = token.rpartition("_")[2].encode()
        assert [text for text in said if secret in text or secret[:16] in text] == []
    hashes = [json.loads(record.value or b"")["hash"].encode() for record in topics(platform.settings, "keys")]
    logs = b"".join(process.log.read_bytes() for process in platform.processes)
    assert [hash_ for hash_ in hashes if hash_ in logs] == []
    eventually(lambda: b"key=keeper" in platform.of("api")[0].log.read_bytes())
