"""The errors that people meet. A class's docstring is its message; `code` is its stable name on every surface."""

from __future__ import annotations

import inspect
import re
from typing import ClassVar


class WorkflowError(Exception):
    """Something went wrong: {reason}"""

    code: ClassVar[str] = "workflow_error"

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "code" not in cls.__dict__:
            cls.code = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", cls.__name__).lower()

    def __init__(self, message: str | None = None, **fields: object) -> None:
        """`fields` fill the braces of the class's docstring; `message` replaces it whole."""
        self.fields = fields
        self.message = (
            message
            if message is not None
            else " ".join(inspect.cleandoc(type(self).__doc__ or "").format(**fields).split())
        )
        super().__init__(self.message)


class BadSetting(WorkflowError):
    """{name}={value!r} cannot be used: {reason}. Change it and start again."""


class BrokerAway(WorkflowError):
    """Kafka at {address} does not answer ({reason}). Start it or set KAFKA_BOOTSTRAP_SERVERS to one that runs."""


class OutcomeUnknown(WorkflowError):
    """It is not known whether this was written ({reason}): it may still come to stand in the log.
    Repeating it with the same Idempotency-Key is safe."""


class StoreAway(WorkflowError):
    """The store does not answer ({reason}). Start it or set STORAGE_BACKEND / POSTGRES_* to one that runs."""


class StoreRefused(WorkflowError):
    """The store does not take what the log says ({what}). Its partition stands still, nothing is skipped.
    If the store was changed by hand or restored in part, run `workflow rebuild`."""


class StalePosition(WorkflowError):
    """The tables of partition {partition} stand at {found}, not at {wanted}, or were exchanged: another process was faster."""


class OtherProjection(WorkflowError):
    """The tables hold the projection {found}, this program makes the projection {wanted}. {remedy}"""


class TopicMismatch(WorkflowError):
    """Topic {topic}: {found}, but {wanted} is needed. {remedy}"""


class LogMismatch(WorkflowError):
    """Partition {partition} of {topic} is not the log that the tables were made from ({reason}).
    Nothing was changed. If this is the right cluster, run `workflow rebuild` to make the tables anew from it."""


class NotCoPartitioned(WorkflowError):
    """This worker was given partitions {commands} of the commands and {events} of the events: they must be the same.
    All members of the group {group} must run the same version with the same assignor."""


class DefinitionUnknown(WorkflowError):
    """There is no workflow {workflow_id!r}{version}. Define it with POST /api/v1/workflows or list them with GET /api/v1/workflows."""


class HistoryDamaged(WorkflowError):
    """The history of run {run_id!r} in the tables lacks an event, or holds a record that is none of the log. `workflow verify`
    shows what differs, and `workflow rebuild` makes the tables anew."""


class RunUnknown(WorkflowError):
    """There is no run {run_id!r}.{behind}"""


class KeyRefused(WorkflowError):
    """The API key cannot be taken: {reason}"""


class KeyUnknown(WorkflowError):
    """There is no API key {key!r} that may be used. `workflow keys list` shows those that there are."""


class KeyNameTaken(WorkflowError):
    """There is an API key named {name!r} already. Take another name, or revoke that one first."""


class CommandRefused(WorkflowError):
    """The command cannot be taken: {reason}"""


class EventUnreadable(WorkflowError):
    """The record is no event: {reason}"""


class TooLarge(WorkflowError):
    """{what} has {found} bytes; the limit is {limit} (setting {setting})."""
