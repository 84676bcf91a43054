"""The operations page as it is served: which files, with which headers, to whom."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from zipfile import ZipFile

import httpx
import pytest

from api.middleware import URI_BYTES_MAX
from tests.api.world import client_of, make_world, problem

ROOT = Path(__file__).parents[2]
FILES = sorted(file.name for file in (ROOT / "api" / "ui").iterdir())
POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; "
    "require-trusted-types-for 'script'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
KINDS = {"js": "text/javascript", "css": "text/css"}


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(make_world(workflow_auth="keys")) as client:
        yield client


async def test_the_page_is_open_and_strict(client: httpx.AsyncClient) -> None:
    """Without a key: nothing of a run stands in it. Its policy lets it load its own files, and run nothing else."""
    answer = await client.get("/ui/")
    assert answer.status_code == 200
    assert answer.headers["content-type"].startswith("text/html")
    assert answer.headers["content-security-policy"] == POLICY
    assert answer.headers["cache-control"] == "no-cache"
    assert answer.headers["x-content-type-options"] == "nosniff"
    loads = re.findall(r'(?:src|href)="([\w.]+)"', answer.text)
    assert loads == ["style.css", "main.js"]
    assert not re.search(r"<script>|<style|\son\w+=|\sstyle=", answer.text)


@pytest.mark.parametrize("name", [name for name in FILES if name != "index.html"])
async def test_its_files_are_sent_once(client: httpx.AsyncClient, name: str) -> None:
    """By name, with their kind, and again only to whoever does not have them."""
    file = await client.get(f"/ui/{name}")
    assert file.content == (ROOT / "api" / "ui" / name).read_bytes()
    assert file.headers["content-type"].startswith(KINDS[name.rpartition(".")[2]])
    again = await client.get(f"/ui/{name}", headers={"If-None-Match": file.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["cache-control"] == "no-cache"


async def test_the_page_is_sent_once(client: httpx.AsyncClient) -> None:
    """The same for the page itself; what says that it is the same has its policy, too."""
    first = await client.get("/ui/")
    again = await client.get("/ui/", headers={"If-None-Match": first.headers["etag"]})
    assert (again.status_code, again.headers["content-security-policy"]) == (304, POLICY)


@pytest.mark.parametrize("name", ["index.html", "__init__.py", "..%2Fapp.py", "MAIN.JS", "main.js.map", "%00", "a/b"])
async def test_no_other_file_is_served(client: httpx.AsyncClient, name: str) -> None:
    """They have names; nothing is looked for in a folder."""
    problem(await client.get(f"/ui/{name}"), 404, "path_unknown")


async def test_without_its_slash_it_leads_there_relatively(client: httpx.AsyncClient) -> None:
    """So that it does behind a prefix."""
    answer = await client.get("/ui")
    assert (answer.status_code, answer.headers["location"]) == (307, "ui/")


async def test_what_is_not_asked_for_is_refused(client: httpx.AsyncClient) -> None:
    """Queries and other methods."""
    problem(await client.get("/ui/?key=wfk_x"), 400, "parameter_invalid")
    problem(await client.post("/ui/"), 405, "method_refused")
    problem(await client.get(f"/ui/{'x' * URI_BYTES_MAX}"), 414, "uri_too_long")


def test_the_files_hold_no_foreign_address_and_make_no_markup() -> None:
    """Everything comes from this process; what a run says goes into the page as text; no key is kept beyond the tab."""
    for name in FILES:
        text = (ROOT / "api" / "ui" / name).read_text()
        assert not re.search(r"(?:https?:)?//(?!www\.w3\.org/2000/svg)[a-z0-9.-]+\.[a-z]{2,}", text), name
        assert not re.search(r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|eval\(|localStorage|cookie", text)
        assert len(text.splitlines()) < 300


def test_the_files_are_in_the_package(tmp_path: Path) -> None:
    """A wheel has them beside the code that serves them."""
    build = "import sys; from poetry.core.masonry.api import build_wheel; build_wheel(sys.argv[1])"
    line = [sys.executable, "-c", build, str(tmp_path)]
    subprocess.run(line, check=True, capture_output=True, cwd=ROOT)
    (wheel,) = tmp_path.glob("*.whl")
    with ZipFile(wheel) as packed:
        assert {f"api/ui/{name}" for name in FILES} <= set(packed.namelist())
