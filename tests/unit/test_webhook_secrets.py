"""Secrets in webhooks: they arrive, and come back nowhere."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator, Iterator, Mapping
from typing import Any
from urllib.parse import quote

import httpx
import orjson
import pytest
from standardwebhooks import Webhook

from ops.echo import Echo
from ops.roles import _QUIET
from schemas.effects import EffectFailed, EffectResult
from schemas.jsontext import JSON
from streams.secret_values import SecretValues
from streams.webhook import ERROR_BODY_BYTES_MAX, call
from streams.webhook_request import WebhookRequest
from tests.webhooks import BYTES_MAX, answering, client_of_tests, failure, http, output, sockets

TOKEN = 'p@ss/w"örd+1 &<x>'
KEY = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw"


@pytest.fixture
async def echo() -> AsyncIterator[Echo]:
    async with Echo() as echo:
        yield echo


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with client_of_tests() as client:
        yield client


def request(url: str, *, cut: bool = False, **config: JSON) -> WebhookRequest:
    return WebhookRequest.of(
        {"url": url, **config},
        idempotency_key="run-1/step",
        timeout_s=5,
        response_bytes_max=BYTES_MAX,
        cut=cut,
        templated=True,
    )


def having(**secrets: str) -> SecretValues:
    return SecretValues({f"WORKFLOW_SECRET_{name}": value for name, value in secrets.items()})


def texts(value: Any) -> Iterator[str]:
    """All texts and keys of a JSON value, as they are."""
    match value:
        case dict():
            for key, inner in value.items():
                yield key
                yield from texts(inner)
        case list():
            for inner in value:
                yield from texts(inner)
        case str():
            yield value
        case _:
            pass


def nothing_of(secret: str, result: EffectResult) -> None:
    """No form of the secret stands in the result."""
    found: JSON = result.error if isinstance(result, EffectFailed) else result.output
    shown = "\n".join([*texts(found), orjson.dumps(found).decode()])
    forms = {
        secret,
        json.dumps(secret)[1:-1],
        json.dumps(secret, ensure_ascii=False)[1:-1],
        quote(secret, safe=""),
        quote(secret),
    }
    forms |= {form.replace("/", "\\/") for form in forms}
    for form in {*forms, *map(str.lower, forms), base64.b64encode(secret.encode()).decode()}:
        assert form not in shown, shown


async def test_they_arrive_and_the_echo_is_masked(echo: Echo, client: httpx.AsyncClient) -> None:
    """In url, headers and body, alone and within a text; the receiver gets them, the result holds three stars."""
    secrets = having(TOKEN=TOKEN, ID="id-4711-x")
    sent = request(
        echo.url + "/hooks/${secrets.ID}?key=${secrets.ID}",
        headers={"Authorization": "Bearer ${secrets.ID}", "X-Both": "${secrets.ID}:${secrets.ID}"},
        body={
            "token": "${secrets.TOKEN}",
            "text": "<${secrets.TOKEN}>",
            "list": ["${secrets.TOKEN}"],
            "plain": "$${secrets.ID}",
        },
    )
    result = output(await call(client, sent, secrets))
    got = echo.received[0]
    assert (got.path, got.query["key"]) == ("/hooks/id-4711-x", "id-4711-x")
    assert (got.headers["authorization"], got.headers["x-both"]) == ("Bearer id-4711-x", "id-4711-x:id-4711-x")
    assert got.body == {"token": TOKEN, "text": f"<{TOKEN}>", "list": [TOKEN], "plain": "${secrets.ID}"}
    echoed = result["body"]
    assert (echoed["path"], echoed["headers"]["authorization"]) == ("/hooks/***", "Bearer ***")
    assert echoed["body"] == {"token": "***", "text": "<***>", "list": ["***"], "plain": "${secrets.ID}"}
    for secret in (TOKEN, "id-4711-x"):
        nothing_of(secret, await call(client, sent, secrets))


@pytest.mark.parametrize("status", ["200 OK", "400 Bad Request", "500 Internal Server Error", "302 Found"])
@pytest.mark.parametrize(
    "content_type", ["application/json", "text/html; charset=utf-8", "text/plain; charset=iso-8859-1"]
)
async def test_forms_that_receivers_give_them(client: httpx.AsyncClient, status: str, content_type: str) -> None:
    """In bodies, header values, keys and the Location, whatever the status says."""
    value: Any = {
        TOKEN: TOKEN,
        "url": f"/x?token={quote(TOKEN, safe='')}",
        "small": quote(TOKEN, safe="").lower(),
        "basic": base64.b64encode(TOKEN.encode()).decode(),
        "pair": base64.b64encode(f"user:{TOKEN}".encode()).decode(),
        "inner": json.dumps({"token": TOKEN}),
        "slashes": json.dumps(TOKEN)[1:-1].replace("/", "\\/"),
        "capitals": json.dumps(TOKEN)[1:-1].replace("\\u00f6", "\\u00F6"),
        "list": [[{"deep": f"..{TOKEN}.."}]],
    }
    body = orjson.dumps(value) if content_type == "application/json" else json.dumps(value, ensure_ascii=False).encode()
    more = (f"X-Echo: {TOKEN}", f"Location: http://x/?t={quote(TOKEN)}")
    async with sockets(answering(http(body, content_type, status, *more))) as url:
        result = await call(client, request(url, body="${secrets.T}"), having(T=TOKEN))
    nothing_of(TOKEN, result)
    text = orjson.dumps(result.error if isinstance(result, EffectFailed) else result.output).decode()
    assert base64.b64encode(f"user:{TOKEN}".encode()).decode() not in text
    assert "***" in text


async def test_a_number_that_is_a_secret(client: httpx.AsyncClient) -> None:
    """An echo that became a number is one all the same; other numbers stay."""
    async with sockets(answering(http(b'{"pin": 4711, "n": 47110, "f": 4711.0}'))) as url:
        result = output(await call(client, request(url, body={"pin": "${secrets.PIN}"}), having(PIN="4711")))
    assert result["body"] == {"pin": "***", "n": 47110, "f": 4711.0}


async def test_what_is_ours_is_not_masked(echo: Echo, client: httpx.AsyncClient) -> None:
    """A secret that happens to read like a status or a code takes nothing from the result's own fields."""
    secrets = having(A="200", B="http_status", C="404")
    config: dict[str, Any] = {"body": ["${secrets.A}", "${secrets.B}", "${secrets.C}"]}
    result = output(await call(client, request(echo.url, **config), secrets))
    assert (result["status"], result["body"]["body"]) == (200, ["***", "***", "***"])
    failed = failure(await call(client, request(f"{echo.url}/status/404", **config), secrets))
    details = failed.error["details"]
    assert isinstance(details, dict)
    assert (failed.error["code"], details["status"]) == ("http_status", 404)


async def test_of_a_secret_url_the_path_is_masked_too(echo: Echo, client: httpx.AsyncClient) -> None:
    """A receiver knows it by its host and by its path; what messages show of it is nothing."""
    hook = f"{echo.url}/services/T0001/B0001/XXXXyyyy?z=1"
    result = output(await call(client, request("${secrets.HOOK}"), having(HOOK=hook)))
    assert echo.received[0].path == "/services/T0001/B0001/XXXXyyyy"
    assert (result["body"]["path"], result["body"]["headers"]["host"]) == ("***", "***")
    refusing = having(HOOK=f"{echo.url}/status/400?key=XXXX")
    failed = failure(await call(client, request("${secrets.HOOK}"), refusing))
    assert failed.error["message"] == "POST *** answered 400 Bad Request"


async def test_of_a_secret_url_the_host_is_masked_as_it_was_sent(echo: Echo, client: httpx.AsyncClient) -> None:
    """In small letters, however the secret has it."""
    result = output(await call(client, request("${secrets.HOOK}"), having(HOOK=f"http://LocalHost:{echo.port}/hook")))
    assert result["body"]["headers"]["host"] == "***"


@pytest.mark.parametrize("beyond", [0, 1, 5, len(TOKEN)])
async def test_a_secret_at_the_edge_of_what_is_kept(client: httpx.AsyncClient, beyond: int) -> None:
    """Of an error's body only the start is kept: a secret that is cut there is not shown in part."""
    before = "x" * (ERROR_BODY_BYTES_MAX - beyond)
    async with sockets(
        answering(http((before + TOKEN + "y" * 5_000).encode(), "text/plain", "400 Bad Request"))
    ) as url:
        failed = failure(await call(client, request(url, body="${secrets.T}"), having(T=TOKEN)))
    assert "p@" not in str(failed.error)
    details = failed.error["details"]
    assert isinstance(details, dict)
    assert len(str(details["body"])) >= ERROR_BODY_BYTES_MAX - 20
    assert set(str(details["body"])) <= set("xy*")
    async with sockets(
        answering(http((before + TOKEN[:5]).encode(), "text/plain", "400 Bad Request", "X: y")[:-1])
    ) as url:
        failed = failure(await call(client, request(url, body="${secrets.T}"), having(T=TOKEN)))
    assert "p@s" not in str(failed.error)


@pytest.mark.parametrize("beyond", [-50, 0, 1, 5, 50])
async def test_a_secret_at_the_edge_of_a_body_that_is_cut(client: httpx.AsyncClient, beyond: int) -> None:
    """As above, for results; also where masking made room for more than was read."""
    bodies = ["x" * (BYTES_MAX - beyond) + TOKEN + "y" * 500, TOKEN * 2_000, "x" * (BYTES_MAX + beyond) + TOKEN[:4]]
    for body in bodies:
        async with sockets(answering(http(body.encode(), "text/plain"))) as url:
            result = output(await call(client, request(url, cut=True, body="${secrets.T}"), having(T=TOKEN)))
        assert "p@ss/" not in result["body"]
        assert result["cut"]["limit"] == BYTES_MAX


@pytest.mark.parametrize(
    ("config", "secrets"),
    [
        ({"url": "${secrets.T}"}, {"T": "s3cr3t-no-url"}),
        ({"url": "http://127.0.0.1:${secrets.T}/"}, {"T": "s3cr3t-port"}),
        ({"url": "http://x", "headers": {"X": "${secrets.T}"}}, {"T": "s3cr3t\r\nX-Other: y"}),
        ({"url": "http://x", "headers": {"X": "${secrets.T}"}}, {"T": "s3cr3t" * 5_000}),
        ({"url": "http://s3cr3t@x", "headers": {"X": "${secrets.T}"}}, {"T": "s3cr3t"}),
        ({"url": "http://${secrets.T}"}, {"T": "s3cr3t:pass@host"}),
        ({"url": "http://x/${secrets.T}"}, {"T": "s3cr3t\n"}),
        ({"url": "http://[${secrets.T}]/"}, {"T": "s3cr3t"}),
        ({"url": "http://${secrets.T}/"}, {"T": "127.0.0.1s3cr3t"}),
        ({"url": "http://${secrets.T}/"}, {"T": "10.47.11.8"}),
    ],
)
async def test_no_error_tells_a_piece_of_one(
    client: httpx.AsyncClient, config: dict[str, Any], secrets: Mapping[str, str], caplog: pytest.LogCaptureFixture
) -> None:
    """Neither the result nor the log, as processes write it, whichever piece of the request it spoils."""
    for name, level in _QUIET.items():
        caplog.set_level(level, name)
    caplog.set_level("DEBUG")
    failed = failure(await call(client, request(**config), having(**secrets)))
    for piece in ("s3cr3t", "10.47.11.8", "pass"):
        assert piece not in str(failed.error)
        assert piece not in caplog.text


@pytest.mark.parametrize(
    "config", [{"body": "${secrets.NONE}"}, {"sign_with": "NONE"}, {"headers": {"X": "${secrets.NONE}"}}]
)
async def test_an_unknown_secret_fails_for_good(echo: Echo, client: httpx.AsyncClient, config: dict[str, Any]) -> None:
    """Nothing is sent; the message names it and both places where it could be."""
    failed = failure(await call(client, request(echo.url, **config)))
    assert (failed.error["code"], failed.retryable) == ("secret_unknown", False)
    for part in ("NONE", "WORKFLOW_SECRET_NONE", "WORKFLOW_SECRETS_DIR", echo.url):
        assert part in str(failed.error["message"])
    assert not echo.received


async def test_an_answer_that_is_refused_says_nothing_of_its_body(client: httpx.AsyncClient) -> None:
    """A key or a place in it may be a secret."""
    for body in (b'{"s3cr3t/x": 1, "s3cr3t/x": 2}', b'{"s3cr3t/x": 1e400}', b"[" * 50 + b'"s3cr3t/x'):
        async with sockets(answering(http(body))) as url:
            failed = failure(await call(client, request(url, body="${secrets.T}"), having(T="s3cr3t/x")))
        assert failed.error["code"] == "response_refused"
        assert "s3cr3t" not in str(failed.error)


async def test_requests_are_signed(echo: Echo, client: httpx.AsyncClient) -> None:
    """Exactly what is sent: the bytes of JSON and of texts, and of nothing; the library of the specification believes it."""
    bodies: list[JSON] = [{"n": 2**53 + 1, "text": "für ${secrets.T}", "a": [1.5, None]}, "text: ${secrets.T}", None]
    for body in bodies:
        output(await call(client, request(echo.url, body=body, sign_with="KEY"), having(KEY=KEY, T="x-1-x")))
    for got, raw in zip(
        echo.received, ('{"n":9007199254740993,"text":"für x-1-x","a":[1.5,null]}', "text: x-1-x", ""), strict=True
    ):
        assert got.headers["webhook-id"] == got.headers["idempotency-key"] == "run-1/step"
        Webhook(KEY).verify(raw, dict(got.headers), json_parse=False)


async def test_a_key_that_is_none_fails_for_good(echo: Echo, client: httpx.AsyncClient) -> None:
    """Before anything is sent, without its value."""
    failed = failure(await call(client, request(echo.url, sign_with="KEY"), having(KEY="hunter2-hunter2")))
    assert (failed.error["code"], failed.retryable) == ("secret_unusable", False)
    assert "hunter2" not in str(failed.error)
    assert not echo.received


async def test_a_config_without_secrets_is_sent_as_it_is(echo: Echo, client: httpx.AsyncClient) -> None:
    """Data that looks like a reference is text: a step that names no secret is not rendered again."""
    plain = WebhookRequest.of(
        {"url": echo.url, "body": "${secrets.T} $${x}"}, idempotency_key="k", timeout_s=5, response_bytes_max=BYTES_MAX
    )
    output(await call(client, plain, having(T="s3cr3t")))
    assert echo.received[0].body == "${secrets.T} $${x}"
