"""Users with the rights that `workflow grants` prints, on real servers."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping
from typing import Any, Final
from urllib.parse import urlsplit

import asyncpg
from aiokafka.admin import AIOKafkaAdminClient
from aiokafka.protocol.admin import CreateAclsRequest

from ops.embedded.postgres import binaries
from ops.setting_up import grants_sql
from schemas.settings import Settings
from streams.kafka import client_kwargs
from streams.rights import Right

ROLES: Final = ("api", "worker", "projector")
_KINDS: Final = {"topic": 2, "group": 3}
_OPERATIONS: Final = {"Read": 3, "Write": 4, "Create": 5, "Delete": 6, "Describe": 8, "DescribeConfigs": 10}
_LITERAL, _ALLOW = 3, 3


async def make_users(admin_dsn: str, names: Iterable[str]) -> None:
    """Users of PostgreSQL who may log in and no more, each with its name as its password."""
    connection = await asyncpg.connect(admin_dsn)
    try:
        for name in names:
            await connection.execute(f"create role \"{name}\" login password '{name}'")
    finally:
        await connection.close()


async def drop_users(admin_dsn: str, names: Iterable[str]) -> None:
    """In the database of this DSN; what they own goes with them."""
    connection = await asyncpg.connect(admin_dsn)
    try:
        for name in names:
            await connection.execute(f'drop owned by "{name}"; drop role "{name}"')
    finally:
        await connection.close()


def login(user: str) -> dict[str, Any]:
    """Settings, by field name."""
    return {"postgres_user": user, "postgres_password": user}


async def grant(users: Mapping[str, str], dsn: str) -> None:
    """What `workflow grants` prints, by psql, as a person would."""
    parts = urlsplit(dsn)
    plain = parts._replace(query="").geturl()
    psql = [str(binaries() / "psql"), "--no-psqlrc", "--quiet", "--set=ON_ERROR_STOP=1", plain]
    process = await asyncio.create_subprocess_exec(
        *psql, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    said, _ = await process.communicate(grants_sql(users).encode())
    assert (process.returncode, said) == (0, b""), said.decode()


async def allow(settings: Settings, rights: Iterable[Right], users: Mapping[str, str]) -> None:
    """Give these users of Kafka the rights of their roles."""
    admin = AIOKafkaAdminClient(**client_kwargs(settings))
    await admin.start()
    try:
        for right in rights:
            who, operation = f"User:{users[right.role]}", _OPERATIONS[right.operation]
            request = CreateAclsRequest(_KINDS[right.kind], right.name, _LITERAL, who, "*", operation, _ALLOW)
            answer = await admin._send_to_controller(request)
            assert [code for code, _ in answer.creation_responses] == [0], answer
    finally:
        await admin.close()
