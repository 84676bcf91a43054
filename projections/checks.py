"""Whether the log is the one that the tables were made from: asked before the first record is read."""

from __future__ import annotations

from schemas.errors import LogMismatch
from schemas.identity import digest
from schemas.ports import TP, Reader
from schemas.store import Mark


async def check_log(reader: Reader, tp: TP, mark: Mark | None, cluster_id: str) -> None:
    """Raises LogMismatch unless the log goes on from `mark`; None: it is to be read from its first record."""
    begin = (await reader.begin_offsets([tp]))[tp]
    if mark is None:
        if begin > 0:
            raise _mismatch(tp, f"its first {begin} records are gone")
        return
    if mark.cluster_id != cluster_id:
        raise _mismatch(tp, f"this is the cluster {cluster_id}, that was {mark.cluster_id}")
    end = (await reader.end_offsets([tp]))[tp]
    if not begin < mark.position <= end:
        raise _mismatch(tp, f"it holds the offsets {begin} to {end - 1}, the tables stand at {mark.position}")
    record = await reader.read_record(tp, mark.position - 1)
    found = None if record is None else digest(record.value or b"")
    if found != mark.digest:
        raise _mismatch(tp, f"the record at offset {mark.position - 1} has the digest {found}, not {mark.digest}")


async def check_commands(reader: Reader, tp: TP, position: int) -> int:
    """Where to read on; records that were decided long ago may be deleted. Raises LogMismatch past the end."""
    end = (await reader.end_offsets([tp]))[tp]
    if position > end:
        raise _mismatch(tp, f"it ends at {end}, the tables stand at {position}")
    return max(position, (await reader.begin_offsets([tp]))[tp])


def _mismatch(tp: TP, reason: str) -> LogMismatch:
    return LogMismatch(partition=tp.partition, topic=tp.topic, reason=reason)
