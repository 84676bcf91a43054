"""Two sets of tables in one database, compared by PostgreSQL itself: rows are counted there and only the first differences come here."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from projections.compare import (
    DIFFERENCES_MAX,
    Comparison,
    Difference,
    emptied,
    run_differences,
    stray_differences,
    whole_differences,
)
from projections.postgres_admin import AUDIT_TIMEOUT_S, SWAP_TIMEOUT_S, SchemaAudit, schema_number
from projections.rows import CHAIN, REFUSES, SHOWN
from projections.sql import queries
from projections.tables import Level
from schemas.run import EVOLVE_VERSION
from schemas.store import Mark

if TYPE_CHECKING:
    from projections.database import Connection, Database

SQL: Final = queries("postgres")
SETS: Final = queries("postgres_sets")
JSON_COLUMNS: Final = frozenset({"payload", "results", "error", "steps"})
"""PostgreSQL compares no JSON; the texts must be the same."""


async def compare(db: Database, second: str, level: Level) -> Comparison:
    """Compare the tables with those in the schema `second`. Writers wait while `level` runs, and not while rows are compared."""
    async with db.transaction("begin isolation level repeatable read, read only", AUDIT_TIMEOUT_S) as both:
        await both.execute(SQL["stay_in_transaction"])
        async with db.transaction(timeout_s=SWAP_TIMEOUT_S) as writers:
            await writers.execute(SQL["lock_positions"])
            await writers.execute(SETS["wait_in_transaction"])
            await level({row[0]: row[1] for row in await writers.fetch(SQL["marks"])})
            await both.execute(SQL["marks"])  # from here on it sees both sets as they stand now
        return await _compare(both, db.schema, second)


async def _compare(both: Connection, old: str, new: str) -> Comparison:
    ours = SchemaAudit(both, await schema_number(both, old))
    theirs = SchemaAudit(both, await schema_number(both, new))
    stored, folded = await ours.marks(), await theirs.marks()
    found = _whole(stored, folded)
    sound = [number for number in stored if number in folded and stored[number].cluster_id == folded[number].cluster_id]
    sound = [number for number in sound if not whole_differences(number, stored[number], folded[number])]
    await both.execute(SETS["join_as_you_like"])
    args = (sound, EVOLVE_VERSION, REFUSES)
    equal, differing, missing, extra = await both.fetchrow(_sql("count_differences", old, new), *args) or (0, 0, 0, 0)
    if differing or missing or extra:
        rows = await both.fetch(_sql("first_differences", old, new), *args, DIFFERENCES_MAX)
        for _, differences in await run_differences([row[0] for row in rows], ours, theirs):
            found += differences
    stray = await stray_differences(ours, theirs)
    found += stray
    return Comparison(equal, differing, missing, extra + len(stray), tuple(found[:DIFFERENCES_MAX]))


def _whole(stored: dict[int, Mark], folded: dict[int, Mark]) -> list[Difference]:
    both = sorted(stored.keys() & folded.keys())
    return emptied(stored, folded) + [
        each for number in both for each in whole_differences(number, stored[number], folded[number])
    ]


def _sql(name: str, old: str, new: str) -> str:
    """The query over both sets: a run is the same where every column is, leaving out what cannot be compared."""
    sides = SETS["differing"].replace("{chain}", _same(_CHAIN)).replace("{state}", _same(_STATE))
    sides = sides.replace("{shown}", _same([*SHOWN, "set_aside"]))
    sides = sides.replace("old.", f'"{old}".').replace("new.", f'"{new}".')
    return f"{sides} {SETS[name]}"


_STATE: Final = ("state", "state_version")
_CHAIN: Final = [name for name in CHAIN if name not in (*_STATE, "set_aside")]


def _same(names: list[str] | tuple[str, ...]) -> str:
    texts = [f"{name}::text" if name in JSON_COLUMNS else name for name in names]
    return " and ".join(f"o.{text} is not distinct from n.{text}" for text in texts)
