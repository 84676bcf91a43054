"""python -m tests.simulation.replay FILE: play a schedule once more, from JSON as `python -m tests.simulation` prints it.

Exit code 0: every promise was kept. 1: one was broken, which is printed. 2: it is no schedule.
"""

from __future__ import annotations

import argparse
import json
import logging
import sys
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import orjson
import pytest

from tests.simulation.game import Game, replay
from tests.simulation.mutants import NAMED
from tests.simulation.schedule import Broken, Schedule


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.simulation.replay", description=__doc__.split(":")[1].strip()
    )
    parser.add_argument("file", help="JSON, - for the standard input")
    parser.add_argument("--mutant", choices=sorted(NAMED), help="on this broken engine of tests/simulation/mutants.py")
    parser.add_argument("--show", action="store_true", help="print each step and what came to stand in the log")
    given = parser.parse_args(argv)
    logging.disable(logging.CRITICAL)
    try:
        schedule = Schedule.read(sys.stdin.read() if given.file == "-" else Path(given.file).read_text())
    except (OSError, ValueError, TypeError) as error:
        print(f"{given.file} is no schedule: {error}", file=sys.stderr)
        return 2
    with pytest.MonkeyPatch.context() as patch:
        if given.mutant:
            NAMED[given.mutant](patch)
        return _play(schedule, show=given.show)


def _play(schedule: Schedule, *, show: bool) -> int:
    shown = Counter[int]()
    try:
        replay(schedule, lambda game: _show(game, shown) if show else None)
    except Broken as broken:
        print(f"breaks {broken}")
        return 1
    print(f"holds: {len(schedule.steps)} steps, {schedule.mode} faults, every promise was kept")
    return 0


def _show(game: Game, shown: Counter[int]) -> None:
    """The last step, and the records that it brought into the log."""
    print(json.dumps(game.steps[-1]) if game.steps else "")
    for number, log in game.cluster.log.items():
        for offset in range(min(shown[number], len(log)), len(log)):
            verdict = game.cluster.truth[number].verdicts[offset] or "a fact"
            print(f"        {number}/{offset} {_brief(log[offset].value or b'')}: {verdict}")
        shown[number] = len(log)


def _brief(value: bytes) -> str:
    try:
        event = orjson.loads(value)
        return f"{event['type']} {event['subject']} seq {event['seq']} epoch {event['epoch']}"
    except (ValueError, KeyError, TypeError):
        return repr(value[:40])


if __name__ == "__main__":
    sys.exit(main())
