"""Metrics: the one table of what is exported, and the page that is made of it when somebody asks."""

from __future__ import annotations

import platform
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final, Literal, NamedTuple, TypeAlias

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from prometheus_client.openmetrics import exposition as openmetrics
from prometheus_client.registry import Collector

from api.build import release
from api.ports import ReadyReport

Role = Literal["api", "worker", "projector"]
Kind = Literal["gauge", "counter", "histogram"]
Family: TypeAlias = GaugeMetricFamily | CounterMetricFamily | HistogramMetricFamily


class Metric(NamedTuple):
    """What is exported under a name, by whom, and the names of its labels."""

    kind: Kind
    roles: tuple[Role, ...]
    labels: tuple[str, ...]
    meaning: str


class Times(NamedTuple):
    """A histogram: how many were within each bound (the last one is infinite), each bound counting those below as well."""

    within: tuple[tuple[str, float], ...]
    sum: float


class Sample(NamedTuple):
    """One value. `labels`: in the order of the table."""

    name: str
    value: float | Times
    labels: tuple[str, ...] = ()


_ALL: Final[tuple[Role, ...]] = ("api", "worker", "projector")
_API: Final[tuple[Role, ...]] = ("api",)
_WORKER: Final[tuple[Role, ...]] = ("worker",)
_PROJECTOR: Final[tuple[Role, ...]] = ("projector",)

METRICS: Final[Mapping[str, Metric]] = {
    "workflow_build_info": Metric("gauge", _ALL, ("role", "version", "python"), "Always 1: which build runs here."),
    "workflow_ready": Metric("gauge", _ALL, (), "1 while `/ready` answers 200."),
    "workflow_component_ok": Metric("gauge", _ALL, ("component",), "1 while that component of `/ready` is ok."),
    "workflow_projection_lag_events": Metric(
        "gauge", ("api", "projector"), ("partition",), "Events of the log that the read tables do not hold."
    ),
    "workflow_projection_lag_seconds": Metric(
        "gauge", ("api", "projector"), ("partition",), "How old the first of these events is; 0 when there is none."
    ),
    "workflow_orphans_total": Metric(
        "counter",
        ("worker", "projector"),
        ("partition", "reason"),
        "Records of the log that were no facts. Both roles judge the same records.",
    ),
    "workflow_api_requests_total": Metric(
        "counter", _API, ("method", "route", "status"), "Requests that were answered; `other`: of no route of the API."
    ),
    "workflow_api_request_duration_seconds": Metric(
        "histogram", _API, ("method", "route"), "How long they took, from the first byte to the end of the answer."
    ),
    "workflow_api_requests_running": Metric(
        "gauge", _API, (), "Requests that are being answered, this one among them."
    ),
    "workflow_api_problems_total": Metric(
        "counter", _API, ("code",), "Requests that were refused or failed, by the code that `/problems` explains."
    ),
    "workflow_partitions_assigned": Metric("gauge", _WORKER, (), "Partitions that the group has given to this worker."),
    "workflow_partitions_owned": Metric("gauge", _WORKER, (), "Those of them in which it decides."),
    "workflow_takeovers_total": Metric("counter", _WORKER, (), "Partitions that it took over."),
    "workflow_runs_unfinished": Metric(
        "gauge", _WORKER, ("partition",), "Runs under way in the partitions that it owns."
    ),
    "workflow_commands_held": Metric(
        "gauge", _WORKER, ("partition",), "Commands that were read and are not settled, in the partitions that it owns."
    ),
    "workflow_commands_rejected_total": Metric(
        "counter", _WORKER, (), "Commands that were put on `workflow.rejected`, where the reason stands."
    ),
    "workflow_effects_running": Metric("gauge", _WORKER, (), "Steps that are being carried out."),
    "workflow_effects_limit": Metric("gauge", _WORKER, (), "`WORKFLOW_EFFECTS_MAX`."),
    "workflow_events_appended_total": Metric("counter", _WORKER, (), "Events that it has sent to the log."),
    "workflow_appends_unknown_total": Metric(
        "counter", _WORKER, (), "Appends that were not read back in time: their partition was taken anew."
    ),
    "workflow_producers_lost_total": Metric("counter", _WORKER, (), "Kafka producers that were given up."),
    "workflow_clock_skew_seconds": Metric("gauge", _WORKER, (), "The broker's clock minus ours, at the last event."),
    "workflow_runs_started_total": Metric(
        "counter", _PROJECTOR, (), "Runs whose first event it brought into the tables."
    ),
    "workflow_runs_ended_total": Metric(
        "counter", _PROJECTOR, ("status",), "Runs whose end it brought into the tables."
    ),
    "workflow_runs_quarantined": Metric(
        "gauge",
        ("api", "projector"),
        (),
        "Runs of all partitions that are set aside, because an event cannot be folded. At an API process only with "
        "`STORAGE_BACKEND=memory`.",
    ),
    "workflow_projection_position": Metric(
        "gauge", _PROJECTOR, ("partition",), "Offset in `workflow.events` below which the tables hold everything."
    ),
    "workflow_projection_drift": Metric(
        "gauge",
        _PROJECTOR,
        ("partition",),
        "Runs whose rows or history are not what the log says, as last compared, and 1 for a wrong number of runs or mark.",
    ),
    "workflow_projection_verified_age_seconds": Metric(
        "gauge",
        _PROJECTOR,
        ("partition",),
        "Since the end of the last whole pass over the partition, or since this process has had it.",
    ),
    "workflow_projection_verified_events_total": Metric(
        "counter", _PROJECTOR, ("partition",), "Events that were folded again and compared."
    ),
}


def exported(role: Role) -> dict[str, Metric]:
    """What a process of this role exports, beside the `process_…` figures of the operating system."""
    return {name: metric for name, metric in METRICS.items() if role in metric.roles}


class MetricsPage:
    """`/metrics` of one process. `samples` is asked at each scrape, and at no other time."""

    def __init__(self, role: Role, samples: Callable[[], Iterable[Sample]]) -> None:
        self._registry = CollectorRegistry(auto_describe=False)
        self._registry.register(_Collector(role, samples))
        ProcessCollector(registry=self._registry)

    def render(self, accept: str) -> tuple[bytes, str]:
        """The page and its media type: OpenMetrics where the Accept header names it, else the classic format."""
        if openmetrics.CONTENT_TYPE_LATEST.partition(";")[0] in accept:
            page: bytes = openmetrics.generate_latest(self._registry)  # type: ignore[no-untyped-call]
            return page, openmetrics.CONTENT_TYPE_LATEST
        return generate_latest(self._registry), CONTENT_TYPE_PLAIN_0_0_4


class _Collector(Collector):
    def __init__(self, role: Role, samples: Callable[[], Iterable[Sample]]) -> None:
        self._role, self._samples, self._exported = role, samples, exported(role)

    def collect(self) -> Iterator[Family]:
        """Every family of the role, those without a sample as well: who looks at one sees what there is."""
        families = {name: _family(name, metric) for name, metric in self._exported.items()}
        build = Sample("workflow_build_info", 1, (self._role, release(), platform.python_version()))
        for name, value, labels in (build, *self._samples()):
            metric, family = self._exported[name], families[name]
            assert len(labels) == len(metric.labels), f"{name} has the labels {metric.labels}, not {labels}"
            if isinstance(family, HistogramMetricFamily):
                assert isinstance(value, Times)
                family.add_metric(labels, value.within, value.sum)
            else:
                assert not isinstance(value, Times)
                family.add_metric(labels, value)
        yield from families.values()


def _family(name: str, metric: Metric) -> Family:
    match metric.kind:
        case "gauge":
            return GaugeMetricFamily(name, metric.meaning, labels=metric.labels)
        case "counter":
            return CounterMetricFamily(name, metric.meaning, labels=metric.labels)
        case "histogram":
            return HistogramMetricFamily(name, metric.meaning, labels=metric.labels)


def of_report(report: ReadyReport) -> Iterator[Sample]:
    """What `/ready` says, of every role."""
    yield Sample("workflow_ready", report.ready)
    if report.quarantined is not None:
        yield Sample("workflow_runs_quarantined", report.quarantined)
    for name, component in report.components.items():
        yield Sample("workflow_component_ok", component.state == "ok", (name,))
    for number, lag in (report.lag or {}).items():
        yield Sample("workflow_projection_lag_events", lag.records, (str(number),))
        yield Sample("workflow_projection_lag_seconds", lag.seconds, (str(number),))
