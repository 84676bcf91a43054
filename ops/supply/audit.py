"""`make audit`: are there known holes in what runs?

`pip-audit` calls a package that it could not look up "skipped", and everything skipped "no known vulnerabilities". Here
that is an answer of its own. Exit codes: 0 none known, 1 some found, 3 not all could be looked up.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).parents[2]
RUNTIME: Final = ROOT / "requirements/runtime.txt"
WITHIN_S: Final = 600
NONE_KNOWN, FOUND, NO_DATA = 0, 1, 3


def told(report: dict[str, Any]) -> tuple[list[str], int]:
    """Lines for people, and the exit code, of pip-audit's report."""
    packages = report["dependencies"]
    holes = [(each, hole) for each in packages for hole in each.get("vulns", [])]
    skipped = sorted(each["name"] for each in packages if "skip_reason" in each)
    lines = [f"{each['name']} {each['version']}: {hole['id']}, {_mended(hole)}" for each, hole in holes]
    if skipped:
        some = ", ".join(skipped[:5]) + (" …" if len(skipped) > 5 else "")
        lines.append(f"No data for {len(skipped)} of {len(packages)} packages ({some}): nothing is known about them.")
    if not packages:
        lines.append("No package was looked up.")
    if not lines:
        lines.append(f"No known vulnerabilities in {len(packages)} packages.")
    return lines, FOUND if holes else NO_DATA if skipped or not packages else NONE_KNOWN


def _mended(hole: dict[str, Any]) -> str:
    versions = hole.get("fix_versions") or []
    return f"mended in {', '.join(versions)}" if versions else "not mended yet"


def ask(service: str) -> tuple[list[str], int]:
    """As `told`, of the packages that are locked for running."""
    tool = Path(sys.executable).with_name("pip-audit")
    asked = ["--requirement", str(RUNTIME), "--require-hashes", "--disable-pip", "--vulnerability-service", service]
    try:
        done = subprocess.run(
            [tool, *asked, "--format", "json", "--progress-spinner", "off"],
            capture_output=True,
            text=True,
            timeout=WITHIN_S,
            check=False,
        )
        report = json.loads(done.stdout)
    except subprocess.TimeoutExpired:
        return [f"No data: {service} gave no answer within {WITHIN_S} s."], NO_DATA
    except json.JSONDecodeError:
        last = done.stderr.strip().splitlines()[-1:] or ["it said nothing"]
        return [f"No data: {service} could not be asked ({last[0][:300]})."], NO_DATA
    return told(report)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--service", choices=["pypi", "osv"], default="pypi", help="whom to ask")
    lines, code = ask(parser.parse_args().service)
    print("\n".join(lines), file=sys.stderr if code else sys.stdout)
    return code


if __name__ == "__main__":
    sys.exit(main())
