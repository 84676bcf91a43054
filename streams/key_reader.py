"""All API keys in one process: read from the start of `workflow.keys`, followed, made and revoked."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from typing import Final

from schemas.errors import KeyNameTaken, KeyRefused, KeyUnknown, LogMismatch, OutcomeUnknown
from schemas.events import time_text
from schemas.keys import ApiKey, Keys, encode
from schemas.ports import Record
from schemas.settings import Settings
from streams.folding import Append, FoldedTopic

log = logging.getLogger(__name__)

KEYS_MAX: Final = 10_000
"""Keys that may be used at once; further ones are refused until some are revoked."""


class KeyReader(FoldedTopic):
    """Follows the keys without a group. `append` is needed by `create` and `revoke` alone."""

    def __init__(self, settings: Settings, append: Append | None = None, *, clock: Callable[[], float]) -> None:
        super().__init__(settings, settings.topics.keys, append)
        self._clock = clock
        self._keys = Keys()

    @property
    def unreadable(self) -> int:
        """Records that could not be read so far."""
        return self._keys.unreadable

    def usable(self, key_id: str) -> ApiKey | None:
        """The key of this id if it may be used. Raises BrokerAway until the topic was read to its end once, because a
        revocation may stand there, and LogMismatch when it is not the topic that was read before."""
        if self.failure is not None:
            raise self.failure
        if not self.levelled:
            raise self.no_answer(f"{self.topic} is not read to its end yet")
        key = self._keys.get(key_id)
        return key if key is not None and key.usable else None

    def all(self) -> list[ApiKey]:
        """Every key, revoked ones too, by name."""
        return self._keys.all()

    def named(self, name: str) -> list[ApiKey]:
        """Those of this name that may be used."""
        return self._keys.named(name)

    async def create(self, key: ApiKey) -> ApiKey:
        """Write a new key and read it back. Raises KeyNameTaken, KeyRefused, BrokerAway, or OutcomeUnknown: it may be in
        the list afterwards, with a secret that nobody was told."""
        async with self.alone():
            await self.level()
            if self.named(key.name):
                raise KeyNameTaken(name=key.name)
            if self._keys.usable() >= KEYS_MAX:
                raise KeyRefused(reason=f"there are {KEYS_MAX} keys already; revoke some")
            await self.write(key.id.encode(), encode(key))
            if self.named(key.name)[:1] != [key]:  # made elsewhere at the same moment, and first
                await self.write(key.id.encode(), encode(key.revoked(self._now())))
                raise KeyNameTaken(name=key.name)
            return key

    async def revoke(self, key_id: str) -> ApiKey:
        """The key of this id, from now on revoked, once that was read back; nothing changes for one that was before.
        Raises KeyUnknown, BrokerAway, OutcomeUnknown (calling again is safe)."""
        async with self.alone():
            await self.level()
            key = self._keys.get(key_id)
            if key is None:
                raise KeyUnknown(key=key_id)
            if not key.usable:
                return key
            revoked = key.revoked(self._now())
            await self.write(key.id.encode(), encode(revoked))
            found = self._keys.get(key_id)
            if found is None or found.usable:
                raise OutcomeUnknown(reason="another record of the key was written at the same moment")
            return found

    def take(self, records: Sequence[Record]) -> None:
        for record in records:
            reason = self._keys.fold(record.offset, record.key, record.value)
            if reason is not None:
                log.warning("%s: record %d is passed over: %s", self.topic, record.offset, reason)

    def fail(self, failure: LogMismatch) -> None:
        super().fail(
            LogMismatch(
                f"{self.topic} is not the topic that this process has read before ({failure.fields.get('reason')}), so it lets "
                "nobody in any more. If this is the right cluster, start the process again; keys that are missing then "
                "must be made anew."
            )
        )

    def _now(self) -> str:
        return time_text(self._clock())
