"""The judge of histories turns red for every kind of broken history, and stays green for a sound one."""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable
from pathlib import Path

import orjson
import pytest
from hypothesis import given as given_
from hypothesis import strategies as st

from schemas import events
from schemas.identity import home
from schemas.run import Run
from streams.decider import Draft
from streams.partition import Partition
from tests.checker import Judge
from tests.forged import DUE, FLOW, GOOD, UNTIL, Topics, end, red, sound
from tests.given import (
    failed,
    interrupted,
    requested,
    retrying,
    started,
    succeeded,
    take,
)
from tests.histories import random_log
from tests.reader import Raw, Reader


@pytest.fixture
def topics() -> Topics:
    return sound()


@pytest.mark.parametrize(
    ("drafts", "invariant"),
    [
        (GOOD[:-1], "I4"),
        ([("StepStarted", {"step": "call", "attempt": 1}), end("CANCELLED")], "I4"),
        ([requested(FLOW), started(attempt=2), end("CANCELLED")], "I5"),
        ([requested(FLOW), started(), started(attempt=2), end("CANCELLED")], "I5"),
        ([requested(FLOW), started(), interrupted(), started(), end("CANCELLED")], "I5"),
        ([requested(FLOW), started(), succeeded(attempt=2), end("CANCELLED")], "I5"),
        ([requested(FLOW), succeeded(), end("CANCELLED")], "I5"),
        ([requested(FLOW), started(), interrupted(), interrupted(), end("CANCELLED")], "I5"),
        ([requested(FLOW), started(), end("FAILED", {"code": "x"})], "I5"),
        ([requested(FLOW), started("wait"), end("CANCELLED")], "I6"),
        ([requested(FLOW), started(), succeeded(), started(), end("CANCELLED")], "I6"),
        ([requested(FLOW), started(), succeeded(), end()], "I6"),
        ([requested(FLOW), started(), failed(), end("FAILED")], "I6"),
        ([requested(FLOW), ("StepTeleported", {}), end("CANCELLED")], "I6"),
        ([requested(FLOW), started(), retrying(until=DUE + 1), started(attempt=2), end("CANCELLED")], "I6"),
    ],
)
def test_a_run_that_is_wrong(drafts: list[Draft], invariant: str) -> None:
    """Ends, attempts, order and due times are judged for each run."""
    topics = Topics()
    topics.run(drafts)
    red(topics.judge(), invariant)


@pytest.mark.parametrize(
    "drafts",
    [
        [requested(FLOW), end("CANCELLED")],
        [requested(FLOW), started(), end("CANCELLED")],
        [requested(FLOW), started(), failed(), end("FAILED", {"code": "http_400"})],
        [requested(FLOW), failed(attempt=0), end("FAILED", {"code": "expression_fault"})],
        [("RunRequested", {**requested()[1], "definition": None}), end("FAILED", {"code": "definition_unknown"})],
    ],
)
def test_other_sound_ends(drafts: list[Draft]) -> None:
    """A run may be cancelled anywhere, fail at a step, before it, or at once."""
    topics = Topics()
    topics.run(drafts)
    assert topics.judge().violations == []


def test_a_timer_that_fires_early(topics: Topics) -> None:
    """A delay that ends before its due time by the log's clock."""
    topics.events = [record._replace(timestamp=record.timestamp - 2) for record in topics.events]
    red(topics.judge(), "I6")


def test_an_unfinished_run_before_rest() -> None:
    """While the platform is not at rest, a run may lack its end."""
    topics = Topics()
    topics.run(GOOD[:-1])
    assert topics.judge(ended=False).violations == []


def test_an_event_after_the_end(topics: Topics) -> None:
    """Whoever extends a run that is over has not seen its end."""
    run = Run("r1")
    take(run, GOOD)
    run.phase = "started"
    (value,) = take(run, [started()])
    topics.add(value)
    red(topics.judge(), "I4")


def rewrite(topics: Topics) -> None:
    """Serialise an event again after its digest was taken."""
    record = topics.events[3]
    topics.events[3] = record._replace(
        value=orjson.dumps(orjson.loads(record.value or b""), option=orjson.OPT_INDENT_2)
    )


def swap(topics: Topics) -> None:
    """Let two events of a run change places."""
    first, second = topics.events[4:6]
    topics.events[4:6] = [first._replace(value=second.value), second._replace(value=first.value)]


def write_with_the_old_epoch(topics: Topics) -> None:
    """Let another worker take over in the middle, without the first one noticing."""
    takeover = Raw(5, 0, b"partition/0", events.encode_taken(0, 2, "v", "u", UNTIL))
    rest = [record._replace(offset=record.offset + 1) for record in topics.events[5:]]
    topics.events = [*topics.events[:5], takeover, *rest]


@pytest.mark.parametrize("forge", [rewrite, swap, write_with_the_old_epoch])
def test_a_broken_chain(topics: Topics, forge: Callable[[Topics], None]) -> None:
    """Events that do not extend their chain under the partition's epoch are orphans: their run has no end."""
    forge(topics)
    judge = topics.judge()
    assert judge.counts["orphans"] > 0
    red(judge, "I4")


def test_a_hole_in_the_log(topics: Topics) -> None:
    """Offsets follow one another from 0."""
    del topics.events[3]
    red(topics.judge(), "I12")


def test_a_log_that_was_cut(topics: Topics) -> None:
    """What stood there earlier stands there still."""
    judge = topics.judge()
    judge.check_nothing_vanished({"workflow.events": {0: [*topics.events, Raw(99, 0, None, b"")]}})
    red(judge, "I12")


def test_a_wrong_key(topics: Topics) -> None:
    """A record's key is its run's id."""
    topics.events[2] = topics.events[2]._replace(key=b"r2")
    red(topics.judge(), "I3")


def test_a_run_away_from_home() -> None:
    """The first event in another partition is no fact."""
    away = next(f"r{n}" for n in range(99) if home(f"r{n}", 2) == 1)
    topics = Topics()
    topics.run(GOOD, away)
    judge = Judge({"workflow.events": {0: topics.events, 1: []}})
    assert judge.runs == {}
    assert judge.counts["orphan not at home"] == 1


@given_(st.integers(0, 10**6))
def test_the_reader_agrees_with_the_product(seed: int) -> None:
    """Two readings of the rule, made apart from each other, find the same facts in random logs."""
    for number, records in enumerate(random_log(seed).records):
        reader, part = Reader(number, 2), Partition(number, 2, position=0)
        for record in records:
            before = sum(part.orphans.values())
            part.fold(record, {})
            verdict = reader.take(record.value)
            assert (verdict == "") == (sum(part.orphans.values()) == before), (record, verdict)
        assert reader.epoch == part.epoch
        unfinished = {run_id: (seq, tip) for run_id, (seq, tip, done) in reader.tips.items() if not done}
        assert unfinished == {run.id: (run.seq, run.tip) for run in part.runs.values()}


@pytest.mark.parametrize(("name", "lines_max"), [("checker.py", 150), ("checker_clients.py", 150), ("reader.py", 100)])
def test_the_judge_stands_apart(name: str, lines_max: int) -> None:
    """It is short enough to be believed, and imports nothing of the product."""
    source = (Path(__file__).parents[1] / name).read_text()
    modules = [node.module or "" for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ImportFrom)]
    modules += [one.name for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Import) for one in node.names]
    assert {module for module in modules if module.partition(".")[0] not in sys.stdlib_module_names} <= {
        "tests.reader",
        "tests.checker",
    }
    assert source.count("\n") <= lines_max
