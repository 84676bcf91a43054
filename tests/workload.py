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
        "noop": [_delay("first", 0), _delay("second", 0)],
        "sleeps": [_delay("sleep", "${payload.wait_s}"), _call("call", f"{receiver}/plain")],
        "flaky": [
            _call("call", receiver + "/flaky/${run.id}/2", retry={"max_attempts": 6, "initial": "100ms"}),
            _delay("sleep", "200ms"),
        ],
        "slow": [
            _call("call", receiver + "/delay/${payload.wait_s}"),
            _call("tell", f"{receiver}/told", status="${steps.call.output.status}"),
        ],
        "computes": [
            _call("call", f"{receiver}/plain", twice="${payload.n * 2}"),
            _delay("sleep", "${steps.call.output.body.body.twice == payload.n + payload.n ? 0 : 9999}"),
            _call("tell", f"{receiver}/told", seen="${[1, 2, 3].map(x, x * payload.n)}"),
        ],
        "refused": [_delay("sleep", "300ms"), _call("call", f"{receiver}/status/400"), _delay("never", 0)],
        "mistaken": [_call("call", f"{receiver}/plain"), _delay("sleep", "${payload.missing}")],
    }
    assert steps.keys() == ENDS.keys()
    return [{"id": name, "name": name, "steps": its} for name, its in steps.items()]


def _delay(name: str, duration: Any) -> dict[str, Any]:
    return {"name": name, "type": "delay", "config": {"duration": duration}}


def _call(name: str, url: str, *, retry: dict[str, Any] | None = None, **body: Any) -> dict[str, Any]:
    step: dict[str, Any] = {"name": name, "type": "webhook", "config": {"url": url, "body": {**BODY, **body}}}
    return step if retry is None else {**step, "retry": retry}


Start = tuple[str, dict[str, Any]]
"""Workflow id and payload."""


def mix(*, kinds: tuple[str, ...] = MIX, wait_s: tuple[float, ...] = (0.5, 1.0, 2.0, 3.0)) -> Iterator[Start]:
    """Starts without end: the kinds in turn, each with a number of its own."""
    for n, kind in enumerate(itertools.cycle(kinds)):
        yield kind, {"n": n, "wait_s": wait_s[n % len(wait_s)]}
