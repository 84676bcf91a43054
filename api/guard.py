"""Whether an API may listen where it was told to, and to whom."""

from __future__ import annotations

import ipaddress
import logging
import socket

from api.headers import origins
from schemas.errors import BadSetting
from schemas.settings import Settings

log = logging.getLogger(__name__)


def guard(listening: socket.socket, settings: Settings) -> None:
    """Raise BadSetting, and close the socket, where others than this machine could come in and nobody is asked for a key,
    unless WORKFLOW_AUTH says that this is meant; then say so. Also for WORKFLOW_CORS_ORIGINS that cannot be used."""
    try:
        _guard(listening.getsockname()[0], settings)
        origins(settings)
    except BadSetting:
        listening.close()
        raise


def _guard(host: str, settings: Settings) -> None:
    if settings.workflow_auth == "keys" or ipaddress.ip_address(host).is_loopback:
        return
    if settings.workflow_auth == "auto":
        reason = (
            f"the API would listen on {host} (API_HOST={settings.api_host}), beyond this machine, and let everybody in. "
            "Set WORKFLOW_AUTH=keys and make a key with `workflow keys create`, or WORKFLOW_AUTH=off when something else "
            "guards the port"
        )
        raise BadSetting(name="WORKFLOW_AUTH", value=settings.workflow_auth, reason=reason)
    log.warning("The API listens on %s and lets everybody in (WORKFLOW_AUTH=off): something else must guard it", host)
