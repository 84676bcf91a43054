"""Which operation needs which scope: the one table. A route whose operation it lacks does not start."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from schemas.keys import Scope

OPERATIONS: Final[Mapping[str, Scope | None]] = {
    # starting runs
    "trigger": "trigger",
    "trigger_batch": "trigger",
    # looking
    "runs_list": "read",
    "runs_get": "read",
    "runs_counts": "read",
    "runs_proof": "read",
    "runs_events": "read",
    "runs_why": "read",
    "workflows_list": "read",
    "workflows_get": "read",
    "metrics": "read",
    # defining
    "workflows_define": "define",
    "projections_list": "read",
    "projections_get": "read",
    "projections_quarantine": "read",
    # steering
    "projections_rebuild": "operate",
    "projections_cancel": "operate",
    # keys
    "keys_list": "admin",
    "keys_create": "admin",
    "keys_revoke": "admin",
    # open to everybody: nothing of a workflow or a run stands there
    "health": None,
    "livez": None,
    "ready": None,
    "readyz": None,
    "root": None,
    "docs": None,
    "docs_file": None,
    "ui": None,
    "ui_page": None,
    "ui_file": None,
    "problems_list": None,
    "problems_get": None,
}


def scope_of(operation: str | None) -> Scope | None:
    """What an operation needs; None for one that is open."""
    name = operation or ""
    assert name in OPERATIONS, f"operation {name!r} has no line in the table of api/scopes.py"
    return OPERATIONS[name]
