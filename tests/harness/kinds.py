"""The runs that the harness starts: those of the other fault tests, and calls of a receiver with bad manners."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any, Final

from tests import workload
from tests.workload import Start, call, delay

PATIENT: Final = {"max_attempts": 8, "initial": "200ms", "max": "2s"}
HUNGRY: Final = "${payload.list.map(x, payload.list.map(y, payload.list.map(z, x + y + z)))}"
"""Worth minutes of a core, if it were let."""

PASSING: Final = {"hang": 1, "drip": 1, "reset": 2, "noise": 1, "limited": 1, "broken": 2}
"""How a receiver misbehaves → how often for each run, before it answers as it should."""
FOR_GOOD: Final = ("garbage", "huge", "redirect")
"""How an answer may be such that no repeating helps."""

ENDS: Final = {
    **workload.ENDS,
    **dict.fromkeys((f"meets-{how}" for how in PASSING), "SUCCESS"),
    **dict.fromkeys((f"meets-{how}" for how in FOR_GOOD), "FAILED"),
    "hungry": "FAILED",
}
"""Workflow id → how each of its runs must end."""


def definitions(receiver: str) -> list[dict[str, Any]]:
    """Those that the other fault tests do not have."""
    found = [_meets(how, f"{receiver}/bad/{how}/${{run.id}}/{times}") for how, times in PASSING.items()]
    found += [_meets(how, f"{receiver}/bad/{how}") for how in FOR_GOOD]
    found.append({"id": "hungry", "name": "hungry", "steps": [delay("sleep", HUNGRY), delay("never", 0)]})
    return found


def _meets(how: str, url: str) -> dict[str, Any]:
    step = {**call("call", url, retry=PATIENT), "timeout": 2}
    return {"id": f"meets-{how}", "name": f"meets {how}", "steps": [step, delay("after", 0)]}


MIX: Final = (
    "noop sleeps slow flaky noop computes sleeps slow refused noop meets-hang noop sleeps flaky slow mistaken noop "
    "meets-reset sleeps computes meets-broken noop meets-limited slow meets-noise noop meets-garbage sleeps noop meets-redirect flaky"
).split()
"""What is started in turn; the slowest and the most costly ones are started by faults of their own."""


def starts() -> Iterator[Start]:
    """Starts without end, each with a number of its own."""
    for n, kind in enumerate(itertools.cycle(MIX)):
        yield payload(n, kind)


def payload(n: int, kind: str) -> Start:
    return kind, {"n": n, "wait_s": (0.5, 1, 2, 5)[n % 4], **({"list": list(range(400))} if kind == "hungry" else {})}
