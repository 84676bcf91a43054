"""`python -m ops.child ROLE`: one process of an embedded platform, its settings in the environment."""

from __future__ import annotations

import sys
from typing import assert_never, get_args

from ops.parts import OwnRole
from ops.roles import run_api, run_projector, run_worker
from schemas.settings import Settings


def run(role: OwnRole, settings: Settings) -> int:
    """Run until told to stop; the exit code."""
    match role:
        case "api":
            return run_api(settings)
        case "worker":
            return run_worker(settings)
        case "projector":
            return run_projector(settings)
        case _:
            assert_never(role)


def main(name: str) -> int:
    for role in get_args(OwnRole):
        if role == name:
            return run(role, Settings())
    raise ValueError(f"{name!r} is none of {', '.join(get_args(OwnRole))}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
