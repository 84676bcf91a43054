"""References to secrets: no data becomes one, and everything arrives as it was."""

from __future__ import annotations

import re
from typing import Any

from hypothesis import example, given
from hypothesis import strategies as st

from schemas.jsontext import JSON
from schemas.templates import deferred, expressions, render, revealed, secrets

PIECES = st.sampled_from(
    ["$", "{", "}", "${", "$${", "$$", "${secrets.X}", "{secrets.X}", "secrets.X}", "${'$'}", "'", '"', "a", " ", "\\"]
)
TEXT = st.lists(PIECES, max_size=6).map("".join) | st.text(max_size=8)
DATA = st.recursive(
    TEXT | st.integers(-(2**63), 2**63 - 1) | st.none() | st.booleans(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXT, inner, max_size=3),
    max_leaves=6,
)
LITERAL = st.lists(st.sampled_from(["$", "{", "}", "a", " ", "'", "{secrets.X}"]), max_size=3).map("".join)
PART = st.one_of(
    LITERAL.map(lambda text: ("text", text)),
    st.sampled_from([("data", "d"), ("data", "e"), ("secret", "X"), ("secret", "Y")]),
)
CONFIG = st.lists(PART, max_size=6)
SECRETS = {"X": "·x·${secrets.Y}·", "Y": "·y·"}


def written(parts: list[tuple[str, str]]) -> str:
    """The text of a config as an author writes it: plain text with its escapes, expressions and references."""
    text, plain = "", ""
    for kind, what in [*parts, ("end", "")]:
        if kind == "text":
            plain += what
            continue
        text += plain.replace("${", "$${") + (" " if plain.endswith("$") else "")  # no author can write $ before ${
        text += {"data": f"${{{what}}}", "secret": f"${{secrets.{what}}}", "end": ""}[kind]
        plain = ""
    return text


def at_once(text: str, values: dict[str, Any]) -> JSON:
    """What the text comes to when expressions and secrets are replaced in one go."""
    return render(text, values | {f"secrets.{name}": value for name, value in SECRETS.items()})


@given(CONFIG, DATA, DATA)
@example([("data", "d"), ("data", "e")], "$", "{secrets.X}")
@example([("data", "d"), ("text", "{secrets.X}")], "$", "")
@example([("data", "d"), ("secret", "X")], "$$", "")
@example([("data", "d"), ("secret", "X")], "$" * 2_500, "")
@example([("data", "d"), ("secret", "X")], "$${", "")
@example([("data", "d")], {"a": ["${secrets.X}", {"b": "$${secrets.X}"}]}, "")
def test_what_is_sent_is_what_the_author_wrote(parts: list[tuple[str, str]], d: JSON, e: JSON) -> None:
    """Rendered in two steps, the secrets last, a config comes to what it comes to in one; and so does one with more around it."""
    text, values = written(parts), {"d": d, "e": e}
    config: JSON = {"body": [text, {"k": text}], "n": 1}
    template = deferred(config, values)
    expected = at_once(text, values)
    assert revealed(template, SECRETS) == {"body": [expected, {"k": expected}], "n": 1}


@given(CONFIG, DATA, DATA)
def test_only_the_authors_own_references_are_left(parts: list[tuple[str, str]], d: JSON, e: JSON) -> None:
    """What waits for the call is a template with exactly the secrets that the author named, and nothing to compute."""
    text = written(parts)
    template = deferred(text, {"d": d, "e": e})
    assert secrets(template) == secrets(text)
    assert all(re.fullmatch(r"'\$+'", source) for source in expressions(template))
    assert not any(value in str(template) for value in SECRETS.values())


@given(DATA)
def test_any_payload_comes_through(payload: JSON) -> None:
    """As a whole value and within a text."""
    template = deferred(["${d}", "<${d}>", "${secrets.Y}"], {"d": payload})
    assert revealed(template, SECRETS) == [payload, render("<${d}>", {"d": payload}), "·y·"]
    assert secrets(template) == ("Y",)
