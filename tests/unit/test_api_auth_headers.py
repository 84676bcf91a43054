"""Headers of every answer, pages of other origins, and /docs without a network."""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import AsyncIterator
from html.parser import HTMLParser
from typing import Any

import httpx
import pytest

from api.headers import DATA_POLICY, origins
from api.middleware import URI_BYTES_MAX
from schemas.errors import BadSetting
from schemas.settings import Settings
from tests.api.world import World, client_of, make_world

TRIGGER = "/api/v1/trigger"
SHOP, OTHER = "https://shop.example", "https://other.example"


@pytest.fixture
async def world() -> World:
    world = make_world(workflow_cors_origins=f"{SHOP}, http://localhost:3000")
    await world.define()
    await world.tell(world.story("r1"))
    return world


@pytest.fixture
async def client(world: World) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(world) as client:
        yield client


def preflight(origin: str, method: str = "POST", *headers: str) -> dict[str, str]:
    asked = {"Origin": origin, "Access-Control-Request-Method": method}
    return {**asked, "Access-Control-Request-Headers": ", ".join(headers)} if headers else asked


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/v1/runs"),
        ("GET", "/api/v1/runs/r1"),
        ("POST", TRIGGER),
        ("GET", "/api/v1/nothing"),
        ("DELETE", "/api/v1/runs"),
        ("GET", "/health"),
        ("GET", "/docs"),
        ("GET", "/docs/swagger-ui.css"),
        ("GET", "/ui"),
        ("GET", "/ui/"),
        ("GET", "/ui/style.css"),
        ("GET", "/problems/run_unknown"),
        ("GET", "/"),
        ("GET", f"/api/v1/runs?cursor={'c' * URI_BYTES_MAX}"),
    ],
)
async def test_every_answer_has_the_headers(client: httpx.AsyncClient, method: str, path: str) -> None:
    """Refusals and redirects too; each once."""
    answer = await client.request(method, path)
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert answer.headers["cross-origin-resource-policy"] == "same-origin"
    policy = answer.headers["content-security-policy"]
    assert policy.startswith("default-src 'none';")
    assert "frame-ancestors 'none'" in policy
    is_page = answer.headers.get("content-type", "").startswith("text/html")
    assert (policy == DATA_POLICY) == (not is_page)
    names = [name for name, _ in answer.headers.raw]
    assert len(names) == len(set(names))


async def test_what_is_about_runs_is_not_kept(client: httpx.AsyncClient) -> None:
    """no-store, but for a run with its ETag: it may be kept by its caller, who asks each time and gets a 304."""
    assert (await client.get("/api/v1/runs")).headers["cache-control"] == "no-store"
    assert (await client.get("/api/v1/runs/r1/events")).headers["cache-control"] == "no-store"
    run = await client.get("/api/v1/runs/r1")
    assert run.headers["cache-control"] == "private, no-cache"
    again = await client.get("/api/v1/runs/r1", headers={"If-None-Match": run.headers["etag"]})
    assert (again.status_code, again.headers["cache-control"]) == (304, "private, no-cache")


async def test_pages_of_named_origins_may_call(client: httpx.AsyncClient) -> None:
    """They are asked first, and see the headers that they need; a browser's own credentials are never taken."""
    asked = preflight(SHOP, "POST", "authorization", "content-type", "idempotency-key")
    answer = await client.options(TRIGGER, headers=asked)
    assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (200, SHOP)
    assert "x-request-id" in answer.headers
    answer = await client.get("/api/v1/runs/r1", headers={"Origin": SHOP})
    assert answer.headers["access-control-allow-origin"] == SHOP
    assert {"ETag", "Workflow-Position", "X-Request-Id"} <= set(
        answer.headers["access-control-expose-headers"].split(", ")
    )
    started = await client.post(TRIGGER, json={"workflow_id": "greet"}, headers={"Origin": SHOP})
    assert (started.status_code, started.headers["access-control-allow-origin"]) == (202, SHOP)
    for each in (answer, started):
        assert "access-control-allow-credentials" not in each.headers


@pytest.mark.parametrize("origin", [OTHER, "https://shop.example.evil.example", "http://shop.example", "null"])
async def test_pages_of_other_origins_may_not(client: httpx.AsyncClient, origin: str) -> None:
    """However near their name comes."""
    answer = await client.options(TRIGGER, headers=preflight(origin))
    assert answer.status_code == 400
    for each in (answer, await client.get("/api/v1/runs", headers={"Origin": origin})):
        assert "access-control-allow-origin" not in each.headers


async def test_no_page_may_call_unless_it_is_named() -> None:
    """The default; the path answers as for any method that it does not take."""
    async with client_of(make_world()) as client:
        assert (await client.options(TRIGGER, headers=preflight(SHOP))).status_code == 405
        answer = await client.get("/api/v1/runs", headers={"Origin": SHOP})
        assert {name for name in answer.headers if name.startswith("access-control")} == set()


async def test_a_browser_may_ask_before_it_shows_a_key() -> None:
    """It sends none with its first question; the call itself needs one, and its 401 can be read by the page."""
    world = make_world(workflow_auth="keys", workflow_cors_origins=SHOP)
    async with client_of(world) as client:
        asked = preflight(SHOP, "DELETE", "authorization")
        assert (await client.options("/api/v1/keys/aaaaaaaaaaaa", headers=asked)).status_code == 200
        answer = await client.get("/api/v1/runs", headers={"Origin": SHOP})
        assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (401, SHOP)


@pytest.mark.parametrize(
    "text",
    [
        "shop.example",
        "https://shop.example/",
        "https://Shop.example",
        "https://*.shop.example",
        "ftp://shop.example",
        "null",
        f"{SHOP};{OTHER}",
        "https://shop.example:123456",
    ],
)
def test_what_is_no_origin_stops_the_start(text: str) -> None:
    """With the one that is wrong."""
    with pytest.raises(BadSetting, match="WORKFLOW_CORS_ORIGINS"):
        origins(Settings(workflow_cors_origins=text))


def test_every_origin_at_once_is_not_for_keys() -> None:
    """`*` is taken where nobody is asked for a key, and refused where they are."""
    assert origins(Settings(workflow_cors_origins="*")) == ("*",)
    assert origins(Settings(workflow_cors_origins=f" {SHOP},, http://[::1]:8080 ")) == (SHOP, "http://[::1]:8080")
    with pytest.raises(BadSetting, match="one by one"):
        origins(Settings(workflow_auth="keys", workflow_cors_origins="*"))


class Page(HTMLParser):
    """What a page loads, and what it holds of scripts and styles."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.scripts: list[str] = []
        self.styles: list[str] = []
        self.handlers: list[str] = []
        self._inside = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self._inside = tag
        self.handlers += [name for name in given if name.startswith("on") or name == "style"]
        if tag in ("script", "link", "img"):
            self.loads += [value for name in ("src", "href") if (value := given.get(name))]

    def handle_data(self, data: str) -> None:
        if data.strip() and self._inside in ("script", "style"):
            (self.scripts if self._inside == "script" else self.styles).append(data)

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""


async def test_the_docs_come_from_this_process_alone(client: httpx.AsyncClient) -> None:
    """Every file that the page names is served beside it, no script stands in it, and its policy allows no others."""
    answer = await client.get("/docs")
    page = Page(answer.text)
    policy = answer.headers["content-security-policy"]
    assert "script-src 'self';" in policy
    assert "unsafe" not in policy
    assert (page.scripts, page.styles, page.handlers) == ([], [], [])
    assert len(page.loads) == 4
    for path in page.loads:
        assert re.fullmatch(r"docs/[\w.-]+", path)
        file = await client.get(f"/{path}")
        assert (file.status_code, bool(file.content)) == (200, True)
        again = await client.get(f"/{path}", headers={"If-None-Match": file.headers["etag"]})
        assert (again.status_code, again.content) == (304, b"")
    assert "//" not in (await client.get("/docs/start.js")).text
    assert (await client.get("/docs/start.js")).headers["content-type"].startswith("text/javascript")
    assert b"SwaggerUIBundle" in (await client.get("/docs/swagger-ui-bundle.js")).content


@pytest.mark.parametrize("name", ["__init__.py", "..%2Fmain.py", "swagger-ui.css.map", "START.JS", "%00"])
async def test_no_other_file_is_served(client: httpx.AsyncClient, name: str) -> None:
    """The page's own files have names; nothing is looked for in a folder."""
    assert (await client.get(f"/docs/{name}")).status_code == 404


async def test_pages_of_problems_hold_one_style_that_their_policy_names(client: httpx.AsyncClient) -> None:
    """By its digest; they load nothing and run nothing."""
    answer = await client.get("/problems/rate_limited")
    page = Page(answer.text)
    assert (page.loads, page.scripts, page.handlers) == ([], [], [])
    (style,) = page.styles
    digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
    assert f"style-src 'sha256-{digest}'" in answer.headers["content-security-policy"]


async def test_the_document_is_what_the_page_asks_for(client: httpx.AsyncClient) -> None:
    """Its address in start.js leads to the document, open to whoever has no key yet."""
    (url,) = re.findall(r'url: "([^"]+)"', (await client.get("/docs/start.js")).text)
    document: dict[str, Any] = (await client.get(f"/{url}")).json()
    assert document["openapi"].startswith("3.1")
