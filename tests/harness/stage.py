"""The platform under test: servers, processes and receiver, all watched as a supervisor would watch them."""

from __future__ import annotations

import asyncio
import os
import struct
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from random import Random
from typing import Final

from ops.embedded.kafka import KafkaServer
from ops.embedded.postgres import PostgresServer
from ops.embedded.server import EmbeddedServer
from ops.parts import ROOT, OwnRole
from ops.ports import LOOPBACK, free_port
from ops.reaper import Reaper
from schemas.settings import Settings
from tests import workload
from tests.fleet import Fleet, Member, reaching, until
from tests.harness import kinds, netns
from tests.harness.forward import listen
from tests.harness.proxy import KafkaProxy
from tests.workload import Start

WATCH_S: Final = 0.25
RESTART_S: Final = 0.5
SIZES: Final[dict[OwnRole, int]] = {"api": 2, "worker": 3, "projector": 2}


class ProxiedKafka(KafkaServer):
    """A broker with a second listener, whose clients believe it to be at `proxied_port` of their loopback."""

    def __init__(self, folder: Path, log: Path, reaper: Reaper) -> None:
        super().__init__(folder, log, reaper, port=None)
        self.inner_port = free_port()
        self.proxied_port = free_port(besides=frozenset({self.inner_port}))

    def _write_properties(self) -> Path:
        path = super()._write_properties()
        text = path.read_text()
        found = dict(line.split("=", 1) for line in text.splitlines() if "=" in line and not line.startswith("#"))
        listeners = found["listeners"].split(",")
        more = {
            "listeners": ",".join([*listeners, f"PROXIED://{LOOPBACK}:{self.inner_port}"]),
            "advertised.listeners": f"{found['advertised.listeners']},PROXIED://{LOOPBACK}:{self.proxied_port}",
            "listener.security.protocol.map": "PLAINTEXT:PLAINTEXT,PROXIED:PLAINTEXT,CONTROLLER:PLAINTEXT",
            "inter.broker.listener.name": "PLAINTEXT",
        }
        path.write_text(text + "".join(f"{name}={value}\n" for name, value in more.items()))
        return path


@dataclass
class Slot:
    """A place for one process of a role. `held`: a fault has it, nobody else may start it again."""

    role: OwnRole
    number: int
    settings: Settings
    remote: bool = False
    """behind the proxies: on a host of its own where the system allows it"""
    member: Member | None = None
    held: bool = False
    clock: Path = field(default_factory=Path)

    @property
    def name(self) -> str:
        return f"{self.role} {self.number}"


class Stage(Fleet):
    """Everything that runs. `up`, then faults and load, then `close`."""

    def __init__(self, folder: Path, *, disk_mb: int = 700) -> None:
        self._reaper = Reaper()
        self.disk = Disk(folder / "disk", disk_mb)
        self.disk.mount()
        self.kafka = ProxiedKafka(folder / "kafka", folder / "kafka.log", self._reaper)
        self.postgres = PostgresServer(self.disk.folder / "postgres", folder / "postgres.log", self._reaper, port=None)
        self.held_servers: set[str] = set()
        self._receiver_port = free_port()
        self._remote_health_port = free_port()
        journal = folder / "journal.jsonl"
        super().__init__(Settings(), folder, f"http://{LOOPBACK}:{self._receiver_port}", journal)
        self._receiver: subprocess.Popen[str] | None = None
        self.slots: list[Slot] = []
        self.unasked: list[str] = []
        """processes and servers that ended although nobody told them to, with their last words"""
        self._watch: asyncio.Task[None] | None = None
        self.proxy = KafkaProxy(str(folder / "kafka.sock"), f"tcp:{LOOPBACK}:{self.kafka.inner_port}")
        self._forwarders: list[asyncio.Server] = []
        self.host: netns.Host | None = None
        self._numbers = count(1_000_000)
        self._endless = kinds.starts()

    # ── up and down ──

    async def start_servers(self) -> None:
        """Kafka, PostgreSQL, the receiver, and the ways to them from the host of worker 1."""
        starts = (self._start_receiver, self.kafka.start, self.postgres.start)
        await asyncio.gather(*(asyncio.to_thread(start) for start in starts))
        self.settings = self._settings()
        await self.proxy.start()
        ways = {"postgres": self.postgres.port, "receiver": self._receiver_port}
        for name, port in ways.items():
            server = await listen(f"unix:{self.folder}/{name}.sock", f"tcp:{LOOPBACK}:{port}")
            self._forwarders.append(server)
        ports = {"kafka": self.kafka.proxied_port, **ways}
        if netns.available():
            self.host = netns.Host(self.folder, ports, self._remote_health_port)
            self.host.up()
        else:
            path = f"unix:{self.folder}/kafka.sock"
            self._forwarders.append(await listen(f"tcp:{LOOPBACK}:{self.kafka.proxied_port}", path))

    def _start_receiver(self) -> None:
        line = [sys.executable, "-P", "-m", "tests.harness.receiver", str(self._receiver_port), str(self._journal)]
        env = {**os.environ, "PYTHONPATH": str(ROOT)}
        self._receiver = subprocess.Popen(line, env=env, stdout=subprocess.PIPE, text=True)
        assert self._receiver.stdout is not None
        assert self._receiver.stdout.readline(), "the receiver did not start"

    def _settings(self) -> Settings:
        from tests.conftest import make_settings

        made = make_settings(self.kafka.address, self.postgres.dsn, "", self.folder)
        groups = {"kafka_consumer_group": "workflow-workers", "workflow_projector_group": "projectors"}
        return reaching(made.model_copy(update=groups), self.receiver)

    async def start_processes(self) -> None:
        """All of them, and the workflows."""
        for role, size in SIZES.items():
            for number in range(1, size + 1):
                self.slots.append(self._slot(role, number))
        for slot in self.slots:
            self.launch(slot)
        await asyncio.gather(*(member.ready() for member in self.members))
        await self.owned()
        for definition in (*workload.definitions(self.receiver), *kinds.definitions(self.receiver)):
            await self.define(definition)
        self._watch = asyncio.ensure_future(self._watch_all())

    def _slot(self, role: OwnRole, number: int) -> Slot:
        remote = role == "worker" and number == 1
        update = {"kafka_bootstrap_servers": f"{LOOPBACK}:{self.kafka.proxied_port}"} if remote else {}
        clock = self.folder / f"clock-{role}-{number}"
        clock.write_bytes(struct.pack("<d", 0.0))
        return Slot(role, number, self.settings.model_copy(update=update), remote, clock=clock)

    def launch(self, slot: Slot) -> Member:
        """Start the process of a slot."""
        line = [sys.executable, "-P", "-m", "tests.harness.child", slot.role]
        port = socket = None
        if slot.remote and self.host is not None:
            line, port, socket = [*self.host.run, *line], self._remote_health_port, self.host.health
        env = {"HARNESS_CLOCK": str(slot.clock)}
        log = self.folder / f"{slot.role}-{slot.number}.log"
        slot.member = Member(slot.role, slot.settings, log, line=line, env=env, port=port, socket=socket)
        self.members.append(slot.member)
        return slot.member

    def close(self) -> None:
        if self._watch is not None:
            self._watch.cancel()
        super().close()
        if self._receiver is not None:
            self._receiver.kill()
            self._receiver.wait()
        for server in self._forwarders:
            server.close()
        if self.host is not None:
            self.host.close()
        for embedded in (self.kafka, self.postgres):
            embedded.stop()
        self._reaper.close()
        self.disk.unmount()

    # ── what a supervisor does ──

    async def _watch_all(self) -> None:
        """Start again what has died, unless a fault has it."""
        while True:
            await asyncio.sleep(WATCH_S)
            for slot in self.slots:
                if not slot.held and slot.member is not None and not slot.member.alive:
                    self._note(slot)
                    await asyncio.sleep(RESTART_S)
                    self.launch(slot)
            for server in (self.kafka, self.postgres):
                if server.name not in self.held_servers and not server.running:
                    self.unasked.append(f"{server.name} ended with {server.child.exit_code}")
                    await self.restarted(server)

    def _note(self, slot: Slot) -> None:
        member = slot.member
        assert member is not None
        if not member.told_to_end:
            last = member.log.read_text(errors="replace").splitlines()[-1:]
            self.unasked.append(f"{slot.name} ended with {member.process.returncode}: {last}")
            member.told_to_end = True

    async def restarted(self, server: EmbeddedServer) -> None:
        """Start a server, again and again while it cannot be had (a full disk)."""
        while True:
            try:
                await asyncio.to_thread(server.start)
            except Exception as error:  # noqa: BLE001 - whatever stops a server from starting
                self.unasked.append(f"{server.name} did not start: {str(error)[:200]}")
                await asyncio.sleep(1)
            else:
                return

    async def revive(self, slot: Slot) -> Member:
        """Start the process of a slot that a fault has, give it back, and wait until it works."""
        member = self.launch(slot)
        slot.held = False
        await until(lambda: self._is_up(slot), f"{slot.name} works", 60)
        return slot.member or member

    async def _is_up(self, slot: Slot) -> bool:
        member = slot.member
        return member is not None and member.alive and await member.is_ready()

    # ── for faults ──

    def pick(self, role: OwnRole, rng: Random, *, remote: bool | None = None) -> Slot:
        """A slot of the role whose process runs, from now on held."""
        found = [s for s in self.slots if s.role == role and not s.held and s.member is not None and s.member.alive]
        slot = rng.choice([s for s in found if remote is None or s.remote == remote])
        slot.held = True
        return slot

    def step_clock(self, slot: Slot, by_s: float) -> None:
        with slot.clock.open("r+b") as file:
            file.write(struct.pack("<d", by_s))

    def fresh(self, kind: str, number: int) -> Iterator[Start]:
        """So many starts of one kind, beside those of the load."""
        return (kinds.payload(next(self._numbers), kind) for _ in range(number))

    async def all_ready(self, within_s: float = 60.0) -> None:
        """Wait until every process works and every partition has its owner."""
        slots: Sequence[Slot] = self.slots
        waits: list[Callable[[], Awaitable[bool]]] = [lambda slot=slot: self._is_up(slot) for slot in slots]  # type: ignore[misc]
        for slot, wait in zip(slots, waits, strict=True):
            await until(wait, f"{slot.name} works", within_s)
        await self.owned(within_s)


class Disk:
    """A small disk of its own for the database, where the system lets us mount one."""

    def __init__(self, folder: Path, size_mb: int) -> None:
        self.folder, self._size_mb, self.mounted = folder, size_mb, False
        folder.mkdir(parents=True)

    def mount(self) -> None:
        line = ["mount", "-t", "tmpfs", "-o", f"size={self._size_mb}m,mode=0755", "tmpfs", str(self.folder)]
        self.mounted = subprocess.run(line, capture_output=True, check=False).returncode == 0

    def fill(self) -> None:
        """Leave no room."""
        with (self.folder / "ballast").open("wb") as file:
            try:
                while True:
                    file.write(b"\0" * 1024 * 1024)
                    file.flush()
            except OSError:
                pass

    def empty(self) -> None:
        (self.folder / "ballast").unlink(missing_ok=True)

    def unmount(self) -> None:
        if self.mounted:
            subprocess.run(["umount", "-l", str(self.folder)], capture_output=True, check=False)
