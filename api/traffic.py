"""Requests, counted for metrics: how many, how they were answered, how long they took."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator
from itertools import accumulate
from typing import Final

from starlette.types import Scope

from api.metrics import Sample, Times

BOUNDS_S: Final = (0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
METHODS: Final = frozenset({"GET", "POST", "DELETE", "PUT", "PATCH", "OPTIONS"})
OTHER: Final = "other"
"""Of what a caller may invent: a path that is no route's, a method that nobody knows."""


class Traffic:
    """Of one API process. Its series are bounded by routes, methods and codes."""

    def __init__(self) -> None:
        self.running = 0
        self._answers = Counter[tuple[str, str, int]]()
        self._problems = Counter[str]()
        self._times: dict[tuple[str, str], _Times] = {}

    def answered(self, scope: Scope, status: int, took_s: float) -> None:
        """A request has been answered."""
        method, route = scope["method"], _route(scope)
        if method not in METHODS:
            method = OTHER
        self._answers[method, route, status] += 1
        times = self._times.get((method, route))
        if times is None:
            times = self._times[method, route] = _Times()
        times.counts[bisect_left(BOUNDS_S, took_s)] += 1
        times.sum_s += took_s
        problem = scope.get("problem")
        if problem is not None:
            self._problems[problem] += 1

    def samples(self) -> Iterator[Sample]:
        """All that was counted since the start."""
        yield Sample("workflow_api_requests_running", self.running)
        for (method, route, status), count in self._answers.items():
            yield Sample("workflow_api_requests_total", count, (method, route, str(status)))
        for code, count in self._problems.items():
            yield Sample("workflow_api_problems_total", count, (code,))
        for labels, times in self._times.items():
            yield Sample("workflow_api_request_duration_seconds", times.whole(), labels)


class _Times:
    """Numbers of requests between two bounds, and the time of all together."""

    __slots__ = ("counts", "sum_s")

    def __init__(self) -> None:
        self.counts = [0] * (len(BOUNDS_S) + 1)
        self.sum_s = 0.0

    def whole(self) -> Times:
        names = (*(f"{bound:g}" for bound in BOUNDS_S), "+Inf")
        return Times(tuple(zip(names, accumulate(self.counts), strict=True)), self.sum_s)


def _route(scope: Scope) -> str:
    """The route's template: a path as it came would be a series of its own."""
    route = scope.get("route")
    template: str = scope.get("direct", OTHER) if route is None else route.path
    return template
