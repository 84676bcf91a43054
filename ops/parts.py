"""Our own processes as parts of an embedded platform: how each is started and where it answers."""

from __future__ import annotations

import json
import os
import sys
import urllib.error
import urllib.request
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal

from ops.home import Role
from ops.process import Child
from ops.reaper import Reaper
from schemas.settings import Settings
from streams.secret_values import without_secrets

PROBE_WITHIN_S: Final = 2.0
ROOT: Final = Path(__file__).parent.parent

CALLERS_OWN: Final = "workflow_api_key"

OwnRole = Literal["api", "worker", "projector"]


class OwnPart:
    """One API, worker or projector process; `address` is the URL of its /health and /ready."""

    def __init__(self, role: OwnRole, number: int, settings: Settings, *, host: str, port: int, reaper: Reaper) -> None:
        """`number` counts the processes of a role from 1; `settings` are those of this very process."""
        log = settings.workflow_home.resolve() / "logs" / f"{role}-{number}.log"
        self.child = Child(f"{role} {number}", log, reaper)
        self.role: Role = role
        self._settings = settings
        self._host = host
        self._port = port

    @property
    def address(self) -> str:
        return f"http://{self._host}:{self._port}"

    def launch(self) -> None:
        env = environment(self._settings)
        if self.role != "worker":
            env = without_secrets(env)
        self.child.launch(command(self.role), env=env, cwd=Path.cwd())

    def ready(self) -> bool:
        """Whether it says that it has started."""
        try:
            with urllib.request.urlopen(f"{self.address}/ready", timeout=PROBE_WITHIN_S):  # noqa: S310 - our own URL
                return True
        except (OSError, urllib.error.URLError):
            return False

    def makes_tables(self) -> str | None:
        """How far it is with tables that are made anew before it works; None where it does not say that it makes any."""
        try:
            with urllib.request.urlopen(f"{self.address}/ready", timeout=PROBE_WITHIN_S):  # noqa: S310 - our own URL
                return None
        except urllib.error.HTTPError as unready:
            with unready:
                parts: dict[str, dict[str, str]] = json.loads(unready.read())["components"]
            return parts["projection"]["detail"] if parts.keys() == {"projection"} else None
        except (OSError, ValueError):
            return None


def command(role: str) -> list[str]:
    return [sys.executable, "-P", "-m", "ops.child", role]


def joining(rebuild_id: str) -> list[str]:
    """The command of a process that takes part in a rebuild, and says nothing."""
    return [sys.executable, "-P", "-m", "ops", "rebuild", "--join", rebuild_id]


def environment(settings: Settings) -> Mapping[str, str]:
    """This process's environment with `settings` in it, so that a child reads the same ones."""
    path = os.pathsep.join([str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])])
    inherited = {name: value for name, value in os.environ.items() if name.removesuffix("_FILE") != CALLERS_OWN.upper()}
    return {**inherited, **variables(settings), "PYTHONPATH": path}


def variables(settings: Settings) -> dict[str, str]:
    """The environment variables of the settings that were given, in the environment or since."""
    return {name.upper(): str(value) for name, value in told(settings).items()}


def told(settings: Settings) -> dict[str, Any]:
    """The settings that were given, as JSON; without the key that the commands of whoever starts a platform send."""
    return settings.model_dump(mode="json", exclude_unset=True, exclude={CALLERS_OWN})
