"""What is installed is what is locked, whichever tool installs it."""

from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any, Final

import pytest

from ops.embedded import jars

ROOT: Final = Path(__file__).parents[2]
URL: Final = re.compile(rb"https?://([a-z0-9.-]+)", re.IGNORECASE)
# Of the package registries that a client could be told to use. In two parts, so that this file names none either.
REGISTRIES: Final = tuple(
    ".".join(parts).encode()
    for parts in [
        ("pypi", "org"),
        ("pythonhosted", "org"),
        ("maven", "org"),
        ("apache", "org/maven"),
        ("npmjs", "org"),
        ("npmjs", "com"),
    ]
)

Pins = dict[tuple[str, str], frozenset[str]]
"""Name and version (there may be one for each range of Python's) → digests."""


def poetry_lock() -> list[dict[str, Any]]:
    packages: list[dict[str, Any]] = tomllib.loads((ROOT / "poetry.lock").read_text())["package"]
    return packages


def locked_by_poetry(groups: set[str]) -> Pins:
    """Each package that one of `groups` needs."""
    return {
        (package["name"], package["version"]): frozenset(file["hash"] for file in package["files"])
        for package in poetry_lock()
        if groups & set(package["groups"])
    }


def locked_for_pip(name: str) -> Pins:
    pins = {}
    for block in re.split(r"\n(?=\S)", (ROOT / "requirements" / name).read_text().strip()):
        pin = re.match(r"([a-z0-9.-]+)==([^ ;]+)", block)
        assert pin, f"no pinned requirement: {block[:80]}"
        pins[pin[1], pin[2]] = frozenset(re.findall(r"--hash=(sha256:[0-9a-f]{64})", block))
    return pins


@pytest.mark.parametrize(
    ("name", "groups"), [("runtime.txt", {"main"}), ("dev.txt", {"main", "dev", "embedded"}), ("audit.txt", {"audit"})]
)
def test_pip_installs_what_poetry_locked(name: str, groups: set[str]) -> None:
    """Both locks hold the same versions with the same digests, and every one has a digest."""
    pins = locked_for_pip(name)
    assert pins == locked_by_poetry(groups)
    assert all(pins.values())


def test_poetry_takes_its_lock_for_current() -> None:
    """The lock was made from this pyproject.toml: the pinned dependencies are the ones that it names."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    wanted = project["project"]["dependencies"] + [
        line for group in project["dependency-groups"].values() for line in group if isinstance(line, str)
    ]
    locked = {package["name"]: package["version"] for package in poetry_lock()}
    for requirement in wanted:
        name, _, exact = requirement.partition(";")[0].partition("==")
        found = locked[re.split(r"[<>=~!]", name)[0].strip()]
        assert not exact or found == exact.strip()


def test_the_locks_name_no_registry() -> None:
    """A mirror can serve every package: no lock says where a package comes from."""
    assert all("source" not in package for package in poetry_lock())
    for lock in [ROOT / "poetry.lock", *(ROOT / "requirements").glob("*.txt"), jars.LOCK]:
        assert not [host for host in URL.findall(lock.read_bytes()) if host.lower().endswith(REGISTRIES)]


def test_no_tracked_file_names_a_registry() -> None:
    """The clients' own settings decide which registry is asked."""
    tracked = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=False).stdout
    paths = [ROOT / name for name in tracked.decode().split("\0") if name]
    if not paths:
        pytest.skip("not a git checkout")
    named = [str(path) for path in paths if path.is_file() and any(host in path.read_bytes() for host in REGISTRIES)]
    assert not named


def test_every_jar_is_locked_with_a_digest() -> None:
    """Kafka's jars are pinned by sha256, Kafka itself at 4.3."""
    assert all(re.fullmatch(r"[0-9a-f]{64}", jar.sha256) for jar in jars.locked())
    assert jars.kafka_version().startswith("4.3.")
    assert len({jar.filename for jar in jars.locked()}) == len(jars.locked())


def test_this_environment_is_the_locked_one() -> None:
    """The tests run with the versions that the lock names."""
    from importlib.metadata import distributions

    locked = locked_for_pip("dev.txt")
    found = {re.sub(r"[-_.]+", "-", d.name).lower(): d.version for d in distributions()}
    different = {name: found[name] for name, _ in locked if name in found and (name, found[name]) not in locked}
    assert not different, f"run `make setup`; {sys.executable} has {different}"
