"""Webhooks: what is sent, and what a result is."""

from __future__ import annotations

import asyncio
import email.utils
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import orjson
import pytest

from ops.echo import Echo
from schemas.jsontext import JSON
from streams.webhook import RETRY_AFTER_MAX_S, call, retry_after_s
from tests.webhooks import answer, client_of_tests, configured, failure, http, output, request


@pytest.fixture
async def echo() -> AsyncIterator[Echo]:
    async with Echo() as echo:
        yield echo


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with client_of_tests() as client:
        yield client


async def test_a_json_body_is_posted(echo: Echo, client: httpx.AsyncClient) -> None:
    """The default method is POST, a JSON value goes as application/json, the result has status, headers and body."""
    result = output(await call(client, request(f"{echo.url}/orders?x=1", body={"a": [1, "é"]}, headers={"X-A": " b "})))
    assert result["status"] == 200
    assert result["headers"]["content-type"] == "application/json"
    sent = result["body"]
    assert (sent["method"], sent["path"], sent["query"], sent["body"]) == (
        "POST",
        "/orders",
        {"x": "1"},
        {"a": [1, "é"]},
    )
    assert sent["headers"]["content-type"] == "application/json"
    assert sent["headers"]["x-a"] == "b"


@pytest.mark.parametrize(
    ("config", "content_type", "body"),
    [
        ({"body": "text"}, "text/plain; charset=utf-8", "text"),
        ({"body": "<a/>", "headers": {"content-TYPE": "application/xml"}}, "application/xml", "<a/>"),
        ({"body": [], "headers": {"Content-Type": "application/vnd.x+json"}}, "application/vnd.x+json", []),
        ({"body": 0}, "application/json", 0),
        ({"method": "get"}, None, ""),
    ],
)
async def test_the_body_goes_as_its_kind(
    echo: Echo, client: httpx.AsyncClient, config: dict[str, JSON], content_type: str | None, body: JSON
) -> None:
    """Text goes as it is, a header of the config names the kind, no body has none."""
    output(await call(client, configured({"url": echo.url, **config})))
    sent = echo.received[-1]
    assert (sent.headers.get("content-type"), sent.body) == (content_type, body)


async def test_other_characters_in_headers_and_paths(echo: Echo, client: httpx.AsyncClient) -> None:
    """Go as UTF-8, so that no byte of them can be taken for a line break; in a path and a query they are percent-encoded."""
    text = "für č\u010a\u2028 dich"
    output(await call(client, request(f"{echo.url}/ä b\\c?q=č\\", headers={"X-Name": text})))
    got = echo.received[-1]
    assert got.headers["x-name"].encode("latin-1").decode() == text
    assert (got.path, got.query) == ("/ä b\\c", {"q": "č\\"})


async def test_every_attempt_has_the_same_idempotency_key(echo: Echo, client: httpx.AsyncClient) -> None:
    """The key is the caller's; a config cannot set it."""
    for _ in range(2):
        await call(client, request(f"{echo.url}/flaky/a/1"))
    assert [each.headers["idempotency-key"] for each in echo.received] == ["run-1:step"] * 2
    failed = failure(await call(client, request(echo.url, headers={"idempotency-KEY": "mine"})))
    assert failed.error["code"] == "config_invalid"
    assert len(echo.received) == 2


@pytest.mark.parametrize(
    ("config", "part"),
    [
        ({"headers": {"Host": "x"}}, "sets this header itself"),
        ({"headers": {"Connection": "close"}}, "sets this header itself"),
        ({"headers": {"Transfer-Encoding": "chunked"}}, "sets this header itself"),
        ({"headers": {"Content-Length": "5"}}, "sets this header itself"),
        ({"headers": {"keep-alive": "x"}}, "sets this header itself"),
        ({"headers": {"TE": "trailers"}}, "sets this header itself"),
        ({"headers": {"Upgrade": "h2c"}}, "sets this header itself"),
        ({"headers": {"HTTP2-Settings": "x"}}, "sets this header itself"),
        ({"headers": {"Expect": "100-continue"}}, "sets this header itself"),
        ({"headers": {"Proxy-Anything": "x"}}, "sets this header itself"),
        ({"headers": {"Content_Length": "5"}}, "sets this header itself"),
        ({"headers": {"webhook-signature": "v1,x"}}, "sets this header itself"),
        ({"headers": {"Webhook-Id": "x"}}, "sets this header itself"),
        ({"headers": {"WEBHOOK_TIMESTAMP": "1"}}, "sets this header itself"),
        ({"headers": {"Übel": "x"}}, "no header name"),
        ({"headers": {"X:": "x"}}, "no header name"),
        ({"headers": {"X": "a\nb"}}, "control character"),
        ({"headers": {"X": "a\x7f"}}, "control character"),
        ({"headers": {"X": None}}, "must be a text"),
        ({"headers": {"a b": "x"}}, "no header name"),
        ({"headers": {"": "x"}}, "no header name"),
        ({"headers": {"X\r\nY": "x"}}, "no header name"),
        ({"headers": {"X": "a\r\nY: b"}}, "control character"),
        ({"headers": {"X": "a\0"}}, "control character"),
        ({"headers": {"X": 1}}, "must be a text"),
        ({"headers": {"X": "é" * 10_000}}, "longer than"),
        ({"headers": ["X"]}, "config.headers"),
        ({"headers": {f"X-{n}": "" for n in range(101)}}, "at most 100"),
        ({"method": "GE T"}, "config.method"),
        ({"method": "GET / HTTP/1.1\r\nX: y\r\n"}, "config.method"),
        ({"method": None}, "config.method"),
        ({"url": "ftp://x/y"}, "config.url"),
        ({"url": "file:///etc/passwd"}, "config.url"),
        ({"url": "//x/y"}, "config.url"),
        ({"url": "http://"}, "config.url"),
        ({"url": "http://[::1/"}, "config.url"),
        ({"url": "http://x\r\ny/"}, "config.url"),
        ({"url": "http://127.0.0.1:99999/"}, "no port from 1"),
        ({"url": "http://127.0.0.1:0/"}, "no port from 1"),
        ({"url": "http://127.0.0.1:8x/"}, "no port from 1"),
        ({"url": "http://:80/"}, "no host"),
        ({"url": "http://user@127.0.0.1/"}, "user name"),
        ({"url": "http://user:pass@127.0.0.1/"}, "user name"),
        ({"url": "http://127.0.0.1\\@example.com/"}, "user name"),
        ({"url": "http://127.0.0.1\\example.com/"}, "backslash"),
        ({"url": "http://127.0.0.1/a\tb"}, "control character"),
        ({"url": "http://127.0.0.1/a\nb"}, "control character"),
        ({"url": "http://127.0.0.1/\x7f"}, "control character"),
        ({"url": "  http://127.0.0.1/"}, "not http or https"),
        ({"url": "http:///x"}, "no host"),
        ({"url": "http:127.0.0.1"}, "not http or https"),
        ({"body": "\ud800"}, "config.body"),
        ({"body": {"a": "\ud800"}}, "config.body"),
        ({"url": ["http://x"]}, "config.url"),
        ({"url": None}, "config.url"),
    ],
)
async def test_a_config_that_makes_no_request_fails_for_good(
    echo: Echo, client: httpx.AsyncClient, config: dict[str, JSON], part: str
) -> None:
    """Nothing is sent, and the error names the field."""
    failed = failure(await call(client, configured({"url": echo.url, **config})))
    assert (failed.error["code"], failed.retryable) == ("config_invalid", False)
    assert part in str(failed.error["message"])
    assert not echo.received


@pytest.mark.parametrize(
    ("status", "retryable"),
    [
        (301, False),
        (304, False),
        (400, False),
        (404, False),
        (408, False),
        (429, True),
        (500, True),
        (503, True),
        (599, True),
    ],
)
async def test_other_answers_fail_with_status_and_body(
    echo: Echo, client: httpx.AsyncClient, status: int, retryable: bool
) -> None:
    """429 and 5xx may pass, with the wait that was asked for; everything else is final."""
    failed = failure(await call(client, request(f"{echo.url}/status/{status}?retry_after=7&secret=x", body="b" * 100)))
    assert failed.error["code"] == "http_status"
    assert f"/status/{status} answered {status}" in str(failed.error["message"])
    assert "secret" not in str(failed.error["message"])
    details = failed.error["details"]
    assert isinstance(details, dict)
    assert details["status"] == status
    assert status == 304 or "bbb" in str(details["body"])
    assert (failed.retryable, failed.retry_after_s) == (retryable, 7.0 if retryable else None)


async def test_redirects_are_not_followed(echo: Echo, client: httpx.AsyncClient) -> None:
    """The error says where it would have gone."""
    failed = failure(await answer(client, http(b"", "text/plain", "302 Found", f"Location: {echo.url}/x")))
    assert failed.error["details"] == {"status": 302, "body": "", "location": f"{echo.url}/x"}
    assert not echo.received


@pytest.mark.parametrize(
    ("value", "expected_s"),
    [
        (None, None),
        ("3", 3.0),
        (" 3 ", 3.0),
        ("0", 0.0),
        ("9" * 20, RETRY_AFTER_MAX_S),
        ("9" * 5_000, None),
        ("-1", None),
        ("1.5", None),
        ("٣", None),
        ("soon", None),
        ("", None),
        (email.utils.formatdate(1_000_010, usegmt=True), 10.0),
        (email.utils.formatdate(1_000_010), 10.0),
        (email.utils.formatdate(5), 0.0),
        (email.utils.formatdate(10**9), RETRY_AFTER_MAX_S),
        ("Fri, 31 Dec 9999 23:59:59 -2359", RETRY_AFTER_MAX_S),
        ("Mon, 99 Jan 2024 00:00:00 GMT", None),
    ],
)
def test_retry_after_is_seconds_or_a_date_within_bounds(value: str | None, expected_s: float | None) -> None:
    """What cannot be read asks for nothing."""
    assert retry_after_s(value, now=1_000_000.0) == expected_s


async def test_late_answers_do_not_use_up_the_pool(echo: Echo, client: httpx.AsyncClient) -> None:
    """After more timeouts than connections the next call has one."""
    for _ in range(5):
        assert failure(await call(client, request(f"{echo.url}/delay/30", timeout_s=0.05))).error["code"] == "timeout"
    assert output(await call(client, request(echo.url)))["status"] == 200


async def test_waiting_for_a_connection_counts_as_time(echo: Echo, client: httpx.AsyncClient) -> None:
    """A full pool delays an attempt, within its timeout."""
    holding = [asyncio.create_task(call(client, request(f"{echo.url}/delay/30", timeout_s=60))) for _ in range(2)]
    while len(echo.received) < 2:  # noqa: ASYNC110 - the receiver has no event to wait for
        await asyncio.sleep(0.01)
    assert failure(await call(client, request(echo.url, timeout_s=0.1))).error["code"] == "timeout"
    for task in holding:
        task.cancel()
    await asyncio.gather(*holding, return_exceptions=True)
    assert output(await call(client, request(echo.url)))["status"] == 200


async def test_cancellation_is_passed_on(echo: Echo, client: httpx.AsyncClient) -> None:
    """It is the one thing that `call` raises."""
    task = asyncio.create_task(call(client, request(f"{echo.url}/delay/30", timeout_s=60)))
    while not echo.received:  # noqa: ASYNC110 - the receiver has no event to wait for
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_whatever_a_library_raises_is_a_result(echo: Echo) -> None:
    """A client that was closed, for one, is a failure that may pass."""
    client = client_of_tests(1)
    await client.aclose()
    failed = failure(await call(client, request(echo.url)))
    assert (failed.error["code"], failed.retryable) == ("unexpected_error", True)
    assert "RuntimeError" in str(failed.error["message"])


async def test_runs_do_not_share_cookies(client: httpx.AsyncClient, echo: Echo) -> None:
    """A cookie that one answer sets is sent with no other request."""
    result = output(await answer(client, http(b"[]", "application/json", "200 OK", "Set-Cookie: a=b; Path=/")))
    assert result["headers"]["set-cookie"] == "a=b; Path=/"
    output(await call(client, request(f"{echo.url}/x")))
    assert "cookie" not in echo.received[-1].headers


async def test_what_may_be_secret_is_not_in_messages(client: httpx.AsyncClient) -> None:
    """Query and fragment of the URL are left out, and so is a user, with whom nothing is sent."""
    for url in ("http://127.0.0.1:1/path?token=secret2#secret3", "http://user:secret1@127.0.0.1:1/path?secret2"):
        failed = failure(await call(client, request(url)))
        assert "http://127.0.0.1:1/path" in str(failed.error["message"])
        assert "secret" not in str(failed.error)


async def test_the_receiver_keeps_a_journal(tmp_path: Path, client: httpx.AsyncClient) -> None:
    """One line of JSON for each request, with its time and key."""
    journal = tmp_path / "journal"
    async with Echo(journal=journal) as echo:
        await call(client, request(f"{echo.url}/a", body={"n": 1}))
        await call(client, request(f"{echo.url}/b"))
    lines = [orjson.loads(line) for line in journal.read_bytes().splitlines()]
    assert [(line["path"], line["body"]) for line in lines] == [("/a", {"n": 1}), ("/b", "")]
    assert all(line["headers"]["idempotency-key"] == "run-1:step" and line["time_s"] > 0 for line in lines)


async def test_the_receiver_refuses_what_is_no_request() -> None:
    """It answers 400 and closes, and goes on serving."""
    async with Echo() as echo:
        for raw in (b"nonsense\r\n\r\n", b"GET / HTTP/1.1\r\nContent-Length: x\r\n\r\n", b"a" * 100_000):
            reader, writer = await asyncio.open_connection(echo.host, echo.port)
            writer.write(raw)
            assert (await reader.read()).startswith(b"HTTP/1.1 400 ")
            writer.close()
        async with client_of_tests(1) as client:
            assert output(await call(client, request(echo.url)))["status"] == 200
