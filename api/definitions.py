"""From a posted body to a definition in its plain form, with every mistake at its place."""

from __future__ import annotations

import re
from collections.abc import Iterator
from hashlib import blake2b
from typing import Any, Final

import orjson
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from api.definition_bounds import bound_errors
from api.errors import BodyInvalid, FieldError
from api.starts import escape
from schemas import templates
from schemas.definitions import NewDefinition
from schemas.errors import TooLarge
from schemas.jsontext import JSON
from schemas.settings import Settings
from schemas.templates import TemplateRefused
from streams.expressions import check

EXPRESSIONS_MAX: Final = 1_000
"""Expressions in one definition; each is compiled before it is accepted."""

_LIMITS: Final = ("max_length", "min_length", "le", "ge", "lt", "gt")
_SAID_BETTER: Final = {
    "extra_forbidden": ("unknown_field", "no such field"),
    "missing": ("missing", "this field is needed"),
}
_SLUG: Final = re.compile(r"[^a-z0-9]+")


def read_definition(body: JSON, settings: Settings) -> dict[str, Any]:
    """The definition that `body` describes, checked, with an id. Raises BodyInvalid (all mistakes), TooLarge."""
    bounds = list(bound_errors(body, settings))
    errors = [*bounds, *_template_errors(body, settings.workflow_expression_bytes_max)]
    try:
        posted = NewDefinition.model_validate(body)
    except ValidationError as invalid:
        told = {error.pointer for error in bounds}
        fields = [error for error in _field_errors(invalid.errors()) if error.pointer not in told]
        raise BodyInvalid([*fields, *errors]) from None
    if errors:
        raise BodyInvalid(errors)
    definition = {**posted.dump(), "id": posted.id or id_from_name(posted.name)}
    size = len(orjson.dumps(definition))
    if size > settings.workflow_definition_bytes_max:
        raise TooLarge(
            what="The definition",
            found=size,
            limit=settings.workflow_definition_bytes_max,
            setting="WORKFLOW_DEFINITION_BYTES_MAX",
        )
    return definition


def id_from_name(name: str) -> str:
    """The id of a workflow that is posted without one: its name in small letters and dashes. Names without any letter
    or digit of ASCII, or too long for an id, get a digest."""
    slug = _SLUG.sub("-", name.lower()).strip("-")
    if slug and len(slug) <= 100:
        return slug
    return f"{slug[:80] or 'workflow'}-{blake2b(name.encode(), digest_size=6).hexdigest()}".lstrip("-")


def _field_errors(found: list[ErrorDetails]) -> list[FieldError]:
    """Without what is said twice: templates are looked at by themselves, and a list with a wrong item is not also too short."""
    wrong_items = any(len(each["loc"]) > 1 and each["loc"][0] == "steps" for each in found)
    return [
        _field_error(each)
        for each in found
        if not isinstance(each.get("ctx", {}).get("error"), TemplateRefused)
        and not (wrong_items and each["loc"] == ("steps",) and each["type"] == "too_short")
    ]


def _field_error(error: ErrorDetails) -> FieldError:
    context = error.get("ctx", {})
    limit = next((context[name] for name in _LIMITS if isinstance(context.get(name), int | float)), None)
    code, detail = _SAID_BETTER.get(error["type"], (error["type"], error["msg"].removeprefix("Value error, ")))
    return FieldError(_pointer(error["loc"]), code, detail, limit)


def _pointer(loc: tuple[int | str, ...]) -> str:
    """The place that pydantic names, as an RFC 6901 pointer: without the tag of the step's type, which is no part of the body."""
    is_tag = len(loc) > 2 and loc[0] == "steps" and isinstance(loc[1], int)
    parts = loc[:2] + loc[3:] if is_tag and loc[2] in ("delay", "webhook") else loc
    return "".join(f"/{escape(str(part))}" for part in parts)


def _template_errors(body: JSON, bytes_max: int) -> Iterator[FieldError]:
    """Texts of the steps' configs whose `${…}` cannot be read or compiled."""
    steps = body.get("steps") if isinstance(body, dict) else None
    looked_at = 0
    for index, step in enumerate(steps if isinstance(steps, list) else ()):
        if isinstance(step, dict):
            for pointer, text in _texts(step.get("config"), f"/steps/{index}/config"):
                looked_at += text.count("${")
                if looked_at > EXPRESSIONS_MAX:
                    yield FieldError(pointer, "too_many", f"more than {EXPRESSIONS_MAX} expressions", EXPRESSIONS_MAX)
                    return
                yield from _text_errors(pointer, text, bytes_max)


def _text_errors(pointer: str, text: str, bytes_max: int) -> Iterator[FieldError]:
    if "${" not in text:
        return
    try:
        sources = templates.expressions(text, bytes_max)
    except TemplateRefused as refused:
        setting = "" if refused.limit is None else " (setting WORKFLOW_EXPRESSION_BYTES_MAX)"
        yield FieldError(pointer, "template_refused", refused.detail + setting, refused.limit)
        return
    for source in sources:
        problem = check(source)
        if problem is not None:
            yield FieldError(pointer, "expression_invalid", problem)


def _texts(value: JSON, pointer: str) -> Iterator[tuple[str, str]]:
    match value:
        case str():
            yield pointer, value
        case list():
            for index, inner in enumerate(value):
                yield from _texts(inner, f"{pointer}/{index}")
        case dict():
            for key, inner in value.items():
                yield from _texts(inner, f"{pointer}/{escape(key)}")
        case _:
            pass
