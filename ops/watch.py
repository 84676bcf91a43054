"""Following a run until it ends: each event once, in order."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import Any, Final

from ops.client import PAGE_ITEMS, Answer, Client, CommandFailed, Exit
from ops.tables import Event

POLL_FIRST_S: Final = 0.05
POLL_MAX_S: Final = 0.5
AWAY_WITHIN_S: Final = 30.0

ENDED: Final = frozenset({"SUCCESS", "FAILED", "CANCELLED"})


def follow(
    client: Client,
    run_id: str,
    on_event: Callable[[Event, Event | None], None] | None,
    *,
    min_position: str | None = None,
    timeout_s: float | None = None,
) -> Answer:
    """The run as it ended; `on_event(event, the one before)` is called for each event meanwhile.

    An API that goes away, or tables that are behind, are given AWAY_WITHIN_S to come. Raises CommandFailed with WAITED_TOO_LONG after `timeout_s`.
    """
    started = time.monotonic()
    last: Event | None = None
    etag: str | None = None
    for pause_s in _pauses():
        left_s = AWAY_WITHIN_S if timeout_s is None else min(AWAY_WITHIN_S, started + timeout_s - time.monotonic())
        answer = _patiently(lambda: client.run(run_id, min_position=min_position, etag=etag), left_s)  # noqa: B023 - called at once
        if answer.body is not None:
            etag = answer.etag
            if on_event is not None:
                for event in events_after(client, run_id, last["seq"] if last else 0):
                    on_event(event, last)
                    last = event
            if answer.body["status"] in ENDED:
                return answer
        if timeout_s is not None and time.monotonic() - started > timeout_s:
            raise CommandFailed(f"run {run_id} has not ended within {timeout_s:g} s; it goes on", Exit.WAITED_TOO_LONG)
        time.sleep(pause_s)
    raise AssertionError("the pauses never end")


def events_after(client: Client, run_id: str, seq: int) -> Iterator[Event]:
    """The run's events above `seq`, oldest first. Read from the newest back, so that what is known is not read again."""
    found: list[Event] = []
    before: int | None = None
    while True:
        query = {"order": "desc", "before_seq": before, "limit": PAGE_ITEMS}
        page = _patiently(lambda: client.events(run_id, query)).body  # noqa: B023 - called at once
        fresh: list[Event] = [event for event in page["items"] if event["seq"] > seq]
        found += fresh
        if len(fresh) < len(page["items"]) or page["next_cursor"] is None:
            return iter(found[::-1])
        before = fresh[-1]["seq"]


def exit_code(run: Any) -> Exit:
    """Good is a run that ended in SUCCESS, or has not ended."""
    return Exit.ENDED_BADLY if run["status"] in ("FAILED", "CANCELLED") else Exit.GOOD


def _pauses() -> Iterator[float]:
    pause_s = POLL_FIRST_S
    while True:
        yield pause_s
        pause_s = min(pause_s * 1.2, POLL_MAX_S)


def _patiently(ask: Callable[[], Answer], within_s: float = AWAY_WITHIN_S) -> Answer:
    deadline = time.monotonic() + within_s
    while True:
        try:
            return ask()
        except CommandFailed as failed:
            if failed.code not in (Exit.SERVER_AWAY, Exit.WAITED_TOO_LONG) or time.monotonic() > deadline:
                raise
            time.sleep(POLL_MAX_S)
