"""Playing: a history drawn from a seed, or one that is given, up to the point where all promises are looked at."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from random import Random
from typing import Final

from tests.given import webhook
from tests.simulation import goals, orders, setup
from tests.simulation.choices import WAITS, Chooser, Hindrances, Plan, Usual
from tests.simulation.faults import SURVIVABLE, UNLIMITED, Faults, waiting
from tests.simulation.marks import seen
from tests.simulation.schedule import Broken, Mode, Schedule
from tests.simulation.steps import Stage

THEMES: Final[dict[str, frozenset[str]]] = {
    "anything": SURVIVABLE,
    "store": frozenset("crash move restart restore away repeat".split()),
    "handover": frozenset("crash leave move restart late foreign repeat".split()),
    "network": frozenset("move lose late stuck again".split()),
    "reading": frozenset("move skip hole".split()),
    "clocks": frozenset("clock lose".split()),
    "links": frozenset("sever move restart late crash".split()),
    "storm": frozenset({"move"}),
    "zombies": frozenset({"sever"}),
}
"""Which faults there are in a history: few kinds at a time lead deeper than all at once."""
OFTEN: Final = {theme: 2 if theme in ("storm", "zombies") else 12 for theme in THEMES}
SLOW: Final = ("order", "effect", "slow", "mend", "time", "store", "commit")
"""What happens more rarely than the rest."""
SLOWER: Final = {"handover": ("land", "learn", "told"), "store": ("told",)}
PACE: Final[dict[str, dict[str, float]]] = {
    "storm": {"effect": 0.0001, "time": 0.03, "order": 0.1}
    | dict.fromkeys(("land", "answer", "learn", "read", "take"), 1.0),
    "zombies": {"effect": 0.1, "mend": 0.02, "time": 0.2, "order": 0.1},
}
"""Themes without end, and how often things happen in them: owners follow each other so fast that no effect ever ends; whoever
has an effect is cut off, and it ends when another one has long taken over."""
ROUNDS_MAX: Final = 100
STEPS_MAX: Final = 3000
"""What a simulation may take to come to rest: that often time passes, and so much happens between."""
IMPATIENT: Final = 40
"""After so many rounds more time passes at once: nothing is promised in seconds."""


class Game:
    """One history on its stage. `steps`, also of its schedule, are those that were done."""

    def __init__(self, schedule: Schedule, rng: Random, slow: Sequence[str] = ()) -> None:
        self.schedule, self.rng = schedule, rng
        self.steps = schedule.steps
        self.rest_from: int | None = None
        """how many of them were done before faults ended"""
        self.stage = Stage(schedule.setup, schedule.orders)
        self.cluster = self.stage.cluster
        self.cluster.watch.unlimited = schedule.mode == "unlimited"
        self.hindered, self.marks = Hindrances(), Counter[str]()
        self.usual = Usual(self.stage, schedule.setup, rng, self.hindered, self.marks)
        self.faults = Faults(self.stage, schedule.setup, rng, self.hindered, self.usual)
        self.busy = {kind: what for kind, what in self.usual.kinds.items() if kind not in WAITS}
        self.chooser = Chooser(rng, slow)

    def do(self, plan: Plan) -> None:
        """Do these steps; one that breaks a promise is the last of `steps`."""
        for step in plan:
            self.steps.append(step)
            if not self.stage.do(step):
                self.steps.pop()

    def run(self, steps: int, left: Counter[str], faulty: float) -> None:
        """Let so much happen. `left`: how many faults there may be, by kind; `faulty`: how often one comes."""
        for _ in range(steps):
            self._grow_tired()
            drawn = self._fault(left) if self.rng.random() < faulty else None
            if drawn is not None:
                left[drawn[0]] -= 1
                self.do(drawn[1])
            elif not self._go_on():
                return

    def _fault(self, left: Counter[str]) -> tuple[str, Plan] | None:
        return self.chooser.draw({kind: what for kind, what in self.faults.kinds.items() if left[kind]})

    def _grow_tired(self) -> None:
        """What keeps the store from answering or moving ends."""
        hindered = self.hindered
        hindered.still_for = max(0, hindered.still_for - 1)
        if hindered.away_for:
            hindered.away_for -= 1
            for worker in self.cluster.workers.values() if not hindered.away_for else ():
                waiting(self.marks, worker)

    def _go_on(self) -> bool:
        """Something happens as usual. False when nothing is left to do at all."""
        drawn = self.chooser.draw(self.usual.kinds)
        assert drawn is not None, "time always passes"
        self.do(drawn[1])
        idle = drawn[0] in WAITS and not any(kind.targets() for kind in self.busy.values())
        return not idle or self._begin_again()

    def _begin_again(self) -> bool:
        """Everybody waits: what would happen in the end then. False when there is nothing left to do."""
        cluster = self.cluster
        if not cluster.workers:
            self.do([("start", self.schedule.setup.workers[0])])
        if not cluster.workers.keys() >= set(cluster.owner.values()):
            self.do(self.faults.move())
        elif self.hindered.severed:
            self.hindered.severed.discard(self.rng.choice(sorted(self.hindered.severed)))
        elif self.stage.orders:
            self.do([("order", next(iter(self.stage.orders)))])
        else:
            self.do([("commit", name) for name in cluster.workers])
            return goals.unrest(cluster, self.hindered.stuck) != ""
        return True

    def settle(self) -> None:
        """Faults end, one after the other; everything runs on in random order until nothing is left to do, twice: what was
        stuck lands between."""
        self.rest_from = len(self.steps)
        self._heal()
        self.do([("order", number) for number in list(self.stage.orders)])
        for round_ in range(ROUNDS_MAX):
            self._begin_again()
            self._exhaust()
            self.do([("time", self._some_time(round_))])
            if not goals.unrest(self.cluster, self.hindered.stuck):
                if not any(flight.producer in self.hindered.stuck for flight in self.cluster.flying):
                    return
                self.hindered.stuck.clear()
        raise AssertionError(f"L6: it does not come to rest; {goals.unrest(self.cluster)}")

    def _heal(self) -> None:
        """In another order than that in which it went wrong, and with something happening between."""
        hindered = self.hindered
        hindered.behind = hindered.still_for = 0
        ill = [*sorted(hindered.severed), ("", "store")]
        self.rng.shuffle(ill)
        for severed in ill:
            hindered.severed.discard(severed)
            hindered.away_for *= severed[0] != ""
            for _ in range(self.rng.randint(0, 10)):
                drawn = self.chooser.draw(self.busy)
                self.do(drawn[1] if drawn is not None else [])

    def _exhaust(self) -> None:
        """All that can happen without time happens; then some time passes."""
        for _ in range(STEPS_MAX):
            drawn = self.chooser.draw(self.busy)
            if drawn is None:
                break
            self.do(drawn[1])
        ends = {number: len(log) for number, log in self.cluster.log.items()}
        self.do([("store", number, end) for number, end in ends.items() if self.cluster.store[number] != end])
        self.do([("commit", name) for name in self.cluster.workers])
        self.do([("slow", name, False) for name, worker in self.cluster.workers.items() if worker.slow])

    def _some_time(self, round_: int) -> float:
        """A while; as long as it takes when all that is waited for is a timer that a clock far off has set."""
        dues = [(worker.engine.next_due(), worker.now) for worker in self.cluster.workers.values()]
        waits = [due - now for due, now in dues if due is not None]
        far = waits and min(waits) > 60
        if far:
            return round(min(waits) + 0.001, 3)
        return self.rng.choice((0.5, 3.0, 12.0) if round_ < IMPATIENT else (12.0, 30.0))

    def end(self) -> Counter[str]:
        """Look at all that was promised; what was met on the way."""
        if self.schedule.mode == "survivable":
            self.settle()
            judge = goals.check(self.cluster, self.stage.payloads)
        else:
            judge = goals.check_safety(self.cluster)
        return judge.counts + self.marks + seen(self.cluster)


def drawn(seed: int, mode: Mode, theme: str | None = None) -> tuple[Game, str]:
    """A seed's game before anything has happened in it, and its theme."""
    rng = Random(f"{mode} {seed}")
    name = theme or rng.choices(list(THEMES), list(OFTEN.values()))[0]
    settings = setup.draw(rng)
    if name in PACE:
        settings = replace(settings, steps=[{**webhook(), "name": "s0"}], partitions=1, workers="ABC")
    if name == "clocks":
        settings = replace(settings, clocks=setup.clocks(rng, settings.workers, setup.OFF_S["hours"]))
    schedule = Schedule(mode, settings, orders.draw(rng, settings.partitions), seed=seed)
    game = Game(schedule, rng, (*SLOW, *SLOWER.get(name, ())))
    game.hindered.behind = settings.behind
    return game, name


def play(seed: int, mode: Mode = "survivable", theme: str | None = None) -> tuple[Game, Counter[str]]:
    """A seed's history, and what it met. Raises Broken."""
    game, name = drawn(seed, mode, theme)
    return game, _played(game, lambda: _begin(game, name if mode == "survivable" else ""))


def play_all(mode: Mode, seeds: range, theme: str | None = None) -> Counter[str]:
    """What these seeds met together. Raises Broken at the first that breaks a promise."""
    return sum((play(seed, mode, theme)[1] for seed in seeds), Counter[str]())


def _begin(game: Game, theme: str) -> None:
    """Start some workers, and let things happen."""
    rng, names = game.rng, game.schedule.setup.workers
    game.do([("start", name) for name in names[: rng.randint(1, len(names))]])
    game.do(game.faults.move())
    if theme in PACE:
        game.chooser.weights.update(PACE[theme])
        game.run(1500 if theme == "storm" else 500, Counter(dict.fromkeys(THEMES[theme], 1000)), 0.05)
    elif theme:
        left = Counter({kind: rng.choice((0, 3, 30)) for kind in sorted(THEMES[theme])})
        game.run(rng.randint(10, 400), left, rng.choice((0.01, 0.03, 0.1)))
    else:
        left = Counter({kind: 10**9 for kind in sorted(UNLIMITED) if rng.random() < 0.6})
        game.run(rng.randint(50, 400), left, rng.choice((0.03, 0.1, 0.3)))


def replay(given: Schedule, told: Callable[[Game], None] = lambda _: None) -> tuple[Game, Counter[str]]:
    """A given history once more, and then rest, in an order that is always the same. Raises Broken. `told`: after each step."""
    game = Game(replace(given, steps=[], breaks="", says=""), Random(0))

    def happen() -> None:
        for step in given.steps:
            game.do([step])
            told(game)

    return game, _played(game, happen)


def _played(game: Game, happen: Callable[[], None]) -> Counter[str]:
    """What was met."""
    try:
        happen()
        return game.end()
    except Exception as error:
        raise Broken(game.schedule, error, game.rest_from) from error
