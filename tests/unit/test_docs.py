"""The docs: every link leads somewhere, every table says what the code says, every example is one that works."""

from __future__ import annotations

import ast
import re
from dataclasses import astuple, fields
from functools import cache
from pathlib import Path
from typing import Any, Final, Literal, get_args, get_origin

import orjson
import pytest
from pydantic.fields import FieldInfo

from api.definitions import read_definition
from schemas import jsontext, templates
from schemas.definitions import DelayStep, Step, WebhookConfig, WebhookStep
from schemas.events import SHAPES
from schemas.settings import Settings, Topics, secret_names
from schemas.views import STATUSES
from streams.expressions import ExpressionFailed, evaluate
from streams.reasons import Reason
from streams.rights import rights

ROOT: Final = Path(__file__).parents[2]
PAGES: Final = [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]
TAGS: Final = {"sh", "console", "json", "python", "java", "sql", "text", "yaml", "mermaid"}
"""sh blocks of the README are run by tests/integration; console blocks show commands that are not."""
LINK: Final = re.compile(r"\]\(([^)\s]+)\)")
FENCE: Final = re.compile(r"^```(\S*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def shown(page: Path) -> str:
    return str(page.relative_to(ROOT))


def blocks(page: Path, tag: str) -> list[str]:
    return [text for found, text in FENCE.findall(page.read_text()) if found == tag]


def table(page: Path, heading: str) -> dict[str, list[str]]:
    """The rows of all tables below a heading (of any, when it is empty), by their first cell."""
    text = page.read_text()
    if heading:
        text = re.split(rf"^#+ {re.escape(heading)}$", text, flags=re.MULTILINE)[1]
        text = re.split(r"^#", text, flags=re.MULTILINE)[0]
    rows = [re.split(r"(?<!\\) \| ?|^\| | \|$", line)[1:-1] for line in text.splitlines() if line.startswith("| ")]
    return {row[0]: row[1:] for row in rows}


def anchors(page: Path) -> set[str]:
    """Names that its headings can be linked by."""
    headings = re.findall(r"^#+ (.*)$", FENCE.sub("", page.read_text()), flags=re.MULTILINE)
    plain = [re.sub(r"[^\w\- ]", "", heading.lower()) for heading in headings]
    return {heading.replace(" ", "-") for heading in plain}


def allowed(field: FieldInfo) -> str:
    """What a setting may be, as the reference writes it."""
    if get_origin(field.annotation) is Literal:
        return ", ".join(f"`{value}`" for value in get_args(field.annotation))
    bounds: dict[str, Any] = {}
    for rule in field.metadata:
        bounds |= {name: getattr(rule, name) for name in ("ge", "gt", "le") if hasattr(rule, name)}
    if "ge" in bounds and "le" in bounds:
        return f"{bounds['ge']} to {bounds['le']}"
    if "ge" in bounds:
        return f"from {bounds['ge']}"
    if "gt" in bounds:
        return f"above {bounds['gt']}"
    if field.annotation is bool:
        return "`true`, `false`"
    return "path" if field.annotation is Path else "text"


def default(field: FieldInfo) -> str:
    return f"`{field.default}`" if str(field.default) else "empty"


@pytest.mark.parametrize("page", PAGES, ids=shown)
def test_every_link_leads_somewhere(page: Path) -> None:
    """A relative link names a file that is there, and a heading that it has."""
    for target in LINK.findall(FENCE.sub("", page.read_text())):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        file = (page.parent / path).resolve() if path else page
        assert file.exists(), f"{target}: there is no {file}"
        assert not anchor or anchor in anchors(file), f"{target}: no such heading"


@pytest.mark.parametrize("page", PAGES, ids=shown)
def test_every_block_says_what_it_is(page: Path) -> None:
    """Each fenced block has a known tag; JSON blocks are JSON, Python blocks are Python."""
    assert {tag for tag, _ in FENCE.findall(page.read_text())} <= TAGS
    for text in blocks(page, "json"):
        orjson.loads(text)
    for text in blocks(page, "python"):
        ast.parse(text)


@pytest.mark.parametrize("page", PAGES, ids=shown)
def test_commands_that_are_shown_exist(page: Path) -> None:
    """Targets of make and services of docker compose."""
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text(), flags=re.MULTILINE))
    text = page.read_text()
    assert set(re.findall(r"^make ([a-z]+)", text, flags=re.MULTILINE)) <= targets
    assert set(re.findall(r"`make ([a-z]+)", text)) <= targets
    services = set(re.findall(r"^  ([a-z_]+):$", (ROOT / "docker-compose.yml").read_text(), flags=re.MULTILINE))
    assert set(re.findall(r"docker compose (?:exec|run --rm|restart|stop) (?:-\w+ )*([a-z_]+)", text)) <= services
    assert set(re.findall(r"--scale ([a-z_]+)=", text)) <= services


@cache
def commands() -> dict[str, set[str]]:
    """Every command of the command line by its words, and its options."""
    import click

    from ops.cli import workflow

    def below(group: click.Group, words: str) -> dict[str, set[str]]:
        found: dict[str, set[str]] = {}
        for name, command in group.commands.items():
            if isinstance(command, click.Group):
                found |= below(command, f"{words}{name} ")
            else:
                found[f"{words}{name}"] = {option for parameter in command.params for option in parameter.opts}
        return found

    return below(workflow, "")


@pytest.mark.parametrize("page", PAGES, ids=shown)
def test_commands_of_ours_that_are_shown_exist(page: Path) -> None:
    """`workflow …`, in blocks and in the text, with the options that are shown."""
    text = page.read_text()
    lines = re.findall(
        r"^(?:\.venv/bin/)?workflow ((?:[a-z]+ ?)+.*)$",
        "\n".join(blocks(page, "sh") + blocks(page, "console")),
        re.MULTILINE,
    )
    lines += re.findall(r"`workflow ([a-z][^`]*)`", text)
    for line in lines:
        words = line.split("#")[0]
        name = next(
            (name for name in sorted(commands(), key=len, reverse=True) if f"{words} ".startswith(f"{name} ")), None
        )
        assert name is not None, f"there is no `workflow {line}`"
        assert set(re.findall(r"(?<= )--?[a-z][a-z-]*", words)) <= commands()[name], line


def test_every_setting_is_explained() -> None:
    """docs/configuration.md: name, default, what is allowed, meaning; no row of a setting that is gone."""
    rows = {
        name.strip("`"): row for name, row in table(ROOT / "docs/configuration.md", "").items() if name.startswith("`")
    }
    fields = {name.upper(): field for name, field in Settings.model_fields.items()}
    assert rows.keys() == fields.keys()
    assert {name: row[:2] for name, row in rows.items()} == {
        name: [default(field), allowed(field)] for name, field in fields.items()
    }
    assert [name for name, row in rows.items() if not row[2]] == []


def test_every_secret_is_marked() -> None:
    """docs/configuration.md: what is marked may come from a file, and nothing else is."""
    rows = table(ROOT / "docs/configuration.md", "")
    marked = {name.strip("`").lower() for name, row in rows.items() if row[2:] and row[2].startswith("A secret. ")}
    assert marked == secret_names()


def test_every_right_is_explained() -> None:
    """docs/security.md lists the rights that each process needs of Kafka, and no other."""
    every, roles = astuple(Topics.named("")), ("owner", "api", "worker", "projector")
    found = set[tuple[str, str, str]]()
    for line in re.findall(r"^\| (\w+).*? \| (`.*) \| (.*) \|$", security_table(), flags=re.MULTILINE):
        named = re.findall(r"`([\w.-]+)`", line[2]) or every
        for operation in re.findall(r"`(\w+)`", line[1]):
            for role in roles if line[0] == "all" else (line[0].lower(),):
                found |= {(role, operation, name) for name in named}
    assert found == {(right.role, right.operation, right.name) for right in rights(Settings())}


def test_every_reason_is_explained() -> None:
    """docs/operations.md: each code of `why` has a row, with the fields that it fills."""
    rows = table(ROOT / "docs/operations.md", "Why a run is where it is")
    found = {code.strip("`"): set(re.findall(r"`(\w+)`", cells[1])) for code, cells in rows.items() if code[0] == "`"}
    assert found == {kind.code: {field.name for field in fields(kind)} for kind in get_args(Reason)}


def security_table() -> str:
    """The table of rights, as it stands."""
    text = (ROOT / "docs/security.md").read_text()
    return text.partition("| process | operation | on |")[2].partition("\n\n")[0]


def test_the_settings_of_the_readme_are_right() -> None:
    """A choice of them, with their defaults."""
    rows = {
        name.strip("`"): row[0] for name, row in table(ROOT / "README.md", "Settings").items() if name.startswith("`")
    }
    assert {"STORAGE_BACKEND", "STORAGE_PATH", "KAFKA_BOOTSTRAP_SERVERS", "KAFKA_CONSUMER_GROUP"} <= rows.keys()
    assert rows == {name: default(Settings.model_fields[name.lower()]) for name in rows}


def test_every_event_is_explained() -> None:
    """docs/events.md names each type of event."""
    text = (ROOT / "docs/events.md").read_text()
    assert [type_ for type_ in SHAPES if f"`{type_}`" not in text] == []


def test_every_step_is_explained() -> None:
    """docs/workflows.md has a chapter for each type, and names each field of its config."""
    page = ROOT / "docs/workflows.md"
    types = {get_args(step.model_fields["type"].annotation)[0] for step in get_args(get_args(Step)[0])}
    assert types == {"delay", "webhook"}
    assert types <= anchors(page)
    assert set(DelayStep.model_fields["config"].annotation.model_fields) == {"duration"}  # type: ignore[union-attr]
    assert {name.strip("`") for name in table(page, "webhook")} >= set(WebhookConfig.model_fields)
    retry = WebhookStep.model_fields["retry"].default
    rows = {name.strip("`"): row[0] for name, row in table(page, "webhook").items()}
    assert {name: rows[name] for name in retry.model_dump()} == {
        name: f"{value:g}" for name, value in retry.model_dump().items()
    }


def test_the_definition_that_is_shown_is_taken() -> None:
    """The first block of docs/workflows.md can be posted."""
    shown_definition = jsontext.loads(blocks(ROOT / "docs/workflows.md", "json")[0])
    assert read_definition(shown_definition, Settings())["id"] == "order"


def test_every_status_is_explained() -> None:
    """docs/workflows.md lists what a run can be."""
    rows = table(ROOT / "docs/workflows.md", "Status of a run")
    assert {name.strip("`") for name in rows if name.startswith("`")} == set(STATUSES)


def test_the_expressions_that_are_shown_give_what_is_shown() -> None:
    """Each row of the table of docs/workflows.md, evaluated."""
    rows = table(ROOT / "docs/workflows.md", "Expressions")
    header = next(row[0] for name, row in rows.items() if name == "written")
    payload = orjson.loads(re.findall(r"`([^`]*)`", header)[1])
    examples = {name: row[0] for name, row in rows.items() if name.startswith('`"')}
    assert len(examples) >= 8
    for written, value in examples.items():
        text = orjson.loads(written.strip("`"))
        values = evaluate(templates.expressions(text), {"payload": payload})
        plain = {source: result for source, result in values.items() if not isinstance(result, ExpressionFailed)}
        assert templates.render(text, plain) == orjson.loads(value.strip("`")), written


def test_every_refusal_of_json_is_explained() -> None:
    """docs/workflows.md names each code that a body can be refused with."""
    source = (ROOT / "schemas/jsontext.py").read_text()
    codes = set(re.findall(r"\| +`([a-z_0-9]+)` +\|$", source, flags=re.MULTILINE)) - {"not_json_type"}
    assert len(codes) > 8
    text = (ROOT / "docs/workflows.md").read_text()
    assert sorted(code for code in codes if f"`{code}`" not in text) == []


@pytest.mark.parametrize("page", PAGES, ids=shown)
def test_tests_that_are_named_exist(page: Path) -> None:
    """`test_…` names a test, a path below tests/ a file."""
    text = page.read_text()
    assert set(re.findall(r"`(test_\w+)`", text)) <= names_of_tests()
    for path in re.findall(r"`(tests/[\w/.]+)`", text):
        assert (ROOT / path).exists(), path


@cache
def names_of_tests() -> set[str]:
    """The names of all tests."""
    sources = (file.read_text() for file in (ROOT / "tests").rglob("*.py"))
    return {
        name for source in sources for name in re.findall(r"^ *(?:async )?def (test_\w+)", source, flags=re.MULTILINE)
    }


def test_the_readme_counts_tests_rightly() -> None:
    """Each file that it lists has as many tests as it says, those of the contracts that its classes inherit included."""
    rows = {name: row for name, row in table(ROOT / "README.md", "Development").items() if "`tests/" in row[0]}
    assert len(rows) == 6
    for row in rows.values():
        assert count_of_tests(ROOT / row[0].strip("`")) >= int(row[1]) > 0, row[0]


def count_of_tests(file: Path) -> int:
    count = 0
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            count += node.name.startswith("test_")
        elif isinstance(node, ast.ClassDef):
            count += sum(contracts().get(base.id, 0) for base in node.bases if isinstance(base, ast.Name))
    return count


@cache
def contracts() -> dict[str, int]:
    """Tests in each class of tests/contract/."""
    found = {}
    for file in (ROOT / "tests" / "contract").glob("*.py"):
        for node in ast.parse(file.read_text()).body:
            if isinstance(node, ast.ClassDef):
                found[node.name] = sum(getattr(part, "name", "").startswith("test_") for part in node.body)
    return found
