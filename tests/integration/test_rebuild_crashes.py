"""Rebuilds whose process, database or broker is killed at each step: the tables serve on, and the next start goes on from there."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from pathlib import Path
from typing import Any

import asyncpg
import orjson
import pytest

from ops.embedded.kafka import KafkaServer
from ops.embedded.postgres import PostgresServer
from ops.parts import ROOT, environment
from schemas.settings import Settings
from tests.conftest import make_settings
from tests.fleet import Fleet, platform, until
from tests.integration.test_rebuild_platform import ask, command_line, finished, phase
from tests.judging import judged

pytestmark = [pytest.mark.long, pytest.mark.timeout(240)]

RUNS = 200
SLOW: dict[str, Any] = {"workflow_projector_batch_max": 1}
ALONE: Any = {"projector": {"workflow_rebuild_helps": False}}
BROKEN = "import sys; from tests.broken import apply; apply(sys.argv.pop(1)); from ops.__main__ import main; sys.exit(main())"
WAITS_IN_TRANSACTION = """
select count(*) from pg_locks join pg_stat_activity using (pid)
where datname = current_database() and relation = 'workflow.positions'::regclass and state = 'idle in transaction'
and mode in ('ExclusiveLock', 'ShareRowExclusiveLock', 'AccessExclusiveLock')
"""


def broken_rebuild(settings: Settings, build: str) -> subprocess.Popen[bytes]:
    """`workflow rebuild` of a build of `tests.broken`."""
    line = [sys.executable, "-c", BROKEN, build, "rebuild", "--parallel", "1"]
    return subprocess.Popen(line, cwd=ROOT, env=environment(settings), stdout=subprocess.PIPE, stderr=subprocess.PIPE)


async def holds_writers_back(settings: Settings) -> bool:
    """Whether a transaction that does nothing keeps projectors from writing."""
    connection = await asyncpg.connect(settings.postgres_dsn)
    try:
        return bool(await connection.fetchval(WAITS_IN_TRANSACTION))
    finally:
        await connection.close()


async def goes_on(fleet: Fleet, settings: Settings, before: dict[str, Any]) -> dict[str, Any]:
    """The next `workflow rebuild` takes up the one that was broken off, and its tables are the log's."""
    code, out, err = await finished(command_line(settings, "rebuild", "-o", "json"), 90)
    assert code == 0, err
    assert f"Going on with the rebuild that {before['by']} began" in err
    report: dict[str, Any] = orjson.loads(out)
    assert (report["id"], report["differences"], report["missing"], report["extra"]) == (before["id"], [], 0, 0)
    assert report["equal"] >= RUNS  # those that came after the comparison are not in its report
    await judged(fleet)
    code, out, err = await finished(command_line(settings, "verify"))
    assert (code, "agree with the log" in out) == (0, True), err
    return report


@pytest.mark.parametrize(
    ("at", "build"), [("comparing", "lingers_while_it_compares"), ("swapping", "lingers_while_it_swaps")]
)
async def test_killed_while_projectors_wait_for_it(settings: Settings, tmp_path: Path, at: str, build: str) -> None:
    """With -9, in the transaction that keeps writers out: reads go on meanwhile and writes after it. What was folded is not
    folded again."""
    async with platform(settings, tmp_path, told=ALONE) as fleet:
        await fleet.trigger(RUNS, rate=200)
        await judged(fleet)
        process = broken_rebuild(settings, build)

        async def is_there() -> bool:
            assert process.poll() is None, process.communicate()
            return (await phase(fleet))[0] == at and await holds_writers_back(settings)

        await until(is_there, f"the rebuild holds writers back while it is {at}", 60, every_s=0.05)
        first = next(iter(fleet.accepted))
        shown = await ask(fleet, "GET", f"/api/v1/runs/{first}")
        assert shown.status_code == 200
        process.kill()
        await finished(process)
        await fleet.trigger(20)
        await judged(fleet)
        assert (await ask(fleet, "GET", f"/api/v1/runs/{first}")).json() == shown.json()
        before = (await phase(fleet))[1]
        assert before is not None
        assert before["phase"] == at
        await goes_on(fleet, settings, before)
        last = (await phase(fleet))[1]
        assert last is not None
        assert last["folded_at"] == before["folded_at"]


@pytest.mark.parametrize("which", ["postgres", "kafka"])
async def test_a_server_is_killed_while_it_folds(
    own_kafka: KafkaServer, own_postgres: PostgresServer, tmp_path: Path, which: str
) -> None:
    """Two processes fold at the same time when PostgreSQL or Kafka goes away: the command ends and says so, the platform goes
    on when the server is back, and the next start goes on from what was committed."""
    settings = make_settings(own_kafka.address, own_postgres.dsn, "", tmp_path)
    async with platform(settings, tmp_path, told=ALONE) as fleet:
        await fleet.trigger(RUNS, rate=200)
        await judged(fleet)
        slow = settings.model_copy(update=SLOW)
        processes = [broken_rebuild(slow, "folds_slowly") for _ in range(2)]

        async def shared() -> bool:
            last = (await phase(fleet))[1]
            owners = {part["worker"] for part in last["partitions"] if part["worker"]} if last else set()
            some = last is not None and last["phase"] == "folding" and last["events"] > last["total"] // 5
            return some and len({owner.rpartition("/")[0] for owner in owners}) == 2

        await until(shared, "two processes have folded a fifth", 60)
        server = own_postgres if which == "postgres" else own_kafka
        await asyncio.to_thread(server.kill)
        for process in processes:
            code, _, err = await finished(process, 90)
            assert code != 0
            assert ("The store does not answer" if which == "postgres" else "Kafka") in err
        await asyncio.to_thread(server.start)
        await fleet.trigger(20)
        await judged(fleet)
        before = (await phase(fleet))[1]
        assert before is not None
        assert before["phase"] == "folding"
        assert before["events"] > 0
        await goes_on(fleet, settings, before)
