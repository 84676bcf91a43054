"""All definitions as `workflow.definitions` tells them. Chained per workflow: of two writers at once, the first record wins."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import orjson

from schemas.events import SOURCE, record_time
from schemas.identity import digest

WORKFLOW_DEFINED: Final = "WorkflowDefined"


@dataclass(frozen=True, slots=True)
class Defined:
    """One version of a workflow. `definition` is its plain form; `logged_ms`: when the log took it, ms since 1970."""

    id: str
    version: int
    definition: dict[str, Any]
    logged_ms: int

    @property
    def defined_at(self) -> str:
        """When the log took it: RFC 3339."""
        return record_time(self.logged_ms)


class Catalog:
    """A fold of the topic up to `position` (next offset to read)."""

    def __init__(self) -> None:
        self.position = 0
        self.orphans = 0
        self._tips: dict[str, tuple[int, str]] = {}
        self._versions: dict[str, list[Defined]] = {}

    def fold(self, offset: int, value: bytes | None, logged_ms: int) -> Defined | None:
        """Take the record at `offset`, which the log took at `logged_ms`; the version that it made, None when it is no fact
        (or an unknown type)."""
        self.position = offset + 1
        try:
            envelope = orjson.loads(value or b"")
            subject, seq, prev, type_ = envelope["subject"], envelope["seq"], envelope["prev"], envelope["type"]
        except (ValueError, KeyError, TypeError):
            self.orphans += 1
            return None
        at, tip = self._tips.get(subject, (0, None)) if isinstance(subject, str) else (-1, None)
        if type(seq) is not int or seq != at + 1 or prev != tip:
            self.orphans += 1
            return None
        self._tips[subject] = (seq, digest(value or b""))
        data, time = envelope.get("data"), envelope.get("time")
        definition = data.get("definition") if isinstance(data, dict) else None
        if type_ != WORKFLOW_DEFINED or not isinstance(definition, dict) or not isinstance(time, str):
            return None
        versions = self._versions.setdefault(subject, [])
        defined = Defined(subject, len(versions) + 1, definition, logged_ms)
        versions.append(defined)
        return defined

    def get(self, workflow_id: str, version: int | None = None) -> Defined | None:
        """A version, or the newest."""
        versions = self._versions.get(workflow_id, [])
        if version is None:
            return versions[-1] if versions else None
        return versions[version - 1] if 1 <= version <= len(versions) else None

    def get_then(self, workflow_id: str, at_ms: int) -> Defined | None:
        """The version that was the newest when the log's clock showed `at_ms`; a version counts from its own time on,
        whatever those before it say."""
        then = [each for each in self._versions.get(workflow_id, []) if each.logged_ms <= at_ms]
        return then[-1] if then else None

    def newest(self) -> list[Defined]:
        """The newest version of every workflow, by id."""
        return [self._versions[workflow_id][-1] for workflow_id in sorted(self._versions)]

    def next_record(self, definition: dict[str, Any], time: str, actor: str | None = None) -> bytes:
        """The record value that would make `definition` the newest version, if nobody is faster."""
        seq, prev = self._tips.get(definition["id"], (0, None))
        envelope: dict[str, Any] = {
            "specversion": "1.0",
            "id": f"{definition['id']}:{seq + 1}",
            "source": SOURCE,
            "type": WORKFLOW_DEFINED,
            "subject": definition["id"],
            "time": time,
            "datacontenttype": "application/json",
            "dataversion": 1,
            "seq": seq + 1,
            "prev": prev,
            "data": {"version": len(self._versions.get(definition["id"], [])) + 1, "definition": definition},
        }
        if actor is not None:
            envelope["actor"] = actor
        return orjson.dumps(envelope)
