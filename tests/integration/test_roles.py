"""Users of PostgreSQL who may do what their process needs, and nothing else."""

from __future__ import annotations

import asyncio
import uuid
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from ops import cli
from ops.client import Exit
from projections.postgres import PostgresStore
from projections.progress import Progress
from projections.rebuild import cancel, rebuild, request, work
from schemas.errors import StoreAway
from schemas.settings import Settings
from tests.fake_log import FakeTopics
from tests.feeding import feed
from tests.fleet import platform, until
from tests.histories import random_log
from tests.judging import judged
from tests.rights import ROLES, drop_users, grant, login, make_users

NO_TABLES = "its tables are not there; `workflow migrate` makes them"
NO_GRANTS = "`workflow grants` prints what a process needs"
TABLES = ("migrations", "positions", "runs", "history", "pending", "listed", "dated")
PRIVILEGES = """
select role, relname, privilege_type
from unnest($1::text[]) as role, pg_class, unnest(array['SELECT', 'INSERT', 'UPDATE', 'DELETE', 'TRUNCATE', 'REFERENCES', 'TRIGGER'])
    as privilege_type
where relnamespace::regnamespace::text in ('workflow', 'workflow_board') and relkind in ('r', 'v') and has_table_privilege(role, pg_class.oid, privilege_type)
"""
ACLS = """
select relname::text, relacl::text from pg_class where relnamespace = 'workflow'::regnamespace and relkind in ('r', 'v')
union all
select 'workflow', nspacl::text from pg_namespace where nspname = 'workflow'
union all
select attname, attacl::text from pg_attribute join pg_class on pg_class.oid = attrelid
where relnamespace = 'workflow'::regnamespace and attacl is not null
"""
WRITES = (
    "insert into {table} default values",
    "update {table} set {column} = {column}",
    "delete from {table}",
    "truncate {table}",
    "drop table {table}",
    "alter table {table} add column more int",
    "create table workflow.more ()",
    "alter schema workflow rename to mine",
    "drop schema workflow cascade",
    "create schema more",
    "begin; lock table {table} in exclusive mode",
)
COLUMNS = {"positions": "position", "runs": "seq", "history": "seq", "pending": "version", "migrations": "number"}


@pytest.fixture
async def users(postgres_dsn: str) -> AsyncIterator[dict[str, str]]:
    """Role → user. The owner may make schemas in the database; the others may log in."""
    users = {role: f"{role}_{uuid.uuid4().hex[:8]}" for role in ("owner", *ROLES, "reports")}
    await make_users(postgres_dsn, users.values())
    admin = await asyncpg.connect(postgres_dsn)
    database = await admin.fetchval("select current_database()")
    await admin.execute(f'grant create on database "{database}" to "{users["owner"]}"')
    await admin.close()
    yield users
    await drop_users(postgres_dsn, users.values())


def dsn_of(settings: Settings, user: str) -> str:
    return settings.model_copy(update=login(user)).postgres_dsn


async def migrated(settings: Settings, users: Mapping[str, str]) -> None:
    store = PostgresStore(dsn_of(settings, users["owner"]))
    await store.migrate()
    await store.board().change(lambda rebuild, _: (rebuild, None))
    await store.close()
    await grant({role: users[role] for role in ROLES}, dsn_of(settings, users["owner"]))


async def ask(dsn: str, query: str, *args: Any) -> list[tuple[Any, ...]]:
    connection = await asyncpg.connect(dsn)
    try:
        return [tuple(row) for row in await connection.fetch(query, *args)]
    finally:
        await connection.close()


async def test_who_may_do_what(settings: Settings, users: dict[str, str]) -> None:
    """The whole list: the API and the worker read, the projector adds and moves on, and nobody deletes a fact."""
    await migrated(settings, users)
    rows = await ask(dsn_of(settings, users["owner"]), PRIVILEGES, [users[role] for role in ROLES])
    by_user = {user: role for role, user in users.items()}
    found: dict[tuple[str, str], set[str]] = {}
    for user, table, privilege in rows:
        found.setdefault((by_user[user], table), set()).add(privilege)
    reads = {"SELECT"}
    assert found == {
        **{("api", table): reads for table in TABLES},
        **{("worker", table): reads for table in ("migrations", "positions", "runs", "history")},
        ("projector", "migrations"): reads,
        ("projector", "listed"): reads,
        ("projector", "history"): {"SELECT", "INSERT"},
        ("projector", "pending"): {"SELECT", "INSERT", "DELETE"},
        ("projector", "runs"): {"SELECT", "INSERT", "UPDATE"},
        ("projector", "positions"): {"SELECT", "INSERT", "UPDATE"},
        **{(role, "rebuild"): {"SELECT", "INSERT", "UPDATE"} for role in ("api", "projector")},
    }


@pytest.mark.parametrize("role", ["api", "worker"])
async def test_readers_cannot_write(role: str, settings: Settings, users: dict[str, str]) -> None:
    """No table, no row, no schema: PostgreSQL refuses each statement."""
    await migrated(settings, users)
    connection = await asyncpg.connect(dsn_of(settings, users[role]))
    for table, column in COLUMNS.items():
        for statement in WRITES:
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await connection.execute(statement.format(table=f"workflow.{table}", column=column))
            await connection.execute("rollback")
    await connection.close()


async def test_the_projector_cannot_rewrite_history(settings: Settings, users: dict[str, str]) -> None:
    """It adds rows; facts stay, and so do the tables."""
    await migrated(settings, users)
    connection = await asyncpg.connect(dsn_of(settings, users["projector"]))
    for statement in (
        "update workflow.history set value = ''",
        "delete from workflow.history",
        "delete from workflow.runs",
        "truncate workflow.runs",
        "drop table workflow.history",
        "create table workflow.more ()",
        "insert into workflow.migrations values (9)",
    ):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await connection.execute(statement)
    await connection.close()


@pytest.mark.parametrize("small_events", [500, 0])
async def test_each_process_can_do_its_work(small_events: int, settings: Settings, users: dict[str, str]) -> None:
    """The projector writes small batches and large ones; worker and API read them. Each finds the tables right."""
    await migrated(settings, users)
    projector = PostgresStore(dsn_of(settings, users["projector"]), small_events=small_events)
    api, worker = (PostgresStore(dsn_of(settings, users[role])) for role in ("api", "worker"))
    log = random_log(5, runs=20)
    for each in (projector, api, worker):
        await each.migrate()
    await feed(projector, log)
    for partition in range(log.partitions):
        seen, written = await worker.snapshot(partition), await projector.snapshot(partition)
        assert seen.mark == written.mark
        assert [run.id for run in seen.runs] == [run.id for run in written.runs]
    assert await api.positions() == await projector.positions()
    for each in (projector, api, worker):
        await each.close()


async def test_a_process_without_rights_waits_for_those_who_have_them(
    settings: Settings, users: dict[str, str]
) -> None:
    """Each thing that is missing has its own line, and the process goes on when it is there."""
    store = PostgresStore(dsn_of(settings, users["worker"]))
    with pytest.raises(StoreAway, match=r"tables are not there; `workflow migrate` makes them, as their owner"):
        await store.migrate()
    owner = PostgresStore(dsn_of(settings, users["owner"]))
    await owner.migrate()
    await owner.board().change(lambda rebuild, _: (rebuild, None))
    with pytest.raises(StoreAway, match=r"permission denied for schema workflow; .*`workflow grants`"):
        await store.migrate()
    await grant({role: users[role] for role in ROLES}, dsn_of(settings, users["owner"]))
    await store.migrate()
    newest = (await ask(owner._db.dsn, "select max(number) from workflow.migrations"))[0][0]
    await ask(owner._db.dsn, "delete from workflow.migrations where number = $1", newest)
    with pytest.raises(
        StoreAway, match=rf"of version {newest - 1}, and this program needs {newest}; `workflow migrate`"
    ):
        await store.migrate()
    await store.close()
    await owner.close()


async def test_a_rebuild_is_asked_for_by_the_api_and_done_by_the_owner(
    settings: Settings, users: dict[str, str]
) -> None:
    """Who may not make tables may ask for new ones, look how far they are, and cancel."""
    await migrated(settings, users)
    log = random_log(8, runs=5)
    told = Settings(workflow_partitions=log.partitions)
    projector, api, owner = (PostgresStore(dsn_of(settings, users[role])) for role in ("projector", "api", "owner"))
    await feed(projector, log)
    cancelled = await request(api, "the API")
    await (await owner.second(cancelled.name)).close()
    assert (await cancel(api)) is not None
    assert await owner.has(cancelled.name)
    assert (await work(told, owner, FakeTopics(told, log), ignore, cancelled.id)).phase == "cancelled"
    assert not await owner.has(cancelled.name)
    asked = await request(api, "the API")
    done = await work(told, owner, FakeTopics(told, log), ignore, asked.id)
    assert (done.id != cancelled.id, done.phase, await projector.board().read()) == (True, "done", done)
    for store in (projector, api, owner):
        await store.close()


async def test_tables_of_this_version_are_not_touched(settings: Settings, users: dict[str, str]) -> None:
    """A process that starts while somebody holds the lock of the migrations does not wait for it."""
    await migrated(settings, users)
    holder = await asyncpg.connect(settings.postgres_dsn)
    store = PostgresStore(settings.postgres_dsn)
    async with holder.transaction():
        await holder.execute("select pg_advisory_xact_lock(hashtext('workflow migrations'))")
        async with asyncio.timeout(5):
            await store.migrate()
    await store.close()
    await holder.close()


async def test_rights_outlive_a_rebuild(settings: Settings, users: dict[str, str]) -> None:
    """Those of the processes, and whatever else was granted: to all, on one column, with the right to pass it on."""
    await migrated(settings, users)
    owner = dsn_of(settings, users["owner"])
    connection = await asyncpg.connect(owner)
    await connection.execute(f"""
        grant usage on schema workflow to "{users["reports"]}" with grant option;
        grant select (run_id, status) on workflow.runs to "{users["reports"]}" with grant option;
        grant select on workflow.listed to public
    """)
    await connection.close()
    before = set(await ask(owner, ACLS))
    assert any(users["reports"] in str(acl) for _, acl in before)
    log = random_log(6, runs=20)
    projector, store = PostgresStore(dsn_of(settings, users["projector"])), PostgresStore(owner)
    await feed(projector, log)
    told = Settings(workflow_partitions=log.partitions)
    for _ in range(2):
        assert (await rebuild(told, store, FakeTopics(told, log), ignore)).differences == []
        assert set(await ask(owner, ACLS)) == before
    assert await projector.positions() == await store.positions()
    await projector.close()
    await store.close()


def ignore(_progress: Progress) -> None:
    """Nobody watches."""


async def test_a_rebuild_without_rights_says_who_has_them(settings: Settings, users: dict[str, str]) -> None:
    """The old tables stay."""
    await migrated(settings, users)
    log = random_log(7, runs=3)
    store, told = PostgresStore(dsn_of(settings, users["projector"])), Settings(workflow_partitions=log.partitions)
    with pytest.raises(StoreAway, match=f"belong to the user {users['owner']}, who alone may rebuild"):
        await rebuild(told, store, FakeTopics(told, log), ignore)
    await store.migrate()
    await store.close()


@pytest.mark.long
@pytest.mark.timeout(300)
async def test_a_platform_of_three_users(
    settings: Settings, users: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """`workflow migrate`, the grants, a platform whose processes wait for both, runs to their ends, a rebuild, and more runs."""
    owner = settings.model_copy(update=login(users["owner"]))
    told: Any = {role: login(users[role]) for role in ROLES}
    for name, value in owner.model_dump(mode="json", exclude_unset=True).items():
        monkeypatch.setenv(name.upper(), str(value))
    monkeypatch.delenv("WORKFLOW_HOME")

    def count_of(text: str) -> int:
        return sum(text in log.read_text() for log in tmp_path.glob("*.log"))

    async def all_say(text: str) -> None:
        async def said() -> bool:
            return count_of(text) == len(ROLES)

        await until(said, f"every process says: {text}", 60)

    async def prepare() -> None:
        await all_say(NO_TABLES)
        assert await asyncio.to_thread(cli.run, ["migrate"]) == 0
        await all_say(NO_GRANTS)
        await grant({role: users[role] for role in ROLES}, owner.postgres_dsn)

    preparing = asyncio.ensure_future(prepare())
    async with platform(owner, tmp_path, told=told) as fleet:
        await preparing
        for member in fleet.members:
            text = member.log.read_text()
            assert text.count(NO_TABLES) == 1, text
            assert text.count(NO_GRANTS) == 1, text
        await fleet.trigger(20)
        await judged(fleet)
        assert await asyncio.to_thread(cli.run, ["rebuild"]) == 0
        await fleet.trigger(20)
        await judged(fleet)
        assert await asyncio.to_thread(cli.run, ["migrate"]) == 0
        monkeypatch.setenv("POSTGRES_USER", users["api"])
        monkeypatch.setenv("POSTGRES_PASSWORD", users["api"])
        assert await asyncio.to_thread(cli.run, ["rebuild"]) == Exit.SERVER_AWAY
    assert "had the same rows" in capsys.readouterr().out
