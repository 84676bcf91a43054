"""How the servers are reached: settings that contradict each other, files that cannot be used, and what a refusal means."""

from __future__ import annotations

import ipaddress
import ssl
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final, NamedTuple

from ops.errors import ConnectionRefused
from schemas.errors import BadSetting
from schemas.settings import Settings, secret_names

HIDDEN: Final = "***"
"""Stands in messages for a secret that was given."""

_OUT_OF_DATE: Final = {9, 10}  # X509_V_ERR_CERT_NOT_YET_VALID, …_HAS_EXPIRED
_OTHER_NAME: Final = {62, 64}  # …_HOSTNAME_MISMATCH, …_IP_ADDRESS_MISMATCH


class Names(NamedTuple):
    """A server, and the settings that say how it is reached."""

    server: str
    address: str
    protocol: str
    authority: str
    certificate: str


KAFKA: Final = Names(
    "Kafka",
    "KAFKA_BOOTSTRAP_SERVERS",
    "KAFKA_SECURITY_PROTOCOL",
    "KAFKA_SSL_CAFILE",
    "KAFKA_SSL_CERTFILE and KAFKA_SSL_KEYFILE",
)
POSTGRES: Final = Names(
    "PostgreSQL",
    "POSTGRES_HOST",
    "POSTGRES_SSLMODE",
    "POSTGRES_SSLROOTCERT",
    "POSTGRES_SSLCERT and POSTGRES_SSLKEY",
)


def check(settings: Settings) -> None:
    """Raises BadSetting for the first setting that contradicts another one, or whose file cannot be used."""
    check_kafka(settings)
    if settings.storage_backend == "postgres":
        check_postgres(settings)


def check_kafka(settings: Settings) -> None:
    """The settings of Kafka alone."""
    protocol = settings.kafka_security_protocol
    says = f"KAFKA_SECURITY_PROTOCOL={protocol}"
    if protocol.startswith("SASL"):
        for name in ("kafka_sasl_username", "kafka_sasl_password"):
            _demand(settings, name, f"{says} needs it")
    else:
        _forbid(settings, ("kafka_sasl_username", "kafka_sasl_password"), f"{says} sends no user")
    files = ("kafka_ssl_cafile", "kafka_ssl_certfile", "kafka_ssl_keyfile")
    if not protocol.endswith("SSL"):
        _forbid(settings, (*files, "kafka_ssl_password"), f"{says} does not use TLS")
    elif not settings.kafka_ssl_certfile:
        _forbid(settings, ("kafka_ssl_keyfile", "kafka_ssl_password"), "KAFKA_SSL_CERTFILE is not set")
    _check_files(settings, *files, settings.kafka_ssl_password)


def check_postgres(settings: Settings) -> None:
    """The settings of PostgreSQL alone."""
    mode = settings.postgres_sslmode
    says = f"POSTGRES_SSLMODE={mode}"
    files = ("postgres_sslrootcert", "postgres_sslcert", "postgres_sslkey")
    if mode == "disable":
        _forbid(settings, files, f"{says} does not use TLS")
    elif mode in {"allow", "prefer"}:
        _forbid(settings, files[:1], f"{says} verifies nothing; verify-full does")
    elif mode.startswith("verify"):
        _demand(settings, "postgres_sslrootcert", f"{says} needs the certificate of the authority to trust")
    if not settings.postgres_sslcert:
        _forbid(settings, files[2:], "POSTGRES_SSLCERT is not set")
    _check_files(settings, *files, "")


def warn(settings: Settings, say: Callable[[str], None]) -> None:
    """Tell of what works and is probably not meant."""
    far = [host for host in _hosts(settings) if not _is_loopback(host)]
    if settings.kafka_security_protocol == "SASL_PLAINTEXT" and far:
        secret = "password and data" if settings.kafka_sasl_mechanism == "PLAIN" else "data"
        say(
            f"KAFKA_SECURITY_PROTOCOL=SASL_PLAINTEXT sends {secret} in the clear to {', '.join(far)}; SASL_SSL does not"
        )


def tls_refused(names: Names, address: object, error: ssl.SSLError) -> ConnectionRefused:
    """What a failed handshake means, and which setting to look at."""
    reason, remedy = _explained(names, error)
    return ConnectionRefused(server=names.server, address=address, reason=reason, remedy=remedy)


def _explained(names: Names, error: ssl.SSLError) -> tuple[str, str]:
    if isinstance(error, ssl.SSLCertVerificationError):
        reason = f"its certificate is not accepted ({error.verify_message.rstrip('.')})"
        if error.verify_code in _OUT_OF_DATE:
            return reason, "Renew it, and look at the clock of this machine."
        if error.verify_code in _OTHER_NAME:
            return reason, f"Set {names.address} to a name that stands in it."
        return reason, f"Set {names.authority} to the certificate of the authority that signed it."
    told = error.reason or str(error)
    if "ALERT" in told:  # said by the server
        return f"it refuses our certificate, or wants one ({told})", f"Set {names.certificate}."
    return f"it does not speak TLS there ({told})", f"Look at {names.protocol} and the port."


def _demand(settings: Settings, name: str, reason: str) -> None:
    if not getattr(settings, name):
        raise BadSetting(name=name.upper(), value="", reason=reason)


def _forbid(settings: Settings, names: Iterable[str], reason: str) -> None:
    for name in names:
        if value := getattr(settings, name):
            raise BadSetting(name=name.upper(), value=HIDDEN if name in secret_names() else value, reason=reason)


def _check_files(settings: Settings, ca: str, certificate: str, key: str, password: str) -> None:
    """Whether TLS can be made of the files that these settings name."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    for name in (ca, certificate, key):
        _check_readable(settings, name)
    if path := getattr(settings, ca):
        _try(settings, ca, lambda: context.load_verify_locations(path))
    if chain := getattr(settings, certificate):
        name = key if getattr(settings, key) else certificate
        _try(settings, name, lambda: context.load_cert_chain(chain, getattr(settings, key) or None, lambda: password))


def _check_readable(settings: Settings, name: str) -> None:
    if path := getattr(settings, name):
        try:
            Path(path).read_bytes()
        except OSError as error:
            raise BadSetting(name=name.upper(), value=path, reason=error.strerror or error) from None


def _try(settings: Settings, name: str, load: Callable[[], object]) -> None:
    try:
        load()
    except (OSError, ValueError) as error:
        reason = f"it holds nothing that TLS can use ({error})"
        raise BadSetting(name=name.upper(), value=getattr(settings, name), reason=reason) from None


def _hosts(settings: Settings) -> list[str]:
    servers = (part.strip() for part in settings.kafka_bootstrap_servers.split(","))
    return [server.rpartition(":")[0].strip("[]") or server for server in servers if server]


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
