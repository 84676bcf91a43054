"""The plain package names are ours."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("name", ["api", "ops", "projections", "schemas", "streams", "tests"])
def test_a_plain_name_is_our_package(name: str) -> None:
    """`import schemas` and the like find this checkout, whatever else is installed."""
    file = import_module(name).__file__
    assert file is not None
    assert Path(file).parent == ROOT / name
