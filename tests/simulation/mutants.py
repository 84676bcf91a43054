"""Broken engines: which there are, what leads them astray, and some deviations that are harmless."""

from __future__ import annotations

import pytest

from schemas.events import Envelope
from streams.engine import Engine
from streams.partition import Partition
from tests.simulation import deviations as deviates
from tests.simulation.deviations import Mutant
from tests.simulation.game import play_all

# ── Harmless: other parts of the protocol make up for them, at the cost of time ──


def asks_without_the_groups_word(patch: pytest.MonkeyPatch) -> None:
    """Whoever believes that it is assigned asks for the partition."""
    original = Engine.confirmed
    patch.setattr(Engine, "confirmed", lambda self, number, token, _, now: original(self, number, token, True, now))


def takes_before_the_end(patch: pytest.MonkeyPatch) -> None:
    """The partition is asked for before the log was read to its end; the taking that is read back covers that."""
    deviates.after(patch, Partition, "assign", lambda part, *_: setattr(part, "end", 0))


def forgets_early(patch: pytest.MonkeyPatch) -> None:
    """A finished run leaves the memory before the store covers it; the look-up, judged at its use, covers that."""
    original = Partition.forget
    patch.setattr(Partition, "forget", lambda part, _: original(part, 10**9))


def outstanding_kept(patch: pytest.MonkeyPatch) -> None:
    """A new epoch does not release what was outstanding; the next timeout does."""
    original = Partition._taken

    def taken(self: Partition, envelope: Envelope) -> bool:
        out = dict(self.out)
        owned = original(self, envelope)
        self.out.update(out)
        return owned

    patch.setattr(Partition, "_taken", taken)


CAUGHT: dict[Mutant, str] = {
    deviates.no_epoch_check: "handover",
    deviates.no_chain_check: "handover",
    deviates.no_look_up: "store",
    deviates.any_no_counts: "store",
    deviates.snapshot_does_not_count: "store",
    deviates.start_when_sent: "network",
    deviates.commit_when_sent: "network",
    deviates.commit_without_acknowledgement: "network",
    deviates.ends_of_the_owner_only: "handover",
    deviates.ends_not_kept: "handover",
    deviates.start_at_the_snapshot: "handover",
    deviates.old_ends_by_an_old_store: "store",
    deviates.own_by_epoch: "handover",
    deviates.token_is_a_name: "handover",
    deviates.same_attempt: "handover",
    deviates.retaken_under_the_same_epoch: "network",
    deviates.held_dropped: "network",
    deviates.never_unknown: "network",
    deviates.loaded_at_two_moments: "store",
    deviates.gaps_are_passed_over: "reading",
    deviates.clocks_never_go_back: "clocks",
    deviates.kept_folds_are_trusted: "unlimited",
    deviates.tables_are_trusted: "unlimited",
}
"""Each deviation and the theme of survivable faults that leads into it, or faults without limit."""

HARMLESS: tuple[Mutant, ...] = (asks_without_the_groups_word, takes_before_the_end, forgets_early, outstanding_kept)

NAMED: dict[str, Mutant] = {mutant.__name__: mutant for mutant in (*CAUGHT, *HARMLESS)}


def play_astray(mutant: Mutant, seeds: range) -> None:
    """Play these seeds with the faults that lead such an engine astray. Raises Broken when one breaks a promise."""
    if CAUGHT[mutant] == "unlimited":
        play_all("unlimited", seeds)
    else:
        play_all("survivable", seeds, CAUGHT[mutant])
