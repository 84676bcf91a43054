"""Which store a process uses."""

from __future__ import annotations

from typing import assert_never

from projections.filesystem import FilesystemStore
from projections.memory import MemoryStore
from projections.postgres import PostgresStore
from projections.tables import Tables
from schemas.settings import Settings


def open_store(settings: Settings) -> Tables:
    """The store that STORAGE_BACKEND names. Nothing is connected or created before it is used; `close` it at the end."""
    match settings.storage_backend:
        case "memory":
            return MemoryStore()
        case "filesystem":
            return FilesystemStore(settings.storage_path)
        case "postgres":
            return PostgresStore(settings.postgres_dsn)
        case _:
            assert_never(settings.storage_backend)
