"""The board of a rebuild: what all who work on it have agreed on. Pure; a store keeps it and hands in the time."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, Literal, Protocol, Self, TypeVar

import orjson

from projections.compare import Comparison

LEASE_S: Final = 15.0
"""A claim that was not renewed for so long is anybody's."""
PROJECTION: Final = "runs"
"""The name of the one projection that there is: all read tables."""

Phase = Literal["preparing", "folding", "comparing", "levelling", "swapping", "done", "failed", "cancelled"]
SHARED: Final[frozenset[Phase]] = frozenset({"folding", "levelling"})
"""Partitions are handed out; the other phases are one process's work."""
ENDED: Final[frozenset[Phase]] = frozenset({"done", "failed", "cancelled"})
T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Claim:
    """Who works on it, and until when others leave it alone; seconds since 1970 by the store's clock."""

    owner: str
    until_s: float


@dataclass(frozen=True, slots=True)
class Part:
    """A partition: the second set stands at `position`, or will when its holder commits, and is to come to `end`."""

    position: int = 0
    end: int = 0
    claim: Claim | None = None

    @property
    def level(self) -> bool:
        return self.position >= self.end


@dataclass(frozen=True, slots=True)
class Rebuild:
    """One rebuild. Times are seconds since 1970 by the store's clock; `version`: of the projection that it makes;
    `folded_s`: when all partitions had been folded for the first time."""

    id: str
    phase: Phase
    by: str
    version: int
    started_s: float
    folded_s: float | None = None
    ended_s: float | None = None
    events: int = 0
    """folded up to `folded_s`"""
    parts: tuple[Part, ...] = ()
    one: Claim | None = None
    """who does a phase that is not shared"""
    report: Comparison | None = None
    error: str | None = None
    set: str = ""
    """of its second set: whoever prepares one gives it a name of its own, however late he wakes"""
    helped: bool = True
    """projectors lend processes to it from the start; else only when nobody works on it any more"""
    moved_s: float | None = None
    """when a process that works on it last said so"""
    idle_s: float = 0.0
    """seconds in which nobody worked on it, until all partitions had been folded for the first time"""

    def workers(self, now_s: float) -> frozenset[str]:
        """Who holds something of it, and has said so of late."""
        claims = (self.one, *(part.claim for part in self.parts))
        return frozenset(held.owner for held in claims if held is not None and not _is_free(held, now_s))

    def is_worked_on(self, now_s: float) -> bool:
        """Whether somebody holds a part of it."""
        return bool(self.workers(now_s))

    def worked_s(self, now_s: float) -> float:
        """Seconds of work on it, until all partitions had been folded for the first time."""
        working = self.is_worked_on(now_s)
        until_s = self.folded_s or (now_s if working else self.moved_s) or self.started_s
        return max(0.0, until_s - self.started_s - self.idle_s)

    @property
    def ended(self) -> bool:
        return self.phase in ENDED

    @property
    def name(self) -> str:
        """Of its second set of tables, once there is one."""
        return f"second_{self.id}_{self.set}"

    @property
    def done(self) -> int:
        """Events that the second set holds."""
        return sum(part.position for part in self.parts)

    @property
    def total(self) -> int:
        return sum(max(part.end, part.position) for part in self.parts)

    def dump(self) -> bytes:
        return orjson.dumps(self, default=list)  # differences are tuples with names

    @classmethod
    def load(cls, text: bytes | str) -> Self:
        """The reverse of `dump`."""
        known = cls.__dataclass_fields__.keys()  # a later release may say more
        saved: dict[str, Any] = {name: value for name, value in orjson.loads(text).items() if name in known}
        parts = tuple(Part(**{**part, "claim": _claim(part["claim"])}) for part in saved["parts"])
        report = saved["report"] and Comparison.of(saved["report"])
        return cls(**{**saved, "parts": parts, "one": _claim(saved["one"]), "report": report})


def _claim(saved: Mapping[str, Any] | None) -> Claim | None:
    return None if saved is None else Claim(**saved)


class Board(Protocol):
    """Where a store keeps the rebuild. Each call raises StoreAway when it does not answer."""

    async def read(self) -> Rebuild | None:
        """The last rebuild, running or ended; None before the first."""
        ...

    async def look(self) -> tuple[Rebuild | None, float]:
        """As `read`, and seconds since 1970 by the store's clock, which claims are told by."""
        ...

    async def change(self, work: Callable[[Rebuild | None, float], tuple[Rebuild | None, T]]) -> T:
        """Put what `work(board, now)` makes of it in its place, nobody else changing it meanwhile; what it also gave."""
        ...


# What is done with it. Each gives the rebuild as it is afterwards, and an answer.


def begin(old: Rebuild | None, fresh: Rebuild) -> tuple[Rebuild, Rebuild]:
    """The rebuild that runs, or a fresh one. One that makes an older version of the projection gives way, a newer one stays."""
    running = old is not None and not old.ended and old.version >= fresh.version
    now = old if old is not None and running else fresh
    return now, now


def claim(rebuild: Rebuild, owner: str, now_s: float) -> tuple[Rebuild, int | None]:
    """A partition that is not level and that nobody holds; None when there is none."""
    if rebuild.phase not in SHARED:
        return rebuild, None
    for number, part in enumerate(rebuild.parts):
        if not part.level and _is_free(part.claim, now_s):
            return _with(_woken(rebuild, now_s), number, replace(part, claim=_held(owner, now_s))), number
    return rebuild, None


def claim_phase(rebuild: Rebuild, owner: str, now_s: float) -> tuple[Rebuild, bool]:
    """Whether the phase, which one process works on, is this one's."""
    if rebuild.ended or rebuild.phase in SHARED or not (_is_free(rebuild.one, now_s) or _is(rebuild.one, owner)):
        return rebuild, False
    return replace(_woken(rebuild, now_s), one=_held(owner, now_s)), True


def _woken(rebuild: Rebuild, now_s: float) -> Rebuild:
    """Somebody works on it from now on."""
    if rebuild.folded_s is None and not rebuild.is_worked_on(now_s):
        rebuild = replace(rebuild, idle_s=rebuild.idle_s + now_s - (rebuild.moved_s or rebuild.started_s))
    return replace(rebuild, moved_s=now_s)


def holds(rebuild: Rebuild, owner: str) -> bool:
    """Whether the owner does the phase, which is one process's."""
    return not rebuild.ended and _is(rebuild.one, owner)


def renew(
    rebuild: Rebuild, owner: str, positions: Mapping[int, int], now_s: float, *, alone: bool = False
) -> tuple[Rebuild, bool]:
    """Tell where the partitions stand that `owner` holds; False when one of its claims is another's now, or all has ended.
    `alone`: it does a phase that is not shared."""
    if rebuild.ended or any(not _is(rebuild.parts[number].claim, owner) for number in positions):
        return rebuild, False
    if alone and not _is(rebuild.one, owner):
        return rebuild, False
    for number, position in positions.items():
        part = rebuild.parts[number]
        rebuild = _with(rebuild, number, replace(part, position=position, claim=_held(owner, now_s)))
    if _is(rebuild.one, owner):
        rebuild = replace(rebuild, one=_held(owner, now_s))
    return replace(rebuild, moved_s=now_s), True


def give_back(rebuild: Rebuild, owner: str, number: int, position: int, now_s: float) -> Rebuild:
    """The owner stops working on a partition, level or not."""
    part = rebuild.parts[number]
    if not _is(part.claim, owner):
        return rebuild
    return _with(replace(rebuild, moved_s=now_s), number, replace(part, position=position, claim=None))


def leave(rebuild: Rebuild, owner: str, now_s: float) -> Rebuild:
    """A process goes: all that it holds is free."""
    if not any(_is(held, owner) for held in (rebuild.one, *(part.claim for part in rebuild.parts))):
        return rebuild
    parts = tuple(replace(part, claim=None) if _is(part.claim, owner) else part for part in rebuild.parts)
    one = None if _is(rebuild.one, owner) else rebuild.one
    return replace(rebuild, parts=parts, one=one, moved_s=now_s)


def go_on(rebuild: Rebuild, now_s: float) -> Rebuild:
    """The phase after a shared one, once every partition is level."""
    if rebuild.phase not in SHARED or not all(part.level for part in rebuild.parts):
        return rebuild
    if rebuild.phase == "levelling":
        return replace(rebuild, phase="swapping")
    return replace(rebuild, phase="comparing", folded_s=now_s, events=rebuild.done)


def share(
    rebuild: Rebuild, phase: Phase, ends: Iterable[int], now_s: float, *, report: Comparison | None = None
) -> Rebuild:
    """Hand out the partitions, each to be brought to its end."""
    before = rebuild.parts
    parts = tuple(Part(before[n].position if n < len(before) else 0, end) for n, end in enumerate(ends))
    return replace(rebuild, phase=phase, parts=parts, one=None, moved_s=now_s, report=report)


def end(rebuild: Rebuild, phase: Phase, now_s: float, error: str | None = None) -> Rebuild:
    """It is over, unless it was before."""
    if rebuild.ended:
        return rebuild
    parts = tuple(replace(part, claim=None) for part in rebuild.parts)
    return replace(rebuild, one=None, parts=parts, phase=phase, ended_s=now_s, error=error)


def _with(rebuild: Rebuild, number: int, part: Part) -> Rebuild:
    return replace(rebuild, parts=(*rebuild.parts[:number], part, *rebuild.parts[number + 1 :]))


def _held(owner: str, now_s: float) -> Claim:
    return Claim(owner, now_s + LEASE_S)


def _is_free(held: Claim | None, now_s: float) -> bool:
    return held is None or held.until_s < now_s


def _is(held: Claim | None, owner: str) -> bool:
    return held is not None and held.owner == owner
