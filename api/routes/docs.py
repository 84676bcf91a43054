"""/docs: the operations, to be tried out. All of it comes from this process, so it works without a network."""

from __future__ import annotations

from functools import cache
from importlib.resources import files
from typing import Annotated, Final

from fastapi import APIRouter, Path
from starlette.requests import Request
from starlette.responses import HTMLResponse, Response

from api.errors import PathUnknown
from api.headers import PAGE_POLICY
from api.page_files import file_answer, tagged
from api.routing import StrictRoute

router = APIRouter(route_class=StrictRoute, include_in_schema=False)

_PAGE: Final = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>Workflow platform</title>
<link rel="icon" href="docs/favicon-32x32.png"><link rel="stylesheet" href="docs/swagger-ui.css">
</head><body><div id="swagger-ui"></div>
<script src="docs/swagger-ui-bundle.js"></script><script src="docs/start.js"></script></body></html>
"""
_START: Final = """\
SwaggerUIBundle({
  url: "api/v1/openapi.json",
  dom_id: "#swagger-ui",
  deepLinking: true,
  validatorUrl: null,
  presets: [SwaggerUIBundle.presets.apis],
});
"""
_POLICY: Final = PAGE_POLICY.format("script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'")
"""Swagger's style sheet draws its icons from addresses that hold them (data:)."""
_KINDS: Final = {
    "favicon-32x32.png": "image/png",
    "start.js": "text/javascript",
    "swagger-ui-bundle.js": "text/javascript",
    "swagger-ui.css": "text/css",
}


@router.get("/docs", operation_id="docs")
async def show_docs() -> HTMLResponse:
    return HTMLResponse(_PAGE, headers={"Content-Security-Policy": _POLICY, "Cache-Control": "no-cache"})


@router.get("/docs/{name}", operation_id="docs_file")
async def show_file(request: Request, name: Annotated[str, Path(max_length=100)]) -> Response:
    if name not in _KINDS:
        raise PathUnknown(path=f"/docs/{name}")
    return file_answer(request, _file(name), _KINDS[name])


@cache
def _file(name: str) -> tuple[bytes, str]:
    """A file of the page and its entity tag, read once."""
    return tagged(_START.encode() if name == "start.js" else (files("fastapi_swagger.resources") / name).read_bytes())
