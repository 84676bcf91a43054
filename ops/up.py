"""`workflow up`: an embedded platform in a folder, from the servers to the API, watched until it is told to stop."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from ops import checks, connections, home
from ops.embedded.kafka import KafkaServer
from ops.embedded.postgres import PostgresServer
from ops.embedded.server import READY_WITHIN_S, EmbeddedServer
from ops.errors import PortTaken, ServerNotStarted, StartInterrupted
from ops.parts import OwnPart, told
from ops.ports import LOOPBACK, free_port, holder, is_free, reached
from ops.process import tail
from ops.reaper import Reaper
from ops.supervisor import Supervisor
from schemas.errors import BadSetting
from schemas.settings import Settings

POLL_S: Final = 0.1
OWN_READY_WITHIN_S: Final = 90.0
TELL_S: Final = 5.0
OWN_STOP_EXTRA_S: Final = 5.0
TRIES_MAX: Final = 3
PORT_MAX: Final = 65_535
BAD_SETTINGS: Final = 2  # the exit code of a process that needs another setting, not another try

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Options:
    """How much of each. `port` of the first API; None: the one of the settings if it is free, else another."""

    port: int | None = None
    apis: int = 1
    workers: int = 1
    projectors: int = 1


class Platform:
    """A platform that has started. `run` keeps it so."""

    def __init__(self, settings: Settings, supervisor: Supervisor) -> None:
        self.settings = settings
        self._supervisor = supervisor
        self.tell()

    def run(self, stop: threading.Event) -> None:
        self._supervisor.run(stop, self.tell)

    def tell(self) -> None:
        """Write down for the other commands what runs where."""
        state = home.Platform(
            os.getpid(), self.settings.workflow_url, told(self.settings), self._supervisor.processes()
        )
        home.write(self.settings.workflow_home, state)


@contextmanager
def platform(settings: Settings, options: Options, say: Say, stop: threading.Event) -> Iterator[Platform]:
    """A started platform; all of it is stopped at the end. `settings` as the environment gives them.

    Raises a WorkflowError that says what to change, StartInterrupted when `stop` is set before it has started.
    """
    checks.check_webhooks(settings)
    folder = settings.workflow_home
    with home.taken(folder) as lock:
        reaper = Reaper(holding=(lock,))
        supervisor = Supervisor(say)
        try:
            yield _Start(settings, options, say, stop, supervisor, reaper).all()
        finally:
            supervisor.stop()
            reaper.close()


class _Start:
    """The steps of a start, in order."""

    def __init__(
        self,
        settings: Settings,
        options: Options,
        say: Say,
        stop: threading.Event,
        supervisor: Supervisor,
        reaper: Reaper,
    ) -> None:
        self._given = settings.model_fields_set
        self._settings = settings
        self._options = options
        self._say = say
        self._stop = stop
        self._supervisor = supervisor
        self._reaper = reaper
        self._ports: set[int] = set()

    def all(self) -> Platform:
        folder = self._settings.workflow_home.resolve()
        ports = self._api_ports()
        self._set(workflow_home=folder, workflow_url=f"http://{reached(self._settings.api_host)}:{ports[0]}")
        if "storage_path" not in self._given:
            self._set(storage_path=folder / "store")
        self._servers(folder)
        self._own(ports)
        return Platform(self._settings, self._supervisor)

    def _set(self, **values: Any) -> None:
        self._settings = self._settings.model_copy(update=values)

    def _api_ports(self) -> list[int]:
        given = self._options.port is not None or "api_port" in self._given
        first = self._options.port if self._options.port is not None else self._settings.api_port
        ports = [first + number for number in range(self._options.apis)]
        if ports[-1] > PORT_MAX:
            reason = f"{self._options.apis} APIs need the ports up to {ports[-1]}, and the last one is {PORT_MAX}"
            raise BadSetting(name="API_PORT", value=first, reason=reason)
        for number, port in enumerate(ports):
            if is_free(port):
                continue
            if given:
                raise PortTaken(port=port, holder=holder(port))
            ports[number] = free_port(besides=frozenset(ports))
            self._say(f"  Port {port} is taken ({holder(port)}); the API uses {ports[number]}")
        self._ports.update(ports)
        return ports

    def _servers(self, folder: Path) -> None:
        """Kafka and PostgreSQL, at once: embedded, or those that the environment names."""
        servers: list[EmbeddedServer] = []
        connections.check_kafka(self._settings)
        if "kafka_bootstrap_servers" in self._given:
            checks.check_broker(self._settings)
        else:
            self._no_security_for_ours()
            servers.append(KafkaServer(folder / "kafka", folder / "logs" / "kafka.log", self._reaper, say=self._say))
        if self._settings.storage_backend == "postgres":
            if any(name.startswith("postgres_") for name in self._given):
                connections.check_postgres(self._settings)
                checks.check_postgres(self._settings)
            else:
                servers.append(PostgresServer(folder / "postgres", folder / "logs" / "postgres.log", self._reaper))
        started = time.monotonic()
        self._supervisor.add(servers, stop_within_s=max((s.stop_within_s for s in servers), default=0.0))
        self._wait_for_servers(servers, started)
        for server in servers:
            self._set(**server.settings())

    def _no_security_for_ours(self) -> None:
        """The embedded Kafka has no TLS and no users; a client that wants them would never be answered."""
        protocol = self._settings.kafka_security_protocol
        if protocol != "PLAINTEXT":
            reason = (
                "the Kafka that is started here speaks PLAINTEXT on the loopback; set KAFKA_BOOTSTRAP_SERVERS as well"
            )
            raise BadSetting(name="KAFKA_SECURITY_PROTOCOL", value=protocol, reason=reason)

    def _wait_for_servers(self, servers: Sequence[EmbeddedServer], started: float) -> None:
        deadline = time.monotonic() + READY_WITHIN_S
        waiting = list(servers)
        while waiting:
            for server in [server for server in waiting if server.ready_by(deadline)]:
                waiting.remove(server)
                self._ready(server.name, started, f"{LOOPBACK}:{server.port}")
            self._pause()

    def _own(self, api_ports: Sequence[int]) -> None:
        """The API, workers and projectors, at once."""
        apis = [self._part("api", number, port) for number, port in enumerate(api_ports, 1)]
        projectors = 0 if self._settings.storage_backend == "memory" else self._options.projectors
        others = [self._part("worker", number, self._free()) for number in range(1, self._options.workers + 1)]
        others += [self._part("projector", number, self._free()) for number in range(1, projectors + 1)]
        within = self._settings.workflow_stop_grace_s + OWN_STOP_EXTRA_S
        started = time.monotonic()
        self._supervisor.add([*apis, *others], stop_within_s=within)
        for part in apis:
            self._wait_for(part, started)
            self._ready("API", started, part.address)
        for part in others:
            self._wait_for(part, started)
        self._say(f"  {_count(self._options.workers, 'worker')}, {_count(projectors, 'projector')}")

    def _part(self, role: Any, number: int, port: int) -> OwnPart:
        is_api = role == "api"
        where = {"api_port": port} if is_api else {"workflow_health_host": LOOPBACK, "workflow_health_port": port}
        settings = self._settings.model_copy(update=where)
        host = reached(settings.api_host) if is_api else LOOPBACK
        return OwnPart(role, number, settings, host=host, port=port, reaper=self._reaper)

    def _free(self) -> int:
        port = free_port(besides=frozenset(self._ports))
        self._ports.add(port)
        return port

    def _wait_for(self, part: OwnPart, started: float) -> None:
        told = started
        while not part.ready():
            child = part.child
            if child.exit_code == BAD_SETTINGS or self._supervisor.deaths(part) >= TRIES_MAX:
                raise ServerNotStarted(name=child.name, reason=tail(child.log, 1), log=child.log)
            if (now := time.monotonic()) - told > TELL_S and (makes := part.makes_tables()) is not None:
                self._say(f"  {child.name}: {makes}")
                started = told = now
            if now - started > OWN_READY_WITHIN_S:
                raise ServerNotStarted(
                    name=child.name,
                    reason=f"not ready within {OWN_READY_WITHIN_S:g} s ({tail(child.log)})",
                    log=child.log,
                )
            self._supervisor.tick()
            self._pause()

    def _pause(self) -> None:
        if self._stop.wait(POLL_S):
            raise StartInterrupted

    def _ready(self, name: str, started: float, address: str) -> None:
        self._say(f"  {name:<12}  ready {time.monotonic() - started:5.1f} s   {address}")


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"
