"""Golden files: one event of every type and version as it was released, and what the fold makes of it.

`<Type>.v<version>.json` holds the bytes of a record and never changes. `<Type>.v<version>.fold.json` holds the run before
and after it; when EVOLVE_VERSION is raised these are written anew, and read by a person.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import orjson
import pytest

from schemas import events
from schemas.events import PARTITION_TAKEN, SHAPES
from schemas.identity import digest
from schemas.run import Run, extend
from schemas.upcasters import VERSIONS
from streams.partition import Partition
from tests import shapes
from tests.histories import LogRecord

GOLDEN = Path(__file__).parents[1] / "golden"
CASES = [(type_, version) for type_ in SHAPES for version in range(1, VERSIONS.get(type_, 1) + 1)]


def golden(type_: str, version: int) -> tuple[bytes, dict[str, Any]]:
    """The record and its fold."""
    stem = f"{type_}.v{version}"
    return (GOLDEN / f"{stem}.json").read_bytes(), orjson.loads((GOLDEN / f"{stem}.fold.json").read_bytes())


@pytest.mark.parametrize(("type_", "version"), [case for case in CASES if case[0] != PARTITION_TAKEN])
def test_an_event_folds_as_it_did(type_: str, version: int) -> None:
    """Today's code makes of a released event of any version the same bytes of state."""
    value, fold = golden(type_, version)
    envelope = events.decode(value)
    assert envelope is not None
    assert (envelope["type"], orjson.loads(value)["dataversion"]) == (type_, version)
    run_id = envelope["subject"]
    run = Run(run_id) if fold["before"] is None else Run.load(run_id, orjson.dumps(fold["before"]))
    assert (run.seq + 1, run.tip) == (envelope["seq"], envelope["prev"])
    extend(run, envelope, digest(value))
    assert run.set_aside is None
    assert run.dump() == orjson.dumps(fold["after"])


def test_a_taking_folds_as_it_did() -> None:
    """A released PartitionTaken moves the epoch."""
    value, fold = golden(PARTITION_TAKEN, 1)
    part = Partition(2, 8, position=0, epoch=fold["before"]["epoch"])
    part.fold(LogRecord(0, 0, None, value), {})
    assert part.epoch == fold["after"]["epoch"]


@pytest.mark.parametrize("type_", SHAPES)
def test_the_newest_version_has_todays_shape(type_: str) -> None:
    """The shape of an event does not change without a new version."""
    value, _ = golden(type_, VERSIONS.get(type_, 1))
    shapes.check(value)
    envelope = orjson.loads(value)
    written = events.encode(
        type_,
        envelope["subject"],
        envelope["data"],
        time=envelope["time"],
        epoch=envelope["epoch"],
        seq=envelope["seq"],
        prev=envelope["prev"],
        cause=envelope.get("cause"),
        actor=envelope.get("actor"),
    )
    assert written == value


def test_no_file_without_its_event() -> None:
    """Every golden file is one of an event that is known."""
    expected = {f"{type_}.v{version}{end}" for type_, version in CASES for end in (".json", ".fold.json")}
    assert {path.name for path in GOLDEN.iterdir()} == expected
