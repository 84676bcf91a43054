"""`workflow migrate` and `workflow grants`: what the owner of topics and tables does before the processes run."""

from __future__ import annotations

import asyncio
import re
import shlex
from collections.abc import Iterator, Mapping
from pathlib import Path

import click
import uvloop

from ops import checks, config
from ops.client import CommandFailed, Exit
from ops.options import home_option
from projections.sql import queries
from projections.stores import open_store
from schemas.errors import BrokerAway, StoreAway
from schemas.settings import Settings
from streams.rights import rights
from streams.topics import ensure_topics


@click.command()
@home_option
def migrate(home: Path | None) -> None:
    """Make the topics and the tables of this version, or bring older tables to it, and exit.

    Each process does the same when it starts, if it may. Any number may do so at once.
    """
    settings = config.of_platform(home)
    checks.check_servers(settings)
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(_migrate(settings))
    except (BrokerAway, StoreAway) as away:
        raise CommandFailed(away.message, Exit.SERVER_AWAY) from away
    click.echo("The topics and the tables are those of this version.")


async def _migrate(settings: Settings) -> None:
    await ensure_topics(settings)
    store = open_store(settings)
    try:
        await store.migrate()
        await store.board().change(lambda rebuild, _: (rebuild, None))  # makes it where it is not there yet
    finally:
        await store.close()


@click.command()
@click.option("--api", required=True, help="The user of the API processes.")
@click.option("--worker", required=True, help="The user of the workers.")
@click.option("--projector", required=True, help="The user of the projectors.")
@click.option("--owner", help="For Kafka: the user of `workflow migrate`, `verify`, `rebuild` and `keys`.")
@click.option(
    "--server",
    type=click.Choice(["postgres", "kafka"]),
    default="postgres",
    show_default=True,
    help="SQL for psql, or commands for kafka-acls.sh.",
)
def grants(api: str, worker: str, projector: str, owner: str | None, server: str) -> None:
    """Print what gives each process the rights that it needs, and no more. Nothing is applied.

    \b
    workflow grants --api a --worker w --projector p | psql …
    workflow grants --api a --worker w --projector p --server kafka
    """
    users = {"api": api, "worker": worker, "projector": projector} | ({"owner": owner} if owner else {})
    lines = [grants_sql(users)] if server == "postgres" else acl_commands(config.load(), users)
    for line in lines:
        click.echo(line)


def grants_sql(users: Mapping[str, str]) -> str:
    """Statements for these users of PostgreSQL, by role."""
    quoted = {role: '"' + user.replace('"', '""') + '"' for role, user in users.items()}
    return re.sub(r':"(\w+)"', lambda role: quoted[role[1]], queries("roles")["grants"])


def acl_commands(settings: Settings, users: Mapping[str, str]) -> Iterator[str]:
    """Commands for these users of Kafka, by role."""
    for right in rights(settings):
        if right.role in users:
            who = shlex.quote(f"User:{users[right.role]}")
            what = f"--operation {right.operation} --{right.kind} {shlex.quote(right.name)}"
            yield f"kafka-acls.sh --bootstrap-server {settings.kafka_bootstrap_servers} --add --allow-principal {who} {what}"
