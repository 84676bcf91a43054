"""The bodies of /health and /ready, the same for every role."""

from __future__ import annotations

from api.ports import ReadyReport


def health_body() -> dict[str, str]:
    return {"status": "ok"}


def ready_body(report: ReadyReport) -> tuple[int, dict[str, object]]:
    """HTTP status and body."""
    components = {name: {"state": part.state, "detail": part.detail} for name, part in report.components.items()}
    return (200 if report.ready else 503), {"status": report.status, "components": components}
