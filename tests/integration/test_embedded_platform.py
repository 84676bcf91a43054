"""`workflow up` and the commands that find it, as people use them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from signal import SIGINT, SIGKILL, SIGTERM
from typing import Any

import psutil
import pytest

from ops.client import Exit
from ops.ports import free_port
from ops.reaper import alive
from tests import servers

pytestmark = pytest.mark.long

ROOT = Path(__file__).parents[2]
WITHIN_S = 90
DEFINITION = {
    "id": "two",
    "name": "Two steps",
    "steps": [
        {"name": "first", "type": "delay", "config": {"duration": 0}},
        {"name": "second", "type": "delay", "config": {"duration": "20ms"}},
    ],
}
IMPOSSIBLE = {
    **DEFINITION,
    "id": "impossible",
    "steps": [{"name": "a", "type": "delay", "config": {"duration": "${payload.missing}"}}],
}


def environment(**more: str) -> dict[str, str]:
    """Ours without any setting, so that every test begins with a platform of its own."""
    settings = ("WORKFLOW_", "KAFKA_", "POSTGRES_", "STORAGE_", "API_", "WEBHOOK_")
    bare = {name: value for name, value in os.environ.items() if not name.startswith(settings)}
    return {**bare, "PYTHONPATH": str(ROOT), **more}


def workflow(*args: str, folder: Path, **more: str) -> subprocess.CompletedProcess[str]:
    """Run a command to its end in `folder`."""
    line = [sys.executable, "-P", "-m", "ops", *args]
    return subprocess.run(
        line, cwd=folder, env=environment(**more), capture_output=True, text=True, timeout=WITHIN_S, check=False
    )


@contextmanager
def platform(home: Path, *args: str, env: Mapping[str, str] | None = None) -> Iterator[subprocess.Popen[str]]:
    """`workflow up` that has started, in `home`. It is ended with SIGTERM, and must end well."""
    line = [sys.executable, "-P", "-m", "ops", "up", "--home", str(home), *args]
    output = home.with_suffix(".out")
    with output.open("w") as out:
        up = subprocess.Popen(line, cwd=home.parent, env=environment(**(env or {})), stdout=out, stderr=out, text=True)
    try:
        until(lambda: "Next:" in output.read_text() or up.poll() is not None)
        assert up.poll() is None, output.read_text()
        yield up
        if up.poll() is None:
            up.send_signal(SIGTERM)
            assert up.wait(WITHIN_S) == 0, output.read_text()
    finally:
        if up.poll() is None:
            up.kill()
            up.wait()


def until(condition: Callable[[], Any]) -> None:
    deadline = time.monotonic() + WITHIN_S
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.05)


def processes(home: Path) -> list[dict[str, Any]]:
    done = workflow("ps", "--home", str(home), "-o", "json", folder=home.parent)
    assert done.returncode == 0, done.stderr
    found: list[dict[str, Any]] = json.loads(done.stdout)
    return found


def url_of(home: Path) -> str:
    return next(str(process["address"]) for process in processes(home) if process["role"] == "api")


@pytest.fixture
def folder() -> Iterator[Path]:
    with servers.server_folder() as folder:
        (folder / "two.json").write_text(json.dumps(DEFINITION))
        (folder / "impossible.json").write_text(json.dumps(IMPOSSIBLE))
        yield folder


def test_a_run_from_definition_to_its_events(folder: Path) -> None:
    """Everything the command line does with a run, by the folder of the platform and by its address."""
    home = folder / "home"
    with platform(home):
        by_home = ("--home", str(home))
        assert workflow("workflows", "apply", "two.json", "impossible.json", *by_home, folder=folder).returncode == 0
        ended = workflow("trigger", "two", "-p", '{"n": 9007199254740993}', "--watch", *by_home, folder=folder)
        assert ended.returncode == 0, ended.stderr
        assert [line.split()[1 if n == 0 else 3] for n, line in enumerate(ended.stdout.splitlines())] == [
            "RunRequested",
            "StepStarted",
            "StepSucceeded",
            "StepStarted",
            "StepSucceeded",
            "RunCompleted",
        ]
        address = url_of(home)
        assert f"UI            {address}/ui/\n" in home.with_suffix(".out").read_text()
        listed = workflow("runs", "list", "-o", "json", folder=folder, WORKFLOW_URL=address)
        run = json.loads(listed.stdout)["items"][0]
        assert (run["status"], run["payload"]) == ("SUCCESS", {"n": 9007199254740993})
        events = workflow("runs", "events", run["run_id"], "-o", "json", folder=folder, WORKFLOW_URL=address)
        assert len(json.loads(events.stdout)["items"]) == 6
        failed = workflow("trigger", "impossible", "--watch", *by_home, folder=folder)
        assert failed.returncode == Exit.ENDED_BADLY, failed.stdout + failed.stderr
        assert workflow("runs", "show", "none", *by_home, folder=folder).returncode == Exit.NOT_FOUND
        assert workflow("trigger", "none", *by_home, folder=folder).returncode == Exit.NOT_FOUND


@pytest.mark.timeout(300)
def test_whatever_dies_comes_back_and_the_data_stay(folder: Path) -> None:
    """Each process that is killed is replaced, at its address; a second start goes on with the same runs."""
    home = folder / "home"
    by_home = ("--home", str(home))
    with platform(home, "--apis", "2", "--workers", "2"):
        before = processes(home)
        assert sorted(process["role"] for process in before) == [
            "api",
            "api",
            "kafka",
            "postgres",
            "projector",
            "worker",
            "worker",
        ]
        for process in before:
            os.kill(process["pid"], SIGKILL)

        def all_new() -> bool:
            now = processes(home)
            old = {process["pid"] for process in before}
            return len(now) == len(before) and not old & {process["pid"] for process in now}

        until(all_new)
        assert [(p["role"], p["address"]) for p in processes(home)] == [(p["role"], p["address"]) for p in before]
        until(lambda: workflow("workflows", "apply", "two.json", *by_home, folder=folder).returncode == 0)
        done = workflow("trigger", "two", "--watch", "-o", "json", *by_home, folder=folder)
        assert done.returncode == 0, done.stderr
        run_id = json.loads(done.stdout)["run_id"]
        last = processes(home)
    assert not [process for process in last if alive(process["pid"])]
    assert workflow("ps", *by_home, folder=folder).returncode == Exit.SERVER_AWAY
    with platform(home, "--workers", "0", "--projectors", "0"):
        shown = workflow("runs", "show", run_id, "-o", "json", *by_home, folder=folder)
        assert json.loads(shown.stdout)["status"] == "SUCCESS"


def test_the_death_of_the_supervisor_takes_everything_with_it(folder: Path) -> None:
    """After a kill -9 nothing is left, and the next start in the folder works at once."""
    home = folder / "home"
    with platform(home) as up:
        children = [psutil.Process(process["pid"]) for process in processes(home)]
        refused = workflow("up", "--home", str(home), folder=folder)
        assert refused.returncode == Exit.USAGE
        assert refused.stderr.splitlines() == [
            f"workflow: A platform already runs in {home} (process {up.pid}). Stop it, or use another folder with --home."
        ]
        up.kill()
        up.wait()
    with platform(home):
        assert not [child for child in children if alive(child.pid) and child.is_running()]


@pytest.mark.parametrize("backend", ["memory", "filesystem"])
def test_without_postgres_none_is_started(folder: Path, backend: str) -> None:
    """The other stores need Kafka alone; in memory every API folds for itself, so there is no projector."""
    home = folder / "home"
    with platform(home, env={"STORAGE_BACKEND": backend}):
        roles = sorted(process["role"] for process in processes(home))
        assert roles == (["api", "kafka", "worker"] if backend == "memory" else ["api", "kafka", "projector", "worker"])
        by_home = ("--home", str(home))
        assert workflow("workflows", "apply", "two.json", *by_home, folder=folder).returncode == 0
        assert workflow("trigger", "two", "--watch", *by_home, folder=folder).returncode == 0


def test_the_demo_ends_well_and_leaves_nothing(folder: Path) -> None:
    """`workflow demo` starts a platform, shows a run to its SUCCESS, and stops everything."""
    done = workflow("demo", folder=folder)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "SUCCESS" in done.stdout
    assert "Hello, world!" in done.stdout
    assert not [p for p in psutil.process_iter(["cmdline"]) if str(folder) in " ".join(p.info["cmdline"] or [])]


@pytest.mark.parametrize("with_echo", [True, False])
def test_the_demo_uses_the_platform_that_runs(folder: Path, with_echo: bool) -> None:
    """A second one is not started beside it. It calls the receiver that the platform allows; where there is none, nobody."""
    options = ("--echo-port", str(free_port())) if with_echo else ()
    with platform(folder / ".workflow", *options):
        done = workflow("demo", folder=folder)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "ready" not in done.stdout
        assert ("Hello, world!" in done.stdout) == with_echo
        assert len(processes(folder / ".workflow")) == 5


def test_servers_of_the_environment_are_used(folder: Path, settings: Any) -> None:
    """With KAFKA_BOOTSTRAP_SERVERS and POSTGRES_* no server is embedded."""
    env = {
        "KAFKA_BOOTSTRAP_SERVERS": settings.kafka_bootstrap_servers,
        "POSTGRES_HOST": settings.postgres_host,
        "POSTGRES_PORT": str(settings.postgres_port),
        "POSTGRES_USER": settings.postgres_user,
        "POSTGRES_PASSWORD": settings.postgres_password,
        "POSTGRES_DB": settings.postgres_db,
        "WORKFLOW_TOPIC_PREFIX": settings.workflow_topic_prefix,
    }
    home = folder / "home"
    with platform(home, env=env):
        assert sorted(process["role"] for process in processes(home)) == ["api", "projector", "worker"]
    refused = workflow("up", "--home", str(home), folder=folder, **{**env, "POSTGRES_PASSWORD": "wrong"})
    assert refused.returncode == Exit.USAGE
    assert "Set POSTGRES_USER and POSTGRES_PASSWORD" in refused.stderr
    assert len(refused.stderr.splitlines()) == 1
    del env["POSTGRES_PASSWORD"]
    assert workflow("worker", folder=folder, **env).returncode == Exit.USAGE


def test_ctrl_c_during_the_start_stops_what_was_started(folder: Path) -> None:
    """The exit code is that of an interruption, and nothing is left running."""
    home = folder / "home"
    up = subprocess.Popen(
        [sys.executable, "-P", "-m", "ops", "up", "--home", str(home)],
        cwd=folder,
        env=environment(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    until((home / "logs" / "kafka.log").exists)
    up.send_signal(SIGINT)
    assert up.wait(WITHIN_S) == Exit.INTERRUPTED
    assert not [p for p in psutil.process_iter(["cmdline"]) if str(home) in " ".join(p.info["cmdline"] or [])]
