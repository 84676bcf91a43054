"""What the API promises in writing: the table of problems, and the OpenAPI document that clients are made from."""

from __future__ import annotations

import importlib
import pkgutil
import re
from collections.abc import AsyncIterator, Iterator
from typing import Any

import httpx
import pytest
from pydantic import BaseModel

import api
import ops
import projections
import schemas
import streams
from api import bodies
from api.problems import PROBLEMS, problem_type
from api.responses import problem_json
from api.why_body import WhyBody
from schemas.errors import WorkflowError
from schemas.views import RunView, StepView
from tests.api.world import World, client_of, make_world, problem

PACKAGES = (schemas, streams, projections, api, ops)
STATUSES_BEFORE_ROUTING = {431}


@pytest.fixture
def world() -> World:
    return make_world()


@pytest.fixture
async def client(world: World) -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(world) as client:
        yield client


@pytest.fixture
async def document(client: httpx.AsyncClient) -> dict[str, Any]:
    document: dict[str, Any] = (await client.get("/api/v1/openapi.json")).json()
    return document


def all_errors() -> set[type[WorkflowError]]:
    """Every error class of every module of ours."""
    for package in PACKAGES:
        for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
            if not module.name.endswith("__main__"):
                importlib.import_module(module.name)

    def below(cls: type[WorkflowError]) -> Iterator[type[WorkflowError]]:
        yield cls
        for each in cls.__subclasses__():
            yield from below(each)

    return {
        each
        for each in below(WorkflowError)
        if each.__module__.split(".")[0] in {package.__name__ for package in PACKAGES}
    }


def operations(document: dict[str, Any]) -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            yield path, method, operation


def test_every_error_has_its_line_in_the_table() -> None:
    """An error class without one would be shown as our own mistake."""
    assert {error.code for error in all_errors()} - PROBLEMS.keys() == set()


def test_every_line_of_the_table_has_its_error() -> None:
    """No page about what does not exist."""
    assert PROBLEMS.keys() - {error.code for error in all_errors()} == set()


@pytest.mark.parametrize("code", sorted(PROBLEMS))
async def test_every_type_is_a_page(client: httpx.AsyncClient, code: str) -> None:
    """`type` of a problem leads to meaning, cause and fix."""
    answer = await client.get(f"/problems/{code}")
    assert answer.status_code == 200
    kind = PROBLEMS[code]
    for text in ("What it means", "Why it happens", "What to do", str(kind.status)):
        assert text in answer.text
    assert f'href="problems/{code}"' in (await client.get("/problems")).text


async def test_a_page_about_nothing_is_a_404(client: httpx.AsyncClient) -> None:
    """And says nothing that it was given."""
    problem(await client.get("/problems/<script>"), 404, "path_unknown")


def test_only_what_a_repeat_can_mend_says_when_to_repeat() -> None:
    """Retry-After stands on every 429 and 503, and on nothing else."""
    for code, kind in PROBLEMS.items():
        assert (kind.retry_after_s is not None) == (kind.status in (429, 503)), code


def test_an_error_that_is_not_meant_for_clients_shows_its_kind_only() -> None:
    """The text of an inner error stays inside."""

    class Inner(WorkflowError):
        """Secret: {reason}"""

        code = "bad_setting"

    assert b"hidden" not in problem_json(Inner(reason="hidden"), "id")
    assert problem_type(Inner(reason="hidden")).status == 500


def test_operation_ids_are_short_and_unique(document: dict[str, Any]) -> None:
    """They become the names of a generated client's methods."""
    ids = [operation["operationId"] for _, _, operation in operations(document)]
    assert len(ids) == len(set(ids))
    assert {name for name in ids if not re.fullmatch(r"[a-z]+(_[a-z]+)?", name)} == set()
    assert {
        "trigger",
        "trigger_batch",
        "workflows_define",
        "workflows_list",
        "workflows_get",
        "runs_list",
        "runs_get",
        "runs_events",
        "runs_why",
    } <= set(ids)


def test_every_refusal_is_declared_as_a_problem(document: dict[str, Any]) -> None:
    """Each 4xx and 5xx has the problem schema, but for /ready, whose 503 has the body of its 200."""
    for path, method, operation in operations(document):
        refusals = {status: response for status, response in operation["responses"].items() if status >= "4"}
        assert "400" in refusals, (path, method)
        for status, response in refusals.items():
            if (path, status) != ("/ready", "503"):
                assert response["content"] == {
                    "application/problem+json": {"schema": {"$ref": "#/components/schemas/ProblemBody"}}
                }, (path, status)


def test_no_schema_of_the_framework_s_errors_is_left(document: dict[str, Any]) -> None:
    """Clients made from the document know one shape of errors."""
    assert {name for name in document["components"]["schemas"] if "Validation" in name} == set()


def test_bodies_and_bounds_are_described(document: dict[str, Any]) -> None:
    """What is read by hand is described all the same, with the bounds of the settings."""
    trigger = document["paths"]["/api/v1/trigger"]["post"]
    assert trigger["requestBody"]["content"]["application/json"]["schema"] == {
        "$ref": "#/components/schemas/TriggerBody"
    }
    assert [parameter["name"] for parameter in trigger["parameters"]] == ["Idempotency-Key", "min_position", "wait"]
    assert document["components"]["schemas"]["BatchBody"]["properties"]["items"]["maxItems"] == 10_000
    limits = [
        parameter["schema"]
        for _, _, operation in operations(document)
        for parameter in operation.get("parameters", [])
        if parameter["name"] == "limit"
    ]
    assert [(schema["type"], schema["minimum"], schema["maximum"]) for schema in limits] == [("integer", 1, 500)] * 6


def test_every_reference_leads_somewhere(document: dict[str, Any]) -> None:
    """No schema is named that is not there."""
    named = set(re.findall(r"#/components/schemas/(\w+)", str(document)))
    assert named - document["components"]["schemas"].keys() == set()


def test_the_shapes_of_answers_are_those_of_the_views() -> None:
    """The documented run is the run that is shown."""
    assert bodies.RunBody.model_fields.keys() == RunView.__annotations__.keys() | {"position"}
    assert bodies.StepBody.model_fields.keys() == StepView.__annotations__.keys()


async def test_answers_have_their_documented_shapes(world: World, client: httpx.AsyncClient) -> None:
    """Each kind of answer is what its model says."""
    await world.tell(world.story("r1"))

    async def shown(model: type[BaseModel], method: str, path: str, **more: Any) -> None:
        answer = await client.request(method, path, **more)
        assert answer.is_success or model is bodies.ProblemBody
        model.model_validate_json(answer.content, strict=True)

    definition = {"id": "w", "name": "w", "steps": [{"name": "a", "type": "delay", "config": {"duration": 1}}]}
    await shown(bodies.WorkflowBody, "POST", "/api/v1/workflows", json=definition)
    await shown(bodies.WorkflowBody, "GET", "/api/v1/workflows/w")
    await shown(bodies.WorkflowPage, "GET", "/api/v1/workflows")
    await shown(bodies.TriggeredBody, "POST", "/api/v1/trigger", json={"workflow_id": "w"})
    await shown(bodies.BatchTriggeredBody, "POST", "/api/v1/trigger/batch", json={"items": [{"workflow_id": "w"}]})
    await shown(bodies.RunBody, "GET", "/api/v1/runs/r1")
    await shown(bodies.RunPage, "GET", "/api/v1/runs")
    await shown(bodies.EventPage, "GET", "/api/v1/runs/r1/events")
    await shown(WhyBody, "GET", "/api/v1/runs/r1/why")
    await shown(bodies.ReadyBody, "GET", "/ready")
    await shown(bodies.HealthBody, "GET", "/health")
    await shown(bodies.ProblemBody, "GET", "/api/v1/runs/none")
