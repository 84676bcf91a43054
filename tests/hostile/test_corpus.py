"""The corpus is large enough, and each of its cases has a name of its own."""

from __future__ import annotations

from collections import Counter

from tests.hostile import corpus

CASES_MIN = 150


def test_cases_have_names_of_their_own() -> None:
    """No case hides another one, and none got lost."""
    names = Counter(corpus.names())
    assert [name for name, count in names.items() if count > 1] == []
    assert len(names) >= CASES_MIN
    assert len({(case.method, case.path, case.body, case.headers) for case in corpus.REFUSED_REQUESTS}) >= CASES_MIN
