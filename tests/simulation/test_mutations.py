"""Engines that leave the protocol in one place: the random schedules must catch each of them, and so are worth something."""

from __future__ import annotations

import pytest

from tests.simulation.deviations import Mutant, no_chain_check, no_epoch_check, own_by_epoch, start_when_sent
from tests.simulation.game import play_all
from tests.simulation.mutants import CAUGHT, HARMLESS, play_astray

SEEDS_MAX = 2000
"""Within so many schedules each deviation is caught; most are within ten."""
SEEDS_HARMLESS = 40
CAUGHT_IN_ANY_CASE = (no_epoch_check, no_chain_check, start_when_sent, own_by_epoch)


@pytest.mark.parametrize("mutant", CAUGHT, ids=lambda mutant: mutant.__name__)
def test_a_deviation_is_caught(mutant: Mutant, monkeypatch: pytest.MonkeyPatch) -> None:
    """Some promise breaks: a fact that readers judge differently, an effect too many, an end that nobody hears of, no rest."""
    mutant(monkeypatch)
    with pytest.raises(AssertionError, match=r"^[SLI][0-9]"):
        play_astray(mutant, range(SEEDS_MAX))


@pytest.mark.parametrize("mutant", CAUGHT_IN_ANY_CASE, ids=lambda mutant: mutant.__name__)
def test_a_deviation_is_caught_without_limit(mutant: Mutant, monkeypatch: pytest.MonkeyPatch) -> None:
    """What must hold even when faults have no limit is looked at there as well."""
    mutant(monkeypatch)
    with pytest.raises(AssertionError, match=r"^S[12389]"):
        play_all("unlimited", range(SEEDS_MAX))


@pytest.mark.parametrize("mutant", HARMLESS, ids=lambda mutant: mutant.__name__)
def test_a_deviation_that_is_harmless(mutant: Mutant, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing breaks: other parts of the protocol make up for it, at the cost of time."""
    mutant(monkeypatch)
    play_all("survivable", range(SEEDS_HARMLESS))
