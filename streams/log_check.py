"""Whether the log is the one that a snapshot was made from: asked before the first record after it is read."""

from __future__ import annotations

from schemas.identity import digest
from schemas.ports import TP, Reader
from schemas.store import Mark


async def difference(reader: Reader, tp: TP, mark: Mark, cluster_id: str) -> str | None:
    """Why the log of this cluster cannot go on from `mark`, None when it can. Raises BrokerAway."""
    if mark.cluster_id != cluster_id:
        return f"the tables were made from cluster {mark.cluster_id}, this is {cluster_id}"
    end = (await reader.end_offsets([tp]))[tp]
    if mark.position > end:
        return f"it ends at {end}, the tables stand at {mark.position}"
    if mark.position:
        record = await reader.read_record(tp, mark.position - 1)
        if record is None or digest(record.value or b"") != mark.digest:
            return f"the record at {mark.position - 1} is not the one that the tables know"
    return None
