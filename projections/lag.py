"""How far the tables are behind the log: in records, and in seconds."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Mapping
from typing import Final, NamedTuple

from schemas.errors import WorkflowError
from schemas.ports import TP, Reader
from schemas.position import Place

LOOKS_MAX: Final = 64
"""Looks remembered of one partition. Past it every second one is forgotten, so an age stays right to within a few per cent."""


class Lag(NamedTuple):
    """`records` of the log that the tables do not hold; `seconds`: how old the first of them is, 0 where there is none."""

    records: int
    seconds: float


class LagWatch:
    """Remembers when the log was first seen to reach where it ends, from looks that are made once in a while.

    So the age of the first record that the tables lack is known without reading it, short by no more than the pause between
    two looks. Of a record that stood there at the first look it is known once `date` was told the record's own time. All
    times are seconds of one clock that never goes back.
    """

    def __init__(self) -> None:
        self._looks: dict[Place, deque[tuple[float, int]]] = {}
        """(when, end) of every end that the tables have not reached, oldest first"""
        self._ends: dict[Place, int] = {}
        self._first: dict[Place, int] = {}
        """the ends at the first look"""
        self._dated: dict[Place, tuple[int, float]] = {}
        """(offset, when it was appended) of a record that stood there at the first look"""
        self._at: dict[Place, int] = {}

    def ends(self, ends: Mapping[Place, int], now_s: float) -> None:
        """The log was seen to end here."""
        for place, end in ends.items():
            before = self._ends.get(place)
            if before is None or end < before:  # a log that has become shorter is another one
                self._first[place], self._looks[place] = end, deque()
                self._dated.pop(place, None)
            if before is None or end != before:
                self._ends[place] = end
                self._looks[place].append((now_s, end))
                self._thin(place)

    def tables(self, at: Mapping[Place, int]) -> None:
        """The tables stand here, as far as is known of them."""
        for place, position in at.items():
            if position < self._at.get(place, 0):  # older tables: when the log got there is forgotten
                self._first[place] = self._ends.get(place, 0)
            self._at[place] = position
        for place, looks in self._looks.items():
            while looks and looks[0][1] <= self._at.get(place, 0):
                looks.popleft()

    def keep(self, partitions: Mapping[int, object]) -> None:
        """Forget all other partitions: somebody else looks after them."""
        for known in (self._looks, self._ends, self._first, self._dated, self._at):
            for place in [place for place in known if place[1] not in partitions]:
                del known[place]

    def lags(self, now_s: float) -> dict[Place, Lag]:
        """Of each partition whose end was seen and whose tables are known."""
        return {place: self._lag(place, now_s) for place in sorted(self._ends) if place in self._at}

    def undated(self) -> tuple[Place, int] | None:
        """A partition and an offset of the events whose time `date` wants to be told, if there is one."""
        for place, first in self._first.items():
            at = self._at.get(place)
            if place[0] == "e" and at is not None and at < first and self._dated.get(place, (-1, 0.0))[0] != at:
                return place, at
        return None

    def date(self, place: Place, offset: int, appended_s: float) -> None:
        """This record was appended then."""
        self._dated.pop(place, None)
        self._dated[place] = (offset, appended_s)
        self._first[place] = self._first.pop(place)  # the others come first when the next is asked for

    def _lag(self, place: Place, now_s: float) -> Lag:
        records = self._ends[place] - self._at[place]
        return Lag(records, max(0.0, now_s - self._since_s(place, now_s))) if records > 0 else Lag(0, 0.0)

    def _since_s(self, place: Place, now_s: float) -> float:
        """When the first record that the tables lack was appended, as far as is known."""
        looks, dated = self._looks[place], self._dated.get(place)
        if dated is not None and self._at[place] < self._first[place]:
            return dated[1]
        return looks[0][0] if looks else now_s

    def _thin(self, place: Place) -> None:
        looks = self._looks[place]
        if len(looks) > LOOKS_MAX:
            self._looks[place] = deque([*looks][::-2][::-1])


async def look_up_age(watch: LagWatch, reader: Reader, events_topic: str) -> None:
    """Tell the watch how old one record is of which it must be told; nothing where Kafka does not answer."""
    wanted = watch.undated()
    if wanted is None:
        return
    place, offset = wanted
    try:
        record = await reader.read_record(TP(events_topic, place[1]), offset)
    except WorkflowError:
        return
    age_s = 0.0 if record is None else max(0.0, time.time() - record.timestamp / 1000)
    watch.date(place, offset, time.monotonic() - age_s)
