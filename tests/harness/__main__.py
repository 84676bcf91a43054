"""`python -m tests.harness`: a platform, a load of runs, faults by a seeded plan, and the verdict."""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from tests.harness import bounds, mismatch
from tests.harness.plan import MISMATCHES, as_json, plan
from tests.harness.run import one_pass
from tests.harness.stage import Stage
from tests.harness.verdict import judge


def main() -> int:
    """0 when every promise was kept and something was tested; the plan can be had again by its seed."""
    arguments = _arguments()
    seed = arguments.seed if arguments.seed is not None else random.randrange(10**9)
    faults = plan(seed, max(0, arguments.faults - len(MISMATCHES)))
    print(f"seed {seed}: {len(faults)} faults and {len(MISMATCHES)} mismatches, {arguments.runs} runs", flush=True)
    if arguments.plan:
        print(json.dumps(as_json(faults), indent=1))
        return 0
    folder = Path(tempfile.mkdtemp(prefix="workflow-faults-"))
    try:
        report = asyncio.run(_run(folder, seed, arguments))
    except BaseException:
        print(f"the pass did not come to its end; seed {seed}, logs in {folder}", file=sys.stderr)
        raise
    if arguments.json is not None:
        arguments.json.write_text(json.dumps(report, indent=1) + "\n")
    for text in report["violations"][:50]:
        print(f"VIOLATION {text}")
    if report["violations"]:
        print(f"{len(report['violations'])} violations; seed {seed}, logs in {folder}")
        return 1
    shutil.rmtree(folder, ignore_errors=True)
    print(f"every promise was kept (seed {seed}, {report['seconds']:.0f} s)")
    return 0


async def _run(folder: Path, seed: int, arguments: argparse.Namespace) -> dict[str, Any]:
    began = time.monotonic()
    faults = plan(seed, max(0, arguments.faults - len(MISMATCHES)))

    def say(text: str) -> None:
        print(f"{time.monotonic() - began:6.1f}  {text}", flush=True)

    stage = Stage(folder)
    try:
        await stage.start_servers()
        await stage.start_processes()
        say(f"the platform works; worker 1 is {'on a host of its own' if stage.host else 'behind a proxy'}")
        evidence = await one_pass(stage, faults, arguments.runs, say, seed, arguments.at_once)
        violations, figures = await judge(stage, evidence)
        say(f"judged: {len(violations)} violations; now the bounds")
        for bound in await bounds.measure(stage, evidence):
            figures[bound.name] = bound.shown()
            violations += bound.violations()
        for name in MISMATCHES:
            found = await mismatch.meet(stage, name)
            violations += found
            say(
                f"    {name}: {MISMATCHES[name]}; " + ("NOT " * bool(found)) + "noticed in time and mended by a rebuild"
            )
    finally:
        stage.close()
    for name, value in figures.items():
        print(f"  {name:45} {value}")
    return {
        "seed": seed,
        "plan": as_json(faults),
        "seconds": time.monotonic() - began,
        "figures": figures,
        "violations": violations,
    }


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.harness", description=__doc__)
    parser.add_argument("--seed", type=int, help="of the plan; left out: any")
    parser.add_argument("--runs", type=int, default=2_000, help="started while the faults are on")
    parser.add_argument("--faults", type=int, default=25, help="the mismatches at the end among them")
    parser.add_argument("--at-once", type=int, default=1, help="how many faults may be on at the same time")
    parser.add_argument("--json", type=Path, metavar="FILE", help="where the report is written")
    parser.add_argument("--plan", action="store_true", help="print the plan and end")
    return parser.parse_args()


if __name__ == "__main__":
    sys.exit(main())
