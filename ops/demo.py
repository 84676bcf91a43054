"""`workflow demo`: a sample workflow, defined, started and shown live, on a platform that is started if none runs."""

from __future__ import annotations

import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

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
PAYLOAD: Final = {"name": "world"}


def sample(echo_url: str) -> dict[str, Any]:
    """Three steps: ask a service, wait, and tell it what it answered."""
    return {
        "id": "hello",
        "name": "Hello",
        "description": "Greets a service, waits half a second, and thanks it for its answer.",
        "steps": [
            {
                "name": "greet",
                "type": "webhook",
                "config": {"url": f"{echo_url}/greet", "method": "POST", "body": {"text": "Hello, ${payload.name}!"}},
            },
            {"name": "wait", "type": "delay", "config": {"duration": "500ms"}},
            {
                "name": "thank",
                "type": "webhook",
                "config": {
                    "url": f"{echo_url}/thank",
                    "method": "POST",
                    "body": {"heard": "${steps.greet.output.body.body.text}"},
                },
            },
        ],
    }


@click.command()
@home_option
def demo(home: Path | None) -> None:
    """Define a sample workflow, start a run and show it until it ends.

    It uses the platform that runs, or starts one and stops it afterwards.
    """
    with ExitStack() as stack:
        settings = stack.enter_context(_running(home))
        echo = stack.enter_context(echo_receiver(0))
        client = stack.enter_context(Client(settings.workflow_url))
        defined = client.apply(orjson.dumps(sample(echo.url))).body
        say(
            f"\n  Defined {defined['id']} version {defined['version']}: {', '.join(s['name'] for s in defined['steps'])}"
        )
        started = client.trigger(defined["id"], orjson.dumps(PAYLOAD)).body
        say(f"  Triggered run {started['run_id']} with {orjson.dumps(PAYLOAD).decode()}\n")
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
