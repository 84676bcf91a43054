"""API keys at the API: who is let in to what, how the others are told, and whose name stands in what is written."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from fastapi import APIRouter

from api.routing import StrictRoute
from api.scopes import OPERATIONS
from schemas.errors import BrokerAway, LogMismatch, OutcomeUnknown
from schemas.events import time_text
from schemas.identity import keyed_run_id
from schemas.keys import SCOPES, Scope, Token
from tests.api.calls import CALLS, START, TRIGGER, call, callable_world
from tests.api.exchange import exchange
from tests.api.world import World, client_of, make_world, pointers, problem
from tests.histories import BASE_S
from tests.keyring import AT, make_key

SECURITY = Path(__file__).parents[2] / "docs" / "security.md"

OPEN = (
    "/health",
    "/livez",
    "/ready",
    "/readyz",
    "/problems",
    "/problems/run_unknown",
    "/docs",
    "/docs/start.js",
    "/ui",
    "/ui/",
    "/ui/main.js",
    "/",
)


@pytest.fixture
async def world() -> World:
    return await callable_world()


@pytest.fixture
async def nobody(world: World) -> AsyncIterator[httpx.AsyncClient]:
    """A client without a key."""
    async with client_of(world) as client:
        yield client


def bearer(token: Token | str) -> dict[str, str]:
    return {"Authorization": f"Bearer {token.text if isinstance(token, Token) else token}"}


async def test_every_operation_names_its_scope() -> None:
    """In the one table, and as the document of the API shows it to clients; what is neither under /api/v1 nor the metrics is open."""
    async with client_of(make_world(workflow_auth="keys")) as client:
        document = (await client.get("/api/v1/openapi.json")).json()
    shown = {
        operation["operationId"]: (path, operation.get("security"))
        for path, operations in document["paths"].items()
        for operation in operations.values()
    }
    assert shown.keys() <= OPERATIONS.keys()
    for name, (path, security) in shown.items():
        needed = OPERATIONS[name]
        assert (needed is not None) == path.startswith(("/api/v1/", "/metrics")), name
        assert security == (None if needed is None else [{"key": [needed]}]), name
    assert {name for name in shown if OPERATIONS[name] is not None} == CALLS.keys()
    assert document["components"]["securitySchemes"]["key"]["scheme"] == "bearer"


def test_the_docs_say_what_steers() -> None:
    """The scope `operate` is told with every call that it allows."""
    row = next(line for line in SECURITY.read_text().splitlines() if line.startswith("| `operate` |"))
    for name, needed in OPERATIONS.items():
        if needed == "operate":
            assert CALLS[name][1].rpartition("/")[2] in row, name


async def test_every_get_below_the_api_is_reading() -> None:
    """But for the keys."""
    for name, (method, _, _) in CALLS.items():
        assert (OPERATIONS[name] == "read") == (method == "GET" and not name.startswith("keys")), name


def test_an_operation_without_a_scope_does_not_start() -> None:
    """Whoever adds one is told where to name it."""
    router = APIRouter(route_class=StrictRoute)
    with pytest.raises(AssertionError, match=r"'runs_purge' has no line in the table of api/scopes\.py"):
        router.get("/api/v1/purge", operation_id="runs_purge")(lambda: None)


@pytest.mark.parametrize("path", [*OPEN, "/api/v1/openapi.json"])
async def test_what_is_open_needs_no_key(nobody: httpx.AsyncClient, path: str) -> None:
    """Probes, docs and pages of problems: nothing of a workflow stands there."""
    assert (await nobody.get(path, follow_redirects=True)).status_code == 200


@pytest.mark.parametrize("operation", CALLS)
async def test_nobody_is_let_in_without_a_key(world: World, nobody: httpx.AsyncClient, operation: str) -> None:
    """A 401 that says how to ask, before anything else of the request is looked at; nothing is written."""
    answer = await call(nobody, operation)
    problem(answer, 401, "not_authenticated")
    assert answer.headers["www-authenticate"] == "Bearer"
    method, path, _ = CALLS[operation]
    wrong = await nobody.request(method, f"{path}?what=1", content=b"{", headers={"Content-Type": "text/plain"})
    problem(wrong, 401, "not_authenticated")
    assert (world.sent, world.keys.all()) == ([], [])


@pytest.mark.parametrize("scope", SCOPES)
async def test_a_key_may_do_what_its_scopes_say(world: World, scope: Scope) -> None:
    """And nothing else: a 403 names the scope that is needed; admin may do everything."""
    async with client_of(world, world.keys.add("caller", scope)) as client:
        for operation in CALLS:
            needed = OPERATIONS[operation]
            answer = await call(client, operation)
            if scope in (needed, "admin"):
                assert answer.status_code in (200, 201, 202, 404, 409), (operation, answer.text)
            else:
                body = problem(answer, 403, "scope_missing")
                assert f"no scope '{needed}'" in body["detail"]
                assert f'scope="{needed}"' in answer.headers["www-authenticate"]
    if scope not in ("trigger", "admin"):
        assert world.sent == []


def wrong_headers(token: Token, revoked: Token) -> list[list[tuple[str, str]]]:
    """Everything that is no good key, whatever is wrong with it."""
    other = f"wfk_{token.id}_{'0' * 64}"
    unknown = f"wfk_zzzzzzzzzzzz_{token.secret}"
    values = [
        token.text,
        f"Basic {token.text}",
        f"Bearer {other}",
        f"Bearer {unknown}",
        f"Bearer {revoked.text}",
        f"Bearer {token.text}x",
        f"Bearer {token.text} {token.text}",
        f"Bearer {token.text},",
        "Bearer ",
        "Bearer \xff",
        "",
    ]
    good = ("Authorization", f"Bearer {token.text}")
    return [[("Authorization", value)] for value in values] + [[good, good], [("X-Api-Key", token.text)]]


async def test_no_answer_says_what_is_wrong_with_a_key(world: World, nobody: httpx.AsyncClient) -> None:
    """Misspelt, unknown, revoked, with a wrong secret, twice or elsewhere: all get one answer."""
    good, revoked = world.keys.add("good", "read"), world.keys.add("gone", "read")
    await world.keys.revoke(revoked.id)
    answers = set()
    for headers in wrong_headers(good, revoked):
        encoded = [(name.encode(), value.encode("latin-1")) for name, value in headers]
        answer = await nobody.get("/api/v1/runs", headers=encoded)
        body = problem(answer, 401, "not_authenticated")
        answers.add((body["detail"], body["title"], answer.headers["www-authenticate"]))
    assert len(answers) == 1
    assert (await nobody.get(f"/api/v1/runs?key={good.text}")).status_code == 401
    for value in (f"bearer {good.text}", f"BEARER {good.text}"):
        assert (await nobody.get("/api/v1/runs", headers={"Authorization": value})).status_code == 200


async def test_a_revoked_key_is_refused_although_it_was_just_used(world: World) -> None:
    """What was remembered of it goes with its record."""
    token = world.keys.add("shop", "read")
    async with client_of(world, token) as client:
        assert (await client.get("/api/v1/runs")).status_code == 200
        await world.keys.revoke(token.id)
        problem(await client.get("/api/v1/runs"), 401, "not_authenticated")


async def test_a_key_that_was_refused_is_let_in_once_its_record_comes(world: World) -> None:
    """A process that has not read the record yet does not hold on to its refusal."""
    other = make_world(workflow_auth="keys")
    token = other.keys.add("shop", "read")
    async with client_of(world, token) as client:
        for _ in range(2):
            problem(await client.get("/api/v1/runs"), 401, "not_authenticated")
        world.keys.write(other.keys.all()[0])
        assert (await client.get("/api/v1/runs")).status_code == 200


async def test_a_key_s_position_is_heard_before_its_caller_is_judged(world: World, nobody: httpx.AsyncClient) -> None:
    """A key that another process made, and then revoked: whoever passes the position of that is judged by it."""
    key, token = make_key("shop", "read")
    ring, headers = world.keys, bearer(token)
    ring.behind = [key, key.revoked(AT)]
    assert (await nobody.get("/api/v1/runs", headers=headers)).status_code == 401
    for nonsense in ("k0.x", "x", f"k0.{ring.position}"):
        problem(await nobody.get(f"/api/v1/runs?min_position={nonsense}", headers=headers), 401, "not_authenticated")
    made, gone = ring.position + 1, ring.position + 2
    assert (await nobody.get(f"/api/v1/runs?min_position=k0.{made}", headers=headers)).status_code == 200
    problem(await nobody.get(f"/api/v1/runs?min_position=k0.{gone}", headers=headers), 401, "not_authenticated")


@pytest.mark.parametrize(
    ("failure", "code"),
    [
        (BrokerAway(address="kafka:9092", reason="the keys are not read yet"), "broker_away"),
        (LogMismatch(partition=0, topic="workflow.keys", reason="it ends at 0"), "log_mismatch"),
    ],
)
async def test_a_process_that_cannot_know_the_keys_lets_nobody_in(world: World, failure: Any, code: str) -> None:
    """A 503, not a 401: the key may be good. The probes are answered."""
    token = world.keys.add("shop", "admin")
    world.keys.failure = failure
    async with client_of(world, token) as client:
        for operation in CALLS:
            problem(await call(client, operation), 503, code)
        assert (await client.get("/health")).status_code == 200
    assert world.sent == []


async def test_the_body_is_not_read_of_a_caller_who_is_not_let_in(world: World) -> None:
    """The 401 comes before the first byte of it is taken."""
    there = await exchange(world, b"{}" * 1000)
    assert (there.status, there.received) == (401, 0)


async def test_the_name_of_the_key_is_the_actor_of_a_start(world: World) -> None:
    """Of single ones and of batches; the command carries it to the engine."""
    async with client_of(world, world.keys.add("ann@shop", "trigger")) as client:
        assert (await call(client, "trigger")).status_code == 202
        assert (await call(client, "trigger_batch")).status_code == 202
    assert [command["actor"] for command in world.sent] == ["ann@shop"] * 2


async def test_the_name_of_the_key_is_the_actor_of_a_definition(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is handed to who writes it."""
    actors = []
    define = world.catalog.define

    async def noting(definition: dict[str, Any], actor: str | None = None) -> Any:
        actors.append(actor)
        return await define(definition, actor)

    monkeypatch.setattr(world.catalog, "define", noting)
    async with client_of(world, world.keys.add("ann", "define")) as client:
        assert (await call(client, "workflows_define")).status_code == 201
    assert actors == ["ann"]


async def test_idempotency_keys_belong_to_their_callers(world: World) -> None:
    """The same key of two callers is two runs, of one caller one run, whether alone or in a batch."""
    ids = []
    for name in ("ann", "bob"):
        async with client_of(world, world.keys.add(name, "trigger")) as client:
            once = await client.post(TRIGGER, json=START, headers={"Idempotency-Key": "k"})
            again = await client.post(TRIGGER, json=START, headers={"Idempotency-Key": "k"})
            batch = await client.post(f"{TRIGGER}/batch", json={"items": [{**START, "idempotency_key": "k"}]})
        ids.append({once.json()["run_id"], again.json()["run_id"], *batch.json()["run_ids"]})
    assert ids == [{keyed_run_id("ann", "greet", "k")}, {keyed_run_id("bob", "greet", "k")}]


async def test_without_authentication_nothing_changes() -> None:
    """No actor, and the run that an idempotency key names is the one that it always named."""
    world = make_world()
    await world.define()
    async with client_of(world) as client:
        answer = await client.post(TRIGGER, json=START, headers={"Idempotency-Key": "k"})
        assert answer.json()["run_id"] == keyed_run_id("", "greet", "k")
        document = (await client.get("/api/v1/openapi.json")).json()
    assert "actor" not in world.sent[0]
    assert "security" not in document["paths"][TRIGGER]["post"]
    assert {"401", "403", "429"} <= document["paths"][TRIGGER]["post"]["responses"].keys()


async def test_the_log_names_the_key(world: World, caplog: pytest.LogCaptureFixture) -> None:
    """By its name; nothing of its secret, nor of a wrong one."""
    caplog.set_level(logging.DEBUG)
    token = world.keys.add("shop", "trigger")
    async with client_of(world) as client:
        await client.post(TRIGGER, json=START, headers=bearer(token))
        await client.post(TRIGGER, json=START, headers=bearer(f"wfk_{token.id}_{'ab' * 32}"))
    lines = [record.getMessage() for record in caplog.records if record.name == "api.access"]
    assert [" key=shop " in line for line in lines] == [True, False]
    assert token.secret not in caplog.text
    assert "ab" * 32 not in caplog.text


class TestManaging:
    """GET and POST /api/v1/keys, DELETE /api/v1/keys/{id}."""

    @pytest.fixture
    async def admin(self, world: World) -> AsyncIterator[httpx.AsyncClient]:
        async with client_of(world, world.keys.add("boss", "admin")) as client:
            yield client

    async def test_a_key_is_made_used_and_revoked(self, world: World, admin: httpx.AsyncClient) -> None:
        """Its token is shown once, and may do what it was made for until it is revoked."""
        wanted = {"name": "shop", "scopes": ["trigger", "read"], "rate": "100/second"}
        answer = await admin.post("/api/v1/keys", json=wanted)
        made = answer.json()
        assert answer.status_code == 201
        assert answer.headers["cache-control"] == "no-store"
        token = made.pop("token")
        assert answer.headers["workflow-position"] == made.pop("position") == "k0.2"
        expected = {
            "name": "shop",
            "scopes": ["read", "trigger"],
            "rate": "100/second",
            "created_at": time_text(BASE_S),
        }
        assert made == {"id": made["id"], **expected, "revoked_at": None}
        async with client_of(world) as client:
            assert (await client.post(TRIGGER, json=START, headers=bearer(token))).status_code == 202
            for _ in range(2):
                revoked = await admin.delete(f"/api/v1/keys/{made['id']}")
                assert (revoked.status_code, revoked.json()) == (200, {**made, "revoked_at": AT, "position": "k0.3"})
            problem(await client.post(TRIGGER, json=START, headers=bearer(token)), 401, "not_authenticated")

    async def test_a_list_is_never_older_than_the_position_of_a_write(self, admin: httpx.AsyncClient) -> None:
        """Keys have a position like everything else; one from the future is a 503, one of other topics is no matter."""
        position = (await admin.post("/api/v1/keys", json={"name": "shop", "scopes": ["read"]})).json()["position"]
        listed = await admin.get("/api/v1/keys", params={"min_position": f"{position}-e0.9", "wait": "0.01"})
        assert listed.headers["workflow-position"] == position
        assert "shop" in {key["name"] for key in listed.json()["items"]}
        body = problem(await admin.get("/api/v1/keys?min_position=k0.99"), 503, "position_not_reached")
        assert (body["min_position"], body["position"]) == ("k0.99", position)
        assert (await admin.get("/api/v1/runs", params={"min_position": "k0.99"})).status_code == 200

    async def test_keys_are_listed_in_pages(self, world: World, admin: httpx.AsyncClient) -> None:
        """By name, revoked ones too, without a secret or a hash of one."""
        gone = world.keys.add("b", "read")
        world.keys.add("a", "read")
        await world.keys.revoke(gone.id)
        items, path = [], "/api/v1/keys?limit=1"
        while path:
            answer = await admin.get(path)
            items += answer.json()["items"]
            path = answer.links.get("next", {}).get("url", "")
        assert [(item["name"], item["revoked_at"]) for item in items] == [("a", None), ("b", AT), ("boss", None)]
        assert {frozenset(item) for item in items} == {
            frozenset({"id", "name", "scopes", "rate", "created_at", "revoked_at"})
        }
        problem(await admin.get("/api/v1/keys?cursor=abc"), 400, "cursor_refused")

    async def test_a_name_can_be_used_once_at_a_time(self, admin: httpx.AsyncClient) -> None:
        """409 while a key of that name may be used; free again afterwards."""
        first = (await admin.post("/api/v1/keys", json={"name": "shop", "scopes": ["read"]})).json()
        body = problem(
            await admin.post("/api/v1/keys", json={"name": "shop", "scopes": ["read"]}), 409, "key_name_taken"
        )
        assert "'shop'" in body["detail"]
        await admin.delete(f"/api/v1/keys/{first['id']}")
        assert (await admin.post("/api/v1/keys", json={"name": "shop", "scopes": ["read"]})).status_code == 201

    @pytest.mark.parametrize(
        ("body", "found"),
        [
            ([], [""]),
            ({}, ["/name", "/scopes"]),
            ({"name": "a b", "scopes": ["read"]}, ["/name"]),
            ({"name": "a", "scopes": []}, ["/scopes"]),
            ({"name": "a", "scopes": ["all"]}, ["/scopes"]),
            ({"name": "a", "scopes": ["read", "read"]}, ["/scopes"]),
            ({"name": "a", "scopes": ["read"], "rate": "fast"}, ["/rate"]),
            ({"name": "a", "scopes": ["read"], "hash": "x"}, ["/hash"]),
            ({"name": "a", "scopes": ["read"], "id": "aaaaaaaaaaaa"}, ["/id"]),
        ],
    )
    async def test_a_wrong_body_names_the_field(self, admin: httpx.AsyncClient, body: Any, found: list[str]) -> None:
        """422 with a pointer to each mistake."""
        assert pointers(problem(await admin.post("/api/v1/keys", json=body), 422, "body_invalid")) == found

    async def test_a_key_that_is_not_there_cannot_be_revoked(self, admin: httpx.AsyncClient) -> None:
        """404 by its id, and 400 for what is no id, such as a name or a token."""
        problem(await admin.delete("/api/v1/keys/aaaaaaaaaaaa"), 404, "key_unknown")
        problem(await admin.delete("/api/v1/keys/boss"), 400, "parameter_invalid")

    async def test_a_write_of_unknown_outcome_says_so(
        self, world: World, admin: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """503, and no token that may work or not."""

        async def unknown(*_: object) -> Any:
            raise OutcomeUnknown(reason="no answer")

        monkeypatch.setattr(world.keys, "create", unknown)
        monkeypatch.setattr(world.keys, "revoke", unknown)
        answer = await admin.post("/api/v1/keys", json={"name": "shop", "scopes": ["read"]})
        assert "revoke it" in problem(answer, 503, "outcome_unknown")["detail"]
        assert "wfk_" not in answer.text
        body = problem(await admin.delete("/api/v1/keys/aaaaaaaaaaaa"), 503, "outcome_unknown")
        assert "Repeating the request is safe" in body["detail"]

    @pytest.mark.parametrize("auth", ["auto", "off"])
    async def test_an_api_that_asks_for_no_keys_makes_none(self, auth: str) -> None:
        """Else whoever comes by today could come back when keys are asked for."""
        async with client_of(make_world(workflow_auth=auth)) as client:
            for operation in ("keys_list", "keys_create", "keys_revoke"):
                assert f"WORKFLOW_AUTH={auth}" in problem(await call(client, operation), 409, "keys_off")["detail"]
