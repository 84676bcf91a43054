"""The board of a rebuild: claims, leases and phases, without any store."""

from __future__ import annotations

from dataclasses import replace

import orjson

from projections import board
from projections.board import LEASE_S, Rebuild
from projections.compare import Comparison, difference


def folding(*ends: int) -> Rebuild:
    return board.share(Rebuild("1", "preparing", "ada", 1001, 5.0), "folding", ends, 5.0)


def test_what_is_written_is_read() -> None:
    """Claims and reports survive the way through JSON."""
    report = Comparison(1, 2, 3, 4, (difference("r", "status", "FAILED", "SUCCESS"),))
    rebuild, _ = board.claim(replace(folding(3, 4), report=report), "a", 1.0)
    assert Rebuild.load(rebuild.dump()) == rebuild


def test_a_partition_has_one_owner_until_its_lease_lapses() -> None:
    """Two processes get two partitions, a third gets none; what a dead one held is anybody's after the lease."""
    rebuild, first = board.claim(folding(3, 4), "a", 0.0)
    rebuild, second = board.claim(rebuild, "b", 0.0)
    rebuild, third = board.claim(rebuild, "c", 0.0)
    assert (first, second, third) == (0, 1, None)
    rebuild, held = board.renew(rebuild, "b", {1: 2}, 10.0)
    assert held
    rebuild, taken = board.claim(rebuild, "c", LEASE_S + 1)
    assert taken == 0
    assert board.renew(rebuild, "a", {0: 1}, LEASE_S + 1)[1] is False
    assert board.give_back(rebuild, "a", 0, 3, LEASE_S + 1) == rebuild


def test_the_next_phase_begins_when_all_are_level() -> None:
    """Not before the last partition stands at its end; then one process compares."""
    rebuild = board.give_back(board.claim(folding(3, 0), "a", 0.0)[0], "a", 0, 2, 1.0)
    assert board.go_on(rebuild, 9.0).phase == "folding"
    rebuild = board.give_back(board.claim(rebuild, "a", 0.0)[0], "a", 0, 3, 1.0)
    rebuild = board.go_on(rebuild, 9.0)
    assert (rebuild.phase, rebuild.events, rebuild.folded_s) == ("comparing", 3, 9.0)
    rebuild, mine = board.claim_phase(rebuild, "a", 9.0)
    assert mine
    assert board.claim_phase(rebuild, "b", 9.0)[1] is False


def test_a_rebuild_that_runs_is_joined_and_an_ended_one_is_not() -> None:
    """A second request finds the first; after the end, or for another version of the projection, a fresh one begins."""
    running, fresh = folding(1), Rebuild("2", "preparing", "bob", 1001, 6.0)
    assert board.begin(running, fresh)[1] is running
    assert board.begin(board.end(running, "cancelled", 7.0), fresh)[1] is fresh
    assert board.begin(running, replace(fresh, version=1002))[1].id == "2"
    assert board.end(board.end(running, "cancelled", 7.0), "done", 8.0).phase == "cancelled"


def test_the_rate_counts_the_time_of_work_alone() -> None:
    """Not the wait for the first process, nor an hour after a crash, nor what comes after the fold."""
    rebuild, _ = board.claim(folding(1_000, 1_000), "a", 10.0)
    assert (rebuild.worked_s(10.0), rebuild.worked_s(13.0)) == (0.0, 3.0)
    rebuild, _ = board.renew(rebuild, "a", {0: 600}, 16.0)
    crashed_s = 16.0 + LEASE_S + 1
    assert rebuild.worked_s(crashed_s) == rebuild.worked_s(crashed_s + 3_600) == 6.0
    rebuild, _ = board.claim(rebuild, "b", 4_000.0)
    rebuild = board.give_back(rebuild, "b", 0, 1_000, 4_002.0)
    rebuild, _ = board.claim(rebuild, "b", 4_002.0)
    rebuild = board.give_back(rebuild, "b", 1, 1_000, 4_004.0)
    rebuild = board.go_on(rebuild, 4_004.0)
    assert (rebuild.phase, rebuild.worked_s(9_999.0)) == ("comparing", 10.0)
    rebuild, _ = board.claim_phase(rebuild, "b", 5_000.0)
    assert rebuild.worked_s(9_999.0) == 10.0


def test_a_process_that_leaves_stops_the_clock() -> None:
    """One that held nothing does not move it."""
    rebuild, _ = board.claim(folding(9), "a", 10.0)
    assert board.leave(rebuild, "b", 20.0) == rebuild
    assert board.leave(rebuild, "a", 12.0).worked_s(99.0) == 2.0


def test_what_a_later_release_says_besides_is_passed_over() -> None:
    """Its board is read by the processes of this one, which go on beside it."""
    rebuild = folding(3)
    assert Rebuild.load(orjson.dumps({**orjson.loads(rebuild.dump()), "mood": "good"})) == rebuild
