"""Whatever stands on the topic of commands: a command or a refusal, never anything else."""

from __future__ import annotations

import orjson
from hypothesis import example, given
from hypothesis import strategies as st

from schemas import commands, identity
from schemas.errors import CommandRefused

SCALARS = (
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | st.text(max_size=12)
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
FIELDS = "specversion id type subject time data run_id workflow_id version payload reason actor source".split()
MESSAGES = st.dictionaries(
    st.sampled_from(FIELDS),
    VALUES | st.sampled_from(["TriggerRun", "CancelRun", "w", "r1", "2026-01-01T00:00:00Z"]),
    max_size=8,
)


@given(st.binary(max_size=60) | MESSAGES.map(orjson.dumps), st.integers(1, 8), st.integers(0, 2**40))
@example(b'{"type":[],"workflow_id":"w"}', 1, 0)
@example(b'{"type":{},"workflow_id":"w"}', 1, 0)
def test_every_record_is_a_command_or_refused(value: bytes, partitions: int, at_ms: int) -> None:
    """Any bytes are a command with sound ids, or are refused."""
    try:
        command = commands.decode(value, topic="t", partition=0, offset=3, timestamp_ms=at_ms, partitions=partitions)
    except CommandRefused:
        return
    assert identity.RUN_ID.match(command.run_id)
    assert command.id
    again = commands.decode(
        commands.encode(command), topic="t", partition=1, offset=9, timestamp_ms=5, partitions=partitions
    )
    assert again == command, "a command that is sent home is the same one there"
