"""Templates: escaping is undone exactly, expressions are found whole, and what is read of the roots is never too little."""

from __future__ import annotations

from contextlib import suppress

from hypothesis import given
from hypothesis import strategies as st

from schemas.jsontext import JSON
from schemas.templates import TemplateRefused, expressions, mentions, render
from streams.expressions import ExpressionFailed, evaluate
from streams.expressions import _evaluate as whole

LITERAL = st.text(alphabet="${}ab'\"\\ \n", max_size=12)
QUOTED = st.tuples(st.sampled_from(["'", '"', "'''", '"""']), st.text(alphabet="${}ab/\n", max_size=8)).map(
    lambda parts: f"{parts[0]}{parts[1] if len(parts[0]) == 3 else parts[1].replace(chr(10), ' ')}{parts[0]}"
)
SOURCE = st.recursive(
    QUOTED | st.sampled_from(["payload.x", "1", "{}", r"'\'}'", r"r'\'", "[]"]),
    lambda inner: (
        st.lists(inner, min_size=1, max_size=3).map(lambda each: f"{{'k': {', '.join(each)}}}")
        | st.tuples(inner, inner).map(lambda pair: f"{pair[0]} + {pair[1]}")
    ),
    max_leaves=6,
)
PAYLOAD: JSON = {
    "a": 1,
    "b": {"a": "x", "run": 2},
    "l": [1, 2],
    "size": 3,
    "payload": {"steps": 4},
    "steps": 5,
    "a-b": 6,
}
ROOTS: dict[str, JSON] = {
    "payload": PAYLOAD,
    "steps": {"a": {"output": 1}, "b": {"output": {"a": 2}}},
    "run": {"id": "r", "a": 7},
}
MEMBER = st.sampled_from(
    """.a .b .b.a .payload .payload.steps .steps ['a'] ["a-b"] ['b'].run .l[0] .l.map(a,a) .size .size() .missing .output
    .a.output [payload.b.a] ['''a''']""".split()
) | st.sampled_from(["", " . a", "\n.b", "[ 'a' ]"])
OPERAND = st.tuples(st.sampled_from(["payload", "steps", "run", ".payload", "(payload)", "'payload'"]), MEMBER).map(
    "".join
)
READING = st.recursive(
    OPERAND,
    lambda inner: (
        st.tuples(inner, st.sampled_from([" == ", " + ", " in "]), inner).map("".join)
        | inner.map(lambda each: f"[{each}]")
        | inner.map(lambda each: f"size({each})")
        | inner.map(lambda each: f"{{'k': {each}}}")
    ),
    max_leaves=4,
)


@given(LITERAL)
def test_an_escaped_text_renders_to_itself(text: str) -> None:
    """With `$${` for each `${` any text can be written."""
    escaped = text.replace("${", "$${")
    assert expressions(escaped) == ()
    assert render(escaped, {}) == text


@given(st.text(alphabet="ab {}'\"", max_size=5), SOURCE, st.text(alphabet="ab {}'\"", max_size=5))
def test_an_expression_is_found_whole(before: str, source: str, after: str) -> None:
    """Whatever literals and braces a source holds, it ends where it ends."""
    text = f"{before}${{{source}}}{after}"
    assert expressions(text) == (source,)
    assert render(f"<{text}>", {source: "v"}) == f"<{before}v{after}>"


@given(st.text(alphabet="${}ab'\"\\/\nr", max_size=40))
def test_any_text_is_read_or_refused(text: str) -> None:
    """Nothing but TemplateRefused is raised, and what was found can be rendered."""
    with suppress(TemplateRefused):
        sources = expressions({"x": [text]})
        render(text, dict.fromkeys(sources, 1))


@given(READING)
def test_the_members_named_are_enough(source: str) -> None:
    """An expression has the same value, or fails alike, when it is handed all members and only those it names."""
    named = evaluate([source], ROOTS)[source]
    value = whole(source, ROOTS)
    if isinstance(named, ExpressionFailed) or isinstance(value, ExpressionFailed):
        assert isinstance(named, ExpressionFailed)
        assert isinstance(value, ExpressionFailed)
    else:
        assert named == value
    assert {root for root, _ in mentions(source)} <= {"payload", "steps", "run"}
