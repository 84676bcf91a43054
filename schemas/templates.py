"""`${ … }` in the texts of a step's config: found, and replaced by values. What an expression means is decided elsewhere.

`"${payload.total}"`, a text that is one whole expression, becomes the value itself, whatever its type.
`"Order ${payload.id}"` becomes text: a string as it is, every other value as compact JSON.
`"$${x}"` is the text `${x}`. Keys of objects are left as they are.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final, Literal, NamedTuple, TypeAlias

from schemas.errors import WorkflowError
from schemas.jsontext import JSON, dumps

EXPRESSION_BYTES_MAX: Final = 4_096
Root: TypeAlias = Literal["payload", "steps", "run"]
ROOTS: Final[tuple[Root, ...]] = ("payload", "steps", "run")
_ROOT_OF: Final[dict[str, Root]] = {root: root for root in ROOTS}

_OPENING: Final = re.compile(r"(\$?)\$\{")
_LITERAL: Final = r"""
    (?<!\w)(?:[bB]?[rR]|[rR][bB])(?:\"{3}[\s\S]*?\"{3}|'{3}[\s\S]*?'{3}|"[^"\n]*"|'[^'\n]*')
  | \"{3}(?:[^\\]|\\[\s\S])*?\"{3} | '{3}(?:[^\\]|\\[\s\S])*?'{3}
  | "(?:[^"\\\n]|\\.)*" | '(?:[^'\\\n]|\\.)*'
  | //[^\n]*
"""
_TOKEN: Final = re.compile(rf"(?P<literal>{_LITERAL})|(?P<mark>[{{}}\"'])", re.VERBOSE)
_MENTION: Final = re.compile(
    rf"""(?P<literal>{_LITERAL})
      | \b(?P<root>{"|".join(ROOTS)})\b
        (?: \s*\.\s*(?P<field>[A-Za-z_]\w*+)(?!\s*\() | \s*\[\s*(?P<quote>["'])(?P<key>[^"'\\\n]*)(?P=quote)\s*\] )?""",
    re.VERBOSE,
)


class TemplateRefused(WorkflowError, ValueError):
    """{where}: {detail}"""

    def __init__(self, pointer: str, detail: str) -> None:
        """`pointer` (RFC 6901) leads to the text within the config."""
        super().__init__(where=pointer or "the text", detail=detail)
        self.pointer, self.detail = pointer, detail


class _Expression(NamedTuple):
    source: str


def expressions(config: object) -> tuple[str, ...]:
    """The distinct sources in all texts of `config`, in the order in which they stand. Raises TemplateRefused."""
    found = (
        part.source
        for pointer, text in _texts(config, "")
        for part in _parts(text, pointer)
        if isinstance(part, _Expression)
    )
    return tuple(dict.fromkeys(found))


def render(config: JSON, values: Mapping[str, JSON]) -> JSON:
    """`config` with each expression replaced by its value; `values` has one for each source of `expressions(config)`."""
    match config:
        case str():
            return _render_text(config, values)
        case list():
            return [render(inner, values) for inner in config]
        case dict():
            return {key: render(inner, values) for key, inner in config.items()}
        case _:
            return config


def mentions(source: str) -> tuple[tuple[Root, str | None], ...]:
    """Where the expression may name a root: (root, its member that is named there, None for the root itself), in order.

    `payload.order.id + size(steps["a"])` gives (payload, order), (steps, a). One too many at worst, never one too few.
    """
    found = (match for match in _MENTION.finditer(source) if match["root"])
    return tuple(
        (_ROOT_OF[match["root"]], match["field"] if match["quote"] is None else match["key"]) for match in found
    )


def _render_text(text: str, values: Mapping[str, JSON]) -> JSON:
    if "${" not in text:
        return text
    parts = list(_parts(text, ""))
    if len(parts) == 1 and isinstance(parts[0], _Expression):
        return values[parts[0].source]
    return "".join(_spliced(values[part.source]) if isinstance(part, _Expression) else part for part in parts)


def _spliced(value: JSON) -> str:
    return value if isinstance(value, str) else dumps(value).decode()


def _texts(value: object, pointer: str) -> Iterator[tuple[str, str]]:
    match value:
        case str():
            yield pointer, value
        case list() | tuple():
            for index, inner in enumerate(value):
                yield from _texts(inner, f"{pointer}/{index}")
        case dict():
            for key, inner in value.items():
                yield from _texts(inner, f"{pointer}/{str(key).replace('~', '~0').replace('/', '~1')}")
        case _:
            pass


def _parts(text: str, pointer: str) -> Iterator[str | _Expression]:
    """The literal pieces, unescaped, and the expressions of a text, in order; no empty pieces."""
    at = 0
    while opening := _OPENING.search(text, at):
        if opening.start() > at:
            yield text[at : opening.start()]
        if opening[1]:
            yield "${"
            at = opening.end()
            continue
        end = _end(text, opening.end(), pointer)
        yield _expression(text[opening.end() : end], pointer)
        at = end + 1
    if at < len(text):
        yield text[at:]


def _end(text: str, start: int, pointer: str) -> int:
    """Where the `}` stands that ends the expression; braces of its own and its string literals are stepped over."""
    depth = 1
    for token in _TOKEN.finditer(text, start):
        match token["mark"]:
            case "{":
                depth += 1
            case "}":
                depth -= 1
            case '"' | "'":
                raise TemplateRefused(
                    pointer, f"the string literal at index {token.start()} is not closed by {token[0]}"
                )
            case _:
                continue
        if depth == 0:
            return token.start()
    raise TemplateRefused(pointer, f"`${{` at index {start - 2} is not closed by `}}`; write `$${{` for a plain `${{`")


def _expression(source: str, pointer: str) -> _Expression:
    source = source.strip()
    if not source:
        raise TemplateRefused(pointer, "`${}` holds no expression; write `$${` for a plain `${`")
    size = len(source.encode())
    if size > EXPRESSION_BYTES_MAX:
        raise TemplateRefused(pointer, f"an expression of {size} bytes; the limit is {EXPRESSION_BYTES_MAX}")
    return _Expression(source)
