"""Heavy expressions in processes of their own: what takes too long, too much memory or crashes is an ordinary failure."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Final

import orjson

from schemas.jsontext import JSON
from streams.expressions import ExpressionFailed, Roots, narrowed
from streams.expressions_child import READY, frame
from streams.secret_values import without_secrets

DEADLINE_S: Final = 5.0
VALUES_BYTES_MAX: Final = 1_000_000
_START_S: Final = 30.0
_ATTEMPTS: Final = 2
_Answers = list[tuple[JSON, str | None]]
_ROOT: Final = Path(__file__).resolve().parents[1]


class _KilledFromOutside(Exception):
    """The process ended by a signal that no expression causes."""


class ApartEvaluator:
    """A few processes, started when first needed, killed and replaced when one does not answer in time.

    More evaluations than processes wait for their turn, first come, first served; the deadline counts from the turn.
    """

    def __init__(
        self, *, processes: int = 2, deadline_s: float = DEADLINE_S, values_bytes_max: int = VALUES_BYTES_MAX
    ) -> None:
        self.values_bytes_max, self._deadline_s = values_bytes_max, deadline_s
        self._idle: list[Process] = []
        self._turns = asyncio.Semaphore(processes)
        self._closed = False

    async def evaluate(self, sources: Iterable[str], roots: Roots) -> dict[str, JSON | ExpressionFailed]:
        """As `streams.expressions.evaluate`; all sources fail together when the process is lost over one of them.

        Raises RuntimeError once closed: that is no failure of the expressions.
        """
        sources = tuple(sources)
        request = orjson.dumps(
            {
                "sources": sources,
                "roots": narrowed(sources, roots),
                "deadline_s": self._deadline_s,
                "bytes_max": self.values_bytes_max,
            }
        )
        async with self._turns:
            answers = await self._ask(request)
        if isinstance(answers, str):
            if len(sources) > 1:
                answers = answers.replace("it ", "it or an expression beside it ", 1)
            return {source: ExpressionFailed(source, answers) for source in sources}
        return {
            source: value if message is None else ExpressionFailed(source, message)
            for source, (value, message) in zip(sources, answers, strict=True)
        }

    async def close(self) -> None:
        """End the idle processes; one that is at work ends with its answer. Cancel what need not be waited for."""
        self._closed = True
        while self._idle:
            await _end(self._idle.pop())

    async def _ask(self, request: bytes) -> _Answers | str:
        for _ in range(_ATTEMPTS):
            try:
                process = await self._take()
            except (OSError, EOFError, TimeoutError):
                return "no process could be started to evaluate it"
            answers: _Answers | str | None = None
            try:
                answers = await self._answers(process, request)
            except _KilledFromOutside:
                continue
            finally:
                if isinstance(answers, list) and not self._closed:
                    self._idle.append(process)
                else:
                    await asyncio.shield(_end(process))
            return answers
        return "the process that evaluates it was killed"

    async def _take(self) -> Process:
        if self._closed:
            raise RuntimeError("the evaluator is closed")
        while self._idle:
            process = self._idle.pop()
            if process.returncode is None:
                return process
        return await _start()

    async def _answers(self, process: Process, request: bytes) -> _Answers | str:
        try:
            async with asyncio.timeout(self._deadline_s):
                answers: _Answers = orjson.loads(await _exchange(process, request))
        except TimeoutError:
            return f"it took longer than {self._deadline_s:g} s (setting WORKFLOW_EXPRESSION_TIMEOUT_S)"
        except (OSError, EOFError):
            return _loss(await process.wait())
        return answers


def _loss(code: int) -> str:
    """Why the process is gone, in words."""
    if code in (-signal.SIGKILL, -signal.SIGTERM):
        raise _KilledFromOutside
    if code == -signal.SIGXCPU:
        return "it took too much processor time (setting WORKFLOW_EXPRESSION_TIMEOUT_S)"
    return f"it needs too much memory or is more than the expression runtime can bear (exit code {code})"


async def _start() -> Process:
    """A process that said that it is ready. OSError, EOFError or TimeoutError when there is none to be had."""
    path = os.pathsep.join(filter(None, (str(_ROOT), os.environ.get("PYTHONPATH"))))
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "streams.expressions_child",
        stdin=PIPE, stdout=PIPE, stderr=DEVNULL, env={**without_secrets(os.environ), "PYTHONPATH": path},
    )  # fmt: skip
    try:
        async with asyncio.timeout(_START_S):
            ready = await _read(process)
        assert ready == READY
    except BaseException:
        await _end(process)
        raise
    return process


async def _exchange(process: Process, request: bytes) -> bytes:
    assert process.stdin is not None
    process.stdin.write(frame(request))
    await process.stdin.drain()
    return await _read(process)


async def _read(process: Process) -> bytes:
    assert process.stdout is not None
    head = await process.stdout.readexactly(4)
    return await process.stdout.readexactly(int.from_bytes(head, "big"))


async def _end(process: Process) -> None:
    with suppress(ProcessLookupError):
        process.kill()
    await process.wait()
