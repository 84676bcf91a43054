"""Definitions as their topic tells them."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from schemas.catalog import Catalog
from schemas.events import time_s
from tests.given import delay, webhook, workflow

TIME = "2026-01-01T00:00:00.000Z"


def test_versions() -> None:
    """Each fact is one more version; all can be asked for, and the newest by default."""
    catalog = Catalog()
    first, second = workflow(webhook()), workflow(delay())
    for offset, definition in enumerate((first, second)):
        defined = catalog.fold(offset, catalog.next_record(definition, TIME, "ann"), int(time_s(TIME) * 1000))
        assert defined is not None
        assert (defined.version, defined.definition, defined.defined_at) == (offset + 1, definition, TIME)
    assert catalog.position == 2
    newest = catalog.get("w")
    assert newest is not None
    assert (newest.version, newest.definition) == (2, second)
    old = catalog.get("w", 1)
    assert old is not None
    assert old.definition == first
    assert (catalog.get("w", 3), catalog.get("w", 0), catalog.get("other")) == (None, None, None)
    assert catalog.newest() == [newest]


def test_of_two_writers_the_first_wins() -> None:
    """Both wrote after the same tip: the second record is no fact, for every reader."""
    catalog = Catalog()
    mine, theirs = catalog.next_record(workflow(webhook()), TIME), catalog.next_record(workflow(delay()), TIME)
    assert catalog.fold(0, mine, 0) is not None
    assert catalog.fold(1, theirs, 0) is None
    assert catalog.orphans == 1
    assert catalog.fold(2, catalog.next_record(workflow(delay()), TIME), 0) is not None


def test_workflows_are_chained_apart() -> None:
    """A definition of one workflow says nothing about the others."""
    catalog = Catalog()
    one, other = catalog.next_record(workflow(), TIME), catalog.next_record({**workflow(), "id": "v"}, TIME)
    assert catalog.fold(0, one, 0) is not None
    assert catalog.fold(1, other, 0) is not None
    assert [defined.id for defined in catalog.newest()] == ["v", "w"]


@pytest.mark.parametrize(
    "value",
    [
        None,
        b"",
        b"[]",
        b"{}",
        b'{"subject":[],"seq":1,"prev":null,"type":"WorkflowDefined"}',
        b'{"subject":"w","seq":"1","prev":null,"type":"WorkflowDefined"}',
        b'{"subject":"w","seq":true,"prev":null,"type":"WorkflowDefined"}',
        b'{"subject":"w","seq":2,"prev":null,"type":"WorkflowDefined"}',
        b'{"subject":"w","seq":1,"prev":"x","type":"WorkflowDefined"}',
    ],
)
def test_what_is_no_fact(value: bytes | None) -> None:
    """Anything may stand on the topic; what does not extend a chain is passed over and counted."""
    catalog = Catalog()
    assert catalog.fold(0, value, 0) is None
    assert (catalog.position, catalog.orphans) == (1, 1)


@pytest.mark.parametrize(
    "changes", [{"type": "WorkflowRenamed"}, {"data": None}, {"data": []}, {"data": {"definition": 5}}, {"time": None}]
)
def test_a_fact_that_defines_nothing(changes: dict[str, Any]) -> None:
    """An unknown type, or data without a definition, moves the tip and makes no version; the next one is made after it."""
    catalog = Catalog()
    strange = orjson.loads(catalog.next_record(workflow(), TIME)) | changes
    assert catalog.fold(0, orjson.dumps(strange), 0) is None
    assert (catalog.get("w"), catalog.orphans) == (None, 0)
    defined = catalog.fold(1, catalog.next_record(workflow(), TIME), 0)
    assert defined is not None
    assert defined.version == 1
