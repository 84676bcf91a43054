"""Several API processes on one platform: what one of them has answered, no other one denies; and how far the tables are behind."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import httpx
import pytest

from schemas.settings import Settings
from tests.fleet import Fleet, Member, platform, until
from tests.unit.test_api_metrics import parsed, values

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

WRITES: Final = 300
AT_ONCE: Final = 12
FROZEN_S: Final = 0.5
THAWED_S: Final = 0.25
WORKFLOW: Final = {"id": "brief", "name": "brief", "steps": [{"name": "a", "type": "delay", "config": {"duration": 0}}]}


class Client:
    """Writes at one process and reads at the other, taking turns."""

    def __init__(self, fleet: Fleet, http: httpx.AsyncClient) -> None:
        self._apis, self._http = [api.address for api in fleet.of("api")], http
        self.stale = 0
        """answers that were too old, where no position was asked for"""
        self.still = asyncio.Event()
        """set while the projectors stand still"""
        self._early = 0

    async def see(self, number: int) -> None:
        """Start a run, or define a workflow, and look at it elsewhere."""
        here, there = self._apis[number % 2], self._apis[1 - number % 2]
        if number % 10 == 0:
            await self._definition(here, there, number)
        elif number % 10 == 1:
            await self._batch(here, there)
        else:
            await self._run(here, there)

    async def _definition(self, here: str, there: str, number: int) -> None:
        body = {**WORKFLOW, "id": "grows", "description": f"version {number}"}
        made = await self._post(f"{here}/api/v1/workflows", body)
        seen = await self._get(f"{there}/api/v1/workflows/grows", min_position=made["position"])
        assert seen["version"] >= made["version"]
        listed = await self._get(f"{there}/api/v1/workflows", min_position=made["position"])
        assert max(each["version"] for each in listed["items"] if each["id"] == "grows") >= made["version"]

    async def _batch(self, here: str, there: str) -> None:
        begun = await self._post(f"{here}/api/v1/trigger/batch", {"items": [{"workflow_id": "brief"}] * 5})
        await asyncio.gather(
            *(self._get(f"{there}/api/v1/runs/{run}", min_position=begun["position"]) for run in begun["run_ids"])
        )

    async def _run(self, here: str, there: str) -> None:
        await self.still.wait()
        self._early += 1
        try:
            begun = await self._post(f"{here}/api/v1/trigger", {"workflow_id": "brief"})
            url = f"/api/v1/runs/{begun['run_id']}"
            self.stale += (await self._http.get(f"{there}{url}")).status_code == 404
        finally:
            self._early -= 1
        listed = await self._get(f"{there}/api/v1/runs", min_position=begun["position"], limit=200)
        assert begun["run_id"] in {run["run_id"] for run in listed["items"]}
        seen = await self._get(f"{there}{url}", min_position=begun["position"])
        back = await self._get(f"{here}{url}", min_position=seen["position"])
        assert back["seq"] >= seen["seq"]
        history = await self._get(f"{there}{url}/events", min_position=back["position"])
        assert len(history["items"]) >= back["seq"]

    async def _post(self, url: str, body: dict[str, Any]) -> dict[str, Any]:
        answer = await self._http.post(url, json=body)
        assert answer.status_code in {200, 201, 202}, answer.text
        found: dict[str, Any] = answer.json()
        assert answer.headers["workflow-position"] == found["position"]
        return found

    async def _get(self, url: str, **query: Any) -> dict[str, Any]:
        answer = await self._http.get(url, params={**query, "wait": "20s"})
        assert answer.status_code == 200, f"{url} {query}: {answer.text}"
        found: dict[str, Any] = answer.json()
        return found

    async def looked(self) -> bool:
        """Whether no look is under way that may come too early."""
        return self._early == 0


@asynccontextmanager
async def slowed(projectors: list[Member], client: Client) -> AsyncIterator[None]:
    """Until the end of the block these processes stand still for two thirds of the time, and until early looks are over."""

    async def slow() -> None:
        while True:
            for one in projectors:
                one.freeze()
            client.still.set()
            await asyncio.sleep(FROZEN_S)
            client.still.clear()
            await until(client.looked, "early looks are over", 60, every_s=0.01)
            for one in projectors:
                one.thaw()
            await asyncio.sleep(THAWED_S)

    task = asyncio.create_task(slow())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.wait([task])
        for one in projectors:
            one.thaw()


@pytest.mark.parametrize("backend", ["postgres", pytest.param("filesystem", marks=pytest.mark.long)])
async def test_no_answer_is_older_than_its_position(settings: Settings, tmp_path: Path, backend: str) -> None:
    """Hundreds of writes at one API process, each begun while the projector stands still and looked at through the other
    one. Without a position some of these looks come too early; with one, none does."""
    changed = {"storage_backend": backend, "workflow_partitions": 4, "workflow_position_wait_s": 20.0}
    async with (
        platform(settings.model_copy(update=changed), tmp_path, apis=2) as fleet,
        httpx.AsyncClient(timeout=60) as http,
    ):
        await fleet.define(WORKFLOW)
        client, room = Client(fleet, http), asyncio.Semaphore(AT_ONCE)

        async def one(number: int) -> None:
            async with room:
                await client.see(number)

        async with slowed(fleet.of("projector"), client), asyncio.TaskGroup() as group:
            for number in range(WRITES):
                group.create_task(one(number))
        assert client.stale > WRITES / 10


async def test_a_lag_is_seen_by_whoever_looks(settings: Settings, tmp_path: Path) -> None:
    """While the projector stands still, an API process says by how many events and seconds each partition is behind, in
    /ready and in its metrics, and goes on answering; when it goes on, both come back to nothing."""
    settings = settings.model_copy(update={"workflow_partitions": 2})
    async with platform(settings, tmp_path) as fleet, httpx.AsyncClient(timeout=20) as http:
        (api,), (projector,) = fleet.of("api"), fleet.of("projector")
        await fleet.define(WORKFLOW)

        async def lag() -> dict[int, tuple[int, float]]:
            answer = await http.get(f"{api.address}/ready")
            assert answer.status_code == 200
            return {each["partition"]: (each["events"], each["seconds"]) for each in answer.json()["lag"]}

        async def is_level() -> bool:
            return await lag() == {0: (0, 0.0), 1: (0, 0.0)}

        async def is_behind() -> bool:
            return all(events > 10 and seconds > 4 for events, seconds in (await lag()).values())

        await until(is_level, "the tables are level", 20)
        projector.freeze()
        begun = await http.post(f"{api.address}/api/v1/trigger/batch", json={"items": [{"workflow_id": "brief"}] * 40})
        await until(is_behind, "the lag grows", 20)
        told = parsed((await http.get(f"{api.address}/metrics")).text)
        assert set(values(told["workflow_projection_lag_events"])) == {("0",), ("1",)}
        assert min(values(told["workflow_projection_lag_seconds"]).values()) > 4
        late = await http.get(
            f"{api.address}/api/v1/runs", params={"min_position": begun.json()["position"], "wait": "100ms"}
        )
        assert (late.status_code, late.json()["code"]) == (503, "position_not_reached")
        assert late.json()["min_position"] == begun.json()["position"]
        projector.thaw()
        await until(is_level, "the tables are level again", 30)
        told = parsed((await http.get(f"{projector.address}/metrics")).text)
        assert set(values(told["workflow_projection_lag_events"]).values()) == {0}
        assert values(told["workflow_runs_started_total"]) == {(): 40}

        async def are_counted() -> bool:
            told = parsed((await http.get(f"{projector.address}/metrics")).text)
            return values(told["workflow_runs_ended_total"])["SUCCESS",] == 40

        await until(are_counted, "all ends are counted", 30)
        worker = parsed((await http.get(f"{fleet.of('worker')[0].address}/metrics")).text)
        assert values(worker["workflow_partitions_owned"]) == {(): 2}
        assert values(worker["workflow_events_appended_total"])[()] >= 160
