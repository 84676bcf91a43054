"""docs/events.md: what it says of the log is what the platform writes and reads."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any, get_type_hints

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import commands, keys
from schemas.catalog import Catalog
from schemas.events import SHAPES, decode, encode_taken
from schemas.upcasters import VERSIONS
from streams.outlet import rejection
from tests import shapes
from tests.histories import random_log
from tests.reader import Reader

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "events.md").read_text()
FENCE = re.compile(r"^```(\S+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def section(heading: str) -> str:
    """The text below a heading, up to the next one of its level or above."""
    level = heading.split(" ", maxsplit=1)[0]
    text = PAGE.split(f"\n{heading}\n")[1]
    return re.split(rf"^#{{1,{len(level)}}} ", text, flags=re.MULTILINE)[0]


def blocks(heading: str, tag: str) -> list[str]:
    return [text for found, text in FENCE.findall(section(heading)) if found == tag]


def fields(heading: str) -> set[str]:
    """First cells of the tables below a heading."""
    return set(re.findall(r"^\| `(\w+)` \|", section(heading), flags=re.MULTILINE))


@pytest.mark.parametrize("type_", SHAPES)
def test_every_event_has_its_section(type_: str) -> None:
    """Its example is the golden event of its newest version, and its table names every field of its data."""
    (example,) = blocks(f"### `{type_}`", "json")
    golden = (ROOT / "tests" / "golden" / f"{type_}.v{VERSIONS.get(type_, 1)}.json").read_bytes()
    assert json.loads(example) == json.loads(golden)
    assert fields(f"### `{type_}`") == set(get_type_hints(SHAPES[type_]))


def test_the_envelope() -> None:
    """The table of the envelope names every field that there is."""
    assert fields("## The envelope") == shapes.REQUIRED | shapes.OPTIONAL
    shapes.check(orjson.dumps(json.loads(blocks("## The envelope", "json")[0])))


def rule() -> Any:
    """The class of the page's own reader."""
    found: dict[str, Any] = {}
    exec(blocks("## The rule", "python")[0], found)  # noqa: S102 - the page's code is what is tested
    return found["Partition"]


@pytest.mark.parametrize(
    ("data", "is_readable"),
    [
        ("1e400", False),
        ("1" + "0" * 400, False),
        ("NaN", False),
        (r'"\ud800"', False),
        ("1e300", True),
        ("1" + "0" * 300, True),
    ],
)
def test_a_parser_that_takes_more_is_held_back(data: str, is_readable: bool) -> None:
    """What some parsers of JSON take and others refuse makes no difference between readers."""
    value = encode_taken(0, 1, "w", "t", "2026-01-01T00:00:00.000Z").replace(b'"t"', data.encode())
    assert (decode(value) is not None) == is_readable
    assert rule()(0, 1).is_fact(value) == is_readable


@given(st.integers(0, 10**6))
def test_the_rule_in_python(seed: int) -> None:
    """The page's reader finds the facts that the checker's finds, in random logs with orphans of every kind."""
    partition = rule()
    for number, records in enumerate(random_log(seed).records):
        reader, shown = Reader(number, 2), partition(number, 2)
        for record in records:
            assert shown.is_fact(record.value) == (reader.take(record.value) == "")


@pytest.mark.parametrize("example", blocks("## Commands", "json"))
def test_the_examples_of_commands(example: str) -> None:
    """Each of them is taken."""
    where = {"topic": "workflow.trigger", "partition": 0, "offset": 0, "timestamp_ms": 0, "partitions": 8}
    command = commands.decode(example.encode(), **where)  # type: ignore[arg-type]
    if "specversion" in example:
        assert json.loads(commands.encode(command)) == json.loads(example)


def test_the_fields_of_commands() -> None:
    """The table names every field that a command may have."""
    assert fields("## Commands") == commands._FLAT


def test_a_rejected_command() -> None:
    """The example is the record that is written."""
    (example,) = blocks("## Rejected commands", "json")
    data = json.loads(example)["data"]
    record = rejection(data["topic"], data["partition"], data["offset"], b"{", data["reason"], 1_767_225_600.0)
    assert json.loads(example) == json.loads(record)


def test_a_definition() -> None:
    """The example is the record that is written, and read as a fact."""
    (example,) = blocks("## Definitions", "json")
    written = json.loads(example)
    assert json.loads(Catalog().next_record(written["data"]["definition"], written["time"])) == written
    assert Catalog().fold(0, example.encode(), 0) is not None


def test_the_record_of_a_key() -> None:
    """Its example is a key that can be read, and its table names every field."""
    (example,) = blocks("## Keys", "json")
    record = json.loads(example)
    key = keys.decode(record["id"].encode(), example.encode())
    assert json.loads(keys.encode(key)) == record
    assert fields("## Keys") == record.keys()
