"""Who works on a partition, from what a broker says of a group."""

from __future__ import annotations

from typing import Any

import pytest
from aiokafka.coordinator.protocol import ConsumerProtocolMemberAssignment

from streams.owners import owners_of
from streams.reasons import Worker

EVENTS, TRIGGER = "workflow.events", "workflow.trigger"


def member(name: str, *assigned: tuple[str, list[int]], user_data: bytes = b"more") -> tuple[Any, ...]:
    """As it stands in the broker's answer."""
    return (name, "faust", "/10.0.0.7", b"", ConsumerProtocolMemberAssignment(1, list(assigned), user_data).encode())


def test_each_partition_has_the_member_that_was_given_it() -> None:
    """Of the one topic that is asked about; the others have nobody."""
    members = [member("a", (EVENTS, [0, 2]), (TRIGGER, [0, 2, 3])), member("b", (EVENTS, [1]))]
    others, owners = owners_of("Stable", members, EVENTS)
    a, b = Worker("owned", "a", "10.0.0.7"), Worker("owned", "b", "10.0.0.7")
    assert (others, owners) == (Worker("none"), {0: a, 1: b, 2: a})


def test_a_member_may_have_nothing() -> None:
    """More workers than partitions: an empty assignment, or none yet."""
    idle = ("c", "faust", "/10.0.0.7", b"", b"")
    assert owners_of("Stable", [member("a"), idle], EVENTS) == (Worker("none"), {})


@pytest.mark.parametrize("state", ["Empty", "Dead"])
def test_a_group_without_members_owns_nothing(state: str) -> None:
    """Also one that never was: the broker calls it dead."""
    assert owners_of(state, [], EVENTS) == (Worker("none"), {})


@pytest.mark.parametrize("state", ["PreparingRebalance", "CompletingRebalance"])
def test_a_group_that_shares_out_anew_says_nothing_yet(state: str) -> None:
    """Neither owned nor without an owner, whatever the members had."""
    assert owners_of(state, [member("a", (EVENTS, [0]))], EVENTS) == (Worker("moving"), {})
