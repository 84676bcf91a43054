"""How routes are made: strict about what they are given, and plain where every microsecond counts."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Annotated, Any, Final, Protocol, cast

from fastapi import Depends, Query
from fastapi.routing import APIRoute
from starlette.requests import Request
from starlette.responses import Response

from api.access import Access
from api.backlog import Backlogs
from api.body import Bodies
from api.errors import FieldError, ParameterInvalid, PositionNotReached
from api.metrics import MetricsPage
from api.openapi import WAIT_TEXT
from api.ports import Deps
from api.reads import Waiting, of_tables, wait_s, wanted_position
from api.recent import RecentStarts
from api.scopes import scope_of
from api.traffic import Traffic
from schemas.keys import ApiKey, Scope

Handler = Callable[[Request], Coroutine[Any, Any, Response]]
_REPEATABLE: Final = frozenset({"type"})


@dataclass(frozen=True, slots=True)
class Api:
    """What the routes of one app share. `access` None: nobody is asked for a key."""

    deps: Deps
    bodies: Bodies
    waiting: Waiting
    recent: RecentStarts
    backlogs: Backlogs
    traffic: Traffic
    metrics: MetricsPage
    access: Access | None = None


def api_of(request: Request) -> Api:
    return cast("Api", request.app.state.api)


Shared = Annotated[Api, Depends(api_of)]
MinPosition = Annotated[
    str | None,
    Query(
        description="A position from an earlier answer: the read waits, up to WORKFLOW_POSITION_WAIT_S, until it can show nothing older."
    ),
]
AsOf = Annotated[
    str | None,
    Query(
        max_length=40,
        description="RFC 3339: show what was so at that time, by the log's clock",
        json_schema_extra={"format": "date-time"},
    ),
]
Wait = Annotated[str | None, Query(description=WAIT_TEXT)]
Limit = Annotated[int | None, Query(ge=1, description="items of one page at most")]
Cursor = Annotated[str | None, Query(description="`next_cursor` of the page before, with the same filters")]


class Topic(Protocol):
    """A topic that this process has folded up to `position`."""

    @property
    def position(self) -> int: ...

    async def reach(self, position: int, timeout_s: float) -> bool: ...


class StrictRoute(APIRoute):
    """Refuses query parameters that the operation does not have, and those given twice."""

    def get_route_handler(self) -> Handler:
        handle = super().get_route_handler()
        needed = scope_of(self.operation_id)
        known = frozenset(field.alias for field in self.dependant.query_params)

        async def strictly(request: Request) -> Response:
            await admit(request, needed)
            if request.scope["query_string"]:
                refuse_unknown(request, known)
            return await handle(request)

        return strictly


class PlainRoute(APIRoute):
    """Calls its endpoint with the request and nothing else: no dependencies, no validation. For the hot path. Of a query it
    knows what its document names by hand."""

    def get_route_handler(self) -> Handler:
        endpoint = cast("Callable[[Request], Awaitable[Response]]", self.endpoint)
        named = (self.openapi_extra or {}).get("parameters", ())
        known = frozenset(parameter["name"] for parameter in named if parameter["in"] == "query")
        return plain(endpoint, scope_of(self.operation_id), known)


def plain(
    endpoint: Callable[[Request], Awaitable[Response]], needed: Scope | None, known: frozenset[str] = frozenset()
) -> Handler:
    """The endpoint, with no other parameters in its query than the known ones, for callers that have the scope."""

    async def plainly(request: Request) -> Response:
        await admit(request, needed)
        if request.scope["query_string"]:
            refuse_unknown(request, known)
        return await endpoint(request)

    return plainly


async def admit(request: Request, needed: Scope | None) -> None:
    """Return for a caller that may do what needs this scope, before anything of the request is read. Raises as
    `Access.admit` does."""
    access = api_of(request).access
    if access is not None and needed is not None:
        await access.admit(request.scope, needed)


def caller_of(request: Request) -> str | None:
    """The name of the key that a request was let in with; None where nobody is asked for one."""
    key: ApiKey | None = request.scope.get("api_key")
    return None if key is None else key.name


Caller = Annotated[str | None, Depends(caller_of)]


def refuse_unknown(request: Request, known: frozenset[str]) -> None:
    """Raise ParameterInvalid for each query parameter that is not known, or is given twice."""
    names = [name for name, _ in request.query_params.multi_items()]
    takes = f"this operation takes {', '.join(sorted(known))}" if known else "this operation takes none"
    errors = [
        FieldError(f"query/{name[:100]}", "unknown_parameter", f"no such parameter; {takes}")
        for name in names
        if name not in known
    ]
    twice = {name for name in names if names.count(name) > 1} - _REPEATABLE
    errors += [
        FieldError(f"query/{name}", "given_twice", "it is given more than once") for name in sorted(twice & known)
    ]
    if errors:
        raise ParameterInvalid(*errors)


async def reach_tables(api: Api, min_position: str | None, wait: str | None) -> None:
    """Wait until the read tables hold what `min_position` wants of them, no longer than `wait` says. Raises PositionNotReached."""
    settings = api.deps.settings
    wanted = of_tables(wanted_position(min_position, settings.workflow_partitions))
    longest_s = wait_s(wait, settings.workflow_position_wait_s)
    if wanted:
        await api.waiting.reach(wanted, longest_s)


async def reach_topic(api: Api, letter: str, topic: Topic, min_position: str | None, wait: str | None) -> None:
    """Wait until this process has folded what `min_position` wants of a topic of one partition. Raises PositionNotReached."""
    settings = api.deps.settings
    longest_s = wait_s(wait, settings.workflow_position_wait_s)
    place = (letter, 0)
    wanted = wanted_position(min_position, settings.workflow_partitions).get(place, 0)
    if wanted > topic.position and not await topic.reach(wanted, longest_s):
        raise PositionNotReached(waited_s=longest_s, wanted={place: wanted}, at={place: topic.position})
