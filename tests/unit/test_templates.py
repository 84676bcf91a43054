"""Expressions in the texts of a config: found, and replaced."""

from __future__ import annotations

import pytest

from schemas.jsontext import JSON
from schemas.templates import EXPRESSION_BYTES_MAX, TemplateRefused, expressions, mentions, render


@pytest.mark.parametrize(
    ("text", "sources"),
    [
        ("plain", ()),
        ("${payload.x}", ("payload.x",)),
        ("${ payload.x }", ("payload.x",)),
        ("a ${1} b ${2}${1}", ("1", "2")),
        ("$${x} ${y}", ("y",)),
        ("$$${x}", ()),
        ("$ { } $x {y} }", ()),
        ('${ {"a": "}"}.a } }', ('{"a": "}"}.a',)),
        ("${ {'a': {'b': 1}}.a.b }", ("{'a': {'b': 1}}.a.b",)),
        (r"${'\'}'}", (r"'\'}'",)),
        (r"${r'\'}", (r"r'\'",)),
        ("${'''a'b\n}'''}", ("'''a'b\n}'''",)),
        ('${"""a"}"b"""}', ('"""a"}"b"""',)),
        ("${b'}'}", ("b'}'",)),
        ("${payload // it's a }\n.x}", ("payload // it's a }\n.x",)),
        ("${'$${'}", ("'$${'",)),
    ],
)
def test_sources_are_found_whole_and_in_order(text: str, sources: tuple[str, ...]) -> None:
    """An expression ends at its own brace, not at one in a literal, a map or a comment."""
    assert expressions(text) == sources


def test_all_texts_of_a_config_are_searched() -> None:
    """Objects and lists are entered, keys are not, and a source counts once."""
    config = {"url": "http://x/${1}", "${0}": ["${2}", {"deep": ["${1}", 5, None, True]}], "tuple": ("${3}",)}
    assert expressions(config) == ("1", "2", "3")


@pytest.mark.parametrize(
    ("config", "pointer", "part"),
    [
        ("a ${", "", "index 2 is not closed"),
        ({"a": [0, "${x"]}, "/a/1", "is not closed"),
        ({"a/b": {"~": "${ {} "}}, "/a~1b/~0", "is not closed"),
        ("${'}", "", "string literal at index 2"),
        (["${}"], "/0", "holds no expression"),
        ("${ \n }", "", "holds no expression"),
        ("${" + "é" * (EXPRESSION_BYTES_MAX // 2 + 1) + "}", "", f"limit is {EXPRESSION_BYTES_MAX}"),
        ("${" * 10_000, "", "is not closed"),
        ("${'''" + "\\" * 10_000, "", "is not closed"),
    ],
)
def test_a_text_that_cannot_be_read_is_refused_with_its_pointer(config: JSON, pointer: str, part: str) -> None:
    """The refusal is a ValueError that names the text and what is wrong with it."""
    with pytest.raises(TemplateRefused) as refused:
        expressions(config)
    assert isinstance(refused.value, ValueError)
    assert refused.value.pointer == pointer
    assert part in refused.value.message


def test_an_expression_of_the_greatest_size_is_taken() -> None:
    """The bound is on the source without the space around it."""
    source = "x" * EXPRESSION_BYTES_MAX
    assert expressions(f"${{  {source}  }}") == (source,)


@pytest.mark.parametrize("value", [1, 1.5, True, None, "text", "", [1, {"a": 2}], {"a": []}])
def test_a_whole_expression_keeps_its_type(value: JSON) -> None:
    """`"${…}"` alone becomes the value itself."""
    assert render({"body": "${x}"}, {"x": value}) == {"body": value}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("s p", "s p"),
        (1, "1"),
        (1.0, "1.0"),
        (True, "true"),
        (None, "null"),
        ([1, "é"], '[1,"é"]'),
        ({"a": 1}, '{"a":1}'),
    ],
)
def test_within_a_text_values_are_spliced(value: JSON, text: str) -> None:
    """Strings as they are, everything else as compact JSON."""
    assert render("<${x}>", {"x": value}) == f"<{text}>"
    assert render("${x}${x}", {"x": value}) == text * 2
    assert render(" ${x}", {"x": value}) == f" {text}"


def test_values_are_not_searched_again() -> None:
    """What a value says is text, even if it looks like an expression."""
    assert render("<${x}>", {"x": "${y} $${z}"}) == "<${y} $${z}>"


def test_escapes_are_undone() -> None:
    """`$${` becomes `${`, with and without expressions beside it."""
    assert render(["$${x}", "$$${x}", "$${${x}}"], {"x": 1}) == ["${x}", "$${x}", "${1}"]


def test_the_config_itself_is_not_changed() -> None:
    """Definitions are shared between runs."""
    config: JSON = {"a": ["${x}", {"b": "${x}"}], "n": [5, None, True]}
    assert render(config, {"x": 1}) == {"a": [1, {"b": 1}], "n": [5, None, True]}
    assert config == {"a": ["${x}", {"b": "${x}"}], "n": [5, None, True]}


@pytest.mark.parametrize(
    ("source", "named"),
    [
        ("1 + 2", ()),
        ("payload", (("payload", None),)),
        ("payload.order.id", (("payload", "order"),)),
        ("payload\n . order", (("payload", "order"),)),
        ('steps["a-b"].output', (("steps", "a-b"),)),
        ("steps[ 'a' ].output", (("steps", "a"),)),
        ("has(steps.a) && run.id == 'payload'", (("steps", "a"), ("run", "id"))),
        ("payload.size()", (("payload", None),)),
        ("payload.exists (k, k == 'x')", (("payload", None),)),
        ("payload[steps.a.output]", (("payload", None), ("steps", "a"))),
        ("payload['a\\'b']", (("payload", None),)),
        ('payload["""a"""]', (("payload", None),)),
        ("payload[r'a']", (("payload", None),)),
        (".payload.x", (("payload", "x"),)),
        ("payloads.x + my_run", ()),
        ("'payload' + r\"run\" + b'steps'", ()),
        ("1 // payload\n+ run.id", (("run", "id"),)),
    ],
)
def test_what_an_expression_reads_is_named(source: str, named: tuple[tuple[str, str | None], ...]) -> None:
    """Roots and their members, outside literals and comments; a root that is more than entered counts as a whole."""
    assert mentions(source) == named
