"""Commands that run the platform or parts of it: up, ps, demo, api, worker, projector, rebuild, verify."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from types import FrameType

import click
import orjson

from ops import checks, config, connections, tables
from ops import home as homes
from ops.client import Exit
from ops.echo import Echo
from ops.errors import NoPlatform, PortTaken
from ops.options import home_option, output_option
from ops.parts import OwnRole
from ops.ports import LOOPBACK, holder, is_free
from ops.up import Options, platform
from schemas.settings import Settings


@click.command()
@home_option
@click.option(
    "--port",
    type=click.IntRange(1, 65535),
    help="Of the first API; further ones take the next. Left out: 8001 or a free one.",
)
@click.option("--apis", type=click.IntRange(1, 16), default=1, show_default=True)
@click.option("--workers", type=click.IntRange(0, 64), default=1, show_default=True)
@click.option("--projectors", type=click.IntRange(0, 16), default=1, show_default=True)
@click.option(
    "--echo-port",
    type=click.IntRange(1, 65535),
    help="Also run a receiver there that answers what it got, for trying out webhooks.",
)
def up(home: Path | None, port: int | None, apis: int, workers: int, projectors: int, echo_port: int | None) -> None:
    """Run the platform here, with a Kafka and a PostgreSQL of its own, until Ctrl-C.

    \b
    workflow up
    workflow up --workers 3 --home /tmp/try
    """
    settings = _settings_of_up(home)
    stop = stop_event()
    with ExitStack() as stack:
        if echo_port is not None:
            settings = allowing(settings, stack.enter_context(echo_receiver(echo_port)).port)
        options = Options(port=port, apis=apis, workers=workers, projectors=projectors)
        running = stack.enter_context(platform(settings, options, say, stop))
        if echo_port is not None:
            say(f"  Echo                          http://{LOOPBACK}:{echo_port}")
        folder = running.settings.workflow_home
        say(f"  UI            {running.settings.workflow_url}/ui/")
        say(f"  Logs          {folder / 'logs'}")
        if running.settings.workflow_auth == "keys":
            say(f"  Keys          {_command('keys create NAME --scope admin', home)}      (callers need one)")
        say(f"  Next:  {_command('demo', home)}      (Ctrl-C stops, data kept in {folder})")
        running.run(stop)
        say("  Stopping ...")


def _settings_of_up(home: Path | None) -> Settings:
    config.warn_of_unknown(_warn)
    settings = config.load(**({} if home is None else {"workflow_home": home}))
    connections.warn(settings, _warn)
    return settings


def _warn(text: str) -> None:
    click.echo(f"workflow: {text}", err=True)


def allowing(settings: Settings, port: int) -> Settings:
    """The settings with a receiver on this port of the loopback among those that webhooks may reach."""
    entries = (settings.webhook_allow, f"localhost:{port}", f"{LOOPBACK}:{port}")
    return settings.model_copy(update={"webhook_allow": ",".join(filter(None, entries))})


def _command(command: str, home: Path | None) -> str:
    return f"workflow {command}" if home is None else f"workflow {command} --home {home}"


def say(line: str) -> None:
    """A line of progress, seen at once."""
    click.echo(line)
    sys.stdout.flush()


def stop_event() -> threading.Event:
    """Set by Ctrl-C, SIGTERM and a closed terminal. A second one ends this process at once; what it started ends too."""
    stop = threading.Event()

    def on_signal(_number: int, _frame: FrameType | None) -> None:
        if stop.is_set():
            os._exit(Exit.INTERRUPTED)
        stop.set()

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, on_signal)
    return stop


def interrupt_on_signals() -> None:
    """From now on Ctrl-C and SIGTERM are a KeyboardInterrupt."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.default_int_handler)


@contextmanager
def echo_receiver(port: int) -> Iterator[Echo]:
    """An echo receiver in a thread of its own; port 0 takes a free one. Raises PortTaken."""
    if port and not is_free(port):
        raise PortTaken(port=port, holder=holder(port))
    started, end = threading.Event(), asyncio.Event()
    loop = asyncio.new_event_loop()
    echo = Echo(LOOPBACK, port)

    async def serve() -> None:
        async with echo:
            started.set()
            await end.wait()

    thread = threading.Thread(target=lambda: asyncio.Runner(loop_factory=lambda: loop).run(serve()), daemon=True)
    thread.start()
    while not started.wait(0.1):
        if not thread.is_alive():
            raise PortTaken(port=port, holder=holder(port))
    try:
        yield echo
    finally:
        loop.call_soon_threadsafe(end.set)
        thread.join()


@click.command()
@home_option
@output_option
def ps(home: Path | None, output: str) -> None:
    """The processes of the embedded platform: role, pid, address."""
    folder = home or config.load().workflow_home
    running = homes.read(folder)
    if running is None:
        raise NoPlatform(home=folder)
    if output == "json":
        click.echo(orjson.dumps([asdict(process) for process in running.processes]).decode())
    else:
        click.echo(tables.columns(("role", "pid", "address"), ((p.role, p.pid, p.address) for p in running.processes)))


@click.command()
@home_option
@click.option("--port", type=click.IntRange(0, 65535), help="Left out: API_PORT, else 8001.")
def api(home: Path | None, port: int | None) -> None:
    """Run one API process."""
    settings = config.of_platform(home)
    if port is not None:
        settings = settings.model_copy(update={"api_port": port})
    if settings.api_port and not is_free(settings.api_port, settings.api_host):
        raise PortTaken(port=settings.api_port, holder=holder(settings.api_port))
    _run("api", settings)


@click.command()
@home_option
def worker(home: Path | None) -> None:
    """Run one worker: it decides what comes next in each run, and carries out the steps."""
    _run("worker", config.of_platform(home))


@click.command()
@home_option
def projector(home: Path | None) -> None:
    """Run one projector: it folds the log into the read tables."""
    _run("projector", config.of_platform(home))


def _run(role: OwnRole, settings: Settings) -> None:
    from ops import child

    config.warn_of_unknown(_warn)
    connections.warn(settings, _warn)
    checks.check_servers(settings)
    sys.exit(child.run(role, settings))
