"""docs/security.md: its tables and examples are what the code does."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from ipaddress import ip_network
from pathlib import Path
from typing import Any

import orjson
import pytest

from api.definitions import read_definition
from schemas.settings import Settings
from streams.addresses import kind
from streams.allowed import AllowList
from streams.secret_values import SECRET_BYTES_MAX
from streams.signing import KEY_BYTES, signature_headers

PAGE = (Path(__file__).parents[2] / "docs" / "security.md").read_text()


def section(heading: str) -> str:
    return re.split(r"^## ", PAGE.split(f"\n## {heading}\n")[1], flags=re.MULTILINE)[0]


def block(heading: str, tag: str) -> str:
    (found,) = re.findall(rf"^```{tag}\n(.*?)^```$", section(heading), flags=re.MULTILINE | re.DOTALL)
    return str(found)


def cells(heading: str, column: int) -> list[str]:
    rows = [line.strip("|").split("|") for line in section(heading).splitlines() if line.startswith("| ")]
    return [code for row in rows for code in re.findall(r"`([^`]+)`", row[column])]


def test_the_addresses_that_are_shown_are_denied() -> None:
    """First and last of each range."""
    shown = [
        text for text in cells("Where webhooks may go", 1) if re.fullmatch(r"[0-9a-f.:/]+", text) and text[0] != "/"
    ]
    assert len(shown) > 15
    for text in shown:
        assert kind(ip_network(text)[0]) is not None, text
        assert kind(ip_network(text)[-1]) is not None, text


def test_the_entries_that_are_shown_can_be_written() -> None:
    """Each of them is read as one entry."""
    entries = [
        text for text in cells("Where webhooks may go", 0) if "internal" in text or "10.1" in text or "fd12" in text
    ]
    assert len(entries) >= 8
    assert len(AllowList.parse(",".join(entries)).entries) == len(entries)


def test_the_receiver_that_is_shown_believes_what_is_sent() -> None:
    """It takes what is signed with its key, and nothing that was changed or is old."""
    found: dict[str, Any] = {}
    exec(block("Signatures", "python"), found)  # noqa: S102 - the page's code is what is tested
    is_ours: Callable[[bytes, dict[str, str]], bool] = found["is_ours"]
    key = re.findall(r'Webhook\("(.*?)"\)', block("Signatures", "python"))[0]
    body = '{"total":12,"für":"dich"}'.encode()
    headers = dict(signature_headers("KEY", key, key="run-1/tell", body=body, now=time.time()))
    assert set(headers) == set(cells("Signatures", 0))
    assert is_ours(body, headers)
    assert not is_ours(body + b" ", headers)
    old = dict(signature_headers("KEY", key, key="run-1/tell", body=body, now=time.time() - 301))
    assert not is_ours(body, old)
    assert f"{KEY_BYTES.start} to {KEY_BYTES.stop - 1}" in section("Signatures")


def test_the_step_that_is_shown_is_taken() -> None:
    """It can be posted, and what the page says is refused is refused."""
    step = orjson.loads(block("Secrets", "json"))
    taken = read_definition({"id": "x", "name": "x", "steps": [step]}, Settings())
    assert taken["steps"] == [step]
    (refused,) = re.findall(r"`(\$\{\"Bearer.*?\})`", PAGE)
    step["config"]["body"] = refused
    with pytest.raises(Exception, match="expressions cannot read secrets"):
        read_definition({"id": "x", "name": "x", "steps": [step]}, Settings())
    assert f"{SECRET_BYTES_MAX // 1024} KiB" in section("Secrets")
