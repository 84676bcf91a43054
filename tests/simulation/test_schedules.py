"""Schedules that were found, kept under a name, and what is done with one: it is cut down, printed, replayed."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from tests.simulation.game import replay
from tests.simulation.mutants import NAMED, play_astray
from tests.simulation.schedule import Broken, Schedule
from tests.simulation.shrink import shrink

HERE = Path(__file__).parent
KEPT = sorted((HERE / "schedules").glob("*.json"))
SHORT = 60
"""Steps that are enough to show what an engine does wrong."""


def broken(play_it: Callable[[], object]) -> Broken:
    with pytest.raises(Broken) as found:
        play_it()
    return found.value


@pytest.mark.parametrize("file", KEPT, ids=lambda file: file.stem)
def test_a_schedule_that_was_found(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The engine keeps its promises on it; without the part that was missing when it was found it breaks the same one."""
    schedule = Schedule.read(file.read_text())
    replay(schedule)
    NAMED[schedule.mutant](monkeypatch)
    assert broken(lambda: replay(schedule)).schedule.breaks == schedule.breaks


@pytest.mark.parametrize("mutant", ["no_chain_check", "commit_when_sent", "never_unknown", "tables_are_trusted"])
def test_a_failure_is_cut_down(mutant: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is left is short, breaks the same promise each time, and breaks it no more when any one step is left out; the
    engine that there is keeps its promises on it."""
    with monkeypatch.context() as patch:
        NAMED[mutant](patch)
        failure = broken(lambda: play_astray(NAMED[mutant], range(2000)))
        found = shrink(failure)
        again = Schedule.read(found.text())
        assert len(found.steps) <= min(SHORT, len(failure.schedule.steps))
        assert again.text() == found.text()
        for _ in range(2):
            assert broken(lambda: replay(again)).schedule.breaks == found.breaks == failure.schedule.breaks
        assert [at for at in range(len(found.steps)) if breaks_without(found, at)] == []
    replay(found)


def breaks_without(found: Schedule, at: int) -> bool:
    """Whether it breaks the same promise, as it was found to, with one step fewer."""
    try:
        replay(replace(found, steps=[*found.steps[:at], *found.steps[at + 1 :]]))
    except Broken as other:
        return other.schedule.breaks == found.breaks and (other.rest_from is None or not found.breaks.startswith("S"))
    return False


def run(*arguments: str, given: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *arguments],
        cwd=HERE.parents[1],
        input=given,
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_failing_seed_prints_what_replays_it(tmp_path: Path) -> None:
    """From the command line: the run of seeds fails and prints a schedule, which fails in the same way when it is replayed,
    on the broken engine, and holds on the one that there is."""
    report = tmp_path / "report.json"
    mutant = ("--mutant", "no_epoch_check")
    options = ("--seeds", "60", "--mode", "survivable", "--jobs", "1", "--json", str(report))
    failed = run("tests.simulation", *options, *mutant)
    assert failed.returncode == 1, failed.stderr
    printed = failed.stdout[failed.stdout.index("\n{\n") :]
    assert json.loads(report.read_text())["failed"] == json.loads(printed)
    breaks = json.loads(printed)["breaks"]
    replayed = run("tests.simulation.replay", "-", "--show", *mutant, given=printed)
    assert (replayed.returncode, f"breaks {breaks}" in replayed.stdout) == (1, True), replayed.stdout
    held = run("tests.simulation.replay", str(report))
    assert (held.returncode, held.stdout[:6]) == (0, "holds:"), held.stdout


def test_seeds_that_hold(tmp_path: Path) -> None:
    """The run succeeds, says how fast it was and what was met."""
    report = tmp_path / "report.json"
    held = run("tests.simulation", "--seeds", "30", "--from", "100", "--jobs", "2", "--json", str(report))
    assert held.returncode == 0, held.stdout + held.stderr
    assert "survivable: 30 seeds" in held.stdout
    assert "unlimited: 30 seeds" in held.stdout
    modes = json.loads(report.read_text())["modes"]
    assert [(mode["mode"], mode["seeds"], mode["ok"]) for mode in modes] == [
        ("survivable", 30, True),
        ("unlimited", 30, True),
    ]
    assert modes[0]["met"]["PartitionTaken"] > 0


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "Expecting value"),
        ("[]", "JSON object"),
        ("{}", "mode, orders, steps"),
        ('{"mode": "calm", "orders": [], "steps": []}', "survivable or unlimited"),
        ('{"mode": "unlimited", "orders": [], "steps": [], "seeds": 1}', "has no 'seeds'"),
        ('{"mode": "unlimited", "orders": [], "steps": [], "setup": {"colour": 1}}', "setup has no 'colour'"),
        ('{"mode": "unlimited", "orders": [], "steps": [["has", "A", 0]]}', "is none of"),
        ('{"mode": "unlimited", "orders": [], "steps": [["land", "A"]]}', "missing a required argument"),
    ],
)
def test_what_is_no_schedule(text: str, says: str) -> None:
    """It is refused with what is wrong, from the command line with exit code 2."""
    with pytest.raises(ValueError, match=says):
        Schedule.read(text)


def test_the_command_line_refuses_what_is_no_schedule() -> None:
    """No stack trace; the exit code is another one than that of a broken promise."""
    refused = run("tests.simulation.replay", "-", given="{}")
    assert (refused.returncode, "is no schedule" in refused.stderr, refused.stdout) == (2, True, "")
