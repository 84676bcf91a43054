"""/ui/: the platform for people who operate it. A page of plain files that asks the API, with the caller's own key."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Annotated, Final

from fastapi import APIRouter, Path
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from api.errors import PathUnknown
from api.headers import PAGE_POLICY
from api.page_files import file_answer, tagged
from api.routing import StrictRoute

router = APIRouter(route_class=StrictRoute, include_in_schema=False)

_FOLDER: Final = files("api") / "ui"
_PAGE: Final = "index.html"
_LOADS: Final = "script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:"
_POLICY: Final = PAGE_POLICY.format(f"{_LOADS}; require-trusted-types-for 'script'")
_KINDS: Final = {"css": "text/css", "html": "text/html", "js": "text/javascript"}


@router.get("/ui", operation_id="ui")
async def lead_to_page() -> RedirectResponse:
    """Relative, so that it leads there behind a prefix, too."""
    return RedirectResponse("ui/")


@router.get("/ui/", operation_id="ui_page")
async def show_page(request: Request) -> Response:
    return file_answer(request, _files()[_PAGE], _KINDS["html"], {"Content-Security-Policy": _POLICY})


@router.get("/ui/{name}", operation_id="ui_file")
async def show_file(request: Request, name: Annotated[str, Path(max_length=100)]) -> Response:
    if name == _PAGE or name not in _files():
        raise PathUnknown(path=f"/ui/{name}")
    return file_answer(request, _files()[name], _KINDS[name.rpartition(".")[2]])


@cache
def _files() -> dict[str, tuple[bytes, str]]:
    """The files of the page by their names, each with its entity tag, read once."""
    found = (file for file in _FOLDER.iterdir() if file.name.rpartition(".")[2] in _KINDS)
    return {file.name: tagged(file.read_bytes()) for file in found}
