"""Expressions in the texts of a config: found, and replaced."""

from __future__ import annotations

import pytest

from schemas.jsontext import JSON
from schemas.templates import (
    EXPRESSION_BYTES_MAX,
    TemplateRefused,
    deferred,
    expressions,
    mentions,
    render,
    revealed,
    secrets,
)


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


def test_references_to_secrets_are_no_expressions() -> None:
    """They are found apart, each once, with space around them or not; escaped ones are text."""
    config = {"a": "${secrets.B} ${ secrets.A }${x}", "b": ["${secrets.B}", "$${secrets.C}"], "${secrets.D}": 1}
    assert (secrets(config), expressions(config)) == (("B", "A"), ("x",))


@pytest.mark.parametrize(
    "source",
    [
        "secrets",
        "secrets.",
        "secrets.a-b",
        "secrets.1",
        "secrets['a']",
        "secrets.a.b",
        "secrets.a + 'x'",
        "secrets .a",
        "secrets.ä",
    ],
)
def test_a_secret_stands_by_itself(source: str) -> None:
    """Nothing is done with it."""
    with pytest.raises(TemplateRefused, match="a secret stands by itself"):
        secrets(f"x ${{{source}}}")


@pytest.mark.parametrize("source", ["payload.secrets.x", "'secrets.x'", "my_secrets.x", "secretsx"])
def test_other_names_are_expressions(source: str) -> None:
    """Only the root is a reserved word."""
    assert expressions(f"${{{source}}}") == (source,)


@pytest.mark.parametrize(
    ("text", "value", "template"),
    [
        ("${secrets.X}", 0, "${secrets.X}"),
        ("a ${x} ${secrets.X}", "b", "a b ${secrets.X}"),
        ("${x}", "${secrets.X}", "$${secrets.X}"),
        ("${x}${y}", "$", "$$"),
        ("${x}{secrets.X}", "$", "$${secrets.X}"),
        ("${x}${secrets.X}", "a$", "a${'$'}${secrets.X}"),
        ("$${secrets.X} ${x}", 1, "$${secrets.X} 1"),
        ("${x}", {"${secrets.X}": ["${secrets.X}"]}, {"${secrets.X}": ["$${secrets.X}"]}),
    ],
)
def test_what_a_secret_stands_in_becomes_a_template(text: str, value: JSON, template: JSON) -> None:
    """References of the author stay, text of data is escaped, and the second rendering gives all of it back."""
    values: dict[str, JSON] = {"x": value, "y": value}
    assert deferred(text, values) == template
    assert revealed(template, {"X": "s"}) == render(text, values | {"secrets.X": "s"})


def test_a_bound_of_expressions_may_be_lower() -> None:
    """The refusal carries it."""
    with pytest.raises(TemplateRefused, match="the limit is 5") as refused:
        expressions("${123456}", bytes_max=5)
    assert refused.value.limit == 5
    assert expressions("${12345}", bytes_max=5) == ("12345",)


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
