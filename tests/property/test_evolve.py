"""One event, whatever it holds: it is folded or it sets its run aside, and nothing in between."""

from __future__ import annotations

from typing import Any, Final

from hypothesis import given
from hypothesis import strategies as st

from ops.tables import message
from projections.fold import run_row
from projections.rows import columns
from schemas.events import SHAPES, time_text
from schemas.run import Run, extend
from schemas.store import Clock
from schemas.views import STATUSES
from tests.given import NOW, requested, retrying, started, succeeded, webhook, workflow
from tests.given import given as after

JSON: Final[st.SearchStrategy[Any]] = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=5)
    | st.sampled_from(["a", "b", "SUCCESS", "2026-01-01T00:00:00.000Z", "0001-01-01T00:00:00+23:59", "\0"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=6,
)
NAMES: Final = sorted({name for shape in SHAPES.values() for name in shape.__annotations__})
SOUND: Final = {
    "step": "a",
    "attempt": 1,
    "error": {"code": "x", "message": "y"},
    "until": time_text(NOW),
    "output": 1,
    "status": "FAILED",
}
DATA = JSON | st.dictionaries(st.sampled_from(NAMES), JSON, max_size=4).map(lambda some: {**SOUND, **some})
DEFINITION: Final = workflow(webhook("a"), webhook("b"))
PAST: Final = [
    (),
    (requested(DEFINITION),),
    (requested(DEFINITION), started("a")),
    (requested(DEFINITION), started("a"), retrying("a")),
    (requested(DEFINITION), started("a"), succeeded("a"), started("b")),
]


def shown(run: Run) -> dict[str, Any]:
    return {name: getattr(run, name) for name in Run.__slots__ if name not in ("seq", "tip", "phase", "set_aside")}


@given(st.sampled_from(PAST), st.sampled_from(sorted(SHAPES)), DATA, JSON)
def test_an_event_is_folded_or_sets_its_run_aside(past: Any, type_: str, data: Any, time: Any) -> None:
    """A run that is set aside stays as it was before, and what people are shown of any run is sound."""
    run = after(*past) if past else Run("r1")
    before = shown(run)
    extend(run, {"type": type_, "seq": run.seq + 1, "epoch": 1, "data": data, "time": time}, "tip")
    if run.set_aside is not None:
        assert shown(run) == before
    assert run.status in STATUSES
    assert run.error is None or message(run.error)
    clock = Clock(int(NOW * 1000), None, int(NOW * 1000))
    clock.tick(int(NOW * 1000), run.status)
    chain, row = columns(run_row(0, run, clock, 0, 0))
    assert (chain.set_aside is None) == (run.set_aside is None)
    assert row.created_us >= int(NOW * 1_000_000)
