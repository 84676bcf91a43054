"""Kafka's jars: which ones (the lock), where they are kept (a cache shared by checkouts), how they get there (jgo).

`python -m ops.embedded.jars` resolves `jgo.toml` anew and writes the lock.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
import tomllib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from ops.errors import DownloadFailed, EmbeddedPartMissing

SPEC: Final = Path(__file__).with_name("jgo.toml")
LOCK: Final = Path(__file__).with_name("jgo.lock.toml")
DOWNLOADS_AT_ONCE: Final = 6
DOWNLOAD_TIMEOUT_S: Final = 60

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Jar:
    """One locked artifact of a Maven repository."""

    group: str
    artifact: str
    version: str
    sha256: str

    @property
    def filename(self) -> str:
        return f"{self.artifact}-{self.version}.jar"


def locked(lock: Path = LOCK) -> tuple[Jar, ...]:
    """The jars of the committed lock, in the order of the class path."""
    rows = tomllib.loads(lock.read_text())["dependencies"]
    return tuple(Jar(row["groupId"], row["artifactId"], row["version"], row["sha256"]) for row in rows)


def kafka_version() -> str:
    return next(jar.version for jar in locked() if jar.artifact == "kafka-clients")


def cache_folder() -> Path:
    """Where the jars are kept for all checkouts of this user."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "workflow-platform" / "jars"


def install(folder: Path, say: Say) -> list[Path]:
    """All jars of Kafka in `folder`, each with the locked digest; what is missing or damaged is downloaded first."""
    return keep(locked(), folder, lambda what: say(f"Kafka {kafka_version()}: {what} (45 MB in all, once)"))


def keep(jars: Sequence[Jar], folder: Path, say: Say) -> list[Path]:
    """As `install`, for any jars that a lock names."""
    missing = [jar for jar in jars if not _intact(folder / jar.filename, jar)]
    if missing:
        say(f"downloading {len(missing)} jars into {folder}")
        _download(missing, folder)
    return [folder / jar.filename for jar in jars]


def _intact(path: Path, jar: Jar) -> bool:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() == jar.sha256
    except FileNotFoundError:
        return False


def _download(jars: list[Jar], folder: Path) -> None:
    try:
        from jgo.maven import MavenContext
    except ImportError:
        raise EmbeddedPartMissing(package="jgo", setting="KAFKA_BOOTSTRAP_SERVERS") from None
    folder.mkdir(parents=True, exist_ok=True)
    with (
        tempfile.TemporaryDirectory(prefix=".fetch-", dir=folder) as fetched,
        ThreadPoolExecutor(DOWNLOADS_AT_ONCE) as pool,
    ):
        context = MavenContext(repo_cache=Path(fetched), timeout=DOWNLOAD_TIMEOUT_S)

        def fetch(jar: Jar) -> None:
            try:
                path = context.project(jar.group, jar.artifact).at_version(jar.version).artifact().resolve()
            except Exception as error:  # jgo passes on whatever its HTTP client raises
                raise DownloadFailed(name=jar.filename, reason=error) from error
            if not _intact(path, jar):
                raise DownloadFailed(name=jar.filename, reason="what came has not the digest of the lock")
            path.replace(folder / jar.filename)

        list(pool.map(fetch, jars))


def write_lock(spec: Path = SPEC, lock: Path = LOCK) -> None:
    """Resolve the coordinates of `spec` with jgo's own resolver and write `lock`."""
    from jgo.env import LockFile
    from jgo.maven import MavenContext

    coordinates = tomllib.loads(spec.read_text())["dependencies"]["coordinates"]
    with tempfile.TemporaryDirectory() as fetched:
        context = MavenContext(repo_cache=Path(fetched), timeout=DOWNLOAD_TIMEOUT_S)
        inputs, transitive = context.resolver.resolve([context.create_dependency(text) for text in coordinates])
        needed = [*inputs, *(dep for dep in transitive if dep.scope in ("compile", "runtime"))]
        LockFile.from_resolved_dependencies(needed, environment_name="kafka").save(lock)


if __name__ == "__main__":
    write_lock()
