"""Where an API may listen: nobody opens a platform by changing an address."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from api.guard import guard
from api.http_server import bind
from api.server import serve
from projections.memory import MemoryStore
from schemas.errors import BadSetting
from schemas.settings import Settings

EVERYWHERE = ["0.0.0.0", "::", ""]  # noqa: S104 - what is refused


def guarded(**given: Any) -> None:
    """Bind as an API does, and ask."""
    settings = Settings(api_port=0, **given)
    listening = bind(settings.api_host, 0, setting="API_PORT")
    try:
        guard(listening, settings)
    finally:
        listening.close()


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "::1", "localhost"])
@pytest.mark.parametrize("auth", ["auto", "keys", "off"])
def test_the_loopback_is_always_allowed(host: str, auth: str, caplog: pytest.LogCaptureFixture) -> None:
    """Without a word."""
    guarded(api_host=host, workflow_auth=auth)
    assert caplog.records == []


@pytest.mark.parametrize("host", EVERYWHERE)
def test_another_address_needs_a_word_on_who_may_come_in(host: str) -> None:
    """The error names the setting, both ways out, and the command that makes a key."""
    with pytest.raises(BadSetting, match="WORKFLOW_AUTH='auto'") as refused:
        guarded(api_host=host)
    for told in ("WORKFLOW_AUTH=keys", "`workflow keys create`", "WORKFLOW_AUTH=off", "API_HOST"):
        assert told in refused.value.message


def test_keys_open_every_address(caplog: pytest.LogCaptureFixture) -> None:
    """Nothing is said: it is guarded."""
    guarded(api_host=EVERYWHERE[0], workflow_auth="keys")
    assert caplog.records == []


def test_an_open_door_is_told_in_one_line(caplog: pytest.LogCaptureFixture) -> None:
    """A warning that names the address and the setting."""
    guarded(api_host=EVERYWHERE[0], workflow_auth="off")
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert "WORKFLOW_AUTH=off" in record.getMessage()
    assert EVERYWHERE[0] in record.getMessage()


async def test_a_refused_api_takes_no_connection() -> None:
    """It ends before it listens, and the port is free again."""
    settings = Settings(api_host=EVERYWHERE[0], api_port=0)
    with pytest.raises(BadSetting):
        await serve(settings, MemoryStore(), asyncio.Event())


async def test_origins_are_looked_at_before_anything_starts() -> None:
    """A wrong one ends the process with its setting."""
    with pytest.raises(BadSetting, match="WORKFLOW_CORS_ORIGINS"):
        await serve(Settings(api_port=0, workflow_cors_origins="x"), MemoryStore(), asyncio.Event())
