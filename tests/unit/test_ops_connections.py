"""How servers are reached: what contradicts itself stops the start with one line, and no line holds a secret."""

from __future__ import annotations

import logging
import os
import ssl
import threading
from pathlib import Path
from typing import Any

import asyncpg.connect_utils
import pytest
from pydantic import ValidationError

from ops import cli, config, connections, platform_commands
from ops.client import Exit
from ops.connections import KAFKA, POSTGRES
from schemas.errors import BadSetting
from schemas.settings import Settings, secret_names
from tests.certificates import Authority

SECRETS = secret_names()
SECRET = 'hunter2 & "co"/?#:@%\N{SNOWMAN}'
SASL = {"kafka_sasl_username": "u", "kafka_sasl_password": SECRET}


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def files(authority: Authority) -> dict[str, str]:
    """Certificates by the name that the cases below call them by."""
    pair, other = authority.sign("client"), authority.sign("other")
    closed = authority.sign("closed", password=SECRET)
    return {
        "CA": str(authority.certificate),
        "CERT": str(pair.certificate),
        "KEY": str(pair.key),
        "OTHER": str(other.key),
        "CLOSED": str(closed.certificate),
        "CLOSED_KEY": str(closed.key),
        "TEXT": str(Path(__file__)),
    }


@pytest.mark.parametrize(
    ("given", "names", "says"),
    [
        ({"kafka_security_protocol": "SASL_SSL"}, "KAFKA_SASL_USERNAME", "needs it"),
        ({"kafka_security_protocol": "SASL_PLAINTEXT"}, "KAFKA_SASL_USERNAME", "needs it"),
        (
            {"kafka_security_protocol": "SASL_SSL", "kafka_sasl_username": "u"},
            "KAFKA_SASL_PASSWORD",
            "KAFKA_SECURITY_PROTOCOL=SASL_SSL needs it",
        ),
        ({"kafka_sasl_username": "u"}, "KAFKA_SASL_USERNAME", "sends no user"),
        ({"kafka_security_protocol": "SSL", "kafka_sasl_password": SECRET}, "KAFKA_SASL_PASSWORD", "sends no user"),
        ({"kafka_ssl_cafile": "CA"}, "KAFKA_SSL_CAFILE", "does not use TLS"),
        ({"kafka_ssl_password": SECRET}, "KAFKA_SSL_PASSWORD", "does not use TLS"),
        (
            {"kafka_security_protocol": "SASL_PLAINTEXT", **SASL, "kafka_ssl_certfile": "CERT"},
            "KAFKA_SSL_CERTFILE",
            "does not use TLS",
        ),
        ({"kafka_security_protocol": "SSL", "kafka_ssl_cafile": "/none"}, "KAFKA_SSL_CAFILE", "No such file"),
        (
            {"kafka_security_protocol": "SSL", "kafka_ssl_cafile": "TEXT"},
            "KAFKA_SSL_CAFILE",
            "nothing that TLS can use",
        ),
        ({"kafka_security_protocol": "SSL", "kafka_ssl_keyfile": "KEY"}, "KAFKA_SSL_KEYFILE", "CERTFILE is not set"),
        (
            {"kafka_security_protocol": "SSL", "kafka_ssl_certfile": "CERT", "kafka_ssl_keyfile": "OTHER"},
            "KAFKA_SSL_KEYFILE",
            "mismatch",
        ),
        (
            {"kafka_security_protocol": "SSL", "kafka_ssl_certfile": "CLOSED", "kafka_ssl_keyfile": "CLOSED_KEY"},
            "KAFKA_SSL_KEYFILE",
            "nothing that TLS can use",
        ),
        ({"kafka_security_protocol": "SSL", "kafka_ssl_certfile": "CERT"}, "KAFKA_SSL_CERTFILE", "nothing that TLS"),
        ({"postgres_sslmode": "verify-full"}, "POSTGRES_SSLROOTCERT", "needs the certificate of the authority"),
        ({"postgres_sslmode": "verify-ca"}, "POSTGRES_SSLROOTCERT", "needs the certificate of the authority"),
        ({"postgres_sslrootcert": "CA"}, "POSTGRES_SSLROOTCERT", "POSTGRES_SSLMODE=prefer verifies nothing"),
        ({"postgres_sslmode": "disable", "postgres_sslcert": "CERT"}, "POSTGRES_SSLCERT", "does not use TLS"),
        ({"postgres_sslmode": "require", "postgres_sslkey": "KEY"}, "POSTGRES_SSLKEY", "POSTGRES_SSLCERT is not set"),
        ({"postgres_sslmode": "require", "postgres_sslrootcert": "/none"}, "POSTGRES_SSLROOTCERT", "No such file"),
        (
            {"postgres_sslmode": "require", "postgres_sslcert": "CERT", "postgres_sslkey": "OTHER"},
            "POSTGRES_SSLKEY",
            "mismatch",
        ),
    ],
)
def test_what_makes_no_sense_is_refused_by_name(
    given: dict[str, str], names: str, says: str, files: dict[str, str]
) -> None:
    """One line with the setting, its value unless it is a secret, and why."""
    settings = Settings.model_validate({name: files.get(value, value) for name, value in given.items()})
    with pytest.raises(BadSetting) as refused:
        connections.check(settings)
    line = str(refused.value)
    assert line.startswith(f"{names}=")
    assert says.lower() in line.lower()
    assert "\n" not in line
    assert SECRET not in line


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"kafka_security_protocol": "SSL"},
        {"kafka_security_protocol": "SASL_SSL", **SASL, "kafka_ssl_cafile": "CA"},
        {"kafka_security_protocol": "SSL", "kafka_ssl_certfile": "CERT", "kafka_ssl_keyfile": "KEY"},
        {
            "kafka_security_protocol": "SSL",
            "kafka_ssl_certfile": "CLOSED",
            "kafka_ssl_keyfile": "CLOSED_KEY",
            "kafka_ssl_password": SECRET,
        },
        {"kafka_security_protocol": "SASL_PLAINTEXT", **SASL, "kafka_sasl_mechanism": "PLAIN"},
        {"postgres_sslmode": "verify-full", "postgres_sslrootcert": "CA"},
        {"postgres_sslmode": "require", "postgres_sslcert": "CERT", "postgres_sslkey": "KEY"},
        {"storage_backend": "memory", "postgres_sslmode": "verify-full"},
    ],
)
def test_what_makes_sense_is_taken(given: dict[str, str], files: dict[str, str]) -> None:
    """Settings of a store that is not used are not looked at."""
    connections.check(Settings.model_validate({name: files.get(value, value) for name, value in given.items()}))


@pytest.mark.parametrize(
    ("servers", "mechanism", "said"),
    [
        ("localhost:9092,127.0.0.2:1,[::1]:9092", "PLAIN", []),
        ("kafka.example:9092", "SCRAM-SHA-256", ["data"]),
        ("localhost:9092, 10.0.0.1:9092", "PLAIN", ["password and data"]),
    ],
)
def test_a_login_in_the_clear_is_told_beyond_the_loopback(servers: str, mechanism: str, said: list[str]) -> None:
    """It works, so it is not refused: something else may encrypt the way."""
    given = {"kafka_security_protocol": "SASL_PLAINTEXT", "kafka_bootstrap_servers": servers, **SASL}
    lines: list[str] = []
    connections.warn(Settings.model_validate({**given, "kafka_sasl_mechanism": mechanism}), lines.append)
    assert [line.partition(" sends ")[2].partition(" in the clear")[0] for line in lines] == said
    assert not [line for line in lines if SECRET in line or "localhost" in line]


def test_secrets_are_shown_nowhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither by the settings themselves nor by what is wrong with them."""
    assert {"kafka_sasl_password", "kafka_ssl_password", "postgres_password"} <= SECRETS
    secrets = dict.fromkeys(SECRETS, SECRET)
    settings = Settings.model_validate(secrets)
    assert SECRET not in repr(settings) + str(settings)
    for name in SECRETS:
        with pytest.raises(ValidationError) as refused:
            Settings.model_validate({**secrets, name: [SECRET]})
        assert SECRET not in str(refused.value) + repr(refused.value)
    monkeypatch.setenv("KAFKA_SASL_PASSWORD", SECRET)
    with pytest.raises(BadSetting) as bad:
        config.load(kafka_sasl_password=[SECRET])
    assert SECRET not in str(bad.value)


def test_the_dsn_says_what_the_settings_say() -> None:
    """The driver reads back from it what was put in, whatever characters a password or a path has."""
    settings = Settings(
        postgres_user="who?",
        postgres_password=SECRET,
        postgres_db="a/b",
        postgres_sslmode="disable",
        postgres_host="db.example",
        postgres_port=6432,
    )
    addresses, parameters = parsed(settings)
    assert addresses == [("db.example", 6432)]
    assert (parameters.user, parameters.password, parameters.database) == ("who?", SECRET, "a/b")
    assert parameters.ssl is False


def test_the_dsn_beats_the_environment(monkeypatch: pytest.MonkeyPatch, files: dict[str, str]) -> None:
    """What is meant for psql in a shell changes no process of ours."""
    monkeypatch.setenv("PGSSLMODE", "disable")
    settings = Settings(postgres_sslmode="verify-full", postgres_sslrootcert=files["CA"])
    context = parsed(settings)[1].ssl
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, True)
    assert len(context.get_ca_certs()) == 1


def parsed(settings: Settings) -> Any:
    nothing = dict.fromkeys(["host", "port", "user", "password", "passfile", "database", "service", "servicefile"])
    more = dict.fromkeys(["ssl", "direct_tls", "server_settings", "target_session_attrs", "krbsrvname", "gsslib"])
    utils: Any = asyncpg.connect_utils  # its types leave this out
    return utils._parse_connect_dsn_and_args(dsn=settings.postgres_dsn, **nothing, **more)


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("KAFKA_SECURITY_PROTOCOL", "SSL", "speaks PLAINTEXT on the loopback; set KAFKA_BOOTSTRAP_SERVERS"),
        ("KAFKA_SSL_CAFILE", "/none", "does not use TLS"),
        ("KAFKA_SECURITY_PROTOCOL", "TLS", "Input should be 'PLAINTEXT', 'SSL'"),
        ("POSTGRES_SSLMODE", "verify-full", "needs the certificate of the authority"),
    ],
)
def test_up_refuses_what_its_own_servers_do_not_have(
    name: str,
    value: str,
    says: str,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Before anything is started."""
    for other in [each for each in os.environ if each.startswith(("KAFKA_", "POSTGRES_"))]:
        monkeypatch.delenv(other)
    monkeypatch.setenv(name, value)
    monkeypatch.setattr(platform_commands, "stop_event", threading.Event)  # no handlers of signals in this process
    assert cli.run(["up", "--home", str(tmp_path / "home")]) == Exit.USAGE
    (line,) = capsys.readouterr().err.splitlines()
    assert says in line


@pytest.mark.parametrize("names", [KAFKA, POSTGRES])
def test_settings_that_are_named_exist(names: connections.Names) -> None:
    """Messages send people to settings that there are."""
    words = {word for text in names[1:] for word in text.split() if word.isupper()}
    assert words <= {name.upper() for name in Settings.model_fields}


def test_the_secrets_of_connections_may_be_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As orchestrators mount them; the variable itself comes first, as in the processes that `workflow up` starts."""
    for name in SECRETS:
        (tmp_path / name).write_text(f" {SECRET}{name} \n")
        monkeypatch.setenv(f"{name.upper()}_FILE", str(tmp_path / name))
        monkeypatch.delenv(name.upper(), raising=False)
    settings = config.load()
    assert {name: getattr(settings, name) for name in SECRETS} == {name: f" {SECRET}{name} " for name in SECRETS}
    assert settings.model_fields_set >= SECRETS
    monkeypatch.setenv("KAFKA_SASL_PASSWORD", "of the variable")
    assert config.load(postgres_password="given").postgres_password == "given"
    assert config.load().kafka_sasl_password == "of the variable"
    monkeypatch.setenv("POSTGRES_PASSWORD_FILE", str(tmp_path / "none"))
    with pytest.raises(BadSetting, match=rf"POSTGRES_PASSWORD_FILE='{tmp_path}/none' cannot be used: .*No such file"):
        config.load()


async def test_a_password_is_not_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Nothing that builds clients says it, at any level."""
    from streams.transport import build_app
    from tests.members import Recorder

    given = {"kafka_security_protocol": "SASL_PLAINTEXT", **SASL}
    with caplog.at_level(logging.DEBUG):
        app = build_app(Settings.model_validate(given), group="g", topics=["t"], handler=Recorder()).make()
        logging.getLogger().debug("%r %r", app, app.conf.broker_credentials)
    assert SECRET not in caplog.text
