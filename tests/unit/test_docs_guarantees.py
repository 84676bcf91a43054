"""Every promise names the test that holds it, and there is such a test."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "guarantees.md").read_text()
ROWS = dict(re.findall(r"^\| (I\d+) \| (.+) \|$", TEXT, re.MULTILINE))


def test_all_invariants_are_promised() -> None:
    """I1 to I14, each once, as the checker has them."""
    assert list(ROWS) == [f"I{n}" for n in range(1, 15)]


@pytest.mark.parametrize("invariant", ROWS)
def test_there_is_a_test(invariant: str) -> None:
    """Each named file is there, and each named test in it."""
    named = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", ROWS[invariant])
    assert named
    for file, test in named:
        source = (ROOT / file).read_text()
        assert not test or re.search(rf"def {test}\(", source), f"{file} has no {test}"


@pytest.mark.parametrize("invariant", [name for name in ROWS if name != "I2"])
def test_the_checker_judges_it(invariant: str) -> None:
    """Its number stands in what the checker or the harness says of a violation; I2 is the reader's rule itself."""
    judges = ("tests/checker.py", "tests/checker_clients.py", "tests/harness/verdict.py")
    assert any(f'"{invariant} ' in (ROOT / file).read_text() for file in judges)
