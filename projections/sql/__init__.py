"""Named queries: each stands in a .sql file under a line `-- name: …`. What stands under `-- fragment: …` is put where
other queries have its name in braces."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Final

from projections.rows import PROJECTION_VERSION

HERE: Final = Path(__file__).parent
_NAME: Final = re.compile(r"^-- (name|fragment): (\w+)$", re.MULTILINE)


@cache
def queries(file: str) -> dict[str, str]:
    """The queries of `file`.sql by name, in the order in which they stand there; `{projection}` is this program's."""
    _, *parts = _NAME.split((HERE / f"{file}.sql").read_text())
    found = list(zip(parts[::3], parts[1::3], map(str.strip, parts[2::3]), strict=True))
    pieces = {"{projection}": str(PROJECTION_VERSION)}
    pieces |= {f"{{{name}}}": text for kind, name, text in found if kind == "fragment"}
    return {name: _filled(text, pieces) for kind, name, text in found if kind == "name"}


def _filled(text: str, pieces: Mapping[str, str]) -> str:
    for name, piece in pieces.items():
        text = text.replace(name, piece)
    return text
