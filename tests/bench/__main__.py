"""`python -m tests.bench`: run scenarios one after the other, print their figures, write them as JSON."""

from __future__ import annotations

import argparse
import asyncio
import sys
import tempfile
import time
import traceback
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Final

import orjson

from tests.bench import batch, growth, latency, machine, partition, parts, rebuild, starts, takeover
from tests.bench.figures import Figure, compare
from tests.bench.options import Options

SCENARIOS: Final[Mapping[str, Callable[[Options], Awaitable[list[Figure]]]]] = {
    "parts": parts.run,
    "http": starts.run,
    "batch": batch.run,
    "latency": latency.run,
    "takeover": takeover.run,
    "partition": partition.run,
    "rebuild": rebuild.run,
    "growth": growth.run,
}
BOUND_S: Final = 1_800.0


def main() -> int:
    """0 when every scenario could measure; how fast anything was does not matter."""
    arguments = _arguments()
    folder = arguments.folder or Path(tempfile.gettempdir())
    options = Options(
        folder, quick=arguments.quick, rounds=arguments.rounds or (1 if arguments.quick else 3), events=arguments.events
    )
    report: dict[str, Any] = {**machine.describe(folder), "quick": options.quick, "scenarios": {}}
    for name in arguments.only or SCENARIOS:
        report["scenarios"][name] = _scenario(name, options)
        if arguments.json is not None:
            arguments.json.write_bytes(orjson.dumps(report, option=orjson.OPT_INDENT_2) + b"\n")
    if arguments.compare is not None:
        print(f"against {arguments.compare}, above 1 is better now")
        print("\n".join(compare(orjson.loads(arguments.compare.read_bytes()), report)))
    return 1 if any("error" in scenario for scenario in report["scenarios"].values()) else 0


def _scenario(name: str, options: Options) -> dict[str, Any]:
    """Run one, print its lines, and give what goes into the report."""
    load, began = machine.load_average(), time.monotonic()
    print(f"{name} ({options.rounds} round{'s' * (options.rounds > 1)}, load average before {load:.1f})", flush=True)
    found: dict[str, Any] = {"rounds": options.rounds, "load_average_before": load}
    try:
        figures = asyncio.run(_bounded(name, options))
    except Exception as error:  # noqa: BLE001 - the other scenarios can still be measured
        traceback.print_exc()
        print(f"  FAILED: {error}", flush=True)
        return {**found, "error": f"{type(error).__name__}: {error}"}
    for figure in figures:
        print(figure.line(), flush=True)
    return {**found, "took_s": time.monotonic() - began, "figures": [figure.as_json() for figure in figures]}


async def _bounded(name: str, options: Options) -> list[Figure]:
    async with asyncio.timeout(BOUND_S):
        return await SCENARIOS[name](options)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument(
        "--only", action="append", choices=list(SCENARIOS), help="may be repeated; left out: all of them"
    )
    parser.add_argument("--quick", action="store_true", help="a few seconds each, to see that all of it works")
    parser.add_argument("--rounds", type=int, help="how often each figure is measured (3; quick: 1)")
    parser.add_argument("--events", type=int, help="events in the log of the scenario rebuild (300,000; quick: 30,000)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where the report is written")
    parser.add_argument("--compare", type=Path, metavar="FILE", help="a report of before, to print ratios to")
    parser.add_argument("--folder", type=Path, help="where platforms keep their data (the system's temporary folder)")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
