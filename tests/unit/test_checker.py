"""The judge of histories turns red for every kind of broken history, and stays green for a sound one."""

from __future__ import annotations

import ast
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

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
from tests.given import (
    NOW,
    delay,
    failed,
    interrupted,
    requested,
    retrying,
    started,
    succeeded,
    take,
    webhook,
    workflow,
)
from tests.histories import random_log
from tests.reader import Raw, Reader

FLOW = workflow(webhook("call"), delay("wait", 1))
DUE = NOW + 1
UNTIL = events.time_text(DUE)
ECHO = {"status": 200, "body": {"headers": {"idempotency-key": "r1/call"}, "body": {"n": 1}}}
DELIVERY = {"headers": {"idempotency-key": "r1/call"}, "body": {"n": 1}}


def end(status: str = "SUCCESS", error: Any = None) -> Draft:
    return "RunCompleted", {"status": status, "error": error, "results": {}}


GOOD = [
    requested(FLOW, n=1),
    started(),
    interrupted(),
    started(attempt=2),
    retrying(attempt=2, until=NOW),
    started(attempt=3),
    succeeded(attempt=3, output=ECHO),
    started("wait", until=UNTIL),
    succeeded("wait", output={"until": UNTIL}),
    end(),
]


class Topics:
    """A log of one partition, and what goes with it."""

    def __init__(self, epoch: int = 1) -> None:
        self.events: list[Raw] = []
        self.completed: list[Raw] = []
        self.epoch = epoch
        self.add(events.encode_taken(0, epoch, "w", "t", UNTIL), b"partition/0")

    def add(self, value: bytes | None, key: bytes = b"r1", at: float = DUE) -> None:
        self.events.append(Raw(len(self.events), round(at * 1000), key, value))

    def run(self, drafts: Sequence[Draft], run_id: str = "r1", at: float = DUE) -> bytes:
        values = take(Run(run_id), drafts, epoch=self.epoch)
        for value in values:
            self.add(value, run_id.encode(), at)
        return values[-1]

    def tell(self, value: bytes, run_id: str = "r1") -> None:
        self.completed.append(Raw(len(self.completed), 0, run_id.encode(), value))

    def judge(self, *, ended: bool = True) -> Judge:
        return Judge({"workflow.events": {0: self.events}, "workflow.completed": {0: self.completed}}, ended=ended)


@pytest.fixture
def topics() -> Topics:
    """A sound history of one run, announced twice."""
    made = Topics()
    last = made.run(GOOD)
    made.tell(last)
    made.tell(last)
    return made


def test_a_sound_history(topics: Topics) -> None:
    """Nothing is wrong with it by any check, and it says what it has seen."""
    judge = topics.judge()
    judge.check_accepted({"r1": {"n": 1}})
    judge.check_announcements()
    judge.check_deliveries([DELIVERY, DELIVERY])
    judge.check_rows({"r1": judge.columns("r1")})
    judge.check_nothing_vanished({"workflow.events": {0: topics.events[:4]}})
    judge.check_waste(0)
    assert judge.violations == []
    assert (judge.counts["PartitionTaken"], judge.counts["StepInterrupted"], judge.counts["orphans"]) == (1, 1, 0)
    assert judge.columns("r1")["status"] == "SUCCESS"


def red(judge: Judge, invariant: str) -> None:
    assert any(text.startswith(invariant + " ") for text in judge.violations), judge.violations


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


@pytest.mark.parametrize(
    ("accepted", "invariant"),
    [({"r2": {}}, "I1"), ({"r1": {"n": 2}}, "I11"), ({"r1": {"n": 1.0}}, "I11"), ({"r1": {"n": True}}, "I11")],
)
def test_what_was_accepted(topics: Topics, accepted: dict[str, Any], invariant: str) -> None:
    """Every 202 is a run with exactly the payload that was sent."""
    judge = topics.judge()
    judge.check_accepted(accepted)
    red(judge, invariant)


@pytest.mark.parametrize("told", [[], [b"{}"], [None, b"{}"]])
def test_announcements(topics: Topics, told: list[bytes | None]) -> None:
    """Every end is announced, and every copy is the end's own bytes."""
    last = topics.events[-1].value
    topics.completed = [Raw(n, 0, b"r1", value or last) for n, value in enumerate(told)]
    judge = topics.judge()
    judge.check_announcements()
    red(judge, "I8")


def test_an_announcement_of_nothing(topics: Topics) -> None:
    """What did not end is not announced."""
    topics.tell(b"{}", "r2")
    judge = topics.judge()
    judge.check_announcements()
    red(judge, "I8")


@pytest.mark.parametrize(
    "journal",
    [
        [],
        [{**DELIVERY, "body": {"n": 2}}],
        [{**DELIVERY, "headers": {}}],
        [DELIVERY] * 4,
        [{**DELIVERY, "headers": {"idempotency-key": "another"}}],
    ],
)
def test_deliveries(topics: Topics, journal: list[Any]) -> None:
    """A success was delivered with its key and body, and not more often than it was tried."""
    judge = topics.judge()
    judge.check_deliveries(journal)
    red(judge, "I7")


def test_a_shared_key(topics: Topics) -> None:
    """No two runs deliver under one key."""
    topics.run(GOOD, "r2")
    judge = topics.judge()
    judge.check_deliveries([DELIVERY])
    red(judge, "I7")


@pytest.mark.parametrize(
    "changes", [{"status": "RUNNING"}, {"seq": 9}, {"digest": "0"}, {"results": {}}, {"payload": {"n": 1.0}}]
)
def test_rows(topics: Topics, changes: dict[str, Any]) -> None:
    """Every column is what the log says."""
    judge = topics.judge()
    judge.check_rows({"r1": {**judge.columns("r1"), **changes}})
    red(judge, "I9")


@pytest.mark.parametrize("rows", [{}, {"r1": {}}])
def test_a_missing_row(topics: Topics, rows: dict[str, Any]) -> None:
    """Every run has a row."""
    judge = topics.judge()
    judge.check_rows(rows)
    red(judge, "I9")


def test_a_row_of_nothing(topics: Topics) -> None:
    """No row is without its run."""
    judge = topics.judge()
    judge.check_rows({"r1": judge.columns("r1"), "r2": {"status": "PENDING"}})
    red(judge, "I9")


def test_waste(topics: Topics) -> None:
    """Orphans are counted by their reason, and have a bound."""
    topics.add(topics.events[2].value)
    topics.add(b"{")
    judge = topics.judge()
    assert (judge.counts["orphan after the end"], judge.counts["orphan unreadable"]) == (1, 1)
    judge.check_waste(1)
    red(judge, "I14")


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


@pytest.mark.parametrize(("name", "lines_max"), [("checker.py", 150), ("reader.py", 100)])
def test_the_judge_stands_apart(name: str, lines_max: int) -> None:
    """It is short enough to be believed, and imports nothing of the product."""
    source = (Path(__file__).parents[1] / name).read_text()
    modules = [node.module or "" for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ImportFrom)]
    modules += [one.name for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Import) for one in node.names]
    assert {module for module in modules if module.partition(".")[0] not in sys.stdlib_module_names} <= {"tests.reader"}
    assert source.count("\n") <= lines_max
