"""`${ … }` in the texts of a step's config: found, and replaced by values. What an expression means is decided elsewhere.

`"${payload.total}"`, a text that is one whole expression, becomes the value itself, whatever its type.
`"Order ${payload.id}"` becomes text: a string as it is, every other value as compact JSON.
`"$${x}"` is the text `${x}`. Keys of objects are left as they are.
`"${secrets.NAME}"` is no expression but a reference, which `deferred` leaves standing and `revealed` replaces.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Final, Literal, NamedTuple, TypeAlias

from schemas.errors import WorkflowError
from schemas.identity import SECRET_NAME
from schemas.jsontext import JSON, dumps

EXPRESSION_BYTES_MAX: Final = 16_384
"""What a setting may allow: compiling takes some 3 ms for each 1,000 bytes, and nothing else runs meanwhile."""
Root: TypeAlias = Literal["payload", "steps", "run"]
ROOTS: Final[tuple[Root, ...]] = ("payload", "steps", "run")
_ROOT_OF: Final[dict[str, Root]] = {root: root for root in ROOTS}

_SECRET: Final = re.compile(rf"secrets\.({SECRET_NAME.pattern})")
_SECRET_FIRST: Final = re.compile(r"secrets\b")
_ALONE: Final = (
    "a secret stands by itself, as in `${secrets.NAME}`; a name is a letter or _ and then up to 63 letters, digits or _"
)
_DOLLARS_MAX: Final = 1_000

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

    def __init__(self, pointer: str, detail: str, limit: int | None = None) -> None:
        """`pointer` (RFC 6901) leads to the text within the config; `limit` is the bound that was passed, if any."""
        super().__init__(where=pointer or "the text", detail=detail)
        self.pointer, self.detail, self.limit = pointer, detail, limit


class _Expression(NamedTuple):
    source: str

    @property
    def secret(self) -> str | None:
        """The name of the secret that it refers to."""
        found = _SECRET.fullmatch(self.source)
        return None if found is None else found[1]


def expressions(config: object, bytes_max: int = EXPRESSION_BYTES_MAX) -> tuple[str, ...]:
    """The distinct sources in all texts of `config`, in the order in which they stand. Raises TemplateRefused."""
    return tuple(dict.fromkeys(part.source for part in _found(config, bytes_max) if part.secret is None))


def secrets(config: object) -> tuple[str, ...]:
    """The distinct names of the secrets that `config` refers to, in the order in which they stand. Raises TemplateRefused."""
    return tuple(dict.fromkeys(part.secret for part in _found(config) if part.secret is not None))


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


def deferred(config: JSON, values: Mapping[str, JSON]) -> JSON:
    """As `render`, and its references to secrets stay: a template again, in which nothing else is read as one.

    Text that came from data has its `${` written as `$${`.
    """
    match config:
        case str():
            return _deferred_text(config, values)
        case list():
            return [deferred(inner, values) for inner in config]
        case dict():
            return {key: deferred(inner, values) for key, inner in config.items()}
        case _:
            return config


def revealed(template: JSON, secrets: Mapping[str, str]) -> JSON:
    """What `deferred` made, or a config without expressions, with the secrets put in; `secrets` by their names."""
    values: dict[str, JSON] = {f"secrets.{name}": value for name, value in secrets.items()}
    return render(template, {source: source.strip("'") for source in expressions(template)} | values)


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


def _deferred_text(text: str, values: Mapping[str, JSON]) -> JSON:
    parts = list(_parts(text, ""))
    if len(parts) == 1 and isinstance(parts[0], _Expression) and parts[0].secret is None:
        return _escaped(values[parts[0].source])
    written, plain = "", ""
    for part in parts:
        match part:
            case str():
                plain += part
            case _Expression(source) if part.secret is None:
                plain += _spliced(values[source])
            case _Expression(source):
                written += _before_reference(plain) + f"${{{source}}}"
                plain = ""
    return written + _escaped_text(plain)


def _escaped(value: JSON) -> JSON:
    match value:
        case str():
            return _escaped_text(value)
        case list():
            return [_escaped(inner) for inner in value]
        case dict():
            return {key: _escaped(inner) for key, inner in value.items()}
        case _:
            return value


def _escaped_text(text: str) -> str:
    return text.replace("${", "$${")


def _before_reference(text: str) -> str:
    """The text as it is written before `${…}`: a `$` at its end would make an escape of that, so it becomes `${'$'}`."""
    plain = text.rstrip("$")
    dollars = len(text) - len(plain)
    literals = ("$" * min(_DOLLARS_MAX, dollars - at) for at in range(0, dollars, _DOLLARS_MAX))
    return _escaped_text(plain) + "".join(f"${{'{each}'}}" for each in literals)


def _spliced(value: JSON) -> str:
    return value if isinstance(value, str) else dumps(value).decode()


def _found(config: object, bytes_max: int = EXPRESSION_BYTES_MAX) -> Iterator[_Expression]:
    for pointer, text in _texts(config, ""):
        for part in _parts(text, pointer, bytes_max):
            if isinstance(part, _Expression):
                yield part


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


def _parts(text: str, pointer: str, bytes_max: int = EXPRESSION_BYTES_MAX) -> Iterator[str | _Expression]:
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
        yield _expression(text[opening.end() : end], pointer, bytes_max)
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


def _expression(source: str, pointer: str, bytes_max: int) -> _Expression:
    source = source.strip()
    if not source:
        raise TemplateRefused(pointer, "`${}` holds no expression; write `$${` for a plain `${`")
    size = len(source.encode())
    if size > bytes_max:
        raise TemplateRefused(pointer, f"an expression of {size} bytes; the limit is {bytes_max}", bytes_max)
    if _SECRET_FIRST.match(source) and not _SECRET.fullmatch(source):
        raise TemplateRefused(pointer, _ALONE)
    return _Expression(source)
