"""The values behind `${secrets.NAME}`, read at each use: from the environment, else from a file in a mounted folder."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from schemas.errors import BadSetting, WorkflowError

PREFIX: Final = "WORKFLOW_SECRET_"
SECRET_BYTES_MAX: Final = 64 * 1024


class SecretUnknown(WorkflowError):
    """The worker knows no secret {name}: set WORKFLOW_SECRET_{name} in its environment, or put a file {name} into the folder
    that WORKFLOW_SECRETS_DIR names."""


class SecretUnusable(WorkflowError):
    """The secret {name} cannot be used: {reason}."""


class SecretValues:
    """Where a worker finds secrets. A changed file counts from the next attempt on."""

    def __init__(self, environ: Mapping[str, str], folder: Path | None = None) -> None:
        self._environ, self._folder = environ, folder

    @classmethod
    def of(cls, folder: str) -> SecretValues:
        """With this process's environment and the folder of WORKFLOW_SECRETS_DIR, empty for none. Raises BadSetting."""
        if folder and not Path(folder).is_dir():
            raise BadSetting(name="WORKFLOW_SECRETS_DIR", value=folder, reason="there is no such folder")
        return cls(os.environ, Path(folder) if folder else None)

    def get(self, name: str) -> str:
        """The value. Raises SecretUnknown, SecretUnusable. `name` is a sound one: it becomes the name of a file."""
        value = self._environ.get(PREFIX + name)
        if value is None:
            value = self._from_file(name)
        if not value:
            raise SecretUnusable(name=name, reason="it is empty")
        if "\0" in value or not _is_utf8(value):
            raise SecretUnusable(name=name, reason="it is no UTF-8 text, or holds a NUL")
        return value

    def _from_file(self, name: str) -> str:
        if self._folder is None:
            raise SecretUnknown(name=name)
        try:
            with (self._folder / name).open("rb") as file:
                raw = file.read(SECRET_BYTES_MAX + 1)
        except FileNotFoundError:
            raise SecretUnknown(name=name) from None
        except OSError as error:
            raise SecretUnusable(name=name, reason=f"its file cannot be read ({error.strerror})") from None
        if len(raw) > SECRET_BYTES_MAX:
            raise SecretUnusable(name=name, reason=f"its file has more than {SECRET_BYTES_MAX} bytes")
        text = raw.decode(errors="surrogateescape")
        return text.removesuffix("\n").removesuffix("\r")


def without_secrets(environ: Mapping[str, str]) -> dict[str, str]:
    """An environment for a process that needs none of them."""
    return {name: value for name, value in environ.items() if not name.startswith(PREFIX)}


def _is_utf8(value: str) -> bool:
    """An environment holds what is no UTF-8 as lone surrogates."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
