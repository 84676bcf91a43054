"""`workflow demo`: a sample workflow, defined, started and shown live, on a platform that is started if none runs."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

import click
import orjson

from ops import config, tables, watch
from ops import home as homes
from ops.client import Client, Exit
from ops.options import home_option
from ops.platform_commands import echo_receiver, interrupt_on_signals, say, stop_event
from ops.up import Options, platform
from schemas.settings import Settings

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


@click.command()
@home_option
def demo(home: Path | None) -> None:
    """Define a sample workflow, start a run and show it until it ends.

    It uses the platform that runs, or starts one and stops it afterwards.
    """
    with ExitStack() as stack:
        settings = stack.enter_context(_running(home))
        echo = stack.enter_context(echo_receiver(0))
        client = stack.enter_context(Client(settings.workflow_url, settings.workflow_api_key))
        defined = client.apply(orjson.dumps(SAMPLE)).body
        say(
            f"\n  Defined {defined['id']} version {defined['version']}: {', '.join(s['name'] for s in defined['steps'])}"
        )
        payload = orjson.dumps({"name": "world", "service": echo.url})
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
        if ended["status"] == "SUCCESS":
            say(f"  The service heard: {ended['results']['thank']['body']['body']['heard']}\n")
    sys.exit(watch.exit_code(ended) if ended["status"] in watch.ENDED else Exit.ENDED_BADLY)


@contextmanager
def _running(home: Path | None) -> Iterator[Settings]:
    """The settings of the platform that is meant; one is started if none runs."""
    given = config.load(**({} if home is None else {"workflow_home": home}))
    if "workflow_url" in given.model_fields_set or homes.is_taken(given.workflow_home):
        yield config.of_platform(home)
        return
    stop, end = stop_event(), threading.Event()
    with platform(given, Options(), say, stop) as running:
        watching = threading.Thread(target=running.run, args=(end,))
        watching.start()
        interrupt_on_signals()
        try:
            yield running.settings
        finally:
            end.set()
            watching.join()
