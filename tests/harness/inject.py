"""The faults themselves. Each does its harm to a stage, undoes it, and comes back when what it touched works again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from random import Random
from typing import Final

import asyncpg

from ops.embedded.server import EmbeddedServer
from ops.parts import OwnRole
from streams.kafka import admin
from tests.fleet import until
from tests.harness import commands, tables
from tests.harness.stage import Slot, Stage

DOWN_S: Final = (1.0, 5.0)
FROZEN_S: Final = (7.5, 11.0)
"""Past the session timeout of 6 s."""
REFUSED_S: Final = 30.0
APPENDS_WITHIN_S: Final = 60.0
"""A worker that cannot reach the broker comes back to its group first."""

Inject = Callable[[Stage, Random], Awaitable[str]]


# ── our own processes ──


async def kill(role: OwnRole, stage: Stage, rng: Random) -> str:
    slot = stage.pick(role, rng)
    assert slot.member is not None
    slot.member.kill()
    await asyncio.sleep(rng.uniform(0, 2))
    await stage.revive(slot)
    return slot.name


async def stop(role: OwnRole, stage: Stage, rng: Random) -> str:
    slot = stage.pick(role, rng)
    assert slot.member is not None
    code = await slot.member.stop()
    await stage.revive(slot)
    return f"{slot.name} ended with {code}"


async def freeze(role: OwnRole, stage: Stage, rng: Random) -> str:
    slot = stage.pick(role, rng)
    assert slot.member is not None
    for_s = rng.uniform(*FROZEN_S)
    slot.member.freeze()
    await asyncio.sleep(for_s)
    slot.member.thaw()
    slot.held = False
    return f"{slot.name} for {for_s:.1f} s"


async def storm(stage: Stage, rng: Random) -> str:
    """Each of two workers leaves and comes back several times."""
    slots = [stage.pick("worker", rng) for _ in range(2)]
    for turn in range(4):
        slot = slots[turn % 2]
        assert slot.member is not None
        await slot.member.stop()
        await asyncio.sleep(rng.uniform(0.5, 1.5))
        stage.launch(slot)
        await asyncio.sleep(rng.uniform(1, 2))
    for slot in slots:
        slot.held = False
    await stage.all_ready()
    return "4 leaves and 4 joins"


async def step_clock(stage: Stage, rng: Random) -> str:
    """Of a host, as it were, with one process of each kind on it."""
    slots = [stage.pick(role, rng) for role in ("worker", "api", "projector")]
    steps = (rng.choice((7_200.0, -7_200.0)), rng.choice((30_000.0, -30_000.0, 3_600.0)), 0.0)
    for step_s in steps:
        for slot in slots:
            stage.step_clock(slot, step_s)
        await asyncio.sleep(rng.uniform(1.5, 3))
    for slot in slots:
        slot.held = False
    return f"{', '.join(slot.name for slot in slots)} by {steps[0]:+.0f} s, then {steps[1]:+.0f} s"


async def cut_off(stage: Stage, rng: Random) -> str:
    slot = stage.pick("worker", rng, remote=True)
    for_s = rng.uniform(*FROZEN_S)
    if stage.host is None:
        stage.proxy.lose()
    else:
        stage.host.cut()
    await asyncio.sleep(for_s)
    if stage.host is None:
        stage.proxy.heal()
    else:
        stage.host.mend()
    slot.held = False
    await stage.all_ready()
    return f"{slot.name} for {for_s:.1f} s" + ("" if stage.host else ", by a proxy: no network namespaces here")


async def lose_answers(stage: Stage, rng: Random) -> str:
    slot = stage.pick("worker", rng, remote=True)
    before = stage.proxy.lost
    stage.proxy.lose()
    await until(lambda: _more(lambda: stage.proxy.lost > before), "an append has lost its answer", APPENDS_WITHIN_S)
    await asyncio.sleep(rng.uniform(2, 6))
    stage.proxy.heal()
    slot.held = False
    return f"{slot.name}: {stage.proxy.lost - before} answers"


async def hold_appends(stage: Stage, rng: Random) -> str:
    """Past the append's bound: its partitions are taken anew, and then what was given up lands all the same."""
    slot = stage.pick("worker", rng, remote=True)
    before = stage.proxy.held
    stage.proxy.hold()
    await until(lambda: _more(lambda: stage.proxy.held > before), "an append is held up", APPENDS_WITHIN_S)
    await asyncio.sleep(stage.settings.workflow_append_timeout_s + rng.uniform(2, 4))
    stage.proxy.heal()
    slot.held = False
    return f"{slot.name}: {stage.proxy.held - before} appends"


async def _more(found: Callable[[], bool]) -> bool:
    return found()


# ── servers ──


async def kill_server(name: str, stage: Stage, rng: Random) -> str:
    return await _without(name, stage, rng, lambda server: server.kill())


async def restart_server(name: str, stage: Stage, rng: Random) -> str:
    return await _without(name, stage, rng, lambda server: server.stop())


async def _without(name: str, stage: Stage, rng: Random, end: Callable[[EmbeddedServer], None]) -> str:
    server: EmbeddedServer = getattr(stage, name)
    for_s = rng.uniform(*DOWN_S)
    stage.held_servers.add(server.name)
    await asyncio.to_thread(end, server)
    await asyncio.sleep(for_s)
    await stage.restarted(server)
    stage.held_servers.discard(server.name)
    return f"away for {for_s:.1f} s"


async def freeze_server(name: str, stage: Stage, rng: Random) -> str:
    server: EmbeddedServer = getattr(stage, name)
    for_s = rng.uniform(4, 9)
    server.freeze()
    await asyncio.sleep(for_s)
    server.thaw()
    return f"for {for_s:.1f} s"


async def refuse(stage: Stage, rng: Random) -> str:
    """Nobody is let in for 30 s, and who was in is thrown out."""
    file = stage.postgres.folder / "data" / "pg_hba.conf"
    rules = file.read_text()
    connection = await asyncpg.connect(stage.postgres.dsn)
    try:
        file.write_text("host all all all reject\n")
        await connection.execute("select pg_reload_conf()")
        await asyncio.sleep(0.5)
        await connection.execute("select pg_terminate_backend(pid) from pg_stat_activity where pid <> pg_backend_pid()")
        await asyncio.sleep(REFUSED_S)
    finally:
        file.write_text(rules)
        await connection.execute("select pg_reload_conf()")
        await connection.close()
    return f"for {REFUSED_S:g} s"


async def fill_disk(stage: Stage, rng: Random) -> str:
    for_s = rng.uniform(5, 10)
    assert stage.disk.mounted, "this system lets us mount no disk: the fault 'disk full' needs one"
    await asyncio.to_thread(stage.disk.fill)
    await asyncio.sleep(for_s)
    stage.disk.empty()
    await until(lambda: tables.answers(stage), "PostgreSQL works again", 60)
    return f"for {for_s:.1f} s"


async def older_tables(stage: Stage, rng: Random) -> str:
    """What the tables were is put in the place of what they are, while everything works on."""
    await tables.keep(stage)
    await asyncio.sleep(rng.uniform(4, 8))
    rows = await tables.put_back(stage)
    return f"{rows} runs went back to what they were"


# ── the topics ──


async def forget_offsets(stage: Stage, rng: Random) -> str:
    """A group forgets only when it has no members."""
    slots: list[Slot] = []
    while any(s.role == "worker" and not s.held and s.member is not None and s.member.alive for s in stage.slots):
        slots.append(stage.pick("worker", rng))
    await asyncio.gather(*(slot.member.stop() for slot in slots if slot.member is not None))
    async with admin(stage.settings, 10) as client:
        await commands.delete_group(client, stage.settings.kafka_consumer_group)
    await asyncio.gather(*(stage.revive(slot) for slot in slots))
    await stage.all_ready()
    return f"with {len(slots)} workers away"


async def repeat(stage: Stage, rng: Random) -> str:
    count = await commands.repeat(stage.settings, rng)
    return f"{count} commands again"


async def spoil(stage: Stage, rng: Random) -> str:
    count = await commands.spoil(stage.settings, rng)
    return f"{count} records"


async def hostile(stage: Stage, rng: Random) -> str:
    """A few expressions that would hang their worker, among two hundred plain runs."""
    await asyncio.gather(
        stage.trigger(3, stage.fresh("hungry", 3), rate=1),
        stage.trigger(3, stage.fresh("meets-huge", 3), rate=1),
        stage.trigger(3, stage.fresh("meets-drip", 3), rate=1),
        stage.trigger(200, stage.fresh("noop", 200), rate=40),
    )
    return "3 among 200 plain runs, and as many answers that never end"


INJECT: Final[Mapping[str, Inject]] = {
    **{f"kill {role}": partial(kill, role) for role in ("worker", "projector", "api")},
    **{f"stop {role}": partial(stop, role) for role in ("worker", "projector", "api")},
    **{f"freeze {role}": partial(freeze, role) for role in ("worker", "projector", "api")},
    **{f"kill {name}": partial(kill_server, name) for name in ("kafka", "postgres")},
    **{f"restart {name}": partial(restart_server, name) for name in ("kafka", "postgres")},
    **{f"freeze {name}": partial(freeze_server, name) for name in ("kafka", "postgres")},
    "postgres refuses": refuse,
    "disk full": fill_disk,
    "storm": storm,
    "repeats": repeat,
    "garbage": spoil,
    "offsets gone": forget_offsets,
    "older tables": older_tables,
    "clock stepped": step_clock,
    "answers lost": lose_answers,
    "appends late": hold_appends,
    "cut off": cut_off,
    "hostile expressions": hostile,
}
