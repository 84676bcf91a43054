"""Settings for a command: of the platform that runs in a folder, else of the environment."""

from __future__ import annotations

import difflib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from pydantic import ValidationError

from ops import home
from ops.errors import NoPlatform
from schemas.errors import BadSetting
from schemas.settings import Settings, secret_names

ELSEWHERE: Final = ("WORKFLOW_URL", "KAFKA_", "POSTGRES_")
"""Variables that begin so name a platform which no folder of ours knows."""


def load(**given: Any) -> Settings:
    """The environment's settings with `given` over them. Raises BadSetting for the first one that cannot be used."""
    try:
        return Settings(**given)
    except ValidationError as invalid:
        first = invalid.errors(include_url=False)[0]
        name = "_".join(str(part) for part in first["loc"]).upper()
        value = "***" if name.lower() in secret_names() else first["input"]
        raise BadSetting(name=name, value=value, reason=first["msg"]) from None


def of_platform(folder: Path | None) -> Settings:
    """The settings of the platform in `folder` or WORKFLOW_HOME, else the environment's, else of one in `.workflow`.

    Raises NoPlatform when the folder that was named has none and nothing else says where one is.
    """
    named = folder or (Path(os.environ["WORKFLOW_HOME"]) if os.environ.get("WORKFLOW_HOME") else None)
    elsewhere = any(variable.startswith(ELSEWHERE) for variable in os.environ)
    platform = home.read(named or home.DEFAULT) if named is not None or not elsewhere else None
    if platform is not None:
        return load(**platform.settings)
    if folder is not None or (named is not None and not elsewhere):
        raise NoPlatform(home=named)
    return load()


def warn_of_unknown(say: Callable[[str], None]) -> None:
    """Tell of WORKFLOW_* variables that are no settings: most are misspelt ones."""
    known = {name.upper() for name in Settings.model_fields} | {f"{name.upper()}_FILE" for name in secret_names()}
    for variable in sorted(name for name in os.environ if name.startswith("WORKFLOW_") and name not in known):
        near = difflib.get_close_matches(variable, known, 1)
        say(f"{variable} is no setting" + (f"; did you mean {near[0]}?" if near else ""))
