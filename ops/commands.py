"""Commands that talk to the API: workflows, trigger, runs."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import click
import orjson

from ops import config, tables, watch
from ops.client import Answer, Client, Exit
from ops.options import Nouns, home_option, output_option

LIST_POLL_S: Final = 1.0


def connected(folder: Path | None) -> Client:
    """To the API of the platform that is meant."""
    settings = config.of_platform(folder)
    return Client(settings.workflow_url, settings.workflow_api_key)


def show(answer: Answer, output: str, table: Callable[[Any], str]) -> None:
    """The body as it came, or as a table."""
    click.echo(answer.raw.decode() if output == "json" else table(answer.body))


@click.group(cls=Nouns)
def workflows() -> None:
    """Define workflows and look at them."""


@workflows.command("apply")
@click.argument(
    "files", nargs=-1, required=True, type=click.Path(exists=True, dir_okay=False, allow_dash=True, path_type=Path)
)
@home_option
@output_option
def apply(files: tuple[Path, ...], home: Path | None, output: str) -> None:
    """Define the workflows in FILES ('-': standard input), or their next versions.

    \b
    workflow workflows apply hello.json
    cat hello.json | workflow workflows apply -
    """
    with connected(home) as client:
        for file in files:
            definition = sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
            answer = client.apply(definition)
            show(answer, output, lambda body: _applied(body, created=answer.status == 201))  # noqa: B023 - called at once


def _applied(body: Any, *, created: bool) -> str:
    return f"{body['id']} version {body['version']} {'defined' if created else 'unchanged'}"


@workflows.command("list")
@click.option("--limit", type=click.IntRange(1), help="Of one page.")
@click.option("--cursor", help="The `next_cursor` of the page before.")
@home_option
@output_option
def list_workflows(limit: int | None, cursor: str | None, home: Path | None, output: str) -> None:
    """All workflows by id, each in its newest version."""
    with connected(home) as client:
        show(
            client.workflows({"limit": limit, "cursor": cursor}),
            output,
            lambda body: tables.workflow_rows(body["items"]),
        )


@workflows.command("show")
@click.argument("workflow_id")
@click.option("--version", type=click.IntRange(1), help="Left out: the newest.")
@click.option("--as-of", help="RFC 3339: the version that was the newest at that time.")
@home_option
@output_option
def show_workflow(workflow_id: str, version: int | None, as_of: str | None, home: Path | None, output: str) -> None:
    """One workflow with its definition."""
    with connected(home) as client:
        show(client.workflow(workflow_id, version, as_of), output, _pretty)


def _pretty(body: Any) -> str:
    return orjson.dumps(body, option=orjson.OPT_INDENT_2).decode()


@click.command()
@click.argument("workflow_id")
@click.option("-p", "--payload", default="{}", help="JSON; @FILE reads a file, - standard input.")
@click.option("--version", type=click.IntRange(1), help="Of the workflow. Left out: the newest.")
@click.option("--key", help="An idempotency key: repeating the command with it starts nothing twice.")
@click.option("--watch", "watching", is_flag=True, help="Show the run until it ends, and exit by how it ended.")
@click.option("--timeout", "timeout_s", type=click.FloatRange(0), help="Seconds to watch at most (exit code 6).")
@home_option
@output_option
def trigger(
    workflow_id: str,
    payload: str,
    version: int | None,
    key: str | None,
    watching: bool,
    timeout_s: float | None,
    home: Path | None,
    output: str,
) -> None:
    """Start a run of WORKFLOW_ID.

    \b
    workflow trigger hello --watch
    workflow trigger hello -p '{"name": "Ada"}' --key order-17 -o json
    """
    text = _payload(payload)
    with connected(home) as client:
        answer = client.trigger(workflow_id, text, version=version, key=key)
        if not watching:
            show(answer, output, lambda body: f"{body['run_id']} {body['status']}")
            return
        started = answer.body
        click.echo(f"run {started['run_id']}", err=True)
        sys.exit(_followed(client, started["run_id"], output, min_position=started["position"], timeout_s=timeout_s))


def _payload(text: str) -> bytes:
    try:
        raw = (
            sys.stdin.buffer.read()
            if text == "-"
            else Path(text[1:]).read_bytes()
            if text.startswith("@")
            else text.encode()
        )
    except OSError as error:
        raise click.BadParameter(f"{text[1:]} cannot be read: {error.strerror}", param_hint="--payload") from error
    try:
        orjson.loads(raw)
    except orjson.JSONDecodeError as error:
        raise click.BadParameter(f"this is no JSON: {error}", param_hint="--payload") from error
    return raw


def _followed(
    client: Client, run_id: str, output: str, *, min_position: str | None = None, timeout_s: float | None = None
) -> Exit:
    """Follow a run: lines of its events, or its last body as JSON."""
    on_event = None if output == "json" else lambda event, before: click.echo(tables.event_line(event, before))
    answer = watch.follow(client, run_id, on_event, min_position=min_position, timeout_s=timeout_s)
    if output == "json":
        click.echo(answer.raw.decode())
    return watch.exit_code(answer.body)


@click.group(cls=Nouns)
def runs() -> None:
    """Look at runs."""


@runs.command("list")
@click.option("--workflow", "workflow_id", help="Only of this workflow.")
@click.option(
    "--status", type=click.Choice(["PENDING", "RUNNING", "SUCCESS", "FAILED", "CANCELLED"], case_sensitive=False)
)
@click.option("--created-after", help="RFC 3339, as 2026-11-01T00:00:00Z.")
@click.option("--created-before", help="RFC 3339.")
@click.option("--as-of", help="RFC 3339: the list as it was at that time.")
@click.option("--limit", type=click.IntRange(1), help="Of one page.")
@click.option("--cursor", help="The `next_cursor` of the page before.")
@click.option(
    "--watch", "watching", is_flag=True, help="Show the list again when it changes, until no run of it is unfinished."
)
@home_option
@output_option
def list_runs(home: Path | None, output: str, watching: bool, **query: str | int | None) -> None:
    """Runs, newest first.

    \b
    workflow runs list --status FAILED
    workflow runs list --workflow hello --limit 10 -o json
    workflow runs list --status RUNNING --as-of 2026-11-01T09:30:00Z
    """
    if watching and query["as_of"] is not None:
        raise click.UsageError("What has passed does not change: give --watch or --as-of, not both.")
    with connected(home) as client:
        answer = client.runs(query)
        show(answer, output, lambda body: tables.run_rows(body["items"]))
        if watching:
            sys.exit(_watched_list(client, query, output, answer))


def _watched_list(client: Client, query: dict[str, str | int | None], output: str, answer: Answer) -> Exit:
    while any(run["status"] not in watch.ENDED for run in answer.body["items"]):
        time.sleep(LIST_POLL_S)
        fresh = client.runs(query)
        if fresh.body["items"] != answer.body["items"]:
            show(fresh, output, lambda body: "\n" + tables.run_rows(body["items"]))
        answer = fresh
    return max((watch.exit_code(run) for run in answer.body["items"]), default=Exit.GOOD)


@runs.command("counts")
@click.option("--workflow", "workflow_id", help="Only of this workflow.")
@click.option("--created-after", help="RFC 3339, as 2026-11-01T00:00:00Z.")
@click.option("--created-before", help="RFC 3339.")
@click.option("--as-of", help="RFC 3339: the counts as they were at that time.")
@home_option
@output_option
def count_runs(home: Path | None, output: str, **query: str | int | None) -> None:
    """How many runs have each status."""
    with connected(home) as client:
        show(client.counts(query), output, lambda body: tables.columns(("status", "runs"), body.items()))


@runs.command("proof")
@click.argument("run_id")
@home_option
def prove_run(run_id: str, home: Path | None) -> None:
    """All events of a run with their bytes, and the digests that chain them, as one JSON document.

    \b
    workflow runs proof ID | python docs/check_proof.py
    """
    with connected(home) as client:
        proof = client.proof(run_id, {}).body
        while proof["next_cursor"] is not None:
            page = client.proof(run_id, {"cursor": proof["next_cursor"]}).body
            proof = {**page, "items": proof["items"] + page["items"]}
        click.echo(orjson.dumps(proof).decode())


@runs.command("show")
@click.argument("run_id")
@click.option("--at", help="As it was: an RFC 3339 time, or the number of an event (0: before the first).")
@click.option("--watch", "watching", is_flag=True, help="Wait until it ends, and exit by how it ended.")
@click.option("--timeout", "timeout_s", type=click.FloatRange(0), help="Seconds to watch at most (exit code 6).")
@home_option
@output_option
def show_run(
    run_id: str, at: str | None, watching: bool, timeout_s: float | None, home: Path | None, output: str
) -> None:
    """One run: its status, steps, results and error."""
    if watching and at is not None:
        raise click.UsageError("What has passed does not change: give --watch or --at, not both.")
    with connected(home) as client:
        answer = watch.follow(client, run_id, None, timeout_s=timeout_s) if watching else client.run(run_id, at=at)
        show(answer, output, tables.run_page)
        if watching:
            sys.exit(watch.exit_code(answer.body))


@runs.command("why")
@click.argument("run_id")
@home_option
@output_option
def why(run_id: str, home: Path | None, output: str) -> None:
    """Why a run is where it is: what it waits for, until when, and who should act."""
    with connected(home) as client:
        show(client.why(run_id), output, tables.why_page)


@runs.command("events")
@click.argument("run_id")
@click.option("--order", type=click.Choice(["asc", "desc"]), default="asc", show_default=True)
@click.option("--type", help="Only events of this type.")
@click.option("--before-seq", type=click.IntRange(1))
@click.option("--limit", type=click.IntRange(1), help="Of one page.")
@click.option("--cursor", help="The `next_cursor` of the page before.")
@click.option(
    "--watch",
    "watching",
    is_flag=True,
    help="Go on until the run ends, and exit by how it ended. JSON: one event per line.",
)
@click.option("--timeout", "timeout_s", type=click.FloatRange(0), help="Seconds to watch at most (exit code 6).")
@home_option
@output_option
def list_events(
    run_id: str,
    watching: bool,
    timeout_s: float | None,
    home: Path | None,
    output: str,
    **query: str | int | None,
) -> None:
    """The history of a run: time, time since the event before, type, step and the one useful detail."""
    with connected(home) as client:
        if watching:
            sys.exit(_followed_events(client, run_id, output, timeout_s))
        show(client.events(run_id, query), output, lambda body: _lines(body["items"], query["order"]))


def _followed_events(client: Client, run_id: str, output: str, timeout_s: float | None) -> Exit:
    def line(event: tables.Event, before: tables.Event | None) -> None:
        click.echo(orjson.dumps(event).decode() if output == "json" else tables.event_line(event, before))

    return watch.exit_code(watch.follow(client, run_id, line, timeout_s=timeout_s).body)


def _lines(events: list[Any], order: object) -> str:
    before = [None, *events[:-1]] if order == "asc" else [*events[1:], None]
    return "\n".join(tables.event_line(event, earlier) for event, earlier in zip(events, before, strict=True))
