"""An engine on a log that is a list: everything it asks for is answered at once, so only its own work is measured."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from schemas.commands import Command, TriggerRun, encode
from schemas.run import Run
from schemas.store import Snapshot
from streams.decider import Start
from streams.engine import Engine

NOW: Final = 1_790_000_000.0
TOKEN: Final = "t"
NOOP: Final[dict[str, Any]] = {
    "id": "noop",
    "name": "noop",
    "description": "",
    "steps": [{"name": name, "type": "delay", "config": {"duration": 0}} for name in ("first", "second")],
}
PAYLOAD: Final[dict[str, Any]] = {"user": "demo", "note": "x" * 64}


class Stored(NamedTuple):
    """A record as a broker hands it over."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None


def start_command(number: int) -> Stored:
    """The `number`-th start of the no-op workflow, as it stands on the commands."""
    run_id = f"00000000-0000-4000-8000-{number:012d}"
    command = TriggerRun(run_id, run_id, "noop", 1, PAYLOAD, "2026-01-01T00:00:00.000Z")
    return Stored(number, int(NOW * 1000), run_id.encode(), encode(command))


class EngineAlone:
    """One engine that owns the only partition. Implements `streams.ports.World`."""

    def __init__(self) -> None:
        self.log: list[Stored] = []
        self.announced = 0
        self._fresh: list[Stored] = []
        self._answers: list[Callable[[], None]] = []
        self.engine = Engine("bench", 1, self, remembers=False)
        self.engine.assign({0: (0, 0)}, TOKEN, NOW)
        self.pump()
        self.engine.tick(NOW)
        self.pump()
        assert self.engine.partitions[0].owner, "the engine did not take its partition"

    def take(self, commands: Sequence[Stored]) -> None:
        """Hand over commands and go on until nothing more happens."""
        self.engine.on_commands(0, commands, NOW)
        self.pump()

    def pump(self) -> None:
        while self._answers or self._fresh:
            answers, self._answers = self._answers, []
            for answer in answers:
                answer()
            fresh, self._fresh = self._fresh, []
            self.log += fresh
            if fresh:
                self.engine.on_events(0, fresh, NOW)

    # ── World ──
    def append(self, partition: int, records: Sequence[tuple[bytes, bytes]]) -> None:
        first = len(self.log) + len(self._fresh)
        self._fresh += [Stored(first + n, int(NOW * 1000), key, value) for n, (key, value) in enumerate(records)]

    def announce(self, partition: int, offset: int, key: bytes, value: bytes) -> None:
        self.announced += 1
        self._answers.append(lambda: self.engine.announced(partition, offset, True))

    def confirm(self, partition: int, token: str) -> None:
        self._answers.append(lambda: self.engine.confirmed(partition, token, True, NOW))

    def load(self, partition: int, token: str) -> None:
        self._answers.append(lambda: self.engine.loaded(partition, token, Snapshot(None, [])))

    def end_of(self, partition: int, token: str) -> None:
        self._answers.append(lambda: self.engine.end_known(partition, token, len(self.log), NOW))

    def look_up(self, partition: int, token: str, run_ids: Sequence[str]) -> None:
        self._answers.append(lambda: self.engine.looked_up(partition, token, run_ids, len(self.log), {}, NOW))

    def resolve(self, partition: int, offset: int, command: TriggerRun) -> Start | None:
        return Start(command, 1, NOOP, None)

    def seek(self, partition: int, events: int | None = None, commands: int | None = None) -> None: ...

    def pause(self, partition: int, paused: bool) -> None: ...

    def reject(self, partition: int, offset: int, value: bytes | None, reason: str) -> None:
        raise AssertionError(reason)

    def send_home(self, partition: int, offset: int, home: int, command: Command) -> None:
        raise AssertionError("there is one partition")

    def drop_producer(self) -> None:
        raise AssertionError("no append is lost here")

    def evaluate(self, run: Run, expressions: Sequence[str]) -> Mapping[str, Any] | None:
        raise AssertionError("the workflow has no expressions")

    def start_effect(self, run: Run, epoch: int) -> None:
        raise AssertionError("the workflow has no effects")

    def cancel_effect(self, run_id: str) -> None:
        raise AssertionError("the workflow has no effects")
