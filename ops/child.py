"""`python -m ops.child ROLE`: one process of an embedded platform, its settings in the environment."""

from __future__ import annotations

import sys

from ops import roles
from schemas.settings import Settings


def main(role: str) -> int:
    """Run until told to stop; the exit code."""
    settings = Settings()
    match role:
        case "api":
            return roles.run_api(settings)
        case "worker":
            return roles.run_worker(settings)
        case "projector":
            return roles.run_projector(settings)
        case _:
            raise ValueError(f"{role!r} is none of api, worker, projector")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
