"""Child processes: started, ended, never left behind; their logs, and loopback ports."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from signal import SIGKILL, SIGSTOP, SIGTERM

import psutil
import pytest

from ops import parts
from ops import reaper as reaper_module
from ops.ports import LOOPBACK, free_port, holder, is_free
from ops.process import Child, keep_log_short, tail
from ops.reaper import Reaper, lives
from schemas.settings import Settings
from tests.servers import closing_reaper

ROOT = Path(__file__).parents[2]
SLEEP = [sys.executable, "-c", "import time; time.sleep(600)"]
STUBBORN = [
    sys.executable,
    "-c",
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(600)",
]


@pytest.fixture
def reaper() -> Iterator[Reaper]:
    with closing_reaper() as reaper:
        yield reaper


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)


def test_a_child_stops_when_asked(tmp_path: Path, reaper: Reaper) -> None:
    """Stopping sends the stop signal and waits for the end."""
    child = Child("sleeper", tmp_path / "log", reaper)
    pid = child.launch(SLEEP)
    assert child.running
    assert child.pid == pid
    child.stop(20)
    assert child.exit_code == -SIGTERM
    assert child.pid is None


def test_a_child_that_does_not_listen_is_killed(tmp_path: Path, reaper: Reaper) -> None:
    """Stopping insists after the grace time."""
    child = Child("stubborn", tmp_path / "log", reaper)
    child.launch(STUBBORN)
    until(lambda: "deaf" in tail(child.log))
    child.stop(0.1)
    assert child.exit_code == -SIGKILL


def test_a_frozen_child_stops_when_asked(tmp_path: Path, reaper: Reaper) -> None:
    """A process that was stopped with SIGSTOP is let go on to hear its stop signal."""
    child = Child("frozen", tmp_path / "log", reaper)
    child.launch(SLEEP)
    child.send(SIGSTOP)
    child.stop(20)
    assert child.exit_code == -SIGTERM


def test_output_is_appended_to_the_log(tmp_path: Path, reaper: Reaper) -> None:
    """A second launch goes on in the same file."""
    child = Child("printer", tmp_path / "logs" / "log", reaper)
    for word in ("one", "two"):
        child.launch([sys.executable, "-c", f"print({word!r})"])
        assert child.wait(20)
        assert child.exit_code == 0
    assert tail(child.log) == "one | two"


OWNER = """
import os, sys
from pathlib import Path
from ops.process import Child
from ops.reaper import Reaper
reaper = Reaper()
for name in ("a", "b"):
    child = Child(name, Path(sys.argv[1]) / name, reaper)
    print(child.launch([sys.executable, "-c", "import time; time.sleep(600)"]), flush=True)
os.read(0, 1)
"""


def test_children_end_with_their_owner(tmp_path: Path) -> None:
    """Killing the owner with -9 ends its children, a frozen one too."""
    owner = subprocess.Popen(
        [sys.executable, "-c", OWNER, str(tmp_path)], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    assert owner.stdout is not None
    assert owner.stdin is not None
    with owner.stdin, owner.stdout:
        children = [psutil.Process(int(owner.stdout.readline())) for _ in range(2)]
        children[1].send_signal(SIGSTOP)
        owner.kill()
        owner.wait()
    until(lambda: not any(lives(child) for child in children))


def test_the_reaper_insists(tmp_path: Path, reaper: Reaper, monkeypatch: pytest.MonkeyPatch) -> None:
    """A child that does not listen is killed after the grace time."""
    monkeypatch.setattr(reaper_module, "GRACE_S", 0.1)
    child = Child("stubborn", tmp_path / "log", reaper)
    pid = child.launch(STUBBORN)
    until(lambda: "deaf" in tail(child.log))
    reaper_module.end({pid: (psutil.Process(pid), SIGTERM)})
    assert child.wait(20)
    assert child.exit_code == -SIGKILL


def test_a_killed_reaper_is_replaced(tmp_path: Path, reaper: Reaper) -> None:
    """A new reaper learns of the children of before."""
    first, second = (Child(name, tmp_path / name, reaper) for name in ("first", "second"))
    first.launch(SLEEP)
    assert reaper._process is not None
    reaper._process.kill()
    reaper._process.wait()
    second.launch(SLEEP)
    reaper.close()
    assert first.wait(20)
    assert second.wait(20)


def test_a_long_log_is_moved_while_it_is_written(tmp_path: Path) -> None:
    """The log starts anew at its bound; its writer goes on, and its last part is kept."""
    log = tmp_path / "log"
    with log.open("ab", buffering=0) as writer:
        writer.write(b"old\n" * 10)
        assert not keep_log_short(log, bytes_max=40)
        writer.write(b"x\n")
        assert keep_log_short(log, bytes_max=40)
        writer.write(b"new\n")
    assert log.read_bytes() == b"new\n"
    assert (tmp_path / "log.1").read_bytes() == (b"old\n" * 10 + b"x\n")[-40:]
    assert not keep_log_short(tmp_path / "none")


def test_a_tail_of_nothing_says_so(tmp_path: Path) -> None:
    """A process that wrote nothing, or has no log yet, is described as such."""
    assert tail(tmp_path / "none") == "it wrote nothing"


def test_a_taken_port_is_named_and_passed_over() -> None:
    """The preferred port is used if it is free; else another one, and the holder can be told."""
    with socket.socket() as server:
        server.bind((LOOPBACK, 0))
        server.listen()
        port = server.getsockname()[1]
        assert not is_free(port)
        assert free_port(port) != port
        assert holder(port).endswith(f"process {os.getpid()}")
    assert is_free(port)
    assert free_port(port) == port
    assert free_port(port, besides=frozenset({port})) != port
    assert holder(port) == "another process"


PRINT_SECRET = [
    sys.executable,
    "-c",
    "import os; print('has', os.environ.get('WORKFLOW_SECRET_X'), os.environ['OTHER'])",
]


def test_secrets_are_for_workers_alone(tmp_path: Path, reaper: Reaper, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of an embedded platform's processes only workers find the secrets of webhooks in their environment."""
    monkeypatch.setenv("WORKFLOW_SECRET_X", "s3cr3t")
    monkeypatch.setenv("OTHER", "o")
    monkeypatch.setattr(parts, "command", lambda _: PRINT_SECRET)
    settings, folder = Settings(workflow_home=tmp_path), tmp_path / "logs"
    roles: list[parts.OwnRole] = ["worker", "api", "projector"]
    own = [parts.OwnPart(role, 1, settings, host=LOOPBACK, port=1, reaper=reaper) for role in roles]
    for part in own:
        part.launch()
    children = [*(part.child for part in own), Child("kafka", folder / "kafka.log", reaper)]
    children[-1].launch(PRINT_SECRET)
    for child in children:
        child.wait(20)
    assert {log.name: log.read_text() for log in folder.iterdir()} == {
        "worker-1.log": "has s3cr3t o\n",
        "api-1.log": "has None o\n",
        "projector-1.log": "has None o\n",
        "kafka.log": "has None o\n",
    }
