"""The corpus is large enough, each of its cases has a name of its own, and readers of the log agree about its records."""

from __future__ import annotations

from collections import Counter

import pytest

from schemas import rule
from schemas.events import decode, encode_taken
from tests.hostile import corpus
from tests.hostile.records import FORGED, RECORDS
from tests.reader import Reader

CASES_MIN = 150


def test_cases_have_names_of_their_own() -> None:
    """No case hides another one, and none got lost."""
    names = Counter(corpus.names())
    assert [name for name, count in names.items() if count > 1] == []
    assert len(names) >= CASES_MIN
    assert len({(case.method, case.path, case.body, case.headers) for case in corpus.REFUSED_REQUESTS}) >= CASES_MIN


@pytest.mark.parametrize("name", [*RECORDS, *FORGED])
def test_readers_agree(name: str) -> None:
    """Whether a record is a fact: the product says the same as a reader made from docs/events.md alone."""
    value = {**RECORDS, **FORGED}[name]
    reader = Reader(0, 1)
    assert reader.take(encode_taken(0, 1, "w", "t", "2026-01-01T00:00:00.000Z")) == ""
    assert (reader.take(value) == "") == _is_fact(value)


def _is_fact(value: bytes | None) -> bool:
    """By the product, in the only partition there is, which stands at epoch 1 and has no run."""
    envelope = decode(value)
    if envelope is None:
        return False
    if rule.is_taken(envelope):
        return rule.takes(envelope, 0, 1)
    return rule.orphaned(envelope, 1, 0, None, False) is None and rule.at_home(envelope, 0, 1)
