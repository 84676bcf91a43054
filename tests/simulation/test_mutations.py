"""Engines that leave the protocol in one place: the random schedules must catch each of them, and so are worth something."""

from __future__ import annotations

import pytest

from tests.simulation.mutants import CAUGHT, HARMLESS, Mutant
from tests.simulation.test_random import one

SEEDS_MAX = 1500
"""Within so many schedules each deviation is caught; most are within ten."""
SEEDS_HARMLESS = 40


def play(seeds: range, theme: str | None = None) -> None:
    for seed in seeds:
        one(seed, theme)


@pytest.mark.parametrize(("mutant", "theme"), CAUGHT.items(), ids=lambda it: it if isinstance(it, str) else it.__name__)
def test_a_deviation_is_caught(mutant: Mutant, theme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some promise breaks: a fact that readers judge differently, an effect too many, an end that nobody hears of, no rest."""
    mutant(monkeypatch)
    with pytest.raises(AssertionError, match=r"[SLI][0-9]"):
        play(range(SEEDS_MAX), theme)


@pytest.mark.parametrize("mutant", HARMLESS, ids=lambda mutant: mutant.__name__)
def test_a_deviation_that_is_harmless(mutant: Mutant, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing breaks: other parts of the protocol make up for it, at the cost of time."""
    mutant(monkeypatch)
    play(range(SEEDS_HARMLESS))
