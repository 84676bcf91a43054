"""The guard of webhooks, on real sockets; only the system's look-up of names is replaced where a test needs other answers."""

from __future__ import annotations

import asyncio
import os
import socket
import threading
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from ops.echo import Echo
from schemas.effects import EffectSucceeded
from schemas.errors import BadSetting
from streams.allowed import AllowList
from streams.look_ups import LookUps, NameUnknown
from streams.webhook import call
from streams.webhook_client import new_client, proxy_of
from tests.webhooks import answering, failure, http, output, request, sockets

PUBLIC = "192.0.2.1"
"""Of a range that is for documentation: nobody is there, and with `NOBODY` allowed it stands for a public address."""
NOBODY = "192.0.2.0/24"


class Names:
    """A look-up that answers with what stands first in its list; it remembers what it was asked."""

    def __init__(self, *answers: Sequence[str]) -> None:
        self.answers, self.asked = list(answers), list[tuple[str, int]]()

    async def __call__(self, host: str, port: int) -> Sequence[str]:
        self.asked.append((host, port))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if not answer:
            raise NameUnknown("its name cannot be resolved (test)")
        return answer


@asynccontextmanager
async def guarded(allow: str = "", names: Names | None = None, **more: Any) -> AsyncIterator[httpx.AsyncClient]:
    async with new_client(connections_max=5, allowed=AllowList.parse(allow), look_up=names, **more) as client:
        yield client


@pytest.fixture
async def echo() -> AsyncIterator[Echo]:
    async with Echo() as echo:
        yield echo


def denied(result: Any, host: str) -> None:
    """The step fails for good, its message names the host and the setting, and no address."""
    failed = failure(result)
    assert (failed.error["code"], failed.retryable) == ("address_denied", False), failed
    message = str(failed.error["message"])
    assert host in message
    assert "WEBHOOK_ALLOW" in message
    assert "127.0.0.1" not in message.replace(host, "")


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "localhost", "LOCALHOST", "127.1", "127.0.1", "2130706433", "0x7f000001", "0x7f.1",
     "017700000001", "0", "[::1]", "[::]", "[::ffff:127.0.0.1]", "[::ffff:7f00:1]",
     "[0:0:0:0:0:ffff:127.0.0.1]", "[::127.0.0.1]", "169.254.169.254", "[fd00:ec2::254]", "[64:ff9b::7f00:1]",
     "10.0.0.1", "192.168.0.1", "[fe80::1]", "[2002:7f00:1::]"],
)  # fmt: skip
async def test_no_spelling_of_an_inner_address_is_called(echo: Echo, host: str) -> None:
    """With the system's own look-up: the check is on what the name came to."""
    async with guarded() as client:
        denied(await call(client, request(f"http://{host}:{echo.port}/")), host)
    assert not echo.received


@pytest.mark.parametrize("url_host", ["localhost.", "LocalHost."])
async def test_a_dot_at_the_end_of_a_name_changes_nothing(echo: Echo, url_host: str) -> None:
    """Whatever a name with one comes to is judged as without it, and the list names both."""
    async with guarded(names=Names(["127.0.0.1"])) as client:
        denied(await call(client, request(f"http://{url_host}:{echo.port}/")), url_host)
    assert not echo.received
    async with guarded("localhost", Names(["127.0.0.1"])) as client:
        assert isinstance(await call(client, request(f"http://{url_host}:{echo.port}/")), EffectSucceeded)


async def test_a_name_that_does_not_exist_is_no_denial(echo: Echo) -> None:
    """Not every system knows `localhost.` by its look-up: then nobody is called either, and it is tried again."""
    async with guarded(names=Names([])) as client:
        failed = failure(await call(client, request(f"http://localhost.:{echo.port}/")))
    assert (failed.error["code"], failed.retryable) == ("connection_failed", True)
    assert not echo.received


@pytest.mark.parametrize(
    "host",
    ["localhost.", "0177.0.0.1", "①②⑦.⓪.⓪.①", "127。0。0。1", "127.0.0.1%2f@example.com", "127.0.0.1%00.example.com", "%31%32%37.0.0.1", "127.0.0.1\\@x",
     "x@127.0.0.1", "[::1%25lo]", "[::ffff:127.0.0.1", "127.0.0.1 ", "127.0.0.1\t", "ⓛⓞⓒⓐⓛⓗⓞⓢⓣ", "0x7f000001.", "127.0.0.1..", "",
     "1.1.1.1:80@127.0.0.1", "127.0.0.1#@example.com", "127.0.0.1?@example.com", "00000127.0.0.1", "[v1.x]"],
)  # fmt: skip
async def test_tricks_with_hosts_reach_nobody(echo: Echo, host: str) -> None:
    """Whatever a parser makes of them, nothing arrives here, and the step fails."""
    async with guarded() as client:
        for url in (f"http://{host}:{echo.port}/", f"http://{host}/"):
            failed = failure(await call(client, request(url, timeout_s=5)))
            assert failed.error["code"] in {"address_denied", "config_invalid", "connection_failed"}, failed
    assert not echo.received


async def test_a_name_that_leads_inside_is_not_called(echo: Echo) -> None:
    """Alone, before or behind a public address: one is enough, and nobody is connected to."""
    for answer in (["127.0.0.1"], ["127.0.0.1", PUBLIC], [PUBLIC, "127.0.0.1"], [PUBLIC, "::ffff:127.0.0.1"]):
        async with guarded(NOBODY, Names(answer)) as client:
            denied(await call(client, request(f"http://a.example:{echo.port}/")), "a.example")
    assert not echo.received


async def test_a_name_that_changes_its_answer(echo: Echo) -> None:
    """Rebinding: it is asked once for each connection, and what was judged is what is connected to."""
    names = Names([PUBLIC], ["127.0.0.1"])
    async with guarded(NOBODY, names) as client:
        first = failure(await call(client, request(f"http://a.example:{echo.port}/", timeout_s=0.3)))
        assert first.error["code"] in {"timeout", "connection_failed"}
        assert names.asked == [("a.example", echo.port)]
        denied(await call(client, request(f"http://a.example:{echo.port}/")), "a.example")
    assert not echo.received


async def test_a_connection_that_is_kept_stays_where_it_is(echo: Echo) -> None:
    """Its address was judged when it was made; the name's next answer does not move it."""
    names = Names(["127.0.0.1"], ["10.0.0.1"])
    async with guarded("127.0.0.1", names) as client:
        for _ in range(3):
            output(await call(client, request(f"http://a.example:{echo.port}/")))
    assert (len(names.asked), len(echo.received)) == (1, 3)


async def test_the_number_is_connected_to_and_the_name_is_told(echo: Echo) -> None:
    """The Host header is the URL's."""
    async with guarded("127.0.0.1", Names(["127.0.0.1"])) as client:
        output(await call(client, request(f"http://a.example:{echo.port}/")))
    assert echo.received[0].headers["host"] == f"a.example:{echo.port}"


async def test_tls_is_asked_for_the_name() -> None:
    """The handshake names the URL's host, not the address."""
    hello: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        hello.set_result(await reader.read(2_000))
        writer.close()

    async with await asyncio.start_server(connected, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        async with guarded("127.0.0.1", Names(["127.0.0.1"])) as client:
            failed = failure(await call(client, request(f"https://a.example:{port}/")))
    assert failed.error["code"] == "connection_failed"
    assert "a.example" not in str(failed.error["message"]).partition("/: ")[2]
    assert b"a.example" in await hello


async def test_the_next_address_is_tried(echo: Echo) -> None:
    """One that refuses the connection, and one that is silent, leave time for the others."""
    with socket.socket() as full:
        full.bind(("127.0.0.2", echo.port))  # bound and not listening: refused at once
        async with guarded("127.0.0.0/8", Names(["127.0.0.2", "127.0.0.1"])) as client:
            output(await call(client, request(f"http://a.example:{echo.port}/")))
    async with guarded(f"127.0.0.1,{NOBODY}", Names([PUBLIC, "127.0.0.1"])) as client:
        output(await call(client, request(f"http://a.example:{echo.port}/", timeout_s=2)))
    assert len(echo.received) == 2


async def test_a_name_without_an_address_may_pass() -> None:
    """It may be mended; nothing is said of where it was looked for."""
    for names in (Names([]), None):
        async with guarded(names=names) as client:
            failed = failure(await call(client, request("http://no-such-host.invalid/")))
            assert (failed.error["code"], failed.retryable) == ("connection_failed", True)
            assert "cannot be resolved" in str(failed.error["message"])


@pytest.mark.parametrize("allow", ["127.0.0.1", "a.example", "*.example", "127.0.0.0/8"])
async def test_the_operator_makes_exceptions(echo: Echo, allow: str) -> None:
    """For an address or for a name, for all ports or for this one alone."""
    for entry, port in ((allow, echo.port), (f"{allow}:{echo.port}", echo.port)):
        async with guarded(entry, Names(["127.0.0.1"])) as client:
            output(await call(client, request(f"http://a.example:{port}/")))
    async with guarded(f"{allow}:{echo.port + 1}", Names(["127.0.0.1"])) as client:
        denied(await call(client, request(f"http://a.example:{echo.port}/")), "a.example")
    assert len(echo.received) == 2


async def test_the_address_is_told_to_the_log_alone(echo: Echo, caplog: pytest.LogCaptureFixture) -> None:
    """An operator sees why; whoever asks does not learn where a name leads."""
    caplog.set_level("INFO")
    async with guarded(names=Names(["10.1.2.3"])) as client:
        failed = failure(await call(client, request("http://inside.example/path?q=1")))
    assert "10.1.2.3" not in str(failed)
    assert "POST http://inside.example/path is not called: 10.1.2.3 is private" in caplog.text


async def test_a_refused_connection_says_nothing_of_its_address() -> None:
    """The system's word for it is enough."""
    async with guarded("inside.example", Names(["127.0.0.1"])) as client:
        failed = failure(await call(client, request("http://inside.example:1/")))
    assert failed.error["message"] == "POST http://inside.example:1/: Connection refused"


async def test_redirects_to_an_inner_address_are_not_followed(echo: Echo) -> None:
    """They are followed nowhere."""
    location = f"Location: http://127.0.0.1:{echo.port}/"
    async with sockets(answering(http(b"", "text/plain", "307 Temporary Redirect", location))) as url:
        port = httpx.URL(url).port
        async with guarded(f"127.0.0.1:{port}") as client:
            failed = failure(await call(client, request(url)))
    assert failed.error["code"] == "http_status"
    assert not echo.received


async def test_a_handshake_that_is_given_up_leaves_no_socket() -> None:
    """A receiver that takes connections and never shakes hands costs nothing after the attempt's end."""
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen(50)
        port = silent.getsockname()[1]
        async with guarded("127.0.0.1") as client:
            await call(client, request(f"https://127.0.0.1:{port}/", timeout_s=0.05))
            before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208 - of this process, at once
            for _ in range(10):
                assert failure(await call(client, request(f"https://127.0.0.1:{port}/", timeout_s=0.05))).retryable
            await asyncio.sleep(0.05)
            assert len(os.listdir("/proc/self/fd")) <= before + 1  # noqa: PTH208


# ── proxies ──


@asynccontextmanager
async def proxy_server() -> AsyncIterator[tuple[str, list[bytes]]]:
    """A proxy that answers everything itself; its address, and the heads of what it was asked."""
    heads: list[bytes] = []

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(await reader.readuntil(b"\r\n\r\n"))
        writer.write(http(b"[1]"))
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(connected, "127.0.0.1", 0) as server:
        yield f"127.0.0.1:{server.sockets[0].getsockname()[1]}", heads


async def test_a_proxy_that_is_named_is_used() -> None:
    """It is asked for names that resolve to public addresses here, and for those that do not resolve here."""
    async with proxy_server() as (address, heads):
        proxy = proxy_of(f"http://user:pass@{address}")
        for answer in ([PUBLIC], []):
            async with guarded(NOBODY, Names(answer), proxy=proxy) as client:
                assert output(await call(client, request("http://a.example/x")))["body"] == [1]
        assert [head.split(b"\r\n")[0] for head in heads] == [b"POST http://a.example/x HTTP/1.1"] * 2
        assert b"Proxy-Authorization: Basic dXNlcjpwYXNz" in heads[0]


async def test_a_proxy_is_not_asked_for_what_is_denied() -> None:
    """What resolves to an inner address here is refused before; and a proxy that refuses may pass."""
    async with proxy_server() as (address, heads):
        proxy = proxy_of(f"http://{address}")
        async with guarded(names=Names(["10.0.0.1"]), proxy=proxy) as client:
            denied(await call(client, request("http://a.example/x")), "a.example")
            denied(await call(client, request("https://a.example/x")), "a.example")
        async with guarded(proxy=proxy) as client:
            denied(await call(client, request("http://2130706433/")), "2130706433")
    assert heads == []


async def test_proxies_of_the_environment_are_not_used(echo: Echo, monkeypatch: pytest.MonkeyPatch) -> None:
    """They would look names up again, and nobody meant them for webhooks."""
    async with proxy_server() as (address, heads):
        for name in ("http_proxy", "HTTP_PROXY", "ALL_PROXY", "https_proxy"):
            monkeypatch.setenv(name, f"http://{address}")
        async with guarded("a.example", Names(["127.0.0.1"])) as client:
            output(await call(client, request(f"http://a.example:{echo.port}/")))
    assert (heads, len(echo.received)) == ([], 1)


@pytest.mark.parametrize(
    "setting", ["proxy:3128", "socks5://proxy:1080", "ftp://proxy", "http://", "http://user:pass@", "x"]
)
def test_a_setting_that_names_no_proxy_stops_the_start(setting: str) -> None:
    """Without the password that may stand in it."""
    with pytest.raises(BadSetting) as refused:
        proxy_of(setting)
    assert "WEBHOOK_PROXY='***'" in refused.value.message
    assert "pass@" not in refused.value.message.replace("USER:PASSWORD@", "")


def test_no_proxy_is_none() -> None:
    """The default."""
    assert proxy_of("") is None


# ── look-ups ──


async def test_names_are_looked_up_beside_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    """Name servers that do not answer hold up other look-ups at the most: neither the loop nor its own threads."""
    release = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: release.wait(20) and [])
    look_up = LookUps(at_once=3)
    hanging = [asyncio.create_task(look_up("a.example", 80)) for _ in range(4)]
    await asyncio.sleep(0.05)
    assert await asyncio.wait_for(asyncio.to_thread(lambda: "free"), 5) == "free"
    asking = [thread for thread in threading.enumerate() if thread.name == "look-up"]
    assert len(asking) == 3
    assert all(thread.daemon for thread in asking), "the end of the process waits for name servers"
    hanging[0].cancel()
    release.set()
    assert await asyncio.wait_for(asyncio.gather(*hanging[1:]), 5) == [[]] * 3
    assert await asyncio.wait_for(look_up("b.example", 80), 5) == []


async def test_what_is_no_name_has_no_address() -> None:
    """Also where the system's look-up does not even try."""
    for host in ("x" * 300, "a..b", "\0"):
        with pytest.raises(NameUnknown, match="cannot be resolved"):
            await LookUps()(host, 80)
