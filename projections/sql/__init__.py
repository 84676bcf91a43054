"""Named queries: each stands in a .sql file under a line `-- name: …`."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Final

from projections.rows import PROJECTION_VERSION

HERE: Final = Path(__file__).parent
_NAME: Final = re.compile(r"^-- name: (\w+)$", re.MULTILINE)


@cache
def queries(file: str) -> dict[str, str]:
    """The queries of `file`.sql by name, in the order in which they stand there; `{projection}` is this program's."""
    parts = _NAME.split((HERE / f"{file}.sql").read_text().replace("{projection}", str(PROJECTION_VERSION)))
    return dict(zip(parts[1::2], map(str.strip, parts[2::2]), strict=True))
