"""The supervisor: what dies is started again, what ends together ends in order."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ops.home import Process, Role
from ops.process import Child
from ops.reaper import Reaper
from ops.supervisor import DELAY_MAX_S, SETTLED_AFTER_S, Supervisor
from tests.servers import closing_reaper

SLEEP = "import time; time.sleep(600)"
NOTE = "import signal, sys, time; signal.signal(15, lambda *_: (open({path!r}, 'a').write({name!r}), sys.exit())); print('on', flush=True); time.sleep(600)"


class Fake:
    """A part that runs a line of Python."""

    def __init__(self, name: str, folder: Path, reaper: Reaper, code: str = SLEEP) -> None:
        self.child = Child(name, folder / name, reaper)
        self.role: Role = "worker"
        self.address = f"http://{name}"
        self.code = code
        self.fails = False

    def launch(self) -> None:
        if self.fails:
            raise OSError("no room")
        self.child.launch([sys.executable, "-c", self.code])


class World:
    """A supervisor with a clock of its own and a record of what it said."""

    def __init__(self, folder: Path, reaper: Reaper) -> None:
        self.folder, self.reaper = folder, reaper
        self.now = 1000.0
        self.said: list[str] = []
        self.supervisor = Supervisor(self.said.append, clock=lambda: self.now)

    def part(self, name: str, code: str = SLEEP) -> Fake:
        return Fake(name, self.folder, self.reaper, code)

    def restarts_after(self, part: Fake) -> float:
        """Seconds until a part that has just been killed runs again."""
        part.child.kill()
        died = self.now
        self.supervisor.tick()
        while not part.child.running:
            self.now += 0.5
            self.supervisor.tick()
        return self.now - died


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with closing_reaper() as reaper:
        world = World(tmp_path, reaper)
        yield world
        clock = time.monotonic
        world.supervisor._clock = clock
        world.supervisor.stop()


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.01)


def test_what_dies_is_started_again_at_once(world: World) -> None:
    """A killed process is replaced by another one in the same role, and it is said."""
    part = world.part("w")
    world.supervisor.add([part], stop_within_s=5)
    before = part.child.pid
    assert world.restarts_after(part) == 0
    assert part.child.pid not in (None, before)
    assert world.said == [f"w was killed by SIGKILL and is started again; log: {part.child.log}"]
    assert world.supervisor.deaths(part) == 1


def test_who_dies_at_once_again_waits_longer(world: World) -> None:
    """The pause doubles up to its bound, and begins anew for a process that has run for a while."""
    part = world.part("w")
    world.supervisor.add([part], stop_within_s=5)
    assert [world.restarts_after(part) for _ in range(7)] == [0, 0.5, 1, 2, 4, 8, DELAY_MAX_S]
    world.now += SETTLED_AFTER_S + 1
    assert world.restarts_after(part) == 0


def test_a_part_that_cannot_be_launched_is_tried_again(world: World) -> None:
    """An error while starting is said and does not end the supervisor."""
    part = world.part("w")
    world.supervisor.add([part], stop_within_s=5)
    part.fails = True
    part.child.kill()
    world.supervisor.tick()
    assert world.said[-1] == "w cannot be started again: no room"
    part.fails = False
    world.now += 1
    world.supervisor.tick()
    assert part.child.running


def test_the_running_processes_are_told(world: World) -> None:
    """Role, pid and address of what runs; what is dead is left out."""
    alive, dead = world.part("alive"), world.part("dead")
    world.supervisor.add([alive, dead], stop_within_s=5)
    dead.child.kill()
    assert world.supervisor.processes() == (Process("worker", alive.child.pid or 0, "http://alive"),)


def test_parts_stop_in_reverse_order(world: World) -> None:
    """What was started last ends first: our own processes before the servers that they use."""
    journal = world.folder / "journal"
    for name in ("1", "2"):
        part = world.part(name, NOTE.format(path=str(journal), name=name))
        world.supervisor.add([part], stop_within_s=20)
        until(lambda: part.child.log.read_text() == "on\n")  # noqa: B023 - called at once
    world.supervisor._clock = time.monotonic
    world.supervisor.stop()
    assert journal.read_text() == "21"
    assert world.supervisor.processes() == ()


def test_watching_tells_of_changes_until_it_is_stopped(world: World) -> None:
    """`run` calls back when another process has taken a place, and returns when told to."""
    part = world.part("w")
    world.supervisor.add([part], stop_within_s=5)
    stop, changed = threading.Event(), threading.Event()
    thread = threading.Thread(target=world.supervisor.run, args=(stop, changed.set))
    thread.start()
    part.child.kill()
    assert changed.wait(20)
    stop.set()
    thread.join(20)
    assert not thread.is_alive()
