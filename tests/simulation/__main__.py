"""python -m tests.simulation: play many seeds on all cores. A seed that breaks a promise is cut down to a short schedule in JSON.

Exit code 0: every promise was kept and everything rare was met. 1: not so.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest

from tests.simulation.game import play
from tests.simulation.marks import missing
from tests.simulation.mutants import NAMED
from tests.simulation.schedule import MODES, Broken, Mode, Schedule
from tests.simulation.shrink import shrink

SEEDS_AT_ONCE: Final = 20
ENOUGH: Final = 1_000
"""So many seeds must meet everything rare; of fewer it is said what they did not meet."""
TELL_S: Final = 5.0


@dataclass(slots=True)
class Work:
    """Some seeds, and what became of them."""

    mode: Mode
    seeds: range
    mutant: str | None
    steps: int = 0
    met: Counter[str] = field(default_factory=Counter)
    failed: str = ""
    """the schedule, cut down, of the first seed that broke a promise"""
    length: int = 0
    """of that schedule before it was cut down"""


def done(work: Work) -> Work:
    """Play the seeds, up to the first that breaks a promise. Runs in a process of its own."""
    logging.disable(logging.CRITICAL)
    with pytest.MonkeyPatch.context() as patch:
        if work.mutant is not None:
            NAMED[work.mutant](patch)
        for seed in work.seeds:
            try:
                game, met = play(seed, work.mode)
            except Broken as broken:
                work.length = len(broken.schedule.steps)
                schedule = shrink(broken)
                schedule.mutant = work.mutant or ""
                work.failed = schedule.text()
                break
            work.steps += len(game.steps)
            work.met += met
    return work


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.simulation", description=__doc__.split(":", 1)[1].split(".")[0].strip()
    )
    parser.add_argument("--seeds", type=_positive, default=ENOUGH, help="how many, in each mode (default %(default)s)")
    parser.add_argument("--from", type=int, default=0, dest="first", help="the first one (default 0)")
    parser.add_argument(
        "--mode", choices=[*MODES, "both"], default="both", help="faults (default both, one after the other)"
    )
    parser.add_argument(
        "--jobs", type=_positive, default=os.cpu_count() or 1, help="processes (default: one for each core)"
    )
    parser.add_argument("--mutant", choices=sorted(NAMED), help="play a broken engine of tests/simulation/mutants.py")
    parser.add_argument("--json", type=Path, help="write a report to this file")
    given = parser.parse_args(argv)
    modes = MODES if given.mode == "both" else (given.mode,)
    reports = []
    for mode in modes:
        works = [
            Work(mode, range(at, min(at + SEEDS_AT_ONCE, given.first + given.seeds)), given.mutant)
            for at in range(given.first, given.first + given.seeds, SEEDS_AT_ONCE)
        ]
        reports.append(_report(mode, given.seeds, works, given.jobs))
        if reports[-1]["failed"]:
            break
    if given.json is not None:
        found = next((report["failed"] for report in reports if report["failed"]), None)
        given.json.write_text(json.dumps({"modes": reports, "failed": found}, indent=2) + "\n")
    return 0 if all(report["ok"] for report in reports) else 1


def _positive(text: str) -> int:
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} is not a positive number")
    return number


def _report(mode: Mode, seeds: int, works: Sequence[Work], jobs: int) -> dict[str, Any]:
    """Play, and say what came of it."""
    began, found, played = time.monotonic(), Work(mode, range(0), None), 0
    for work in _all_done(works, jobs, mode, seeds):
        found.met += work.met
        found.steps += work.steps
        played += len(work.seeds)
        if work.failed and (not found.failed or work.seeds.start < found.seeds.start):
            found.failed, found.length, found.seeds = work.failed, work.length, work.seeds
    took_s = time.monotonic() - began
    absent = [] if found.failed else missing(mode, found.met)
    print(
        f"{mode}: {played:,} seeds in {took_s:.1f} s ({played / took_s:.0f}/s, {found.steps:,} steps), {jobs} at a time"
    )
    for name, count in sorted(found.met.items()):
        print(f"  {count:9,}  {name}")
    if absent:
        print(
            f"{mode}: never met: {', '.join(absent)}"
            + ("" if seeds >= ENOUGH else f" (of {ENOUGH:,} seeds all is asked)")
        )
    if found.failed:
        _tell_failure(Schedule.read(found.failed), found)
    return {
        "mode": mode,
        "seeds": played,
        "seconds": round(took_s, 1),
        "steps": found.steps,
        "met": dict(sorted(found.met.items())),
        "never_met": absent,
        "failed": json.loads(found.failed) if found.failed else None,
        "ok": not found.failed and (not absent or seeds < ENOUGH),
    }


def _tell_failure(schedule: Schedule, found: Work) -> None:
    print(f"Seed {schedule.seed} ({schedule.mode}) breaks {schedule.breaks}: {schedule.says}")
    print(
        f"Cut down from {found.length} steps to {len(schedule.steps)}; `python -m tests.simulation.replay -` plays it:"
    )
    print(found.failed, end="")


def _all_done(works: Sequence[Work], jobs: int, mode: Mode, seeds: int) -> Iterator[Work]:
    """As they are done; after a failure no more are begun."""
    began = told = time.monotonic()
    played = 0
    with ProcessPoolExecutor(jobs) as pool:
        futures: list[Future[Work]] = [pool.submit(done, work) for work in works]
        for future in as_completed(futures):
            if future.cancelled():
                continue
            work = future.result()
            yield work
            played += len(work.seeds)
            if work.failed:
                _cancel(futures)
            now = time.monotonic()
            if now - told >= TELL_S and played < seeds:
                told, rate = now, played / (now - began)
                print(
                    f"{mode}: {played:,} of {seeds:,} seeds, {rate:.0f}/s, {(seeds - played) / rate:.0f} s left",
                    file=sys.stderr,
                )


def _cancel(futures: Iterable[Future[Work]]) -> None:
    for future in futures:
        future.cancel()


if __name__ == "__main__":
    sys.exit(main())
