"""Heavy expressions in processes of their own: whatever becomes of the process, a value or a failure comes back."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator

import orjson
import pytest

from schemas.jsontext import JSON
from streams.expressions import ExpressionFailed, evaluate
from streams.expressions_apart import ApartEvaluator
from streams.expressions_child import answer

ROOTS: dict[str, JSON] = {
    "payload": {"id": 2**53 + 1, "price": 1.5, "items": [{"sku": "a"}, {"sku": "b"}]},
    "steps": {"fetch": {"output": {"status": 200, "body": {"ok": True}}}},
}
LARGE: dict[str, JSON] = {
    "payload": {"list": list(range(1_000)), "table": [list(range(900)) for _ in range(90)], "text": "x" * 400_000}
}
TOO_MUCH_MEMORY = "payload.list.map(x, payload.table)"
TOO_LONG_A_TEXT = "['" + "x" * 100 + "']" + ".map(x, x + x)" * 25
TOO_SLOW = "payload.text.matches('(x?){900}y')"


def written(value: object) -> bytes:
    """With types, without the order of keys, which CEL does not keep."""
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


def test_what_the_values_of_a_step_may_come_to_is_bounded_together() -> None:
    """The value that passes the bound fails, those before and after it that have room do not."""
    request = {"sources": ["payload.a", "payload.b", "1"], "roots": {"payload": {"a": "x" * 50, "b": "y" * 50}}}
    first, second, third = orjson.loads(answer({**request, "bytes_max": 100}))
    assert (first, third) == (["x" * 50, None], [1, None])
    assert second[0] is None
    assert "100 together" in second[1]


@pytest.fixture
async def apart() -> AsyncIterator[ApartEvaluator]:
    evaluator = ApartEvaluator(processes=1, deadline_s=1.0, values_bytes_max=100_000)
    yield evaluator
    await evaluator.close()


async def test_the_values_are_the_same(apart: ApartEvaluator) -> None:
    """A process of its own gives the values and the failures that this process gives."""
    sources = ["payload.id", "payload.items.map(i, i.sku)", "payload.missing", "payload.price * 2.0", "1 +", "steps"]
    assert written(await apart.evaluate(sources, ROOTS)) == written(evaluate(sources, ROOTS))


@pytest.mark.parametrize(
    ("source", "part"),
    [
        (TOO_MUCH_MEMORY, "memory"),
        (TOO_LONG_A_TEXT, "bad_alloc"),
        (TOO_SLOW, "longer than 1 s"),
        ("payload.text", "its value has 400009 bytes"),
    ],
)
async def test_a_hostile_expression_is_an_ordinary_failure(apart: ApartEvaluator, source: str, part: str) -> None:
    """Crash, lack of memory, time and size cost the expression its value and the process nothing but its helper."""
    failed = (await apart.evaluate([source], LARGE))[source]
    assert isinstance(failed, ExpressionFailed)
    assert part in failed.message or "longer than" in failed.message
    assert await apart.evaluate(["1 + 1"], {}) == {"1 + 1": 2}


async def test_a_process_that_is_lost_costs_all_sources_of_the_step(apart: ApartEvaluator) -> None:
    """The failure of each says that it may be another's."""
    values = await apart.evaluate(["1 + 1", TOO_SLOW], LARGE)
    assert {str(getattr(value, "message", value)) for value in values.values()} == {
        "it or an expression beside it took longer than 1 s (setting WORKFLOW_EXPRESSION_TIMEOUT_S)"
    }


async def test_the_others_wait_for_their_turn(apart: ApartEvaluator) -> None:
    """More evaluations than processes are carried out one after the other, none is lost."""
    hostile = TOO_SLOW
    results = await asyncio.gather(*(apart.evaluate([hostile if n == 1 else f"{n} + 1"], LARGE) for n in range(5)))
    assert [next(iter(result.values())) for result in results if hostile not in result] == [1, 3, 4, 5]


async def test_a_process_that_somebody_killed_is_replaced(apart: ApartEvaluator) -> None:
    """A kill from outside, idle or at work, is no fault of the expression."""
    await apart.evaluate(["1"], {})
    os.kill(apart._idle[0].pid, signal.SIGKILL)
    assert await apart.evaluate(["2"], {}) == {"2": 2}
    process = apart._idle[0]
    os.kill(process.pid, signal.SIGSTOP)
    at_work = asyncio.create_task(apart.evaluate(["3"], {}))
    await asyncio.sleep(0)
    assert not apart._idle, "at work"
    os.kill(process.pid, signal.SIGKILL)
    assert await at_work == {"3": 3}


async def test_processes_that_died_while_idle_are_not_asked() -> None:
    """However many of them there are."""
    evaluator = ApartEvaluator(processes=2)
    await asyncio.gather(evaluator.evaluate(["1"], {}), evaluator.evaluate(["2"], {}))
    assert len(evaluator._idle) == 2
    for process in evaluator._idle:
        process.kill()
        await process.wait()
    assert await evaluator.evaluate(["3"], {}) == {"3": 3}
    await evaluator.close()


async def test_a_cancelled_evaluation_leaves_no_process_behind(apart: ApartEvaluator) -> None:
    """Its process is ended, the next evaluation gets a new one."""
    await apart.evaluate(["1"], {})
    process = apart._idle[0]
    at_work = asyncio.create_task(apart.evaluate([TOO_SLOW], LARGE))
    await asyncio.sleep(0)
    assert not apart._idle, "at work"
    at_work.cancel()
    with pytest.raises(asyncio.CancelledError):
        await at_work
    assert process.returncode == -signal.SIGKILL
    assert await apart.evaluate(["1 + 1"], {}) == {"1 + 1": 2}


async def test_a_closed_evaluator_has_no_processes_and_takes_nothing() -> None:
    """Closing is no failure of an expression, so it is no value either."""
    evaluator = ApartEvaluator(processes=1)
    await evaluator.evaluate(["1"], {})
    (process,) = evaluator._idle
    await evaluator.close()
    assert process.returncode is not None
    with pytest.raises(RuntimeError, match="closed"):
        await evaluator.evaluate(["1"], {})


async def test_without_a_process_expressions_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    """Where no process can be started the failure says so."""
    monkeypatch.setattr(sys, "executable", "/nonexistent")
    evaluator = ApartEvaluator(processes=1)
    failed = (await evaluator.evaluate(["1"], {}))["1"]
    assert isinstance(failed, ExpressionFailed)
    assert "no process could be started" in failed.message
