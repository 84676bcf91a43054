"""Ids: Kafka's hash, homes, digests, ids that are derived."""

from __future__ import annotations

import hashlib

import pytest
from aiokafka.partitioner import murmur2 as aiokafka_murmur2
from hypothesis import given
from hypothesis import strategies as st

from schemas import identity

VECTORS = {
    b"21": -973932308,
    b"foobar": -790332482,
    b"a-little-bit-long-string": -985981536,
    b"a-little-bit-longer-string": -1486304829,
    b"lkjh234lh9fiuh90y23oiuhsafujhadof229phr9h19h89h8": -58897971,
    b"abc": 479470107,
}
"""Of Kafka's own test of murmur2, as signed 32-bit numbers."""


@pytest.mark.parametrize(("data", "signed"), VECTORS.items())
def test_murmur2_of_kafka(data: bytes, signed: int) -> None:
    """The hash is the one of Kafka's Java clients."""
    assert identity.murmur2(data) == signed & 0xFFFFFFFF


@given(st.binary(max_size=40))
def test_murmur2_of_aiokafka(data: bytes) -> None:
    """The hash is the one of aiokafka's default partitioner."""
    assert identity.murmur2(data) & 0x7FFFFFFF == aiokafka_murmur2(data) & 0x7FFFFFFF


@given(st.text(max_size=30), st.integers(1, 1024))
def test_home_is_a_partition(run_id: str, partitions: int) -> None:
    """A run's home is one of the partitions, always the same one."""
    assert 0 <= identity.home(run_id, partitions) < partitions


def test_digest() -> None:
    """The digest that chains events is BLAKE2b of 16 bytes in lowercase hex."""
    assert identity.digest(b"abc") == hashlib.blake2b(b"abc", digest_size=16).hexdigest()


def test_keyed_run_id_keeps_its_parts_apart() -> None:
    """Caller, workflow and key name one run; moving a character from one to the next names another."""
    ids = {
        identity.keyed_run_id(*parts) for parts in (("a", "b", "c"), ("ab", "", "c"), ("", "ab", "c"), ("a", "bc", ""))
    }
    assert len(ids) == 4
    assert identity.keyed_run_id("a", "b", "c") == identity.keyed_run_id("a", "b", "c")


@given(st.integers(0, 2**40), st.integers(0, 2**40), st.binary(max_size=20), st.integers(1, 64), st.data())
def test_foreign_run_id_is_at_home(offset: int, at_ms: int, value: bytes, partitions: int, data: st.DataObject) -> None:
    """A record without an id gets one that is at home where it stands, the same at every delivery, and a sound one."""
    partition = data.draw(st.integers(0, partitions - 1))
    run_id = identity.foreign_run_id("t", partition, offset, at_ms, value, partitions)
    assert identity.home(run_id, partitions) == partition
    assert run_id == identity.foreign_run_id("t", partition, offset, at_ms, value, partitions)
    assert identity.RUN_ID.match(run_id)


def test_foreign_run_id_differs_by_everything_it_is_made_of() -> None:
    """Topic, partition, offset, timestamp and value each make another run."""
    base = ("t", 0, 7, 99, b"v")
    changed = [
        ("u", 0, 7, 99, b"v"),
        ("t", 1, 7, 99, b"v"),
        ("t", 0, 8, 99, b"v"),
        ("t", 0, 7, 98, b"v"),
        ("t", 0, 7, 99, b"w"),
    ]
    ids = {identity.foreign_run_id(*where, partitions=1) for where in changed[:1] + changed[2:]}
    ids |= {identity.foreign_run_id(*base, partitions=1), identity.foreign_run_id(*changed[1], partitions=2)}
    assert len(ids) == 6


@pytest.mark.parametrize("text", ["a", "A.b_c-d:e", "0" * 128])
def test_sound_run_ids(text: str) -> None:
    """Run ids are letters, digits and . _ : - after a letter or digit."""
    assert identity.RUN_ID.match(text)


@pytest.mark.parametrize("text", ["", "-a", "a\n", "a b", "é", "0" * 129, "a/b"])
def test_unsound_run_ids(text: str) -> None:
    """Neither a final newline nor anything else gets past the pattern."""
    assert not identity.RUN_ID.match(text)
