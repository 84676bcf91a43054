"""Masking: after it no form of a secret is left, and nothing else is touched."""

from __future__ import annotations

import base64
import html
import json
import re
from urllib.parse import quote, quote_plus

from hypothesis import assume, given
from hypothesis import strategies as st

from schemas.jsontext import JSON
from streams.masking import MASK, Mask

SECRET = st.text(min_size=8, max_size=30).filter(lambda text: text.strip() == text and "*" not in text)
AROUND = st.text(max_size=10)


@given(SECRET, AROUND, AROUND)
def test_no_form_is_left(secret: str, before: str, after: str) -> None:
    """Raw, percent-encoded in capitals and small letters, escaped for JSON once and twice and for HTML."""
    mask = Mask([secret])
    for form in (
        secret,
        quote(secret, safe=""),
        quote(secret),
        re.sub("%..", lambda escape: escape[0].lower(), quote(secret, safe="")),
        quote_plus(secret),
        json.dumps(secret)[1:-1],
        json.dumps(json.dumps(secret))[3:-3],
        json.dumps(secret, ensure_ascii=False)[1:-1],
        html.escape(secret),
    ):
        masked = mask.text(f"{before}{form}{after}")
        assert form not in masked
        assert MASK in masked


@given(SECRET, st.binary(max_size=5), st.binary(max_size=5))
def test_nor_base64_of_a_text_with_it(secret: str, before: bytes, after: bytes) -> None:
    """However the secret is aligned: what is left decodes to none of it but its ends."""
    text = base64.b64encode(before + secret.encode() + after).decode()
    assert MASK in Mask([secret]).text(text)
    assert MASK in Mask([secret]).text(text.replace("+", "-").replace("/", "_"))


@given(
    SECRET,
    st.recursive(
        st.text(max_size=5) | st.integers(), lambda inner: st.lists(inner) | st.dictionaries(st.text(max_size=5), inner)
    ),
)
def test_what_is_no_secret_stays(secret: str, value: JSON) -> None:
    """A value without it comes through as it is."""
    assume(not any(form in json.dumps(value, ensure_ascii=False) for form in Mask([secret])._forms))
    assert Mask([secret]).value(value) == value
    assert Mask().value(value) == value


@given(SECRET, st.integers(0, 3))
def test_it_is_found_anywhere_in_a_value(secret: str, depth: int) -> None:
    """In texts, in keys, at any depth."""
    value: JSON = f"a{secret}b"
    for _ in range(depth):
        value = [{secret: value, "k": [value, 1, None, True]}]
    assert secret not in json.dumps(Mask([secret]).value(value), ensure_ascii=False).replace(
        json.dumps(secret)[1:-1], secret
    )
