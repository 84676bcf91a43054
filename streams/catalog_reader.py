"""All definitions in one process: read from the start of `workflow.definitions`, followed, and added to."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence
from typing import Any, Final

import orjson

from schemas.catalog import Catalog, Defined
from schemas.events import time_text
from schemas.ports import Record
from schemas.settings import Settings
from streams.folding import Append, FoldedTopic

_MADE_MAX: Final = 1_000


class CatalogReader(FoldedTopic):
    """Follows the definitions without a group. `append` is needed by `define` alone."""

    def __init__(self, settings: Settings, append: Append | None = None, *, clock: Callable[[], float]) -> None:
        super().__init__(settings, settings.topics.definitions, append)
        self._clock = clock
        self._catalog = Catalog()
        self._made: OrderedDict[int, Defined] = OrderedDict()  # offset → the version that the record there made

    def get(self, workflow_id: str, version: int | None = None) -> Defined | None:
        """A version, or the newest one seen so far."""
        return self._catalog.get(workflow_id, version)

    def get_then(self, workflow_id: str, at_ms: int) -> Defined | None:
        """The version that was the newest when the log's clock showed `at_ms`."""
        return self._catalog.get_then(workflow_id, at_ms)

    def newest(self) -> list[Defined]:
        """The newest version of every workflow, by id."""
        return self._catalog.newest()

    async def define(self, definition: dict[str, Any], actor: str | None = None) -> tuple[Defined, bool]:
        """The version that holds `definition` (its plain form), and whether this call made it, for `actor`.

        The newest version with equal content is the answer; else the next one is appended and read back. Lost to another
        writer, it is decided again. Raises BrokerAway (nothing written) or OutcomeUnknown (calling again is safe).
        """
        async with self.alone():
            while True:
                await self.level()
                newest = self._catalog.get(definition["id"])
                if newest is not None and _equal(newest.definition, definition):
                    return newest, False
                value = self._catalog.next_record(definition, time_text(self._clock()), actor)
                made = self._made.get(await self.write(definition["id"].encode(), value))
                if made is not None:  # else somebody else's record stands before it
                    return made, True

    def take(self, records: Sequence[Record]) -> None:
        for record in records:
            made = self._catalog.fold(record.offset, record.value, record.timestamp)
            if made is not None:
                self._made[record.offset] = made
                if len(self._made) > _MADE_MAX:
                    self._made.popitem(last=False)


def _equal(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Equal as JSON texts: to Python true equals 1, to a receiver of webhooks it does not."""
    return orjson.dumps(one, option=orjson.OPT_SORT_KEYS) == orjson.dumps(other, option=orjson.OPT_SORT_KEYS)
