"""`workflow up` that asks for keys, and processes that may not listen where they were told to."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from ops.client import Exit
from tests.integration.test_embedded_platform import environment, folder, platform, url_of, workflow

__all__ = ["folder"]  # a fixture

KEYS = {"WORKFLOW_AUTH": "keys", "STORAGE_BACKEND": "filesystem"}
EVERYWHERE = "0.0.0.0"  # noqa: S104 - what is refused


@pytest.mark.long
def test_a_platform_that_asks_for_keys(folder: Path) -> None:
    """Its first key is made on its Kafka; the demo runs with it and not without; its folder holds no secret."""
    home = folder / "home"
    by_home = ("--home", str(home))
    with platform(home, env={**KEYS, "WORKFLOW_API_KEY": f"wfk_{'0' * 12}_{'ab' * 32}"}):
        assert workflow("runs", "list", *by_home, folder=folder).returncode == Exit.NOT_ALLOWED
        made = workflow("keys", "create", "me", "--scope", "define", "--scope", "trigger", *by_home, folder=folder)
        assert made.returncode == 0, made.stderr
        token = made.stdout.strip()
        started = workflow("demo", *by_home, folder=folder, WORKFLOW_API_KEY=token)
        assert (started.returncode, "'read'" in started.stderr) == (Exit.NOT_ALLOWED, True)
        made = workflow("keys", "create", "all", "--scope", "admin", *by_home, folder=folder)
        token = made.stdout.strip()
        shown = workflow("demo", *by_home, folder=folder, WORKFLOW_API_KEY=token)
        assert shown.returncode == 0, shown.stderr
        assert url_of(home) in (home / "platform.json").read_text()
        assert workflow("keys", "revoke", "me", *by_home, folder=folder).returncode == 0
        files = [path for path in home.rglob("*") if path.is_file()]
        assert {"platform.json", "api-1.log", "worker-1.log"} <= {path.name for path in files}
        for needle in (token.rpartition("_")[2].encode(), b"ab" * 32):
            assert [path for path in files if needle in path.read_bytes()] == []


@pytest.mark.parametrize(
    ("more", "code"), [({}, 2), ({"WORKFLOW_AUTH": "keys", "WORKFLOW_CORS_ORIGINS": "*"}, 2)], ids=["auto", "origins"]
)
def test_an_api_that_would_let_everybody_in_does_not_start(folder: Path, more: dict[str, str], code: int) -> None:
    """One line that names the setting, exit code 2, no broker needed to find out."""
    command = [sys.executable, "-P", "-m", "ops.child", "api"]
    settings = {"API_HOST": EVERYWHERE, "API_PORT": "0", "STORAGE_BACKEND": "memory", **more}
    done = subprocess.run(
        command, cwd=folder, env=environment(**settings), capture_output=True, text=True, timeout=60, check=False
    )
    lines = done.stderr.splitlines()
    assert (done.returncode, len(lines)) == (code, 1), done.stderr
    assert ("WORKFLOW_CORS_ORIGINS" if more else "WORKFLOW_AUTH=keys") in lines[0]


@pytest.mark.long
def test_a_platform_on_an_address_of_its_own(folder: Path) -> None:
    """Its API is started, watched and found where API_HOST says; probes of its other processes stay on the loopback."""
    home = folder / "home"
    elsewhere = {"API_HOST": "127.0.0.2", "WORKFLOW_HEALTH_HOST": "192.0.2.1", "STORAGE_BACKEND": "filesystem"}
    with platform(home, env=elsewhere):
        assert url_of(home).startswith("http://127.0.0.2:")
        assert workflow("demo", "--home", str(home), folder=folder).returncode == 0


def test_up_says_why_its_api_does_not_start(folder: Path) -> None:
    """With the API's own line, and the exit code of a setting."""
    done = workflow("up", "--home", str(folder / "home"), folder=folder, API_HOST=EVERYWHERE, STORAGE_BACKEND="memory")
    assert done.returncode == Exit.USAGE
    assert "WORKFLOW_AUTH='auto' cannot be used" in done.stderr
    assert "`workflow keys create`" in done.stderr
