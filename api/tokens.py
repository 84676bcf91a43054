"""Secrets of API keys: made, hashed, and checked so that a flood of wrong ones delays nobody else."""

from __future__ import annotations

import asyncio
import os
import secrets
from collections import OrderedDict
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from hashlib import blake2b
from hmac import compare_digest
from typing import Final

from argon2 import PasswordHasher
from argon2.exceptions import VerifyMismatchError

from api.errors import Overloaded
from schemas.keys import ApiKey, Token

ID_CHARACTERS: Final = "abcdefghijklmnopqrstuvwxyz0123456789"
ID_LENGTH: Final = 12
SECRET_BYTES: Final = 32

CHECKS_AT_ONCE: Final = 2
"""Hashes computed at once, each in a thread of its own and with 19 MiB."""
WAITING_MAX: Final = 256
"""Checks that wait in one line; further callers are told to come again."""
RIGHT_MAX: Final = 10_000
WRONG_MAX: Final = 1_000
"""Tokens that are remembered as right, and as wrong: a client that repeats one costs nothing."""

_HASHER: Final = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)


def new_token() -> Token:
    """A token that nobody has."""
    key_id = "".join(secrets.choice(ID_CHARACTERS) for _ in range(ID_LENGTH))
    return Token(key_id, secrets.token_hex(SECRET_BYTES))


def hash_secret(secret: str) -> str:
    """Argon2id of a secret, as PHC text. It takes tens of milliseconds."""
    return _HASHER.hash(secret)


def matches(hash_: str, secret: str) -> bool:
    """Whether the hash is of this secret. It takes tens of milliseconds."""
    try:
        return _HASHER.verify(hash_, secret)
    except VerifyMismatchError:
        return False


class _Line:
    """Checks that wait for each other."""

    def __init__(self) -> None:
        self.turn = asyncio.Lock()
        self.length = 0


class Verifier:
    """Checks tokens against keys.

    What was found out is remembered beside the record that it was found out against, so a newer record of the key makes
    it worthless. Each known key has a line of its own, all unknown ones have one together.
    """

    def __init__(self) -> None:
        self._pepper = os.urandom(32)
        self._right: OrderedDict[str, tuple[ApiKey, bytes]] = OrderedDict()
        self._wrong: OrderedDict[bytes, ApiKey | None] = OrderedDict()
        self._lines: dict[str, _Line] = {}
        self._nobody = hash_secret(secrets.token_hex(SECRET_BYTES))
        self._threads = ThreadPoolExecutor(CHECKS_AT_ONCE, thread_name_prefix="keys")

    def digest(self, token: Token) -> bytes:
        """What is kept of a token: worth nothing outside this process."""
        return blake2b(token.text.encode(), key=self._pepper, digest_size=32).digest()

    def remembered(self, key: ApiKey | None, token: Token, digest: bytes) -> bool | None:
        """Whether the token is the key's, without computing anything; None where that is not known."""
        right = self._right.get(token.id)
        if right is not None and right[0] is key and compare_digest(right[1], digest):
            return True
        return False if self._wrong.get(digest, token) is key else None

    async def check(self, key: ApiKey | None, token: Token, digest: bytes) -> bool:
        """Whether the token is the key's; None is a key that is not known, and costs the same. Raises Overloaded."""
        async with self._in_line(key.id if key is not None else ""):
            known = self.remembered(key, token, digest)  # while it waited, somebody may have found out
            if known is not None:
                return known
            hash_ = key.hash if key is not None else self._nobody
            fits = await asyncio.get_running_loop().run_in_executor(self._threads, matches, hash_, token.secret)
            if fits and key is not None:
                self._right[token.id] = key, digest
                _bound(self._right, RIGHT_MAX)
                return True
            self._wrong[digest] = key
            _bound(self._wrong, WRONG_MAX)
            return False

    @asynccontextmanager
    async def _in_line(self, name: str) -> AsyncIterator[None]:
        line = self._lines.setdefault(name, _Line())
        if line.length >= WAITING_MAX:
            raise Overloaded(what=f"{line.length} keys to check", limit=WAITING_MAX)
        line.length += 1
        try:
            async with line.turn:
                yield
        finally:
            line.length -= 1
            if not line.length:
                self._lines.pop(name, None)


def _bound(remembered: OrderedDict[str, tuple[ApiKey, bytes]] | OrderedDict[bytes, ApiKey | None], most: int) -> None:
    if len(remembered) > most:
        remembered.popitem(last=False)
