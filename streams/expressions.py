"""Expressions: CEL, compiled once, evaluated over `payload`, `steps` and `run`; whatever goes wrong is a value.

The runtime holds the interpreter lock while it evaluates, and memory that runs out in it ends the process. So `heavy`
bounds beforehand what an evaluation may come to; what is past the bound belongs into a process of its own
(streams/expressions_apart.py).
"""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from cel_expr_python import cel

from schemas import jsontext
from schemas.jsontext import JSON, JsonRefused
from schemas.templates import EXPRESSION_BYTES_MAX, mentions

Roots = Mapping[str, JSON]
"""`payload`, `steps` (name → {"output": …}) and `run`, as far as they are known."""

LIGHT_WORK_MAX: Final = 1_000_000
"""Bytes that all values made on the way may have together, by an upper estimate, within this process."""
LIGHT_ITEMS_MAX: Final = 1_000
"""Values of the longest list or object that is handed to an evaluation within this process."""
COMPILED_BYTES_MAX: Final = 256 * 1024
"""Source bytes of the compiled expressions that are kept; compiled they take some 60 times as much."""
MESSAGE_CHARS_MAX: Final = 500

_MULTIPLIES: Final = re.compile(r"\b(?:all|exists|exists_one|filter|map|contains)\b")
_MATCHES: Final = re.compile(r"\bmatches\b")
_HINT: Final = 'expressions read payload, steps and run; a name with a dash is written steps["a-b"]'
_SECRETS_HINT: Final = "expressions cannot read secrets: write ${secrets.NAME} by itself, as a part of the text"


@dataclass(frozen=True, slots=True)
class ExpressionFailed:
    """An expression that has no value, and why."""

    source: str
    message: str


def check(source: str) -> str | None:
    """What is wrong with the expression, in one sentence; None when it can be compiled."""
    compiled = _compiled(source)
    return compiled if isinstance(compiled, str) else None


def evaluate(sources: Iterable[str], roots: Roots) -> dict[str, JSON | ExpressionFailed]:
    """The value of each source, or its failure. Holds the interpreter lock: ask `heavy` first."""
    sources = tuple(sources)
    data = narrowed(sources, roots)
    return {source: _evaluate(source, data) for source in sources}


def heavy(sources: Iterable[str], roots: Roots, work_max: int = LIGHT_WORK_MAX) -> bool:
    """Whether evaluating the sources may take long or much memory, by what they read and how often they go through it.

    `work_max`: bytes that all values made on the way may have together, by an upper estimate.
    A list as long as W, of values that are as large as W, gives values of W² bytes with one `map` and W³ with two of
    them, whether nested or chained; W is the text of the expression and what it reads, once for each time.
    """
    work = 0
    for source in sources:
        named = mentions(source)
        data = narrowed((source,), roots)
        if _MATCHES.search(source) or any(_longest(value) > LIGHT_ITEMS_MAX for value in data.values()):
            return True
        width = len(source) + max(1, len(named)) * len(jsontext.dumps(data))
        work += min(width, work_max + 1) ** (1 + len(_MULTIPLIES.findall(source)))
        if work > work_max:
            return True
    return False


def narrowed(sources: Iterable[str], roots: Roots) -> dict[str, JSON]:
    """What the sources read of the roots: a member that is named stands alone, a root named by itself is whole."""
    members: dict[str, set[str] | None] = {}
    for source in sources:
        for root, member in mentions(source):
            known = members.setdefault(root, set())
            if member is None or known is None:
                members[root] = None
            else:
                known.add(member)
    return {root: _members(roots[root], named) for root, named in members.items() if root in roots}


def _members(value: JSON, named: set[str] | None) -> JSON:
    if named is None or not isinstance(value, dict):
        return value
    return {key: value[key] for key in sorted(named) if key in value}


def _longest(value: JSON) -> int:
    longest, todo = 0, [value]
    while todo:
        found = todo.pop()
        inner = found.values() if isinstance(found, dict) else found if isinstance(found, list) else ()
        longest = max(longest, len(inner))
        todo += [each for each in inner if isinstance(each, dict | list)]
    return longest


def _evaluate(source: str, data: dict[str, JSON]) -> JSON | ExpressionFailed:
    compiled = _compiled(source)
    if isinstance(compiled, str):
        return ExpressionFailed(source, compiled)
    try:
        result = compiled.eval(data=data)
        value = result.plain_value()
        failed = result.type() == cel.Type.ERROR
    except Exception as error:  # noqa: BLE001 - the runtime promises no error types
        return ExpressionFailed(source, _plain_words(str(error) or type(error).__name__))
    if failed:
        return ExpressionFailed(source, _plain_words(str(value)))
    return _json(source, value)


def _json(source: str, value: Any) -> JSON | ExpressionFailed:
    try:
        jsontext.check(value)
    except JsonRefused as refused:
        where = f" at {refused.pointer}" if refused.pointer else ""
        advice = "; string(…) may make a text of it" if refused.code == "not_json_type" else ""
        return ExpressionFailed(
            source, f"its value has no form in JSON{where}: {refused.detail}{advice}"[:MESSAGE_CHARS_MAX]
        )
    checked: JSON = value
    return checked


class _Compiled:
    """The compiled expressions used last, and the problems of those that cannot be compiled."""

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max, self._bytes = bytes_max, 0
        self._kept: OrderedDict[str, cel.Expression | str] = OrderedDict()

    def get(self, source: str) -> cel.Expression | str:
        found = self._kept.get(source)
        if found is not None:
            self._kept.move_to_end(source)
            return found
        compiled = self._kept[source] = _compile(source)
        self._bytes += len(source)
        while self._bytes > self._bytes_max:
            self._bytes -= len(self._kept.popitem(last=False)[0])
        return compiled


def _compile(source: str) -> cel.Expression | str:
    try:
        jsontext.check(source)
        if (size := len(source.encode())) > EXPRESSION_BYTES_MAX:
            return f"it has {size} bytes; the limit is {EXPRESSION_BYTES_MAX}"
        return _ENVIRONMENT.compile(source)
    except JsonRefused as refused:
        return f"it holds {refused.detail}"
    except Exception as error:  # noqa: BLE001 - the runtime promises no error types
        return _plain_words(str(error) or type(error).__name__)


def _plain_words(message: str) -> str:
    """The runtime's message without its status codes, source excerpts and all but the first error."""
    first = message.split("\n", 1)[0]
    text = re.sub(r"^(?:[A-Z_]+: )+|\s*\[[A-Z_]+\]$", "", first)
    position = re.match(r"(?:ERROR: )?<input>:(-?\d+):(-?\d+): ", text)
    if position is not None:
        text = text[position.end() :]
        where = f" (line {position[1]}, column {position[2]})" if int(position[1]) > 0 else ""
        text = text.replace(" (in container '')", "")[:MESSAGE_CHARS_MAX] + where
    text = text[: MESSAGE_CHARS_MAX + 40]
    if re.match(r"undeclared reference to 'secrets\b", text):
        return _SECRETS_HINT
    return f"{text}; {_HINT}" if "undeclared reference" in text else text


_NAMED: Final = cel.Type.Map(cel.Type.STRING, cel.Type.DYN)
_ENVIRONMENT: Final = cel.NewEnv(variables={"payload": cel.Type.DYN, "steps": _NAMED, "run": _NAMED})
_compiled: Final = _Compiled(COMPILED_BYTES_MAX).get
