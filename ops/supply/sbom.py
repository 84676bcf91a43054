"""`make sbom`: the list of parts (CycloneDX 1.6, JSON) of what runs, made from what is locked.

`cyclonedx-py` reads the environment, which has licences and who needs whom, but neither the digests nor a border between
what runs and what tests. requirements/runtime.txt has both. The same lock gives the same file.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from packaging.requirements import Requirement

ROOT: Final = Path(__file__).parents[2]
SPEC_VERSION: Final = "1.6"

Bom = dict[str, Any]
Part = tuple[str, str]
"""Name as the index knows it, and version."""


def locked(requirements: str) -> dict[Part, list[str]]:
    """The parts that this Python and system install, with the SHA-256 digests of their files."""
    found: dict[Part, list[str]] = {}
    for entry in requirements.replace("\\\n", " ").splitlines():
        text, *digests = re.split(r"\s+--hash=sha256:", entry.strip())
        requirement = Requirement(text)
        if requirement.marker is None or requirement.marker.evaluate():
            found[plain(requirement.name), str(requirement.specifier).removeprefix("==")] = digests
    return found


def plain(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def complete(environment: Bom, parts: Mapping[Part, list[str]], project: Mapping[str, Any]) -> Bom:
    """What the tool found, without all that does not run, with the digests, and with us as what it is all for.

    Ends the program where a part is locked and not installed.
    """
    installed = {(plain(each["name"]), each["version"]): each for each in environment["components"]}
    for name, version in parts.keys() - installed.keys():
        sys.exit(f"{name} {version} is locked and not installed: run `make setup`")
    components = [_with_digests(installed[part], digests) for part, digests in sorted(parts.items())]
    refs = {each["bom-ref"] for each in components}
    ours = _ours(project)
    wanted = {plain(Requirement(text).name) for text in project["dependencies"]}
    direct = [each["bom-ref"] for each in components if plain(each["name"]) in wanted]
    needs = {each["ref"]: refs.intersection(each.get("dependsOn", ())) for each in environment["dependencies"]}
    return {
        **environment,
        "metadata": {**environment["metadata"], "component": ours},
        "components": components,
        "dependencies": [
            {"ref": ours["bom-ref"], "dependsOn": sorted(direct)},
            *({"ref": ref, "dependsOn": sorted(needs.get(ref, ()))} for ref in sorted(refs)),
        ],
    }


def _with_digests(component: Bom, digests: list[str]) -> Bom:
    """Of its files on the index: which one is installed depends on the machine."""
    files = {
        "type": "distribution",
        "url": component["purl"],
        "comment": "each of the files that the lock allows",
        "hashes": [{"alg": "SHA-256", "content": digest} for digest in sorted(digests)],
    }
    others = [each for each in component.get("externalReferences", []) if each["type"] != "distribution"]
    return {**component, "externalReferences": [*others, files]}


def _ours(project: Mapping[str, Any]) -> Bom:
    return {
        "type": "application",
        "bom-ref": project["name"],
        "name": project["name"],
        "version": project["version"],
        "description": project["description"],
        "licenses": [{"license": {"id": project["license"], "acknowledgement": "declared"}}],
    }


def of_environment(python: Path) -> Bom:
    """What is installed, by the tool."""
    tool = Path(sys.executable).with_name("cyclonedx-py")
    asked = ["environment", "--output-reproducible", "--spec-version", SPEC_VERSION, "--output-format", "JSON"]
    done = subprocess.run([tool, *asked, python], capture_output=True, text=True, check=True)
    found: Bom = json.loads(done.stdout)
    return found


def check(text: str) -> None:
    """Raises ValueError where the text does not follow the schema of CycloneDX."""
    from cyclonedx.schema import SchemaVersion
    from cyclonedx.validation.json import JsonStrictValidator

    wrong = JsonStrictValidator(SchemaVersion.from_version(SPEC_VERSION)).validate_str(text)
    if wrong is not None:
        raise ValueError(f"this is no CycloneDX {SPEC_VERSION}: {wrong}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--python", type=Path, required=True, help="of the environment in which everything is installed"
    )
    parser.add_argument("--output", type=Path, required=True)
    given = parser.parse_args()
    parts = locked((ROOT / "requirements/runtime.txt").read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    text = json.dumps(complete(of_environment(given.python), parts, project), indent=2, sort_keys=True) + "\n"
    check(text)
    given.output.write_text(text)
    print(f"{given.output}: {len(parts)} parts, CycloneDX {SPEC_VERSION}")


if __name__ == "__main__":
    main()
