"""Builds that break one promise each, for `python -m tests.harness.child`; the history checker must find what comes of it.
Two that break none, but are other releases; and three that are slow where a rebuild can be killed."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from itertools import count
from typing import Any, Final


def no_epoch_check() -> None:
    """A run event is a fact whatever its epoch."""
    from schemas import rule

    judged = rule.orphaned
    rule.orphaned = lambda envelope, epoch, *rest: judged({**envelope, "epoch": epoch}, epoch, *rest)


def no_chain_check() -> None:
    """A run event is a fact whatever it extends."""
    from schemas import rule

    judged = rule.orphaned

    def orphaned(envelope: dict[str, Any], epoch: int, seq: int, tip: str | None, done: bool) -> rule.Orphan | None:
        return judged({**envelope, "seq": seq + 1, "prev": tip}, epoch, seq, tip, done)

    rule.orphaned = orphaned


def committed_when_taken() -> None:
    """A command counts as settled before its first event was appended."""
    from streams.partition import Partition

    Partition.safe_commands = lambda self: self.taken  # type: ignore[method-assign]


def committed_one_too_far() -> None:
    """The committed offset is one past the first command that is not settled."""
    from streams.partition import Partition

    safe = Partition.safe_commands
    Partition.safe_commands = lambda self: min(safe(self) + 1, self.taken)  # type: ignore[method-assign]


def position_outside_the_transaction() -> None:
    """The position is written first, and the rows a moment later in a transaction of their own."""
    from projections import postgres_write
    from projections.postgres import PostgresStore
    from schemas.store import Batch

    move, moved = postgres_write._move, 1.0

    async def nothing(*_: object) -> None: ...

    async def apply(self: PostgresStore, batch: Batch) -> None:
        async with self._db.transaction() as connection:
            await move(connection, batch)
        await asyncio.sleep(moved)
        rows = postgres_write.Rows(replace(batch, commands=None), {})
        async with self._db.transaction() as connection:
            await postgres_write.write(connection, rows)

    postgres_write._move = nothing  # type: ignore[assignment]
    PostgresStore.apply = apply  # type: ignore[method-assign]


def another_key_for_each_attempt() -> None:
    """Retries of a webhook look like new calls to its receiver."""
    from streams.webhook_request import WebhookRequest

    init, made = WebhookRequest.__init__, count()

    def other(self: WebhookRequest, *args: Any, **kwargs: Any) -> None:
        init(self, *args, **kwargs)
        object.__setattr__(self, "idempotency_key", f"{self.idempotency_key}/{next(made)}")

    WebhookRequest.__init__ = other  # type: ignore[method-assign]


def hashed_after_writing_it_anew() -> None:
    """The chain is made of digests of other bytes than those that stand in the log."""
    from schemas import identity

    digest = identity.digest

    def other(value: bytes) -> str:
        try:
            return digest(json.dumps(json.loads(value), sort_keys=True).encode())
        except ValueError:
            return digest(value)

    identity.digest = other


def the_release_before() -> None:
    """Its projection is another one than ours."""
    from projections import rows

    rows.PROJECTION_VERSION -= 1  # type: ignore[misc]


def ignorant_of_failed_steps() -> None:
    """A release that cannot fold StepFailed, as an older one cannot fold what a newer one writes."""
    from schemas import run

    evolve = run.evolve

    def other(one: Any, type_: str, *rest: Any) -> None:
        if type_ == "StepFailed":
            raise ValueError("it is from the future")
        evolve(one, type_, *rest)

    run.evolve = other  # type: ignore[assignment]


LINGERS_S: Final = 60.0


def folds_slowly() -> None:
    """A rebuild that rests after each transaction."""
    from projections.filling import Filling

    write = Filling._write

    async def slowly(self: Filling, *given: Any) -> None:
        await write(self, *given)
        await asyncio.sleep(0.5)

    Filling._write = slowly  # type: ignore[method-assign, assignment]


def lingers_while_it_compares() -> None:
    """A rebuild that stands still when both sets of tables are level and no projector may write."""
    _lingers("compare")


def lingers_while_it_swaps() -> None:
    """The same with the exchange under way."""
    _lingers("swap")


def _lingers(name: str) -> None:
    from projections.postgres import PostgresStore

    made = getattr(PostgresStore, name)

    async def slowly(self: PostgresStore, second: PostgresStore, level: Callable[[Any], Awaitable[None]]) -> Any:
        async def lingering(positions: Any) -> None:
            await level(positions)
            await asyncio.sleep(LINGERS_S)

        return await made(self, second, lingering)

    setattr(PostgresStore, name, slowly)


BUILDS: Final[dict[str, Callable[[], None]]] = {
    build.__name__: build
    for build in (
        no_epoch_check,
        no_chain_check,
        committed_when_taken,
        committed_one_too_far,
        position_outside_the_transaction,
        another_key_for_each_attempt,
        hashed_after_writing_it_anew,
        the_release_before,
        ignorant_of_failed_steps,
        folds_slowly,
        lingers_while_it_compares,
        lingers_while_it_swaps,
    )
}


def apply(name: str) -> None:
    """Make this process such a build, before anything else of it is imported."""
    BUILDS[name]()
