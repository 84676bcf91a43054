"""The process that evaluates heavy expressions: one request on stdin, one answer on stdout, until stdin ends.

A frame is four bytes of length, big-endian, and that many bytes of JSON. The request: {"sources": [...], "roots": {...},
"deadline_s": seconds, "bytes_max": bytes}. The answer: one [value, null] or [null, message] for each source.
Memory and processor time are bounded by the kernel, so that a process whose parent is gone ends as well.
"""

from __future__ import annotations

import math
import resource
import signal
import sys
from typing import Any, BinaryIO, Final

import orjson

from streams.expressions import ExpressionFailed, evaluate

READY: Final = b"ready"
MEMORY_BYTES_MAX: Final = 1 << 30
_HEAD_BYTES: Final = 4


def frame(body: bytes) -> bytes:
    """`body` with its length before it."""
    return len(body).to_bytes(_HEAD_BYTES, "big") + body


def read_frame(stream: BinaryIO) -> bytes | None:
    """The next body; None at the end of the stream."""
    head = stream.read(_HEAD_BYTES)
    if len(head) < _HEAD_BYTES:
        return None
    return stream.read(int.from_bytes(head, "big"))


def answer(request: dict[str, Any]) -> bytes:
    """The values of a request's sources as the body of a frame; one that goes past `bytes_max` with those before fails."""
    room = request["bytes_max"]
    parts: list[bytes] = []
    for source in request["sources"]:
        value = evaluate((source,), request["roots"])[source]
        part = orjson.dumps([None, value.message] if isinstance(value, ExpressionFailed) else [value, None])
        if len(part) > room:
            part = orjson.dumps([None, _too_large(len(part), request["bytes_max"])])
        else:
            room -= len(part)
        parts.append(part)
    return b"[" + b",".join(parts) + b"]"


def main() -> None:
    """Serve until stdin ends. Ctrl-C is for the parent to act on."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES_MAX, MEMORY_BYTES_MAX))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    _write(READY)
    while (body := read_frame(sys.stdin.buffer)) is not None:
        request = orjson.loads(body)
        _allow_cpu(request["deadline_s"])
        _write(answer(request))


def _allow_cpu(seconds: float) -> None:
    used = resource.getrusage(resource.RUSAGE_SELF)
    _, hard = resource.getrlimit(resource.RLIMIT_CPU)
    resource.setrlimit(resource.RLIMIT_CPU, (math.ceil(used.ru_utime + used.ru_stime + seconds) + 1, hard))


def _write(body: bytes) -> None:
    sys.stdout.buffer.write(frame(body))
    sys.stdout.buffer.flush()


def _too_large(size: int, bytes_max: int) -> str:
    return (
        f"its value has {size} bytes; the values of one step may have {bytes_max} together "
        "(setting WORKFLOW_EXPRESSION_VALUES_BYTES_MAX)"
    )


if __name__ == "__main__":
    main()
