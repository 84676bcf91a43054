"""One request as the server hands it to the app: message by message."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from typing import Any

import orjson
from starlette.types import Message

from tests.api.world import World

TRIGGER = "/api/v1/trigger"
JSON = (b"content-type", b"application/json")


class Exchange:
    """One request as the server hands it to the app: message by message."""

    def __init__(self, messages: Iterable[Message]) -> None:
        self._messages = list(messages)
        self.received = 0
        self.sent: list[Message] = []

    async def receive(self) -> Message:
        self.received += 1
        if not self._messages:
            await asyncio.Event().wait()
        return self._messages.pop(0)

    async def send(self, message: Message) -> None:
        self.sent.append(message)

    @property
    def status(self) -> int:
        status: int = self.sent[0]["status"]
        return status

    @property
    def headers(self) -> dict[bytes, bytes]:
        return dict(self.sent[0]["headers"])

    @property
    def body(self) -> Any:
        return orjson.loads(b"".join(message.get("body", b"") for message in self.sent[1:]))


async def exchange(
    world: World, *chunks: bytes, left: bool = False, headers: Iterable[tuple[bytes, bytes]] = (), **scope: Any
) -> Exchange:
    """POST /api/v1/trigger with a body in chunks; `left`: the client leaves before the last one."""
    messages: list[Message] = [
        {"type": "http.request", "body": chunk, "more_body": left or n < len(chunks)}
        for n, chunk in enumerate(chunks, 1)
    ]
    if left:
        messages.append({"type": "http.disconnect"})
    there = Exchange(messages)
    request = {
        "type": "http",
        "asgi": {"version": "3.0"},
        "http_version": "1.1",
        "method": "POST",
        "path": TRIGGER,
        "raw_path": TRIGGER.encode(),
        "query_string": b"",
        "root_path": "",
        "scheme": "http",
        "headers": [JSON, *headers],
        "server": ("127.0.0.1", 1),
        "client": ("127.0.0.1", 2),
        **scope,
    }
    await world.app(request, there.receive, there.send)
    return there
