"""What all reads share: waiting for a position, bounds of time and pages, headers."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from math import inf
from typing import Final
from urllib.parse import urlencode

from starlette.requests import Request

from api.errors import FieldError, ParameterInvalid, PositionNotReached
from api.ports import Deps
from projections.rows import instant_us
from schemas import position as positions
from schemas.durations import seconds
from schemas.errors import WorkflowError
from schemas.position import Place, Position
from schemas.store import ReadStore

PAGE_ITEMS_DEFAULT: Final = 50
CLOCKS_S: Final = 5.0
"""A caller's clock may be ahead of ours by so much."""
_RFC3339: Final = re.compile(
    r"(\d{4}-\d\d-\d\d[Tt ]\d\d:\d\d:)(\d\d)((?:\.\d+)?(?:[Zz]|[+-](?:[01]\d|2[0-3]):[0-5]\d))", re.ASCII
)
_WAIT: Final = re.compile(r"[0-9]{1,15}(?:\.[0-9]{1,15})?(ms|s|m|h|d)?", re.ASCII)
_POLL_S: Final = (0.004, 0.008, 0.015, 0.03)
"""Pauses between looks at the store's position while a read waits; the last one is repeated."""


class Waiting:
    """Reads that wait for the tables to get somewhere. One loop asks the store for all of them, and only while there are any."""

    def __init__(self, store: ReadStore) -> None:
        self._store = store
        self._waiting: dict[asyncio.Future[None], Position] = {}
        self._asking: asyncio.Task[None] | None = None

    async def reach(self, wanted: Position, timeout_s: float) -> None:
        """Return when the tables hold all below `wanted`. Raises PositionNotReached, after a last look, or StoreAway."""
        arrived: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[arrived] = wanted
        if self._asking is None:
            self._asking = asyncio.create_task(self._ask(), name="positions")
        try:
            async with asyncio.timeout(timeout_s):
                await arrived
        except TimeoutError:
            at = await self._store.positions()
            if not positions.reached(at, wanted):
                raise PositionNotReached(waited_s=timeout_s, wanted=wanted, at=at) from None
        finally:
            self._waiting.pop(arrived, None)

    async def _ask(self) -> None:
        turn = 0
        try:
            while self._waiting:
                try:
                    self._arrive(await self._store.positions())
                except WorkflowError as error:
                    self._fail(error)
                    return
                if self._waiting:
                    await asyncio.sleep(_POLL_S[min(turn, len(_POLL_S) - 1)])
                    turn += 1
        finally:
            self._asking = None

    def _arrive(self, seen: Position) -> None:
        for future in [future for future, wanted in self._waiting.items() if positions.reached(seen, wanted)]:
            del self._waiting[future]
            if not future.done():
                future.set_result(None)

    def _fail(self, error: WorkflowError) -> None:
        waiting, self._waiting = self._waiting, {}
        for future in waiting:
            if not future.done():
                future.set_exception(error)


def wanted_position(token: str | None, partitions: int) -> Position:
    """The position that a request wants to see. Raises ParameterInvalid for what is no token of this platform."""
    if not token:
        return {}
    try:
        position = positions.decode(token)
    except ValueError as error:
        raise ParameterInvalid(
            FieldError("query/min_position", "bad_position", str(error), positions.PARTS_MAX)
        ) from None
    for topic, partition in position:
        if partition >= (1 if topic in "dk" else partitions):
            raise ParameterInvalid(
                FieldError(
                    "query/min_position", "bad_position", f"there is no partition {partition} here", partitions - 1
                )
            )
    return position


def of_tables(wanted: Mapping[Place, int]) -> Position:
    """The part of a position that the read tables have to reach."""
    return {place: offset for place, offset in wanted.items() if place[0] in "et"}


def wait_s(text: str | None, longest_s: float) -> float:
    """How long a read waits at most: `longest_s` unless it says less. Raises ParameterInvalid, also for more than that."""
    if text is None:
        return longest_s
    found = _WAIT.fullmatch(text)
    if found is None:
        detail = 'a number of seconds or a text such as "500ms", "2s" is needed'
        raise ParameterInvalid(FieldError("query/wait", "bad_duration", detail))
    try:
        wait = seconds(text if found[1] else float(text))
    except ValueError:  # longer than ten years
        wait = inf
    if wait > longest_s:
        detail = f"at most {longest_s:g} s (setting WORKFLOW_POSITION_WAIT_S)"
        raise ParameterInvalid(FieldError("query/wait", "wait_too_long", detail, longest_s))
    return wait


def instant(text: str | None, name: str, otherwise: str = "") -> str | None:
    """An RFC 3339 time as the store takes it: UTC, microseconds. Raises ParameterInvalid, naming the parameter and what
    else it takes."""
    if text is None:
        return None
    try:
        utc = _utc(text)
    except (ValueError, OverflowError):
        utc = None
    if utc is None:
        detail = (
            "a time such as 2026-01-31T09:30:00Z is needed (RFC 3339, with Z or an offset; write + as %2B)" + otherwise
        )
        raise ParameterInvalid(FieldError(f"query/{name}", "bad_time", detail))
    return utc.isoformat(timespec="microseconds").replace("+00:00", "Z")


def _utc(text: str) -> datetime | None:
    """None for what is not RFC 3339; ValueError, OverflowError for what no calendar has. A leap second is the one after it."""
    found = _RFC3339.fullmatch(text)
    if found is None:
        return None
    minute, second, rest = found.groups()
    leap = second == "60" and minute[-3:] == "59:"
    at = datetime.fromisoformat(f"{minute}{'59' if leap else second}{rest}".upper())
    return (at + timedelta(seconds=1) if leap else at).astimezone(UTC)


def instant_ms(text: str | None, name: str, otherwise: str = "") -> int | None:
    """The same in ms since 1970."""
    at = instant(text, name, otherwise)
    return None if at is None else instant_us(at) // 1000


async def past_ms(text: str | None, name: str, deps: Deps, otherwise: str = "") -> int | None:
    """A time that has passed by our clock or the store's, in ms since 1970. Raises ParameterInvalid, naming the parameter
    and what else it takes."""
    at_ms = instant_ms(text, name, otherwise)
    if at_ms is None:
        return None
    if at_ms > _latest_ms(deps.clock()) and at_ms > _latest_ms(await deps.store.now_s()):
        raise ParameterInvalid(FieldError(f"query/{name}", "in_the_future", "a time that has passed is needed"))
    return at_ms


def _latest_ms(now_s: float) -> float:
    return (now_s + CLOCKS_S) * 1000


def page_limit(limit: int | None, limit_max: int) -> int:
    """How many items a page has. Raises ParameterInvalid above the bound."""
    if limit is None:
        return min(PAGE_ITEMS_DEFAULT, limit_max)
    if limit > limit_max:
        raise ParameterInvalid(
            FieldError("query/limit", "too_many", f"at most {limit_max} (setting WORKFLOW_PAGE_ITEMS_MAX)", limit_max)
        )
    return limit


def page_headers(request: Request, position: Mapping[Place, int], cursor: str | None) -> dict[str, str]:
    """Workflow-Position, and Link to the next page if there is one."""
    return {"Workflow-Position": positions.encode(position), **page_link(request, cursor)}


def page_link(request: Request, cursor: str | None) -> dict[str, str]:
    """Link to the next page if there is one."""
    if cursor is None:
        return {}
    query = [pair for pair in request.query_params.multi_items() if pair[0] != "cursor"]
    path = request.scope["raw_path"].decode("ascii")
    return {"Link": f'<{path}?{urlencode([*query, ("cursor", cursor)])}>; rel="next"'}


def not_modified(request: Request, etag: str) -> bool:
    """Whether If-None-Match names this entity tag (weakly compared)."""
    given = ",".join(request.headers.getlist("if-none-match"))
    return any(tag.strip().removeprefix("W/") in (etag, "*") for tag in given.split(",") if tag.strip())
