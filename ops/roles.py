"""One function for each kind of process: here its parts are put together, and nowhere else."""

from __future__ import annotations

import asyncio
import gc
import json
import logging
import os
import secrets
import signal
import socket
import sys
import time
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Final, TypeVar

import uvloop

from ops.memory import give_back_regularly
from schemas.errors import BrokerAway, StoreAway, WorkflowError
from schemas.settings import Settings

log = logging.getLogger(__name__)

T = TypeVar("T")
RETRY_S: Final = 0.5
BAD_SETTINGS: Final = 2
GC_THRESHOLD: Final = 50_000

_QUIET: Final = {
    "aiokafka": logging.CRITICAL,  # what it calls an error is a broker that is away, and our own lines tell of that
    "faust": logging.ERROR,
    "mode": logging.ERROR,
    "httpx": logging.WARNING,
    "httpcore": logging.WARNING,
    "uvicorn": logging.WARNING,
    "streams.consumer": logging.WARNING,  # Faust's services log by the module of their class
    "streams.transport": logging.WARNING,
}

Main = Callable[[Settings, asyncio.Event], Awaitable[int]]


def run_worker(settings: Settings) -> int:
    """A worker until it is told to stop; its exit code."""
    from ops.worker import worker

    return run(worker, settings)


def run_projector(settings: Settings) -> int:
    """A projector until it is told to stop; its exit code."""
    from ops.projector import projector

    return run(projector, settings)


def run_api(settings: Settings) -> int:
    """An API process until it is told to stop; its exit code."""
    from ops.api import api

    return run(api, settings)


def run(main: Main, settings: Settings) -> int:
    """Run a process's main on a fast loop. SIGTERM and SIGINT set its stop event; a second one ends the process at once.

    What a setting or an operator has to mend ends it with one line and exit code 2.
    """
    configure_logging(settings)
    calm_collector()
    try:
        asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())  # type: ignore[deprecated] # reaches the loop of Kafka's thread too
        return asyncio.run(_until_stopped(main, settings))
    except WorkflowError as error:
        log.critical("%s", error.message)
        return BAD_SETTINGS


def calm_collector() -> None:
    """What was imported stays; and many events are in flight at once, none of them in a cycle."""
    gc.freeze()
    gc.set_threshold(GC_THRESHOLD, 20, 50)


async def _until_stopped(main: Main, settings: Settings) -> int:
    stop, loop = asyncio.Event(), asyncio.get_running_loop()

    def ask() -> None:
        if stop.is_set():
            os._exit(130)
        stop.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ask)
    giving_back = asyncio.ensure_future(give_back_regularly())
    try:
        return await main(settings, stop)
    finally:
        giving_back.cancel()


async def until_there(ask: Callable[[], Awaitable[T]], stop: asyncio.Event, what: str) -> T | None:
    """Ask until broker and store answer; None when told to stop meanwhile."""
    said = None
    while not stop.is_set():
        try:
            return await ask()
        except (BrokerAway, StoreAway) as away:
            if said != away.message:
                log.warning("%s: %s", what, away)
                said = away.message
            await asyncio.wait({asyncio.ensure_future(stop.wait())}, timeout=RETRY_S)
    return None


def process_name(role: str) -> str:
    """Who this process is in logs and in `PartitionTaken`."""
    return f"{role}-{socket.gethostname()}-{os.getpid()}"


def new_token() -> str:
    """A token of one assignment."""
    return secrets.token_hex(8)


def configure_logging(settings: Settings) -> None:
    """One line per record on stderr, as text or JSON, in UTC."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Json() if settings.log_format == "json" else _Text())
    logging.basicConfig(level=settings.log_level, handlers=[handler], force=True)
    for name, level in _QUIET.items():
        logging.getLogger(name).setLevel(level)


class _Text(logging.Formatter):
    """`2026-01-01T00:00:00.000Z INFO name: message`"""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s %(name)s: %(message)s")

    def formatTime(self, record: logging.LogRecord, datefmt: str | None = None) -> str:  # noqa: ARG002, N802 - logging's
        return datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class _Json(_Text):
    """One JSON object per line."""

    def format(self, record: logging.LogRecord) -> str:
        fields = {"time": self.formatTime(record), "level": record.levelname, "logger": record.name}
        fields |= {"message": record.getMessage(), "pid": str(record.process)}
        fields |= {
            key: str(value) for key, value in vars(record).items() if key in {"request_id", "run_id", "partition"}
        }
        if record.exc_info:
            fields["exception"] = self.formatException(record.exc_info)
        return json.dumps(fields)


clock = time.time
