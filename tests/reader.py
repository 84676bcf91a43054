"""A reader of `workflow.events` made from docs/events.md with Python's standard library alone: the rule, and nothing else.

The history checker and the simulation judge the product by it, so it uses none of the product's code.
"""

from __future__ import annotations

import json
import re
from hashlib import blake2b
from typing import Any, Final, NamedTuple

RUN_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}\Z")


class Raw(NamedTuple):
    """A record as it stands in a partition; `timestamp` in ms, of the broker on the log."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None


class Reader:
    """One partition: `take` its records in order. The answer is "" for a fact, else why the record is none."""

    def __init__(self, partition: int, partitions: int) -> None:
        self.partition, self.partitions = partition, partitions
        self.epoch = 0
        self.event: dict[str, Any] = {}
        """the last record that was readable"""
        self.tips: dict[str, tuple[int, str | None, bool]] = {}
        """run id → seq and digest of its last fact, and whether that was its end"""

    def take(self, value: bytes | None) -> str:
        event = readable(value)
        if event is None:
            return "unreadable"
        self.event, run, epoch = event, event["subject"], event["epoch"]
        if event["type"] == "PartitionTaken":
            fact = epoch > self.epoch and run == f"partition/{self.partition}"
            self.epoch = epoch if fact else self.epoch
            return "" if fact else "lost take"
        if epoch != self.epoch:
            return "old epoch"
        seq, tip, done = self.tips.get(run, (0, None, False))
        extends = (event["seq"], event["prev"]) == (seq + 1, tip)
        if done:
            return "extends an end" if extends else "after the end"
        if not extends:
            return "not the tip"
        if seq == 0 and not self._is_home(run):
            return "not at home"
        self.tips[run] = (seq + 1, digest(value or b""), event["type"] == "RunCompleted")
        return ""

    def _is_home(self, run: str) -> bool:
        return bool(RUN_ID.match(run)) and (murmur2(run.encode()) & 0x7FFFFFFF) % self.partitions == self.partition


def readable(value: bytes | None) -> dict[str, Any] | None:
    """The event, if it has what the rule asks about."""
    try:
        text = (value or b"").decode()
        event: dict[str, Any] = json.loads(text, parse_constant=int, parse_float=_number, parse_int=_number)
        json.dumps(event, ensure_ascii=False).encode()  # half of a surrogate pair has no UTF-8
        kinds = [type(event[name]) for name in ("subject", "type", "seq", "epoch")]
        sound = kinds == [str, str, int, int] and isinstance(event["prev"], str | None)
    except (ValueError, KeyError, TypeError, RecursionError):
        return None
    return event if sound and event["seq"] >= 0 and 1 <= event["epoch"] < 2**63 else None


def _number(text: str) -> float:
    if abs(float(text)) == float("inf"):
        raise ValueError("no double holds this number")
    return int(text) if text.lstrip("-").isdigit() else float(text)


def digest(value: bytes) -> str:
    return blake2b(value, digest_size=16).hexdigest()


def murmur2(data: bytes) -> int:
    """Kafka's hash of keys."""
    m, mask, whole = 0x5BD1E995, 0xFFFFFFFF, len(data) & ~3
    h = 0x9747B28C ^ len(data)
    for at in range(0, whole, 4):
        k = int.from_bytes(data[at : at + 4], "little") * m & mask
        h = (h * m & mask) ^ ((k ^ k >> 24) * m & mask)
    if data[whole:]:
        h = (h ^ int.from_bytes(data[whole:], "little")) * m & mask
    h = (h ^ h >> 13) * m & mask
    return h ^ h >> 15
