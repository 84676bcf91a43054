"""The command line as people and containers start it: a process of its own, with the settings in its environment."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from ops.parts import variables
from schemas.settings import Settings

ROOT = Path(__file__).parents[1]
WITHIN_S = 60


def start(settings: Settings, *words: str) -> subprocess.CompletedProcess[str]:
    """A command to its end, as a person or a container starts it."""
    line = [sys.executable, "-P", "-m", "ops", *words]
    return subprocess.run(line, env=told(settings), capture_output=True, text=True, timeout=WITHIN_S, check=False)


def told(settings: Settings) -> dict[str, str]:
    """The environment with these settings and no others."""
    names = ("KAFKA_", "POSTGRES_", "STORAGE_", "WORKFLOW_")
    bare = {name: value for name, value in os.environ.items() if not name.startswith(names)}
    return {**bare, **variables(settings), "PYTHONPATH": str(ROOT)}
