"""The reasons why a run is where it is: what each says to machines and to people."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, ClassVar, Final, Literal, TypeAlias, assert_never

from schemas.events import time_s

WorkerState = Literal["owned", "none", "moving", "unknown"]

OVERDUE_S: Final = 2.0
"""What is due is written within milliseconds; later than this after its time it is overdue."""


@dataclass(frozen=True, slots=True)
class Worker:
    """The member of the workers' group that has a partition.

    `state`: "owned"; "none": nobody has it; "moving": the group is sharing out its partitions anew; "unknown": the broker
    did not say, and `detail` says why.
    """

    state: WorkerState
    member: str | None = None
    host: str | None = None
    detail: str | None = None


@dataclass(frozen=True, slots=True)
class Around:
    """What is known of a run's partition beside the run; None: the broker did not say.

    `settled`: below this offset of `workflow.trigger` the group has settled every command; `behind`: records of
    `workflow.events` that are not in the tables yet.
    """

    partition: int
    worker: Worker
    settled: int | None
    behind: int | None


@dataclass(frozen=True, slots=True)
class Finished:
    """The end stands in the log."""

    code: ClassVar[Literal["finished"]] = "finished"
    status: str
    since: str
    error: Any


@dataclass(frozen=True, slots=True)
class SetAside:
    """Nothing more is decided for the run; `detail` says why."""

    code: ClassVar[Literal["set_aside"]] = "set_aside"
    since: str
    detail: str


@dataclass(frozen=True, slots=True)
class CommandWaits:
    """The start was accepted and no worker has taken it; `before`: commands of its partition that come first, if known."""

    code: ClassVar[Literal["command_waits"]] = "command_waits"
    since: str
    before: int | None


@dataclass(frozen=True, slots=True)
class DefinitionWaits:
    """The start names a version of its workflow that is not defined, and its worker waits for it; `detail` names it."""

    code: ClassVar[Literal["definition_waits"]] = "definition_waits"
    since: str
    before: int | None
    detail: str


@dataclass(frozen=True, slots=True)
class StepRunning:
    """An attempt is with its worker, which carries it out, or will when one of its WORKFLOW_EFFECTS_MAX places is free.
    `until`: its timeout, counted from when it was decided; `error`: of the last attempt that failed, if one did."""

    code: ClassVar[Literal["step_running"]] = "step_running"
    step: str
    attempt: int
    max_attempts: int
    since: str
    until: str
    error: Any


@dataclass(frozen=True, slots=True)
class Delay:
    """A delay lasts."""

    code: ClassVar[Literal["delay"]] = "delay"
    step: str
    since: str
    until: str


@dataclass(frozen=True, slots=True)
class Retry:
    """An attempt failed, and the next one, number `attempt`, begins at `until`."""

    code: ClassVar[Literal["retry"]] = "retry"
    step: str
    attempt: int
    max_attempts: int
    since: str
    until: str
    error: Any


@dataclass(frozen=True, slots=True)
class _Due:
    """`next_event` is due and does not stand in the tables; `since`: from when on the run has stood still."""

    step: str | None
    next_event: str
    since: str


class Deciding(_Due):
    """Its worker writes `next_event` about now."""

    code: ClassVar[Literal["deciding"]] = "deciding"
    __slots__ = ()


class Overdue(_Due):
    """`next_event` has not come for a while."""

    code: ClassVar[Literal["overdue"]] = "overdue"
    __slots__ = ()


class NoWorker(_Due):
    """Nobody is there to write `next_event`."""

    code: ClassVar[Literal["no_worker"]] = "no_worker"
    __slots__ = ()


class TablesBehind(_Due):
    """The log may hold `next_event` already."""

    code: ClassVar[Literal["tables_behind"]] = "tables_behind"
    __slots__ = ()


Reason: TypeAlias = (
    Finished
    | SetAside
    | CommandWaits
    | DefinitionWaits
    | StepRunning
    | Delay
    | Retry
    | Deciding
    | Overdue
    | NoWorker
    | TablesBehind
)

FIELDS: Final = "status step attempt max_attempts since until error next_event before detail".split()
"""The fields of all reasons together."""


def told(reason: Reason, around: Around, now: float) -> dict[str, Any]:
    """The answer: every field of every reason, null where it is none of this one's."""
    return {
        "code": reason.code,
        "reason": sentence(reason, around, now),
        **dict.fromkeys(FIELDS),
        **asdict(reason),
        "partition": around.partition,
        "worker": asdict(around.worker),
        "tables_behind": around.behind,
    }


def sentence(reason: Reason, around: Around, now: float) -> str:
    """The reason for people, with what they must know of those who should act and of the tables."""
    said = [_said(reason, around, now)]
    if not isinstance(reason, Finished | SetAside):
        said += [] if isinstance(reason, NoWorker) else _of_worker(around)
        if around.behind:
            said.append(f"the tables {lacking(around.behind, around.partition)}")
    return "; ".join(said)


def lacking(records: int, partition: int) -> str:
    """What is to be said of tables that are behind the log."""
    return f"lack {_count(records, 'record')} of partition {partition}"


def _said(reason: Reason, around: Around, now: float) -> str:
    match reason:
        case Finished():
            return f"finished with {reason.status} at {reason.since}{_because(reason.error)}"
        case SetAside():
            return f"set aside since {reason.since}: {reason.detail}"
        case CommandWaits():
            worker = f"the worker of partition {around.partition}"
            return f"the start has waited since {reason.since} to be taken by {worker}{_before(reason.before)}"
        case DefinitionWaits():
            waits = f"the start has waited since {reason.since} for {reason.detail}, which is not defined"
            return f"{waits}{_before(reason.before)}; its worker ends it as FAILED after WORKFLOW_DEFINITION_WAIT_S"
        case StepRunning():
            attempt = f"attempt {reason.attempt} of {reason.max_attempts} of step {reason.step}"
            with_worker = f"{attempt} has been with its worker since {reason.since}"
            return f"{with_worker}, {_timeout(reason, around, now)}{_failed('the last that', reason.error)}"
        case Delay():
            return f"step {reason.step} waits for its timer until {reason.until}"
        case Retry():
            attempt = f"attempt {reason.attempt} of {reason.max_attempts} of step {reason.step}"
            return f"{attempt} begins at {reason.until}{_failed('the one before', reason.error)}"
        case _:
            return _said_of_due(reason, around)


def _timeout(reason: StepRunning, around: Around, now: float) -> str:
    """When its timeout is. A worker ends what it carries out by then, so what goes on after it has not begun."""
    late_s = now - time_s(reason.until)
    if late_s >= OVERDUE_S and around.behind == 0 and around.worker.state == "owned":
        waits = (
            "it waits for one of the worker's places (WORKFLOW_EFFECTS_MAX), or the worker is busy, frozen or cut off"
        )
        return f"whose timeout would have been at {reason.until}: {waits}"
    return f"its timeout {'was' if late_s >= 0 else 'is'} at {reason.until}"


def _said_of_due(reason: Deciding | Overdue | NoWorker | TablesBehind, around: Around) -> str:
    event = reason.next_event if reason.step is None else f"{reason.next_event} of step {reason.step}"
    worker = f"the worker of partition {around.partition}"
    match reason:
        case Deciding():
            return f"{event} is due" + (f", and {worker} writes it about now" if around.worker.state == "owned" else "")
        case Overdue():
            due = f"{event} has been due since {reason.since}"
            if around.behind is None:
                return f"{due} and is not in the tables; whether it is in the log is not known"
            why = f": {worker} is busy, frozen or cut off" if around.worker.state == "owned" else ""
            return f"{due} and is not in the log{why}"
        case NoWorker():
            waits = f"waiting for a worker: none owns partition {around.partition}"
            first = "" if reason.next_event == "RunRequested" else ", unless a cancellation comes first"
            return f"{waits}; {event} has been due since {reason.since}, and the next one writes it{first}"
        case TablesBehind():
            return f"{event} has been due since {reason.since}, and the tables may not show it yet"
        case _:
            assert_never(reason)


def _of_worker(around: Around) -> list[str]:
    match around.worker.state:
        case "owned":
            return []
        case "none":
            return [f"no worker owns partition {around.partition} now, and without one nothing happens"]
        case "moving":
            return ["the workers are sharing out their partitions anew"]
        case "unknown":
            return [f"which worker owns partition {around.partition} is not known: {around.worker.detail}"]


def _before(commands: int | None) -> str:
    return f", with {_count(commands, 'command')} before it" if commands else ""


def _failed(which: str, error: Any) -> str:
    return f"; {which} failed{_because(error)}" if error else ""


def _because(error: Any) -> str:
    return f": {error.get('message')} ({error.get('code')})" if isinstance(error, dict) else ""


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"
