"""The pages that the `type` of a problem points to."""

from __future__ import annotations

from base64 import b64encode
from hashlib import sha256
from html import escape
from typing import Annotated

from fastapi import APIRouter, Path
from starlette.responses import HTMLResponse

from api.errors import PathUnknown
from api.headers import PAGE_POLICY
from api.problems import PROBLEMS, ProblemType
from api.routing import StrictRoute

router = APIRouter(route_class=StrictRoute, include_in_schema=False)

_STYLE = "body { font: 16px/1.5 system-ui, sans-serif; max-width: 42em; margin: 3em auto; padding: 0 1em } code { font-size: 0.95em }"
_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width"><title>{title}</title>
<style>{style}</style>
</head><body>{body}</body></html>
"""
_ITS_DIGEST = b64encode(sha256(_STYLE.encode()).digest()).decode()
_STYLED = {"Content-Security-Policy": PAGE_POLICY.format(f"style-src 'sha256-{_ITS_DIGEST}'")}


@router.get("/problems", operation_id="problems_list")
async def list_problems() -> HTMLResponse:
    rows = "".join(
        f'<li><a href="problems/{code}"><code>{code}</code></a> {kind.status} {escape(kind.title)}</li>'
        for code, kind in PROBLEMS.items()
    )
    return _page("Problems", f"<h1>Problems</h1><ul>{rows}</ul>")


@router.get("/problems/{code}", operation_id="problems_get")
async def show_problem(code: Annotated[str, Path(max_length=100)]) -> HTMLResponse:
    kind = PROBLEMS.get(code)
    if kind is None:
        raise PathUnknown(path=f"/problems/{code}")
    return _page(escape(kind.title), _body(code, kind))


def _page(title: str, body: str) -> HTMLResponse:
    return HTMLResponse(_PAGE.format(title=title, style=_STYLE, body=body), headers=_STYLED)


def _body(code: str, kind: ProblemType) -> str:
    parts = (("What it means", kind.meaning), ("Why it happens", kind.cause), ("What to do", kind.fix))
    text = "".join(f"<h2>{title}</h2><p>{escape(content)}</p>" for title, content in parts)
    return f"<h1>{escape(kind.title)}</h1><p>HTTP {kind.status}, code <code>{code}</code></p>{text}<p><a href='../problems'>All problems</a></p>"
