"""One good request for each operation that needs a scope."""

from __future__ import annotations

from typing import Any

import httpx

from tests.api.world import World, make_world

TRIGGER = "/api/v1/trigger"
START = {"workflow_id": "greet"}
CALLS: dict[str, tuple[str, str, Any]] = {
    "trigger": ("POST", TRIGGER, START),
    "trigger_batch": ("POST", f"{TRIGGER}/batch", {"items": [START]}),
    "runs_list": ("GET", "/api/v1/runs", None),
    "runs_get": ("GET", "/api/v1/runs/r1", None),
    "runs_counts": ("GET", "/api/v1/run-counts", None),
    "runs_proof": ("GET", "/api/v1/runs/r1/proof", None),
    "runs_events": ("GET", "/api/v1/runs/r1/events", None),
    "runs_why": ("GET", "/api/v1/runs/r1/why", None),
    "metrics": ("GET", "/metrics", None),
    "workflows_list": ("GET", "/api/v1/workflows", None),
    "workflows_get": ("GET", "/api/v1/workflows/greet", None),
    "workflows_define": (
        "POST",
        "/api/v1/workflows",
        {"name": "w", "steps": [{"name": "a", "type": "delay", "config": {"duration": 1}}]},
    ),
    "projections_list": ("GET", "/api/v1/projections", None),
    "projections_get": ("GET", "/api/v1/projections/runs", None),
    "projections_quarantine": ("GET", "/api/v1/projections/runs/quarantine", None),
    "projections_rebuild": ("POST", "/api/v1/projections/runs/rebuild", None),
    "projections_cancel": ("POST", "/api/v1/projections/runs/cancel", None),
    "keys_list": ("GET", "/api/v1/keys", None),
    "keys_create": ("POST", "/api/v1/keys", {"name": "new", "scopes": ["read"]}),
    "keys_revoke": ("DELETE", "/api/v1/keys/aaaaaaaaaaaa", None),
}


async def callable_world() -> World:
    """In which each of them finds what it names; keys are asked for."""
    world = make_world(workflow_auth="keys")
    await world.define()
    await world.tell(world.story("r1"))
    return world


async def call(client: httpx.AsyncClient, operation: str, params: dict[str, str] | None = None) -> httpx.Response:
    method, path, body = CALLS[operation]
    return await client.request(method, path, json=body, params=params)
