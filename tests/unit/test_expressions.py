"""Expressions: values, failures that are values, and the ones that must not be evaluated in this process."""

from __future__ import annotations

import orjson
import pytest

from schemas.jsontext import JSON
from schemas.templates import EXPRESSION_BYTES_MAX
from streams import expressions
from streams.expressions import COMPILED_BYTES_MAX, LIGHT_ITEMS_MAX, ExpressionFailed, check, evaluate, heavy, narrowed

PAYLOAD: dict[str, JSON] = {
    "id": 2**53 + 1,
    "price": 1.5,
    "name": "Ada",
    "none": None,
    "items": [{"sku": "a", "qty": 2}, {"sku": "b", "qty": 3}],
}
ROOTS: dict[str, JSON] = {
    "payload": PAYLOAD,
    "steps": {"fetch": {"output": {"status": 200, "body": {"ok": True}}}, "second-step": {"output": "x"}},
    "run": {"id": "r-1"},
}
LARGE_PAYLOAD: dict[str, JSON] = {
    "list": list(range(LIGHT_ITEMS_MAX)),
    "long": list(range(LIGHT_ITEMS_MAX + 1)),
    "table": [list(range(900)) for _ in range(90)],
    "text": "x" * 400_000,
}
LARGE: dict[str, JSON] = {"payload": LARGE_PAYLOAD}


def value_of(source: str, roots: dict[str, JSON] | None = None) -> JSON | ExpressionFailed:
    return evaluate([source], ROOTS if roots is None else roots)[source]


def written(value: object) -> bytes:
    """With types, without the order of keys, which CEL does not keep."""
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


@pytest.mark.parametrize(
    ("source", "value"),
    [
        ("payload.id", 2**53 + 1),
        ("payload.price * 2.0", 3.0),
        ("'Hello ' + payload.name", "Hello Ada"),
        ("payload.none", None),
        ("payload.items.map(i, i.sku)", ["a", "b"]),
        ("payload.items.exists(i, i.qty > 2)", True),
        ("payload.items.filter(i, i.qty > 2)[0]", {"sku": "b", "qty": 3}),
        ("has(payload.missing) ? payload.missing : 'none'", "none"),
        ("steps.fetch.output.status == 200", True),
        ('steps["second-step"].output', "x"),
        ("run.id", "r-1"),
        ("{'id': run.id, 'list': [1, 2.5, null]}", {"id": "r-1", "list": [1, 2.5, None]}),
        ("size(payload.items)", 2),
        ("string(timestamp('2024-01-01T00:00:00Z'))", "2024-01-01T00:00:00Z"),
        ("7u", 7),
        ("payload.name.matches('^A')", True),
    ],
)
def test_an_expression_has_the_value_that_cel_gives_it(source: str, value: JSON) -> None:
    """Integers are exact, values keep their types."""
    assert written(value_of(source)) == written(value)
    assert check(source) is None


def test_secrets_cannot_be_computed_with() -> None:
    """They are no root; the message says how a secret is written."""
    assert "write ${secrets.NAME} by itself" in str(check("'a' + secrets.X"))
    assert check("payload.secrets.x == '' && [1].map(secrets, secrets + 1) == [2]") is None


def test_a_lower_bound_of_work_sends_more_apart() -> None:
    """What may come to more than the values of a step may have is evaluated where that is bounded."""
    roots: dict[str, JSON] = {"payload": {"a": "x" * 5_000}}
    assert not heavy(["payload.a"], roots)
    assert heavy(["payload.a"], roots, work_max=5_000)


@pytest.mark.parametrize(
    ("source", "part"),
    [
        ("payload.missing", 'Key not found in map : "missing"'),
        ("payload.id + 1.0", "No matching overloads"),
        ("payload.id + 'a'", "No matching overloads"),
        ("9223372036854775807 + payload.items[0].qty", "integer overflow"),
        ("1 / 0", "divide by zero"),
        ("payload.items[9]", "Index error: index=9 size=2"),
        ("'a'.matches('[')", "invalid regular expression"),
        ("{'a': 1, 'a': 2}", "duplicate key"),
        ("google.protobuf.Any{}", "descriptor"),
        ("18446744073709551615u", "no form in JSON: integers go from"),
        ("[0.0 / 0.0]", "at /0: nan is not a JSON number"),
        ("1.0 / 0.0", "inf is not a JSON number"),
        ("double('1e400')", "inf is not a JSON number"),
        ("b'abc'", "no form in JSON"),
        ("timestamp('2024-01-01T00:00:00Z')", "string(…) may make a text of it"),
        ("duration('1h')", "no form in JSON"),
        ("type(1)", "no form in JSON"),
        ("{1: 2}", "a key is a int, not a text"),
        (r"'\u0000'", r"the character \u0000"),
        (r"{'\u0000': 1}", r"the character \u0000"),
        ("[1, 2, 3, 4, 5].map(a, " * 6 + "1" + ")" * 6, "Iteration budget exceeded"),
    ],
)
def test_an_expression_that_has_no_value_fails_as_a_value(source: str, part: str) -> None:
    """Errors of the evaluation and values that JSON cannot hold become ExpressionFailed with a plain sentence."""
    failed = value_of(source)
    assert isinstance(failed, ExpressionFailed)
    assert failed.source == source
    assert part in failed.message
    assert "\n" not in failed.message


@pytest.mark.parametrize(
    ("source", "part"),
    [
        ("", "Syntax error"),
        ("payload.", "(line 1, column 9)"),
        ("1 +\n+", "(line 2, column"),
        ("foo", "undeclared reference to 'foo' (line 1, column 1); expressions read payload, steps and run"),
        ("steps.second-step.output", 'written steps["a-b"]'),
        ("payload.name.upper()", "undeclared reference to 'upper'"),
        ("1 + 'a'", "no matching overload"),
        ("(" * 2_000 + "1" + ")" * 2_000, "recursion limit"),
        ("[" * 1_000 + "]" * 1_000, "recursion limit"),
        ("payload" + ".a" * 2_000, "recursion depth"),
        ("+".join(["1"] * 2_000), "recursion depth"),
        ("payload" + "[0]" * 1_300, "recursion depth"),
        ("x" * 4_000 + "(", "Syntax error"),
        ("x" * (EXPRESSION_BYTES_MAX + 1), f"limit is {EXPRESSION_BYTES_MAX}"),
        ("'\0'", "u0000"),
        ("'\ud800'", "surrogate"),
    ],
)
def test_what_cannot_be_compiled_is_said_in_a_sentence(source: str, part: str) -> None:
    """`check` says what is wrong and where, and evaluating it fails with the same words."""
    problem = check(source)
    assert problem is not None
    assert part in problem
    assert "\n" not in problem
    assert len(problem) < 800
    assert value_of(source) == ExpressionFailed(source, problem)


def test_what_is_not_there_is_no_crash() -> None:
    """A root that is missing or of another kind is an ordinary failure."""
    roots: list[dict[str, JSON]] = [{}, {"steps": 5}, {"steps": [1]}, {"steps": None}]
    for each in roots:
        assert isinstance(value_of("steps.fetch.output", each), ExpressionFailed)
    assert value_of("payload", {"payload": [1]}) == [1]


def test_sources_are_evaluated_each_by_itself() -> None:
    """One that fails leaves the others their values."""
    values = evaluate(["run.id", "payload.missing", "1 + 1"], ROOTS)
    assert (values["run.id"], values["1 + 1"]) == ("r-1", 2)
    assert isinstance(values["payload.missing"], ExpressionFailed)


def test_only_what_is_named_is_handed_in() -> None:
    """Members that an expression names stand alone; a root that it takes as a whole is whole."""
    assert narrowed(["payload.price + payload.id", "size(run)"], ROOTS) == {
        "payload": {"price": 1.5, "id": 2**53 + 1},
        "run": {"id": "r-1"},
    }
    assert narrowed(["payload.gone", "1"], ROOTS) == {"payload": {}}
    assert narrowed(["payload.a.b", "payload"], {"payload": {"c": 1}}) == {"payload": {"c": 1}}


@pytest.mark.parametrize(
    "source", ["payload.list[5]", "size(payload.text)", "payload.items.map(i, i.sku)", "payload.price", "run.id"]
)
def test_everyday_expressions_are_light(source: str) -> None:
    """They are evaluated in this process, also beside large values that they do not read."""
    assert not heavy([source], {**ROOTS, "payload": {**LARGE_PAYLOAD, **PAYLOAD}})


HOSTILE = {
    "a list longer than the bound": "payload.long[0]",
    "a map over a large list": "payload.list.map(x, x)",
    "a table for each value": "payload.list.map(x, payload.table)",
    "comparing a table for each value": "payload.list.all(x, payload.table == payload.table)",
    "a list doubled 28 times": "[1]" + ".map(x, [x, x])" * 28,
    "a text doubled 25 times": "['" + "x" * 100 + "']" + ".map(x, x + x)" * 25,
    "a list in a list in a list": "[1,2,3,4,5].map(a, [1,2,3,4,5].map(b, [1,2,3,4,5].map(c, [a, b, c])))",
    "a regular expression of many states": "payload.text.matches('(x?){900}y')",
    "a search of a text in a text": "payload.text.contains(payload.text + 'y')",
    "everything 400 times": "[" + ",".join(["payload"] * 400) + "]",
}


@pytest.mark.parametrize("source", HOSTILE.values(), ids=HOSTILE)
def test_what_may_take_long_or_much_memory_is_heavy(source: str) -> None:
    """The estimate is by what is read and how often it is gone through, whatever the size of the source."""
    assert heavy([source], LARGE)


def test_each_time_that_a_root_is_named_counts() -> None:
    """One copy of a value is light, 400 of it are not."""
    roots: dict[str, JSON] = {"payload": {"text": "x" * 10_000}}
    assert not heavy(["[payload]"], roots)
    assert heavy(["[" + ",".join(["payload"] * 400) + "]"], roots)


def test_many_light_expressions_are_heavy_together() -> None:
    """The bound is on all sources of a step."""
    sources = [f"size(payload.text) + {n}" for n in range(5)]
    assert not heavy(sources[:1], LARGE)
    assert heavy(sources, LARGE)


def test_compiled_expressions_are_kept_within_a_bound() -> None:
    """The least recently used ones make room."""
    cache = expressions._Compiled(100)
    first = cache.get("1 + 1")
    assert cache.get("1 + 1") is first
    for n in range(40):
        cache.get(f"{n} + 100")
        cache.get("1 + 1")
    assert cache.get("1 + 1") is first
    assert sum(map(len, cache._kept)) <= 100
    assert COMPILED_BYTES_MAX > EXPRESSION_BYTES_MAX
