"""The bodies of /health and /ready, the same for every role."""

from __future__ import annotations

from collections.abc import Collection
from typing import Final

from api.ports import Component, ReadyReport
from projections.lag import Lag

BEHIND_S: Final = 10.0
"""A projection that lags for longer shows as degraded."""


def health_body() -> dict[str, str]:
    return {"status": "ok"}


def ready_body(report: ReadyReport) -> tuple[int, dict[str, object]]:
    """HTTP status and body."""
    components = {name: {"state": part.state, "detail": part.detail} for name, part in report.components.items()}
    body: dict[str, object] = {"status": report.status, "components": components}
    if report.lag is not None:
        body["lag"] = [
            {"partition": number, "events": lag.records, "seconds": round(lag.seconds, 3)}
            for number, lag in sorted(report.lag.items())
        ]
    return (200 if report.ready else 503), body


def behind(lags: Collection[Lag], *, store_away: bool = False) -> Component:
    """How far a projection is behind. Tables that nobody can ask are as they were when they last answered, or worse."""
    records, seconds = sum(lag.records for lag in lags), max((lag.seconds for lag in lags), default=0.0)
    if not records:
        return Component("ok", "level with the log")
    state = "degraded" if seconds > BEHIND_S or store_away else "ok"
    return Component(state, f"{records} records and {seconds:.0f} s behind the log")
