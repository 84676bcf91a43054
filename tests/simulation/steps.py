"""The steps of a schedule: each is a list of a kind and what it is done to, concrete and apart from any chance.

A step that finds nothing to be done to, because one before it was left out, does nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from inspect import signature
from typing import Any, Final

from schemas.effects import EffectResult, EffectSucceeded
from tests.given import REFUSED, passing, workflow
from tests.simulation import orders
from tests.simulation.member import WELL, Worker
from tests.simulation.orders import Order
from tests.simulation.setup import RECORD_BYTES, Setup
from tests.simulation.world import Cluster, Flight

Step = Sequence[Any]

KINDS: Final = frozenset(
    "order repeat land lose again foreign cut copy store swap time clock give split start crash drain slow learn late commit "
    "read take answer effect".split()
)

RESULTS: Final[tuple[EffectResult | None, ...]] = (None, passing(), REFUSED, EffectSucceeded("x" * RECORD_BYTES))
"""What an effect may come to."""


def check(step: Step) -> None:
    """Raises ValueError when there is no such step."""
    if not isinstance(step, list | tuple) or not step or step[0] not in KINDS:
        raise ValueError(f"steps: {step!r} is none of {', '.join(sorted(KINDS))}")
    try:
        signature(getattr(Stage, f"_{step[0]}")).bind(None, *step[1:])
    except TypeError as error:
        raise ValueError(f"steps: {step!r}: {error}") from error


class Stage:
    """A cluster on which steps are done. For each kind there is a method; it says whether there was anything to do."""

    def __init__(self, setup: Setup, client: Sequence[Order]) -> None:
        self.cluster = Cluster(
            workflow(*setup.steps),
            partitions=setup.partitions,
            remembers=setup.remembers,
            limits=setup.limits,
            definition_wait_s=setup.definition_wait_s,
        )
        for name, off in setup.clocks.items():
            self.cluster.set_clock(name, off)
        self.orders = dict(enumerate(client))
        """what clients have not asked for yet"""
        self.payloads = orders.accepted(client)

    def do(self, step: Step) -> bool:
        """Whether there was anything to do."""
        how: Callable[..., bool] = getattr(self, f"_{step[0]}")
        return how(*step[1:])

    # ── clients ──
    def _order(self, number: int) -> bool:
        order = self.orders.pop(number, None)
        if order is not None:
            orders.put(self.cluster, order)
        return order is not None

    def _repeat(self, run_id: str) -> bool:
        """A client repeats a start."""
        self.cluster.trigger(run_id, None, self.payloads.get(run_id))
        return True

    # ── the log ──
    def _land(self, name: str, number: int, nth: int = 0) -> bool:
        """The next record of a worker's producer lands: of several producers with records for the partition, the n-th."""
        flight = self._head(name, number, nth)
        if flight is not None:
            self.cluster.land(flight)
        return flight is not None

    def _lose(self, name: str, number: int, is_noticed: bool, nth: int = 0, behind: int = 0) -> bool:
        """It, or one so far behind it, never lands. Its producer notices in the end, perhaps after later ones have landed,
        or never."""
        flight = self._head(name, number, nth, behind)
        if flight is None:
            return False
        self.cluster.flying.remove(flight)
        self.cluster.watch.lost(flight)
        worker = self.cluster.workers.get(name)
        if is_noticed and worker is not None and worker.producer == flight.producer:
            worker.notice()
        return True

    def _again(self, name: str, number: int, nth: int = 0) -> bool:
        """It lands, and will land a second time."""
        flight = self._head(name, number, nth)
        if flight is not None:
            self.cluster.land(flight)
            self.cluster.flying.append(
                replace(flight, producer=f"{flight.producer} again at {len(self.cluster.log[number])}")
            )
        return flight is not None

    def _foreign(self, number: int, text: str) -> bool:
        """Somebody else writes into the log, or takes the partition."""
        self.cluster.append(number, text.encode("latin-1"))
        return True

    def _cut(self, number: int, length: int) -> bool:
        """The log loses its tail."""
        can = length < len(self.cluster.log[number])
        if can:
            self.cluster.cut(number, length)
        return can

    def _copy(self, number: int, offset: int) -> bool:
        """A record that stands in the log comes to stand in it a second time."""
        log = self.cluster.log[number]
        if offset >= len(log):
            return False
        self.cluster.append(number, log[offset].value or b"", log[offset].key)
        return True

    def _head(self, name: str, number: int, nth: int, behind: int = 0) -> Flight | None:
        """A record of a worker that is on its way to a partition."""
        heads = [one for one in self.cluster.heads() if (one.worker, one.partition) == (name, number)]
        if not heads:
            return None
        producer = heads[min(nth, len(heads) - 1)].producer
        carried = [one for one in self.cluster.flying if (one.producer, one.partition) == (producer, number)]
        return carried[behind] if behind < len(carried) else None

    # ── the store ──
    def _store(self, number: int, position: int) -> bool:
        """The projector goes on, or the tables are set back."""
        fits = position <= len(self.cluster.log[number])
        if fits:
            self.cluster.store[number] = position
        return fits

    def _swap(self, number: int, position: int, cluster: str) -> bool:
        """The tables are replaced by those of another log."""
        self.cluster.store.swap(number, position, cluster)
        return True

    # ── time ──
    def _time(self, seconds: float, names: str | None = None) -> bool:
        self.cluster.tick(seconds, names)
        return True

    def _clock(self, name: str, off: float) -> bool:
        """A machine's clock is set."""
        self.cluster.set_clock(name, off)
        return True

    # ── the group ──
    def _give(self, names: str) -> bool:
        """The group gives partition n to the n-th of these."""
        self.cluster.give({number: names[number] for number in self.cluster.log})
        return True

    def _split(self, number: int, name: str) -> bool:
        """The group gives a partition to a second member as well, for ever."""
        self.cluster.also[number] = name
        self.cluster.generation += 1
        return True

    # ── processes ──
    def _start(self, name: str) -> bool:
        self.cluster.start(name)
        return True

    def _crash(self, name: str) -> bool:
        return self.cluster.workers.pop(name, None) is not None

    def _drain(self, name: str) -> bool:
        """It is told to leave."""
        return self._of(name, lambda worker: setattr(worker.engine, "draining", True))

    def _slow(self, name: str, slow: bool) -> bool:
        worker = self.cluster.workers.get(name)
        if worker is None or worker.slow == slow:
            return False
        worker.slow = worker.slow_values = slow
        return True

    def _learn(self, name: str) -> bool:
        return self._of(name, Worker.learn)

    def _late(self, name: str) -> bool:
        return self._of(name, Worker.lose_producer)

    def _commit(self, name: str) -> bool:
        before = dict(self.cluster.committed)
        return self._of(name, Worker.commit) and self.cluster.committed != before

    def _read(self, name: str, number: int, most: int, skip: int = 0, hole: int = 0) -> bool:
        return self._has(name, number) and self._of(name, lambda worker: worker.read(number, most, skip, hole))

    def _take(self, name: str, number: int, most: int, skip: int = 0) -> bool:
        return self._has(name, number) and self._of(name, lambda worker: worker.take(number, most, skip))

    def _answer(self, name: str, about: str, nth: int = 0, fate: int = WELL) -> bool:
        """Something that a worker waits for arrives: of several of this name, the n-th."""
        worker = self.cluster.workers.get(name)
        found = [] if worker is None else [answer for answer in worker.answers if answer.name == about]
        if worker is None or not found:
            return False
        answer = found[min(nth, len(found) - 1)]
        worker.answers.remove(answer)
        answer.give(fate)
        return True

    def _effect(self, name: str, run_id: str, result: int) -> bool:
        worker = self.cluster.workers.get(name)
        if worker is None or run_id not in worker.effects:
            return False
        worker.end_effect(run_id, RESULTS[result])
        return True

    def _has(self, name: str, number: int) -> bool:
        worker = self.cluster.workers.get(name)
        part = worker.engine.partitions.get(number) if worker is not None else None
        return part is not None and part.assigned

    def _of(self, name: str, act: Callable[[Worker], object]) -> bool:
        worker = self.cluster.workers.get(name)
        if worker is not None:
            act(worker)
        return worker is not None
