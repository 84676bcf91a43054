"""Position tokens."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas import position

PLACES = st.tuples(st.sampled_from("det"), st.integers(0, 9999))


@given(st.dictionaries(PLACES, st.integers(0, 10**18 - 1), max_size=20))
def test_a_token_is_read_back(at: position.Position) -> None:
    """What a token was made of comes out of it."""
    assert position.decode(position.encode(at)) == at


def test_the_higher_offset_of_a_place_counts() -> None:
    """A token that names a place twice asks for the higher offset."""
    assert position.decode("e0.5-e0.7-e0.6") == {("e", 0): 7}


@pytest.mark.parametrize("token", ["x", "e0", "e0.", "e0.1-", "e0.1 ", "e0.1\n", "e٣.1", "e00000.1", "e0.-1", "q0.1"])
def test_what_is_no_token(token: str) -> None:
    """Anything else is refused, digits of other scripts included."""
    with pytest.raises(ValueError, match="no position"):
        position.decode(token)


def test_a_token_is_bounded() -> None:
    """A token with more parts than there can be is refused before it is read."""
    with pytest.raises(ValueError, match="at most"):
        position.decode("-".join("e0.1" for _ in range(position.PARTS_MAX + 1)))


def test_reached() -> None:
    """A reader has reached a position when it stands at or above every place of it."""
    assert position.reached({("e", 0): 5, ("t", 0): 1}, {("e", 0): 5})
    assert not position.reached({("e", 0): 5}, {("e", 0): 5, ("e", 1): 1})
    assert position.reached({}, {})
