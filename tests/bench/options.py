"""What the command line says of how much to measure."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True, slots=True)
class Options:
    """`quick`: a few seconds per scenario, to see that all of it works. `folder`: where platforms keep their data."""

    folder: Path
    quick: bool = False
    rounds: int = 3
    events: int | None = None
    """how long a log the scenario `rebuild` makes; None: its own choice"""
