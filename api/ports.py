"""What the routes ask of the world around them; the composition root hands it in."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from projections.lag import Lag
from schemas.catalog import Defined
from schemas.keys import ApiKey
from schemas.position import Position
from schemas.settings import Settings
from schemas.store import ReadStore
from streams.reasons import Worker


@dataclass(frozen=True, slots=True)
class Outgoing:
    """A command on its way: the run it is for and its record value."""

    run_id: str
    value: bytes


class CommandSender(Protocol):
    """Puts commands on `workflow.trigger`, into the home partition of their run."""

    async def send(self, command: Outgoing) -> Position:
        """The position just above the command, once the broker has it. Raises, within a bounded time, BrokerAway when
        nothing was written, and OutcomeUnknown when a send had begun and was not acknowledged."""
        ...

    async def send_many(self, commands: Sequence[Outgoing]) -> Position:
        """The position above all of them, once the broker has them all; raises as `send` does."""
        ...


class Definitions(Protocol):
    """All definitions, folded by this process and followed."""

    @property
    def position(self) -> int:
        """Offset of the next record of `workflow.definitions`."""
        ...

    def get(self, workflow_id: str, version: int | None = None) -> Defined | None:
        """A version, or the newest one that this process has seen."""
        ...

    def get_then(self, workflow_id: str, at_ms: int) -> Defined | None:
        """The version that was the newest when the log's clock showed `at_ms`, ms since 1970."""
        ...

    def newest(self) -> list[Defined]:
        """The newest version of every workflow, by id."""
        ...

    async def level(self) -> None:
        """Wait until all that stood in the topic at the call is folded. Raises BrokerAway within a bounded time."""
        ...

    async def reach(self, position: int, timeout_s: float) -> bool:
        """Wait until this position is folded; False when the time ran out."""
        ...

    async def define(self, definition: dict[str, Any], actor: str | None = None) -> tuple[Defined, bool]:
        """The version that holds this definition, and whether it was made by this call, for `actor`. Raises BrokerAway,
        OutcomeUnknown."""
        ...


class ApiKeys(Protocol):
    """All API keys, folded by this process and followed."""

    @property
    def position(self) -> int:
        """Offset of the next record of `workflow.keys`."""
        ...

    def usable(self, key_id: str) -> ApiKey | None:
        """The key of this id if it may be used. Raises BrokerAway, LogMismatch while that cannot be known."""
        ...

    def all(self) -> list[ApiKey]:
        """Every key, revoked ones too, by name."""
        ...

    async def level(self) -> None:
        """Wait until all that stood in the topic at the call is folded. Raises BrokerAway within a bounded time."""
        ...

    async def reach(self, position: int, timeout_s: float) -> bool:
        """Wait until this position is folded; False when the time ran out."""
        ...

    async def create(self, key: ApiKey) -> ApiKey:
        """The key, once it was read back. Raises KeyNameTaken, KeyRefused, BrokerAway, OutcomeUnknown."""
        ...

    async def revoke(self, key_id: str) -> ApiKey:
        """The key, revoked. Raises KeyUnknown, BrokerAway, OutcomeUnknown."""
        ...


class Owners(Protocol):
    """Who works on each partition, by the broker's word. Never raises for a broker that is away."""

    async def look(self) -> None:
        """Have a fresh answer, within a bounded time."""
        ...

    def worker(self, partition: int) -> Worker:
        """Who has the partition, by the last look."""
        ...

    def settled(self, partition: int) -> int | None:
        """Below this offset of `workflow.trigger` every command is settled; None: the broker did not say."""
        ...

    def end(self, partition: int) -> int | None:
        """Offset after the last record of `workflow.events`; None: the broker did not say."""
        ...


class Health(Protocol):
    """What the process knows of itself and of the parts that it depends on, without asking any of them now."""

    def report(self) -> ReadyReport: ...


@dataclass(frozen=True, slots=True)
class Component:
    """A part that a process depends on. `state`: "ok", "degraded" or "unknown" (not asked yet); `detail`: one line for people."""

    state: str
    detail: str = ""


@dataclass(frozen=True, slots=True)
class ReadyReport:
    """Whether a process wants traffic or work.

    `ready`: started, migrated, not draining. A component that is away does not turn it false. `status`: "ready",
    "degraded" (ready, but a component is not ok), "starting" or "draining". `lag`: of each partition, how far the tables
    are behind its events; None from a process that does not watch them.
    """

    ready: bool
    status: str
    components: dict[str, Component]
    lag: Mapping[int, Lag] | None = None
    quarantined: int | None = None
    """runs that are set aside in tables of its own"""


class SharedProjection(Protocol):
    """The read tables, where processes share them. Each call raises StoreAway and BrokerAway."""

    async def overview(self) -> dict[str, Any]:
        """How far they are, and their last rebuild."""
        ...

    async def rebuild(self, by: str) -> dict[str, Any]:
        """Have them rebuilt; the rebuild that runs now. Raises RebuildOfAnother while that of a newer release runs."""
        ...

    async def cancel(self) -> dict[str, Any] | None:
        """End the rebuild that runs; None when there is none."""
        ...


@dataclass(frozen=True, slots=True)
class Deps:
    """Everything that the app is made of. `clock`: seconds since 1970; `ids`: a new run id at each call; `keys`: with
    WORKFLOW_AUTH=keys alone; `projection`: None where every process has tables of its own."""

    settings: Settings
    store: ReadStore
    catalog: Definitions
    commands: CommandSender
    health: Health
    clock: Callable[[], float]
    ids: Callable[[], str]
    keys: ApiKeys | None = None
    projection: SharedProjection | None = None
    owners: Owners = field(kw_only=True)
