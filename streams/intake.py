"""Commands on their way to becoming facts: taken, looked up, decided, settled."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from schemas.commands import CancelRun, Command, TriggerRun, decode, encode
from schemas.errors import CommandRefused
from schemas.events import ErrorData
from schemas.identity import home
from schemas.run import Run
from schemas.store import Tip
from streams.decider import Start
from streams.partition import Held, Partition
from streams.ports import Record

if TYPE_CHECKING:
    from streams.engine import Engine


def take(engine: Engine, part: Partition, records: Sequence[Record], now: float) -> None:
    """Hold a batch of commands. A hole is asked for once; if it comes again, the records are gone (or never were ours)."""
    first = records[0].offset
    if first > part.taken and part.hole_at != first:
        part.hole_at = first
        engine.world.seek(part.number, commands=part.taken)
        return
    part.hole_at = -1
    fresh: list[Held] = []
    for record in records:
        if record.offset >= part.taken:
            part.taken = record.offset + 1
            held = _hold(engine, part, record)
            if held is not None:
                fresh.append(held)
    queue(engine, part, fresh, now)
    balance(engine, part)


def _hold(engine: Engine, part: Partition, record: Record) -> Held | None:
    """The command to be decided here, None when it belongs elsewhere."""
    try:
        command: Command = decode(
            record.value,
            topic=engine.trigger_topic,
            partition=part.number,
            offset=record.offset,
            timestamp_ms=record.timestamp,
            partitions=engine.count,
            depth_max=engine.limits.depth_max,
        )
    except CommandRefused as refused:
        _refuse(engine, part, record.offset, record.value, refused.message)
        return None
    at = home(command.run_id, engine.count)
    if at != part.number:
        engine.stats["sent_home"] += 1
        part.hold(Held(record.offset, None))
        engine.world.send_home(part.number, record.offset, at, command)
        return None
    held = Held(record.offset, command)
    part.hold(held)
    return held


def _refuse(engine: Engine, part: Partition, offset: int, value: bytes | None, reason: str) -> None:
    engine.stats["rejected"] += 1
    part.hold(Held(offset, None))
    engine.world.reject(part.number, offset, value, reason)


def _give_up(engine: Engine, part: Partition, held: Held, reason: str) -> None:
    """Refuse a command that was held."""
    command = held.command
    part.settle(held.offset)
    _refuse(engine, part, held.offset, encode(command) if command is not None else None, reason)


def queue(engine: Engine, part: Partition, held: Iterable[Held], now: float) -> None:
    """These commands wait to be decided; the owner looks at them at once."""
    part.waiting.extend(one for one in held if one.command is not None)
    if part.owner:
        process(engine, part, now)


def process(engine: Engine, part: Partition, now: float) -> None:
    """Look at every waiting command once: decide it, ask the store about it, or leave it waiting."""
    unknown: list[str] = []
    for _ in range(len(part.waiting)):
        held = part.waiting.popleft()
        if held.offset in part.held and not _done(engine, part, held, now, unknown):
            part.waiting.append(held)
    if unknown:
        engine.world.look_up(part.number, part.token, unknown)


def _done(engine: Engine, part: Partition, held: Held, now: float, unknown: list[str]) -> bool:
    """Whether nothing more is to be done for the command until a fact or an answer about its run arrives."""
    command = held.command
    assert command is not None, "commands that are only passed on are never queued"
    if (
        part.by_run[command.run_id][0] != held.offset
        and isinstance(command, TriggerRun)
        and not part.knows(command.run_id)
    ):
        return False
    if part.knows(command.run_id):
        return _known(engine, part, held, command, now)
    if command.run_id in part.out or held.looking:
        return False
    if not engine.remembers and held.answer < part.mark:
        held.looking = True
        unknown.append(command.run_id)
        return False
    match command:
        case TriggerRun():
            return _start(engine, part, held, command, now)
        case CancelRun():
            if part.by_run[command.run_id][0] != held.offset:
                return False
            _give_up(engine, part, held, f"there is no run {command.run_id!r} to cancel")
            return True


def _known(engine: Engine, part: Partition, held: Held, command: Command, now: float) -> bool:
    """A run that exists: a start is a repeat, a cancel goes to the run (or comes too late)."""
    run = part.runs.get(command.run_id)
    if run is None or isinstance(command, TriggerRun):
        part.settle(held.offset)
        return True
    if run.set_aside is not None:
        _give_up(engine, part, held, f"run {run.id} is set aside: {run.set_aside}")
        return True
    engine.act(part, run, now)
    return True


def _start(engine: Engine, part: Partition, held: Held, command: TriggerRun, now: float) -> bool:
    if engine.effects_full:
        return False
    start = engine.world.resolve(part.number, held.offset, command)
    if start is None:
        return False
    cause = f"{engine.trigger_topic}/{part.number}/{held.offset}"
    if not engine.write(part, Run(command.run_id), start, now, cause=cause, actor=command.actor):
        unfit: ErrorData = {
            "code": "definition_invalid",
            "message": f"version {start.version} of {command.workflow_id!r} cannot be run by this release",
        }
        engine.write(
            part, Run(command.run_id), Start(command, start.version, None, unfit), now, cause=cause, actor=command.actor
        )
    engine.stats["starts"] += 1
    return True


def answered(
    engine: Engine, part: Partition, run_ids: Sequence[str], position: int, tips: Mapping[str, Tip], now: float
) -> None:
    """The store's answer: a yes settles the command; a no counts if the store stands high enough when it is used."""
    for run_id in run_ids:
        for offset in list(part.by_run.get(run_id, ())):
            held = part.held[offset]
            held.looking = False
            if run_id in tips and (tips[run_id].done or isinstance(held.command, TriggerRun)):
                part.settle(offset)
            else:
                held.answer = position
    if part.owner:
        process(engine, part, now)


def settle(part: Partition, run: Run) -> None:
    """Facts of a run were read back: its starts are settled, and its cancels once it is over."""
    for offset in list(part.by_run.get(run.id, ())):
        command = part.held[offset].command
        if isinstance(command, TriggerRun) or run.phase == "done":
            part.settle(offset)


def balance(engine: Engine, part: Partition) -> None:
    """Stop the intake of a partition that holds too much, and let it go on at half."""
    full = len(part.held) >= engine.limits.held_max
    if full != part.paused and (full or len(part.held) <= engine.limits.held_max // 2):
        part.paused = full
        engine.world.pause(part.number, full)
