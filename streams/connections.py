"""What aiokafka leaves behind when a connection breaks or closes at a bad moment, put right for every client of the process."""
# ruff: noqa: SLF001

from __future__ import annotations

import asyncio
from typing import Any

from aiokafka import AIOKafkaConsumer
from aiokafka.client import AIOKafkaClient
from aiokafka.conn import AIOKafkaConnection, CloseReason
from aiokafka.errors import KafkaConnectionError

_send = AIOKafkaConnection.send
_get_conn, _close = AIOKafkaClient._get_conn, AIOKafkaClient.close


def _send_or_lose(self: Any, request: Any, expect_response: bool = True) -> Any:
    """A send on a connection that broke a moment ago is a lost connection. On uvloop it is a RuntimeError, which aiokafka
    does not expect: it ended its tasks one by one and with them the membership in a group, without a word."""
    try:
        return _send(self, request, expect_response)
    except RuntimeError as exc:
        self.close(reason=CloseReason.CONNECTION_BROKEN)
        raise KafkaConnectionError(f"Connection broken: {exc}") from exc


async def _get_conn_while_open(self: Any, node_id: Any, **kwargs: Any) -> Any:
    """A client that was closed while it connected would keep the connection for ever. None is aiokafka's "not ready"."""
    connection = await _get_conn(self, node_id, **kwargs)
    if connection is not None and getattr(self, "_was_closed", False):
        connection.close(reason=CloseReason.SHUTDOWN)
        return None
    return connection


async def _close_for_good(self: Any) -> None:
    self._was_closed = True
    await _close(self)


AIOKafkaConnection.send = _send_or_lose
AIOKafkaClient._get_conn, AIOKafkaClient.close = _get_conn_while_open, _close_for_good


class Consumer(AIOKafkaConsumer):  # type: ignore[misc]
    """As aiokafka's, but nothing of it stays open, however its `stop` ends."""

    async def stop(self) -> None:
        if self._closed:
            return
        try:
            await super().stop()
        except asyncio.CancelledError:  # of a fetch that waited for its next try, say: aiokafka stops half-way then
            current = asyncio.current_task()
            if current is not None and current.cancelling():
                raise
        finally:
            if self._fetcher is not None:
                for task in (self._fetcher._fetch_task, *self._fetcher._pending_tasks):
                    task.cancel()
            await self._client.close()
