"""`workflow keys`: API keys, made, listed and revoked on Kafka itself: whoever reaches the brokers is the administrator."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from typing import TypeVar

import click
import orjson
import uvloop

from api.commands import KafkaCommandSender
from api.tokens import hash_secret, new_token
from ops import checks, config, tables
from ops.client import CommandFailed, Exit
from ops.options import Nouns, data_option, home_option
from schemas.errors import BrokerAway, KeyRefused, KeyUnknown, LogMismatch, OutcomeUnknown
from schemas.events import time_text
from schemas.keys import SCOPES, ApiKey, mistakes, read_token, sorted_scopes
from schemas.settings import Settings
from streams.key_reader import KeyReader
from streams.topics import ensure_topics

T = TypeVar("T")


@click.group(cls=Nouns)
def keys() -> None:
    """Make, list and revoke the API keys that are asked for with WORKFLOW_AUTH=keys.

    These commands work on Kafka, not on the API: that is how the first key is made.
    """


@keys.command("create")
@click.argument("name")
@click.option(
    "--scope",
    "scopes",
    type=click.Choice(SCOPES),
    multiple=True,
    required=True,
    help="What it may do; may be repeated. admin: everything, keys too.",
)
@click.option(
    "--rate", help="A limit of its own in place of WORKFLOW_RATE_LIMIT, as 20/second, 100/minute or 5000/hour."
)
@home_option
@data_option
def create(name: str, scopes: tuple[str, ...], rate: str | None, home: Path | None, output: str) -> None:
    """Make a key named NAME and print it: this once, for only its hash is kept.

    Runs that are started and workflows that are defined with it name it as their actor.

    \b
    workflow keys create shop --scope trigger
    workflow keys create ann --scope read --scope define --rate 20/second -o json
    """
    wrong = mistakes(name, list(dict.fromkeys(scopes)), rate)
    if wrong:
        raise KeyRefused(reason="; ".join(f"{field}: {rule}" for field, rule in wrong.items()))
    token = new_token()
    key = ApiKey(token.id, name, sorted_scopes(scopes), hash_secret(token.secret), time_text(time.time()), rate)
    made = _run(home, lambda reader: reader.create(key))
    if output == "json":
        click.echo(orjson.dumps({**made.shown(), "token": token.text}).decode())
    else:
        click.echo(token.text)
        click.echo(f"key {made.id} named {made.name} may {', '.join(made.scopes)}; it is not shown again", err=True)


@keys.command("list")
@home_option
@data_option
def list_keys(home: Path | None, output: str) -> None:
    """All keys by name, revoked ones too. No secret is shown: none is kept."""
    found = _run(home, _all)
    if output == "json":
        click.echo(orjson.dumps([key.shown() for key in found]).decode())
    else:
        click.echo(tables.key_rows(key.shown() for key in found))


@keys.command("revoke")
@click.argument("key", metavar="ID|NAME")
@home_option
@data_option
def revoke(key: str, home: Path | None, output: str) -> None:
    """Revoke a key, for ever. Every API process refuses it within a second or so.

    A key that was found where it should not be may be given whole, as wfk_…
    """
    token = read_token(key)
    revoked = _run(home, lambda reader: _revoke(reader, key if token is None else token.id))
    if output == "json":
        click.echo(orjson.dumps([each.shown() for each in revoked]).decode())
    else:
        for each in revoked:
            click.echo(f"{each.id} {each.name} revoked at {each.revoked_at}")


async def _all(reader: KeyReader) -> list[ApiKey]:
    await reader.level()
    return reader.all()


async def _revoke(reader: KeyReader, text: str) -> list[ApiKey]:
    """The key of this id, else the one of this name (two, where two were made at once and one maker died)."""
    found: Iterable[ApiKey] = await _all(reader)
    ids = [key.id for key in found if key.id == text] or [key.id for key in reader.named(text)]
    if not ids:
        raise KeyUnknown(key=text)
    return [await reader.revoke(key_id) for key_id in ids]


def _run(home: Path | None, work: Callable[[KeyReader], Awaitable[T]]) -> T:
    """Do it on the topic of the platform that is meant; it is made if it is missing."""
    settings = config.of_platform(home)
    try:
        checks.check_broker(settings)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(_on_kafka(settings, work))
    except BrokerAway as away:
        raise CommandFailed(away.message, Exit.SERVER_AWAY) from away
    except OutcomeUnknown as unknown:
        reason = unknown.fields.get("reason", unknown.message)
        raise CommandFailed(
            f"it is not known whether this was written ({reason}); see `workflow keys list`", Exit.SERVER_AWAY
        ) from unknown
    except LogMismatch as mismatch:
        raise CommandFailed(mismatch.message, Exit.ENDED_BADLY) from mismatch


async def _on_kafka(settings: Settings, work: Callable[[KeyReader], Awaitable[T]]) -> T:
    await ensure_topics(settings, only=settings.topics.keys)
    sender = KafkaCommandSender(settings)
    reader = KeyReader(settings, sender.append, clock=time.time)
    sender.start()
    reader.start()
    try:
        return await work(reader)
    finally:
        await reader.stop()
        await sender.stop()
