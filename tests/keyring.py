"""API keys for tests: one as a record, and `workflow.keys` without Kafka."""

from __future__ import annotations

from typing import Final

from aiokafka import AIOKafkaProducer

from api.tokens import hash_secret, new_token
from schemas.errors import KeyNameTaken, KeyUnknown, WorkflowError
from schemas.keys import ApiKey, Keys, Scope, Token, encode
from schemas.settings import Settings
from streams.kafka import client_kwargs

AT: Final = "2026-01-01T00:00:00.000Z"
API_KEY: Final = ApiKey(
    "0123456789ab",
    "shop",
    ("trigger",),
    "$argon2id$v=19$m=19456,t=2,p=1$c2FsdHNhbHRzYWx0$aGFzaGhhc2hoYXNoaGFzaGhhc2hoYXNoaGFzaGhhc2g",
    AT,
)


def make_key(name: str = "shop", *scopes: Scope, rate: str | None = None) -> tuple[ApiKey, Token]:
    """A key and the token that its owner has."""
    token = new_token()
    return ApiKey(token.id, name, scopes or ("trigger",), hash_secret(token.secret), AT, rate), token


async def written_key(settings: Settings, name: str, *scopes: Scope) -> Token:
    """A new key on the real topic; the token that its owner sends."""
    key, token = make_key(name, *scopes)
    producer = AIOKafkaProducer(**client_kwargs(settings), acks="all")
    await producer.start()
    try:
        await producer.send_and_wait(settings.topics.keys, encode(key), key=key.id.encode())
    finally:
        await producer.stop()
    return token


class KeyRing:
    """All keys, as the port has them. `failure`: raised instead of an answer."""

    def __init__(self) -> None:
        self.keys = Keys()
        self.failure: WorkflowError | None = None
        self.behind: list[ApiKey] = []
        """written by another process and not read yet"""
        self._offset = 0

    def add(self, name: str = "shop", *scopes: Scope, rate: str | None = None) -> Token:
        """A new key; the token that its owner sends."""
        key, token = make_key(name, *scopes, rate=rate)
        self.write(key)
        return token

    def write(self, key: ApiKey) -> None:
        """A record, as it comes from the topic."""
        assert self.keys.fold(self._offset, key.id.encode(), encode(key)) is None
        self._offset += 1

    @property
    def position(self) -> int:
        return self._offset

    async def reach(self, position: int, timeout_s: float) -> bool:
        while self.behind and self._offset < position:
            self.write(self.behind.pop(0))
        return self._offset >= position

    def usable(self, key_id: str) -> ApiKey | None:
        self._fail()
        key = self.keys.get(key_id)
        return key if key is not None and key.usable else None

    def all(self) -> list[ApiKey]:
        return self.keys.all()

    async def level(self) -> None:
        self._fail()

    async def create(self, key: ApiKey) -> ApiKey:
        self._fail()
        if self.keys.named(key.name):
            raise KeyNameTaken(name=key.name)
        self.write(key)
        return key

    async def revoke(self, key_id: str) -> ApiKey:
        self._fail()
        key = self.keys.get(key_id)
        if key is None:
            raise KeyUnknown(key=key_id)
        if key.usable:
            self.write(key.revoked(AT))
        return self.keys.get(key_id) or key

    def _fail(self) -> None:
        if self.failure is not None:
            raise self.failure
