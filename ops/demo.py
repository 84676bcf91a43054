"""`workflow demo`: a sample workflow, defined, started and shown live, on a platform that is started if none runs."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from ipaddress import ip_address
from pathlib import Path
from typing import Final

import click
import orjson

from ops import config, tables, watch
from ops import home as homes
from ops.client import Client, Exit
from ops.options import home_option
from ops.platform_commands import allowing, echo_receiver, interrupt_on_signals, say, stop_event
from ops.ports import LOOPBACK, is_free
from ops.up import Options, platform
from schemas.settings import Settings
from streams.allowed import AllowList

TIMEOUT_S: Final = 60.0

SAMPLE: Final = {
    "id": "hello",
    "name": "Hello",
    "description": "Greets a service, waits half a second, and thanks it for its answer.",
    "steps": [
        {
            "name": "greet",
            "type": "webhook",
            "config": {
                "url": "${payload.service}/greet",
                "method": "POST",
                "body": {"text": "Hello, ${payload.name}!"},
            },
        },
        {"name": "wait", "type": "delay", "config": {"duration": "500ms"}},
        {
            "name": "thank",
            "type": "webhook",
            "config": {
                "url": "${payload.service}/thank",
                "method": "POST",
                "body": {"heard": "${steps.greet.output.body.body.text}"},
            },
        },
    ],
}
"""Three steps: ask a service, wait, and tell it what it answered."""

SAMPLE_THAT_WAITS: Final = {
    "id": "patience",
    "name": "Patience",
    "description": "Waits, and waits again.",
    "steps": [
        {"name": "wait", "type": "delay", "config": {"duration": "500ms"}},
        {"name": "wait_again", "type": "delay", "config": {"duration": "${payload.seconds}"}},
    ],
}
"""For a platform whose webhooks may not reach this machine."""


@click.command()
@home_option
def demo(home: Path | None) -> None:
    """Define a sample workflow, start a run and show it until it ends.

    It uses the platform that runs, or starts one and stops it afterwards.
    """
    with ExitStack() as stack:
        settings, receiver = stack.enter_context(_running(home))
        client = stack.enter_context(Client(settings.workflow_url, settings.workflow_api_key))
        if receiver is None:
            say("\n  Webhooks of the platform that runs may not reach this machine, so this demo calls nobody.")
            say("  After `workflow up --echo-port 8002` it shows more.")
        sample = SAMPLE if receiver is not None else SAMPLE_THAT_WAITS
        defined = client.apply(orjson.dumps(sample)).body
        say(
            f"\n  Defined {defined['id']} version {defined['version']}: {', '.join(s['name'] for s in defined['steps'])}"
        )
        payload = orjson.dumps({"seconds": 0.5} if receiver is None else {"name": "world", "service": receiver})
        started = client.trigger(defined["id"], payload).body
        say(f"  Triggered run {started['run_id']} with {payload.decode()}\n")
        ended = watch.follow(
            client,
            started["run_id"],
            lambda event, before: say("  " + tables.event_line(event, before)),
            min_position=started["position"],
            timeout_s=TIMEOUT_S,
        ).body
        say(f"\n  {ended['status']} in {tables.took(ended)}")
        if ended["status"] == "SUCCESS" and receiver is not None:
            say(f"  The service heard: {ended['results']['thank']['body']['body']['heard']}\n")
    sys.exit(watch.exit_code(ended) if ended["status"] in watch.ENDED else Exit.ENDED_BADLY)


@contextmanager
def _running(home: Path | None) -> Iterator[tuple[Settings, str | None]]:
    """The settings of the platform that is meant, and where its webhooks may go; one is started if none runs."""
    given = config.load(**({} if home is None else {"workflow_home": home}))
    if "workflow_url" in given.model_fields_set or homes.is_taken(given.workflow_home):
        settings = config.of_platform(home)
        with _receiver(settings) as receiver:
            yield settings, receiver
        return
    stop, end = stop_event(), threading.Event()
    with echo_receiver(0) as echo, platform(allowing(given, echo.port), Options(), say, stop) as running:
        watching = threading.Thread(target=running.run, args=(end,))
        watching.start()
        interrupt_on_signals()
        try:
            yield running.settings, echo.url
        finally:
            end.set()
            watching.join()


@contextmanager
def _receiver(settings: Settings) -> Iterator[str | None]:
    """A receiver that the platform's webhooks may reach: the one of `workflow up --echo-port`, else one on a port that it allows."""
    here = ip_address(LOOPBACK)
    entries = AllowList.parse(settings.webhook_allow).entries
    ports = (entry.port for entry in entries if entry.network is not None and here in entry.network)
    port = next(filter(None, ports), None)
    if port is None:
        yield None
    elif is_free(port):
        with echo_receiver(port) as echo:
            yield echo.url
    else:
        yield f"http://{LOOPBACK}:{port}"
