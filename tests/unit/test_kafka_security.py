"""Every client of Kafka is made in the same way."""

from __future__ import annotations

import ast
import ssl
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from faust.transport.drivers.aiokafka import credentials_to_aiokafka_auth

from schemas.settings import Settings
from streams.kafka import client_kwargs
from streams.security import security, tls_context
from streams.transport import build_app
from tests.certificates import Authority
from tests.members import Recorder

ROOT = Path(__file__).parents[2]
OURS = ("schemas", "streams", "projections", "api", "ops")
CLIENTS = {
    "Consumer",
    "AIOKafkaConsumer",
    "AIOKafkaProducer",
    "AIOKafkaAdminClient",
    "AIOKafkaClient",
    "AIOKafkaConnection",
}
LOGIN: dict[str, Any] = {"kafka_sasl_username": "u", "kafka_sasl_password": "p"}


def calls() -> Iterator[tuple[str, ast.Call]]:
    """(file, call) of everything of aiokafka that connects."""
    for package in OURS:
        for file in sorted((ROOT / package).rglob("*.py")):
            for node in ast.walk(ast.parse(file.read_text())):
                if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in CLIENTS:
                    yield str(file.relative_to(ROOT)), node


def test_every_client_is_made_with_the_same_arguments() -> None:
    """Each call unpacks `client_kwargs(…)`: consumers with and without a group, producers, the admin client."""
    found = list(calls())
    assert {name for _, call in found if isinstance(call.func, ast.Name) for name in [call.func.id]} == {
        "Consumer",  # the one that closes all that it opened
        "AIOKafkaProducer",
        "AIOKafkaAdminClient",
    }
    for file, call in found:
        unpacked = [ast.unparse(keyword.value) for keyword in call.keywords if keyword.arg is None]
        assert any(text.startswith("client_kwargs(") for text in unpacked), f"{file}:{call.lineno}"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.mark.parametrize("protocol", ["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"])
async def test_faust_would_connect_as_we_do(protocol: str, authority: Authority) -> None:
    """What Faust makes of its credentials is what our own clients get, TLS and mechanism included."""
    given: dict[str, Any] = {"kafka_security_protocol": protocol}
    given |= {"kafka_ssl_cafile": str(authority.certificate)} if protocol.endswith("SSL") else {}
    given |= LOGIN if protocol.startswith("SASL") else {}
    settings = Settings(**given)
    app = build_app(settings, group="g", topics=["t"], handler=Recorder()).make()
    faust = credentials_to_aiokafka_auth(app.conf.broker_credentials, app.conf.ssl_context)
    mine = security(settings)
    assert {name: value for name, value in faust.items() if value is not None} == mine
    assert client_kwargs(settings) == {"bootstrap_servers": ["127.0.0.1:9092"], **mine}
    assert mine["security_protocol"] == protocol
    assert ("ssl_context" in mine) == protocol.endswith("SSL")


@pytest.mark.parametrize("mechanism", ["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"])
async def test_every_mechanism_is_known_to_both(mechanism: Any) -> None:
    """To aiokafka and to Faust."""
    settings = Settings(kafka_security_protocol="SASL_PLAINTEXT", kafka_sasl_mechanism=mechanism, **LOGIN)
    app = build_app(settings, group="g", topics=["t"], handler=Recorder()).make()
    assert credentials_to_aiokafka_auth(app.conf.broker_credentials)["sasl_mechanism"] == mechanism


def test_who_is_trusted(authority: Authority) -> None:
    """Those of KAFKA_SSL_CAFILE alone; a certificate is always asked for, its name unless that is switched off."""
    settings = Settings(kafka_security_protocol="SSL", kafka_ssl_cafile=str(authority.certificate))
    context = tls_context(settings)
    assert (len(context.get_ca_certs()), context.verify_mode, context.check_hostname) == (1, ssl.CERT_REQUIRED, True)
    assert context.minimum_version >= ssl.TLSVersion.TLSv1_2
    context = tls_context(settings.model_copy(update={"kafka_ssl_check_hostname": False}))
    assert (context.verify_mode, context.check_hostname) == (ssl.CERT_REQUIRED, False)


def test_one_context_serves_all_clients(authority: Authority) -> None:
    """A client is made for each look at the log; reading the authorities takes longer than the look."""
    settings = Settings(kafka_security_protocol="SSL", kafka_ssl_cafile=str(authority.certificate))
    assert security(settings)["ssl_context"] is security(settings)["ssl_context"]
