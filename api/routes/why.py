"""Why a run is where it is: the reason, from the state that decides."""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter
from starlette.responses import Response

from api.openapi import problems
from api.ports import Owners
from api.responses import Json
from api.routes.runs import RunId
from api.routing import Api, MinPosition, Shared, StrictRoute, Wait, reach_tables
from api.why_body import WhyBody
from schemas import position as positions
from schemas.errors import HistoryDamaged, RunUnknown
from schemas.events import time_text
from schemas.identity import home
from schemas.position import Place
from schemas.store import Standing, StoredRun
from streams.reasons import Around, lacking, told
from streams.why import Timing, why, why_waiting

router = APIRouter(route_class=StrictRoute, tags=["runs"])


@router.get(
    "/api/v1/runs/{run_id}/why",
    operation_id="runs_why",
    response_model=WhyBody,
    responses=problems(400, 404, 431, 503),
)
async def get_why(api: Shared, run_id: RunId, min_position: MinPosition = None, wait: Wait = None) -> Response:
    """The one reason why a run is where it is: what it waits for, since when and until when, and who should act.

    A broker that does not answer leaves `worker.state` at `unknown`; the reason is given all the same.
    """
    await reach_tables(api, min_position, wait)
    await api.deps.owners.look()  # before the tables, so that tables which are level are seen to be
    standing, waiting = await _found(api, run_id)
    if standing is not None:
        return _answer(run_id, await _of_run(api, standing), ("e", home(run_id, _partitions(api))), standing.offset)
    if waiting is None:
        raise RunUnknown(run_id=run_id, behind=await _behind(api, run_id))
    return _answer(run_id, await _of_command(api, waiting), waiting.place, waiting.offset)


async def _found(api: Api, run_id: str) -> tuple[Standing | None, StoredRun | None]:
    """The run, or its command; a command that became a run between two looks is a run. Raises HistoryDamaged."""
    store = api.deps.store
    standing = await store.standing(run_id)
    waiting = await store.run(run_id) if standing is None else None
    if waiting is not None and waiting.view["seq"]:
        standing = await store.standing(run_id)
        if standing is None:  # the row of its last event is gone
            raise HistoryDamaged(run_id=run_id)
    return standing, waiting


async def _of_run(api: Api, standing: Standing) -> dict[str, Any]:
    deps, now = api.deps, await api.deps.store.now_s()
    around = _around(deps.owners, home(standing.run.id, _partitions(api)), standing.position)
    timing = Timing(now, deps.settings.workflow_step_timeout_s)
    return told(why(standing.run, time_text(standing.at_ms / 1000), around, timing), around, now)


async def _of_command(api: Api, waiting: StoredRun) -> dict[str, Any]:
    _, partition = waiting.place
    at = (await api.deps.store.positions()).get(("e", partition), 0)
    around = _around(api.deps.owners, partition, at)
    workflow_id, version = waiting.view["workflow_id"], waiting.view["version"]
    defined = version is None or api.deps.catalog.get(workflow_id, version) is not None
    missing = None if defined else f"version {version} of workflow {workflow_id!r}"
    reason = why_waiting(waiting.offset - 1, waiting.view["created_at"], around, missing)
    return told(reason, around, await api.deps.store.now_s())


async def _behind(api: Api, run_id: str) -> str:
    """What is to be said of tables that do not have a run and lack records among which it may be."""
    partition = home(run_id, _partitions(api))
    at, owners = await api.deps.store.positions(), api.deps.owners
    if owners.end(partition) is None:
        return f" Whether the tables lack records of partition {partition}, where it would be, is not known now: Kafka did not say."
    ends = (("e", owners.end(partition)), ("t", owners.settled(partition)))
    records = sum(max(0, (end or 0) - at.get((topic, partition), 0)) for topic, end in ends)
    if not records:
        return ""
    return (
        f" The tables {lacking(records, partition)}, where it would be: it may be among them, and is shown once the projector "
        "has caught up."
    )


def _around(owners: Owners, partition: int, position: int) -> Around:
    end = owners.end(partition)
    behind = None if end is None else max(0, end - position)
    return Around(partition, owners.worker(partition), owners.settled(partition), behind)


def _partitions(api: Api) -> int:
    return api.deps.settings.workflow_partitions


def _answer(run_id: str, body: dict[str, Any], place: Place, offset: int) -> Json:
    position = positions.encode({place: offset})
    headers = {"Workflow-Position": position, "Cache-Control": "private, no-cache"}
    return Json({"run_id": run_id, **body, "position": position}, headers=headers)
