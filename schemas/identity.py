"""Who a run is and where it lives."""

from __future__ import annotations

import re
from functools import lru_cache
from hashlib import blake2b
from itertools import count
from struct import unpack_from
from typing import TypeGuard

RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:-]{0,127}\Z")
WORKFLOW_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}\Z")
STEP_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_-]{0,63}\Z")
SECRET_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,63}\Z")

VERSION_END = 2**63
"""A workflow's versions are below, as the stores hold them."""
_WORKFLOW_ID_CHARS_MAX = 128

_MASK = 0xFFFFFFFF
_M = 0x5BD1E995


def is_workflow_id(value: object) -> TypeGuard[str]:
    """Whether it can name a workflow."""
    return isinstance(value, str) and len(value) <= _WORKFLOW_ID_CHARS_MAX and _is_workflow_id(value)


@lru_cache(maxsize=1024)
def _is_workflow_id(text: str) -> bool:
    return WORKFLOW_ID.match(text) is not None


def is_version(value: object) -> TypeGuard[int]:
    """Whether it can number a version of a workflow."""
    return type(value) is int and 0 <= value < VERSION_END


def murmur2(data: bytes) -> int:
    """Kafka's key hash (org.apache.kafka.common.utils.Utils.murmur2), as an unsigned 32-bit number."""
    length = len(data)
    h = 0x9747B28C ^ length
    for word in unpack_from(f"<{length // 4}I", data):  # all at once: this runs for every run, in every process
        k = (word * _M) & _MASK
        h = ((h * _M) ^ ((k ^ (k >> 24)) * _M)) & _MASK
    if length & 3:
        h = ((h ^ int.from_bytes(data[length & ~3 :], "little")) * _M) & _MASK
    h = ((h ^ (h >> 13)) * _M) & _MASK
    return h ^ (h >> 15)


def home(run_id: str, partitions: int) -> int:
    """The partition in which a run lives: murmur2 of its id, as Kafka's default partitioner has it."""
    return (murmur2(run_id.encode()) & 0x7FFFFFFF) % partitions


def digest(value: bytes) -> str:
    """The digest that chains events: BLAKE2b of the record's value bytes, 16 bytes, lowercase hex."""
    return blake2b(value, digest_size=16).hexdigest()


def _as_id(*parts: bytes) -> str:
    hashed = blake2b(digest_size=16)
    for part in parts:
        hashed.update(len(part).to_bytes(8, "big") + part)
    text = hashed.hexdigest()
    return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


def keyed_run_id(caller: str, workflow_id: str, key: str) -> str:
    """The id of the run that an idempotency key names: there is no table of keys."""
    return _as_id(b"key", caller.encode(), workflow_id.encode(), key.encode())


def foreign_run_id(topic: str, partition: int, offset: int, timestamp_ms: int, value: bytes, partitions: int) -> str:
    """The id of a run whose record names none: from where and what the record is, at home in the record's own partition."""
    where = (topic.encode(), b"%d/%d/%d" % (partition, offset, timestamp_ms), value)
    for counter in count():
        run_id = _as_id(b"record", *where, b"%d" % counter)
        if home(run_id, partitions) == partition:
            return run_id
    raise AssertionError("unreachable")
