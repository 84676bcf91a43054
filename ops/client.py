"""The API as the command line uses it: bodies are passed on as they came, failures become exit codes."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum
from http import HTTPStatus
from typing import Any, Final, Self
from urllib.parse import quote

import httpx
import orjson

from schemas.errors import BadSetting
from schemas.keys import TOKEN_RULE, read_token

CONNECT_WITHIN_S: Final = 5.0
ANSWER_WITHIN_S: Final = 60.0
PAGE_ITEMS: Final = 200

Query = Mapping[str, str | int | None]


class Exit(IntEnum):
    """Exit codes of every command."""

    GOOD = 0
    ENDED_BADLY = 1
    USAGE = 2
    NOT_FOUND = 3
    NOT_ALLOWED = 4
    SERVER_AWAY = 5
    WAITED_TOO_LONG = 6
    INTERRUPTED = 130


class CommandFailed(Exception):
    """A command ends with `message` and `code`."""

    def __init__(self, message: str, code: Exit) -> None:
        super().__init__(message)
        self.code = code


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer of the API. `raw` is its body as it came; `body` is None for a 304."""

    status: int
    raw: bytes
    body: Any
    etag: str | None


class Client:
    """One connection to the API of a platform, for use in a `with`."""

    def __init__(self, url: str, key: str = "") -> None:
        """`key` is sent with every request unless it is empty. Raises BadSetting for one that is none."""
        self._url = url.rstrip("/")
        timeout = httpx.Timeout(ANSWER_WITHIN_S, connect=CONNECT_WITHIN_S)
        if key and read_token(key) is None:
            raise BadSetting(name="WORKFLOW_API_KEY", value="***", reason=TOKEN_RULE)
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._http = httpx.Client(base_url=self._url, timeout=timeout, trust_env=False, headers=headers)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def apply(self, definition: bytes) -> Answer:
        """Define a workflow; `definition` is sent as it is."""
        return self._send("POST", "/api/v1/workflows", content=definition)

    def workflows(self, query: Query) -> Answer:
        return self._get("/api/v1/workflows", query)

    def workflow(self, workflow_id: str, version: int | None, as_of: str | None = None) -> Answer:
        return self._get(f"/api/v1/workflows/{quote(workflow_id, safe='')}", {"version": version, "as_of": as_of})

    def trigger(
        self, workflow_id: str, payload: bytes, *, version: int | None = None, key: str | None = None
    ) -> Answer:
        """Start a run; `payload` is JSON text and is sent as it is."""
        body: dict[str, Any] = {"workflow_id": workflow_id, "payload": orjson.Fragment(payload)}
        if version is not None:
            body["version"] = version
        headers = {} if key is None else {"Idempotency-Key": key}
        return self._send("POST", "/api/v1/trigger", content=orjson.dumps(body), headers=headers)

    def runs(self, query: Query) -> Answer:
        return self._get("/api/v1/runs", query)

    def counts(self, query: Query) -> Answer:
        return self._get("/api/v1/run-counts", query)

    def run(
        self, run_id: str, *, min_position: str | None = None, etag: str | None = None, at: str | None = None
    ) -> Answer:
        """A run; with the `etag` of an earlier answer a 304 says that it is still the same. `at`: as it was then."""
        headers = {} if etag is None else {"If-None-Match": etag}
        query = {"min_position": min_position, "at": at}
        return self._get(f"/api/v1/runs/{quote(run_id, safe='')}", query, headers)

    def proof(self, run_id: str, query: Query) -> Answer:
        return self._get(f"/api/v1/runs/{quote(run_id, safe='')}/proof", query)

    def why(self, run_id: str) -> Answer:
        """Why a run is where it is."""
        return self._get(f"/api/v1/runs/{quote(run_id, safe='')}/why", {})

    def events(self, run_id: str, query: Query) -> Answer:
        return self._get(f"/api/v1/runs/{quote(run_id, safe='')}/events", query)

    def _get(self, path: str, query: Query, headers: Mapping[str, str] | None = None) -> Answer:
        params = {name: value for name, value in query.items() if value is not None}
        return self._send("GET", path, params=params, headers=headers or {})

    def _send(
        self,
        method: str,
        path: str,
        *,
        content: bytes | None = None,
        params: Mapping[str, str | int] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> Answer:
        given = {"Content-Type": "application/json", **(headers or {})} if content is not None else headers
        try:
            response = self._http.request(method, path, content=content, params=params, headers=given)
        except (httpx.ConnectError, httpx.ConnectTimeout) as error:
            advice = "start one with `workflow up`, or set WORKFLOW_URL"
            raise CommandFailed(f"no API answers at {self._url} ({error}); {advice}", Exit.SERVER_AWAY) from error
        except httpx.TimeoutException as error:
            raise CommandFailed(f"no answer within {ANSWER_WITHIN_S:g} s", Exit.WAITED_TOO_LONG) from error
        except httpx.TransportError as error:
            raise CommandFailed(f"the connection to {self._url} broke ({error})", Exit.SERVER_AWAY) from error
        if response.status_code >= HTTPStatus.BAD_REQUEST:
            raise _problem(response)
        try:
            body = orjson.loads(response.content) if response.content else None
        except orjson.JSONDecodeError as error:
            raise CommandFailed(f"what answers at {self._url} is not this API; set WORKFLOW_URL", Exit.USAGE) from error
        return Answer(response.status_code, response.content, body, response.headers.get("etag"))


def _problem(response: httpx.Response) -> CommandFailed:
    """A problem+json body as one line for people: what, where, and the id to ask about it with."""
    try:
        problem = orjson.loads(response.content)
        text, code = str(problem["detail"]), problem["code"]
        for error in problem.get("errors", []):
            text += f"\n  {error.get('pointer') or '/'}: {error.get('detail')}"
    except (orjson.JSONDecodeError, KeyError, TypeError, AttributeError):  # of a proxy, say
        problem, text, code = {}, f"{response.status_code} {response.reason_phrase}", ""
    if response.status_code == HTTPStatus.UNAUTHORIZED:
        text += "\n  The commands send the key of WORKFLOW_API_KEY, or of the file that WORKFLOW_API_KEY_FILE names."
    if "request_id" in problem:
        text += f"\n  (request {problem['request_id']})"
    return CommandFailed(text, _exit_code(response.status_code, code))


def _exit_code(status: int, code: str) -> Exit:
    if status == HTTPStatus.NOT_FOUND:
        return Exit.NOT_FOUND
    if status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN):
        return Exit.NOT_ALLOWED
    if code == "position_not_reached" or status in (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.GATEWAY_TIMEOUT):
        return Exit.WAITED_TOO_LONG
    comes_later = status == HTTPStatus.TOO_MANY_REQUESTS or status >= HTTPStatus.INTERNAL_SERVER_ERROR
    return Exit.SERVER_AWAY if comes_later else Exit.USAGE
