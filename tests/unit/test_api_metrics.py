"""Metrics: the table, the docs and what each process exports are the same; what callers invent makes no series."""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import chain
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from api.metrics import METRICS, MetricsPage, Role, Sample, exported, of_report
from api.ports import ReadyReport
from api.traffic import BOUNDS_S
from ops.metrics import of_projector, of_worker
from projections import projector
from projections.lag import Lag
from projections.verifying import Verifying
from tests import test_worker_unit
from tests.api.world import client_of, make_world
from tests.histories import random_log
from tests.projecting import impatient_lanes, world

__all__ = ["impatient_lanes"]

DOCS = Path(__file__).parents[2] / "docs/operations.md"
READY = ReadyReport(True, "ready", {}, {3: Lag(5, 1.5)})


def page(role: Role, samples: Iterable[Sample]) -> dict[str, dict[tuple[str, ...], float]]:
    """Name → label values → value, as Prometheus reads it; counters under their whole names."""
    text = MetricsPage(role, lambda: samples).render("")[0].decode()
    return parsed(text)


def parsed(text: str) -> dict[str, dict[tuple[str, ...], float]]:
    found: dict[str, dict[tuple[str, ...], float]] = {}
    for family in text_string_to_metric_families(text):
        name = f"{family.name}_total" if family.type == "counter" else family.name
        found[name] = {
            (*each.labels.values(), each.name.removeprefix(family.name)): each.value for each in family.samples
        }
    return found


def values(metric: dict[tuple[str, ...], float]) -> dict[tuple[str, ...], float]:
    """Without what a counter adds to its name."""
    return {labels[:-1]: value for labels, value in metric.items() if labels[-1] in {"", "_total"}}


def test_the_docs_say_what_is_exported() -> None:
    """docs/operations.md: each metric, its kind, who exports it, its labels and its meaning; no row of one that is gone."""
    rows = re.findall(r"^\| `(workflow_\w+)` \| (\w+) \| (.*?) \| (.*?) ?\| (.*) \|$", DOCS.read_text(), re.MULTILINE)
    assert {row[0]: row[1:] for row in rows} == {
        name: (metric.kind, ", ".join(metric.roles), ", ".join(f"`{label}`" for label in metric.labels), metric.meaning)
        for name, metric in METRICS.items()
    }
    assert len(rows) == len(METRICS)


def test_names_follow_the_conventions() -> None:
    """Prefix, unit last, and `_total` on counters alone."""
    for name, metric in METRICS.items():
        assert re.fullmatch(r"workflow_[a-z_]+", name)
        assert name.endswith("_total") == (metric.kind == "counter"), name
        assert not re.search(r"_(ms|millis|minutes|hours)$", name)
        assert metric.meaning.endswith(".")


async def test_each_role_exports_its_own() -> None:
    """All families of the role and no other, those without a sample as well, on a page that Prometheus can read."""
    worker = test_worker_unit.World()
    async with world(random_log(1)) as w:
        await w.until_level()
        verifying = Verifying(w.settings, w.store, w.topics, ours=w.projector.status, lags=w.projector.lags)
        pages = {
            "worker": page("worker", of_worker(worker.worker)),
            "projector": page("projector", chain(of_report(READY), of_projector(w.projector, verifying))),
        }
    made = make_world()
    async with client_of(made) as client:
        answer = await client.get("/metrics")
    pages["api"] = parsed(answer.text)
    roles: tuple[Role, ...] = ("api", "worker", "projector")
    for role in roles:
        assert {name for name in pages[role] if name.startswith("workflow_")} == set(exported(role))
        assert {"process_cpu_seconds_total", "process_open_fds"} <= pages[role].keys()
        (build,) = values(pages[role]["workflow_build_info"])
        assert role in build


async def test_a_projector_tells_of_its_partitions_and_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Positions, lags, orphans and drift by partition; runs that began, that ended by status, that are set aside."""
    monkeypatch.setattr(projector, "TABLES_S", 0.01)
    async with world(random_log(1)) as w:
        await w.until_level()
        verifying = Verifying(w.settings, w.store, w.topics, ours=w.projector.status, lags=lambda: False)
        for number in w.projector.status():
            await verifying.go_over(number)
        aside = await w.store.count_set_aside()
        await w.until(lambda: w.projector.quarantined == aside)
        told = page("projector", chain(of_report(READY), of_projector(w.projector, verifying)))
        positions = {number: status.position for number, status in w.projector.status().items()}
        orphans = w.projector.orphans().total()
        runs = len((await w.expected())["rows"])
    assert values(told["workflow_projection_position"]) == {(str(n),): at for n, at in positions.items()}
    assert values(told["workflow_projection_verified_events_total"]) == {(str(n),): at for n, at in positions.items()}
    assert values(told["workflow_projection_drift"]) == {(str(n),): 0 for n in positions}
    assert all(0 <= age < 60 for age in values(told["workflow_projection_verified_age_seconds"]).values())
    assert values(told["workflow_projection_lag_events"]) == {("3",): 5}
    assert values(told["workflow_projection_lag_seconds"]) == {("3",): 1.5}
    assert sum(values(told["workflow_orphans_total"]).values()) == orphans > 0
    assert values(told["workflow_runs_quarantined"]) == {(): aside}
    assert aside > 0
    assert values(told["workflow_runs_started_total"]) == {(): runs}
    assert set(values(told["workflow_runs_ended_total"])) == {("SUCCESS",), ("FAILED",), ("CANCELLED",)}


async def test_a_worker_tells_of_its_engine() -> None:
    """Partitions, takeovers, effects, and commands that were rejected."""
    one = test_worker_unit.World()
    await one.group.join()
    one.topics.put_command(0, b"no command")
    await one.until(lambda: one.worker.engine.stats["rejected"])
    await one.until(lambda: all(part.owner for part in one.worker.engine.partitions.values()))
    told = page("worker", of_worker(one.worker))
    one.worker.close()
    count = test_worker_unit.PARTITIONS
    assert values(told["workflow_partitions_assigned"]) == values(told["workflow_partitions_owned"]) == {(): count}
    assert values(told["workflow_takeovers_total"]) == {(): count}
    assert values(told["workflow_commands_rejected_total"]) == {(): 1}
    assert values(told["workflow_effects_limit"]) == {(): 500}
    assert set(values(told["workflow_runs_unfinished"])) == {(str(number),) for number in range(count)}


async def test_requests_are_counted_by_template_and_status() -> None:
    """Never by path. What no route takes and methods that nobody knows are one series each; problems count by their code."""
    made = make_world()
    await made.define()
    async with client_of(made) as client:
        for run in ("a", "b", "c"):
            await client.get(f"/api/v1/runs/{run}")
        await client.head("/api/v1/runs/a")
        for path in ("/x", "/y"):
            await client.request("BREW", path)
        await client.post("/api/v1/trigger", json={"workflow_id": "greet"})
        await client.post("/api/v1/trigger", json={"workflow_id": "unknown"})
        await client.post("/api/v1/trigger", json={"workflow_id": "greet"}, params={"no": "such"})
        told = parsed((await client.get("/metrics")).text)
    assert values(told["workflow_api_requests_total"]) == {
        ("GET", "/api/v1/runs/{run_id}", "404"): 4,
        ("other", "other", "404"): 2,
        ("POST", "/api/v1/trigger", "202"): 1,
        ("POST", "/api/v1/trigger", "404"): 1,
        ("POST", "/api/v1/trigger", "400"): 1,
    }
    assert values(told["workflow_api_problems_total"]) == {
        ("run_unknown",): 4,
        ("path_unknown",): 2,
        ("definition_unknown",): 1,
        ("parameter_invalid",): 1,
    }
    assert values(told["workflow_api_requests_running"]) == {(): 1}


async def test_durations_are_a_histogram() -> None:
    """Each bound counts what is below it, the last one everything, and the sum is the time of all."""
    made = make_world()
    async with client_of(made) as client:
        for _ in range(5):
            await client.get("/health")
        told = parsed((await client.get("/metrics")).text)["workflow_api_request_duration_seconds"]
    buckets = [value for labels, value in told.items() if labels[-1] == "_bucket"]
    assert len(buckets) == len(BOUNDS_S) + 1
    assert buckets == sorted(buckets)
    assert buckets[-1] == told["GET", "/health", "_count"] == 5
    assert 0 < told["GET", "/health", "_sum"] < 5


async def test_a_scrape_gets_the_format_that_it_asks_for() -> None:
    """The classic one unless it names OpenMetrics."""
    async with client_of(make_world()) as client:
        plain = await client.get("/metrics")
        accept = {"Accept": "application/openmetrics-text; version=1.0.0; charset=utf-8"}
        open_ = await client.get("/metrics", headers=accept)
        nonsense = await client.get("/metrics", headers={"Accept": "text/plain; version=x;;, */*;q=a"})
        refused = await client.get("/metrics?name=x")
    assert plain.headers["content-type"].startswith("text/plain")
    assert open_.headers["content-type"].startswith("application/openmetrics-text")
    assert open_.text.endswith("# EOF\n")
    assert nonsense.status_code == 200
    assert refused.status_code == 400


def test_a_sample_that_is_not_in_the_table_is_a_mistake() -> None:
    """Of another role, or with other labels."""
    with pytest.raises(KeyError):
        page("worker", [Sample("workflow_projection_position", 1, ("0",))])
    with pytest.raises(AssertionError, match="has the labels"):
        page("projector", [Sample("workflow_projection_position", 1)])
