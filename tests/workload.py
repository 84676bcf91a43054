"""The runs that fault tests start: which workflows there are, what each must come to, and payloads that mix them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any, Final

ENDS: Final = {
    "noop": "SUCCESS",
    "sleeps": "SUCCESS",
    "flaky": "SUCCESS",
    "slow": "SUCCESS",
    "computes": "SUCCESS",
    "refused": "FAILED",
    "mistaken": "FAILED",
}
"""Workflow id → how each of its runs must end."""

MIX: Final = ("sleeps", "noop", "slow", "flaky", "sleeps", "computes", "slow", "refused", "slow", "mistaken")
"""Most of them call or wait, so that a fault finds effects under way."""

BODY: Final = {"run": "${run.id}", "n": "${payload.n}"}


def definitions(receiver: str) -> list[dict[str, Any]]:
    """One workflow for each name in ENDS; webhooks go to an `ops.echo.Echo` at this URL."""
    steps = {
        "noop": [delay("first", 0), delay("second", 0)],
        "sleeps": [delay("sleep", "${payload.wait_s}"), call("call", f"{receiver}/plain")],
        "flaky": [
            call("call", receiver + "/flaky/${run.id}/2", retry={"max_attempts": 6, "initial": "100ms"}),
            delay("sleep", "200ms"),
        ],
        "slow": [
            call("call", receiver + "/delay/${payload.wait_s}"),
            call("tell", f"{receiver}/told", status="${steps.call.output.status}"),
        ],
        "computes": [
            call("call", f"{receiver}/plain", twice="${payload.n * 2}"),
            delay("sleep", "${steps.call.output.body.body.twice == payload.n + payload.n ? 0 : 9999}"),
            call("tell", f"{receiver}/told", seen="${[1, 2, 3].map(x, x * payload.n)}"),
        ],
        "refused": [delay("sleep", "300ms"), call("call", f"{receiver}/status/400"), delay("never", 0)],
        "mistaken": [call("call", f"{receiver}/plain"), delay("sleep", "${payload.missing}")],
    }
    assert steps.keys() == ENDS.keys()
    return [{"id": name, "name": name, "steps": its} for name, its in steps.items()]


def delay(name: str, duration: Any) -> dict[str, Any]:
    """A step that waits."""
    return {"name": name, "type": "delay", "config": {"duration": duration}}


def call(name: str, url: str, *, retry: dict[str, Any] | None = None, **body: Any) -> dict[str, Any]:
    """A step that calls, and says for which run and step it does."""
    told = {**BODY, "step": name, **body}
    step: dict[str, Any] = {"name": name, "type": "webhook", "config": {"url": url, "body": told}}
    return step if retry is None else {**step, "retry": retry}


Start = tuple[str, dict[str, Any]]
"""Workflow id and payload."""


def mix(*, kinds: tuple[str, ...] = MIX, wait_s: tuple[float, ...] = (0.5, 1.0, 2.0, 3.0)) -> Iterator[Start]:
    """Starts without end: the kinds in turn, each with a number of its own."""
    for n, kind in enumerate(itertools.cycle(kinds)):
        yield kind, {"n": n, "wait_s": wait_s[n % len(wait_s)]}
