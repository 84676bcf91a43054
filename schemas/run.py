"""A run, and how each event changes it: the fold that engine, projector, rebuild and verify share.

`evolve` trusts the rule (schemas/rule.py): it is handed facts only. Same facts, same state, byte for byte, on every machine.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Final, Literal, Self, assert_never

import orjson

from schemas.events import RUN_COMPLETED, Envelope, StepSummary, type_names
from schemas.identity import is_version, is_workflow_id
from schemas.plan import Plan, plan_of

EVOLVE_VERSION: Final = 3
"""Raised when `evolve` or `Run.dump` changes: a snapshot of another version is folded anew from the run's history."""

TIME_CHARS_MAX: Final = 40
_NONE_YET: Final[dict[str, Any]] = {}
"""The outputs of every run that has none: containers are replaced, never changed, by `evolve`."""

Phase = Literal["requested", "started", "retrying", "ready", "failed", "done"]
"""requested: no step yet; started: an attempt is open; retrying: waits for the next attempt; ready: the next step or attempt
may start; failed: a step failed for good; done: the end stands in the log."""

_SAVED: Final = (
    "workflow_id version payload seq tip phase pc attempt tries interruptions open_epoch until input outputs error "
    "created_at started_at finished_at status command times set_aside"
).split()


class Run:
    """One run up to its tip. Plain slots: there may be hundreds of thousands in memory."""

    __slots__ = ("id", "plan", *_SAVED)

    id: str
    plan: Plan
    workflow_id: str
    version: int | None
    payload: Any
    seq: int
    tip: str | None
    """digest of the last event's bytes"""
    phase: Phase
    pc: int
    """index of the current step"""
    attempt: int
    """last attempt of the current step that was started, 0 before the first"""
    tries: int
    """attempts of the current step that failed by themselves"""
    interruptions: int
    """attempts of the current step whose worker was lost"""
    open_epoch: int
    """epoch under which the open attempt was started, 0 when none is open"""
    until: str | None
    """due time of a delay or of the next attempt"""
    input: Any
    """the current step's config with expressions replaced, null when it has none"""
    outputs: dict[str, Any]
    error: Any
    created_at: str
    started_at: str | None
    finished_at: str | None
    status: Literal["PENDING", "RUNNING", "SUCCESS", "FAILED", "CANCELLED"]
    command: str
    """id of the command that started it"""
    times: list[list[Any]]
    """[attempts, started_at, finished_at] of each step reached"""
    set_aside: str | None
    """why nothing more is decided for this run: an event that this process does not know or cannot fold"""

    def __init__(self, run_id: str) -> None:
        self.id = run_id
        self.plan = plan_of(None)
        self.workflow_id, self.version, self.payload = "", None, None
        self.seq, self.tip = 0, None
        self.phase, self.pc = "requested", 0
        self.attempt = self.tries = self.interruptions = self.open_epoch = 0
        self.until = self.input = self.error = None
        self.outputs, self.times = _NONE_YET, []
        self.created_at, self.started_at, self.finished_at = "", None, None
        self.status, self.command, self.set_aside = "PENDING", "", None

    def clone(self) -> Run:
        """A copy that may be evolved ahead of the log; containers are replaced, never changed, by `evolve`."""
        # Written out: a loop over the slots takes three times as long, and this runs for every append.
        copy = object.__new__(Run)
        copy.id = self.id
        copy.plan = self.plan
        copy.workflow_id = self.workflow_id
        copy.version = self.version
        copy.payload = self.payload
        copy.seq = self.seq
        copy.tip = self.tip
        copy.phase = self.phase
        copy.pc = self.pc
        copy.attempt = self.attempt
        copy.tries = self.tries
        copy.interruptions = self.interruptions
        copy.open_epoch = self.open_epoch
        copy.until = self.until
        copy.input = self.input
        copy.outputs = self.outputs
        copy.error = self.error
        copy.created_at = self.created_at
        copy.started_at = self.started_at
        copy.finished_at = self.finished_at
        copy.status = self.status
        copy.command = self.command
        copy.times = self.times
        copy.set_aside = self.set_aside
        return copy

    def dump(self) -> bytes:
        """The state for a snapshot, without the id (the row's key)."""
        return orjson.dumps({"definition": self.plan.definition, **{name: getattr(self, name) for name in _SAVED}})

    @classmethod
    def load(cls, run_id: str, state: bytes | str) -> Self:
        """The reverse of `dump`; definitions are shared between runs."""
        run = cls(run_id)
        saved = orjson.loads(state)
        run.plan = plan_of(saved.pop("definition"))
        for name, value in saved.items():
            setattr(run, name, value)
        run.outputs = run.outputs or _NONE_YET
        if run.command == run_id:
            run.command = run_id
        return run

    @property
    def step(self) -> str:
        """Name of the current step."""
        return self.plan.steps[self.pc].name

    def summaries(self) -> list[StepSummary]:
        names = [step.name for step in self.plan.steps]
        return [
            {"name": name, "attempts": attempts, "started_at": started, "finished_at": finished}
            for name, (attempts, started, finished) in zip(names, self.times, strict=False)
        ]


def extend(run: Run, envelope: Envelope, tip: str) -> None:
    """Take a fact: the tip moves whatever the event says; what cannot be understood sets the run aside.

    `tip` is the digest of the record's value bytes. Changes `run`.
    """
    run.seq, run.tip = envelope["seq"], tip
    ended = envelope["type"] == RUN_COMPLETED
    if run.set_aside is not None and not ended:
        return
    try:
        evolve(run, envelope["type"], envelope["data"], envelope["time"], envelope["epoch"])
    except UnknownEvent as unknown:
        run.set_aside = run.set_aside or str(unknown)
    except Exception as error:  # noqa: BLE001 - whatever it holds, one event must not stop the fold of the others
        reason = f"{envelope['type']} at seq {run.seq} cannot be folded: {type(error).__name__} {error}"
        run.set_aside = run.set_aside or reason
    if ended:
        run.phase = "done"


class UnknownEvent(Exception):
    """This process does not know the event's type."""


def evolve(run: Run, type_: str, data: Mapping[str, Any], time: str, epoch: int) -> None:
    """Change `run` by one event, or raise and leave it as it was: UnknownEvent, or KeyError / TypeError / ValueError and the
    like where the event has another shape."""
    if type_ not in _KNOWN:
        raise UnknownEvent(f"an event of the unknown type {type_!r} at seq {run.seq}")
    if (type_ == "RunRequested") == bool(run.created_at):
        raise ValueError("RunRequested is the first event of a run, and no other is")
    name: type_names = type_  # type: ignore[assignment]
    match name:
        case "RunRequested":
            _requested(run, data)
        case "StepStarted":
            _started(run, data, time, epoch)
        case "StepSucceeded":
            _named(run, data)
            outputs = {**run.outputs, data["step"]: data["output"]}
            _end_step(run, time, run.times)
            run.outputs, run.pc, run.phase = outputs, run.pc + 1, "ready"
        case "StepFailed":
            _named(run, data)
            error = {**_error(data["error"]), "step": data["step"]}
            _end_step(run, time, [*run.times[: run.pc], [0, None, None]] if data["attempt"] == 0 else run.times)
            run.error, run.phase = error, "failed"
        case "StepRetryScheduled":
            _named(run, data)
            error, until = {**_error(data["error"]), "step": data["step"]}, _instant(data["until"])
            run.error, run.until, run.tries = error, until, run.tries + 1
            run.phase, run.open_epoch = "retrying", 0
        case "StepInterrupted":
            _named(run, data)
            run.interruptions += 1
            run.until, run.phase, run.open_epoch = None, "ready", 0
        case "RunCompleted":
            _completed(run, data, time)
        case "PartitionTaken":
            raise ValueError("PartitionTaken belongs to no run")
        case _:
            assert_never(name)


_KNOWN: Final = frozenset(type_names.__args__)  # type: ignore[attr-defined]
_ENDS: Final = ("SUCCESS", "FAILED", "CANCELLED")


def _requested(run: Run, data: Mapping[str, Any]) -> None:
    workflow_id, version, payload, command = data["workflow_id"], data["version"], data["payload"], data["command"]
    refused = data.get("refused")
    if not isinstance(command, str) or not is_workflow_id(workflow_id):
        raise ValueError("its command or its workflow_id is no id")
    if version is not None and not is_version(version):
        raise ValueError("its version is no version")
    if refused is not None:
        _error(refused)
    run.plan, run.created_at = plan_of(data["definition"]), _instant(data["requested_at"])
    run.workflow_id, run.version, run.payload = workflow_id, version, payload
    run.command = run.id if command == run.id else command  # of a start through the API; one copy of it will do
    if refused is not None:
        run.error, run.phase = refused, "failed"


def _started(run: Run, data: Mapping[str, Any], time: str, epoch: int) -> None:
    _named(run, data)
    attempt, until, now = data["attempt"], data.get("until"), _instant(time)
    if type(attempt) is not int:
        raise TypeError("its attempt is no number")
    if until is not None:
        _instant(until)
    began = run.times[run.pc][1] if len(run.times) > run.pc else now
    run.times = [*run.times[: run.pc], [attempt, began, None]]
    run.attempt, run.open_epoch, run.phase = attempt, epoch, "started"
    run.until = until
    run.input = data.get("input", run.input)
    run.status = "RUNNING"
    run.started_at = run.started_at or now


def _completed(run: Run, data: Mapping[str, Any], time: str) -> None:
    status, error, finished = data["status"], data["error"], _instant(time)
    if status not in _ENDS:
        raise ValueError("its status is none that a run can end with")
    if error is not None:
        _error(error)
    run.status, run.error, run.finished_at = status, error, finished
    run.phase, run.open_epoch, run.until, run.input = "done", 0, None, None


def _end_step(run: Run, time: str, times: list[list[Any]]) -> None:
    """`times`: of the steps that were reached, the one that ends among them."""
    attempts, began, _ = times[run.pc]
    run.times = [*times[: run.pc], [attempts, began, _instant(time)]]
    run.attempt = run.tries = run.interruptions = run.open_epoch = 0
    run.until = run.input = None


def _error(error: Any) -> Mapping[str, Any]:
    """The error as it came, where it says to machines and to people what it is. Raises TypeError, KeyError."""
    if not (isinstance(error, dict) and isinstance(error["code"], str) and isinstance(error["message"], str)):
        raise TypeError("its error has no code or no message")
    return error


def _instant(text: str) -> str:
    """The time as it came, which every store can hold. Raises TypeError, ValueError."""
    if len(text) > TIME_CHARS_MAX or not text.endswith("Z") or not text.isascii():
        raise ValueError("a time is not as the log writes times")
    datetime.fromisoformat(text)
    return text


def _named(run: Run, data: Mapping[str, Any]) -> None:
    if data["step"] != run.step:
        raise ValueError(f"step {data['step']!r} is not the current one, {run.step!r}")
