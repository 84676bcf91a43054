"""A row that somebody changes by hand: found by the projectors themselves, and gone once it is mended."""

from __future__ import annotations

from pathlib import Path

import asyncpg
import httpx
import pytest

from schemas.settings import Settings
from tests.fleet import Fleet, platform, until
from tests.integration.test_rebuild_platform import RUNS, ask, command_line, done, finished
from tests.unit.test_api_metrics import parsed, values

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

PARTITIONS = 4
WITHIN_S = 60.0


async def told(fleet: Fleet, metric: str) -> dict[str, float]:
    """Partition → value, of all projectors together. No partition is told of by two of them."""
    found: dict[str, float] = {}
    async with httpx.AsyncClient(timeout=10) as http:
        for projector in fleet.of("projector"):
            mine = values(parsed((await http.get(f"{projector.address}/metrics")).text)[metric])
            assert not {labels[0] for labels in mine} & found.keys()
            found |= {labels[0]: value for labels, value in mine.items()}
    return found


async def components(fleet: Fleet) -> list[str]:
    """What the projectors' /ready says of verifying; they are ready all the while."""
    assert all([await projector.is_ready() for projector in fleet.of("projector")])
    return sorted([(await projector.report())["verify"] for projector in fleet.of("projector")])


async def damage(settings: Settings, run: str) -> None:
    connection = await asyncpg.connect(settings.postgres_dsn, server_settings={"search_path": "workflow"})
    try:
        await connection.execute("update runs set status = 'FAILED' where run_id = $1", run)
    finally:
        await connection.close()


async def test_a_changed_row_is_a_drift_until_it_is_mended(settings: Settings, tmp_path: Path) -> None:
    """Two projectors verify the partitions that each has. A status that is changed by SQL raises the metric, degrades /ready
    and is one line of the log; `workflow verify` says the same. After a rebuild both say that all is well."""
    settings = settings.model_copy(update={"workflow_partitions": PARTITIONS, "workflow_verify_share": 1.0})
    async with platform(settings, tmp_path, projectors=2) as fleet:
        await fleet.trigger(40)
        await fleet.ended()

        async def passed() -> bool:
            events = await told(fleet, "workflow_projection_verified_events_total")
            ages = await told(fleet, "workflow_projection_verified_age_seconds")
            return len(events) == PARTITIONS and all(events.values()) and max(ages.values()) < WITHIN_S

        async def drift() -> dict[str, float]:
            return await told(fleet, "workflow_projection_drift")

        await until(passed, "every partition was verified", WITHIN_S)
        assert set((await drift()).values()) == {0}
        assert await components(fleet) == ["ok: no difference was found"] * 2

        run = next(run for run, start in fleet.accepted.items() if start[0] == "noop")
        await damage(settings, run)

        async def found() -> bool:
            return sorted((await drift()).values()) == [0] * (PARTITIONS - 1) + [1]

        await until(found, "the changed row is found", WITHIN_S)
        degraded = (await components(fleet))[0]
        assert degraded.startswith("degraded: 1 differ from the log")
        assert f"{run} status: the tables say FAILED, the log says SUCCESS" in degraded
        code, out, err = await finished(command_line(settings, "verify"))
        assert code == 1
        assert run in out + err
        lines = [line for one in fleet.of("projector") for line in one.log.read_text().splitlines() if run in line]
        assert len([line for line in lines if "ERROR" in line]) == 1

        assert (await ask(fleet, "POST", f"{RUNS}/rebuild")).status_code == 202
        assert (await done(fleet))["report"]["differing"] == 1

        async def mended() -> bool:
            return sum((await drift()).values()) == 0

        await until(mended, "no row differs any more", WITHIN_S)
        assert await components(fleet) == ["ok: no difference was found"] * 2
        code, out, err = await finished(command_line(settings, "verify"))
        assert (code, "agree with the log" in out) == (0, True), err
