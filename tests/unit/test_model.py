"""The model, the simulation and docs/architecture.md speak of the same protocol: what one names, the others know."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Final

from tests.simulation.mutants import NAMED
from tests.unit.test_docs import FENCE, anchors, table

ROOT: Final = Path(__file__).parents[2]
ARCHITECTURE: Final = ROOT / "docs/architecture.md"
README: Final = ROOT / "tests/model/README.md"
RULE: Final = re.compile(r"^\*\*([^*]+?)\.?\*\*", re.MULTILINE)


@cache
def go() -> str:
    return "".join(file.read_text() for file in sorted((ROOT / "tests/model").glob("*.go")))


def chapter(page: Path, heading: str) -> str:
    text = page.read_text().split(f"\n## {heading}\n")[1]
    return FENCE.sub("", text).split("\n## ")[0]


def rules_and_traps() -> list[str]:
    """Every rule of the architecture by its name, and every trap by how its row begins."""
    return RULE.findall(chapter(ARCHITECTURE, "The rules")) + [
        trap for trap in table(ARCHITECTURE, "Traps") if trap not in ("trap", "---")
    ]


def properties() -> dict[str, str]:
    """S1, S2, … → by what it is checked."""
    rows = table(ARCHITECTURE, "What must hold")
    return {name: row[1] for name, row in rows.items() if re.fullmatch(r"[SL]\d", name)}


def deviations() -> set[str]:
    """The fields of the model's Rules."""
    fields = re.search(r"type Rules struct {\n(.*?)\n}", go(), re.DOTALL)
    assert fields is not None
    lines = (line.split("//")[0] for line in fields[1].splitlines())
    return {name.strip() for line in lines if line.strip() for name in line.rsplit("bool", 1)[0].split(",")}


def test_every_rule_is_in_the_model_or_left_out_of_it() -> None:
    """tests/model/README.md says of each rule and each trap of docs/architecture.md where the model has it, or that it is
    left out; it speaks of none that is gone."""
    rows = {
        name: row[0]
        for name, row in table(README, "What is modelled").items()
        if not name.startswith(("in `docs", "---"))
    }
    named = rules_and_traps()
    assert len(named) > 15
    assert [rule for rule in named if not any(rule.startswith(name) for name in rows)] == []
    assert [name for name in rows if not any(rule.startswith(name) for rule in named)] == []
    for name, where in rows.items():
        found = re.findall(r"`(\w+)`", where)
        assert found or "left out" in where, f"{name}: where?"
        assert [one for one in found if not re.search(rf"\b{one}\b", go())] == [], name


def test_every_property_is_checked_as_is_said() -> None:
    """docs/architecture.md names what the model and the simulation check, and nothing that they do not."""
    simulation = "".join(file.read_text() for file in (ROOT / "tests/simulation").glob("[!t]*.py"))
    checked = {
        "model": set(re.findall(r'"([SL]\d): ', go())),
        "simulation": set(re.findall(r'"([SL]\d): ', simulation)),
    }
    assert checked["model"] == {f"S{n}" for n in range(1, 8) if n != 2} | {f"L{n}" for n in range(1, 7)}
    for where, found in checked.items():
        said = {name for name, by in properties().items() if where in by}
        assert said - {"S2"} == found - {"S2"}, where  # of the model S2 is true by the rule itself
    assert "what-must-hold" in anchors(ARCHITECTURE)


def test_every_deviation_is_explained() -> None:
    """The README's table has each deviation of the model, and beside it the same one of the simulation; what only the
    simulation has, it lists."""
    rows = table(README, "Results")
    names = {match[1]: row for name, row in rows.items() if (match := re.match(r"`(\w+)`", name))}
    assert names.keys() == deviations()
    beside = {name for row in names.values() for name in re.findall(r"`(\w+)`", row[0])}
    only = re.search(r"Only in the simulation, .*?: (.*?)\.\n", README.read_text(), re.DOTALL)
    assert only is not None
    assert beside | set(re.findall(r"`(\w+)`", only[1])) == NAMED.keys()
    for row in names.values():
        assert re.match(r"([SL]\d)|not caught", row[1]), row


def test_the_model_knows_which_deviations_are_harmless() -> None:
    """Those of which the table says so; `make model` fails on any other that it does not catch."""
    rows = {match[1]: row for name, row in table(README, "Results").items() if (match := re.match(r"`(\w+)`", name))}
    harmless = re.search(r'const harmless = "([^"]*)"', go())
    rare = re.search(r'const rare = "([^"]*)"', go())
    assert harmless is not None
    assert rare is not None
    said = {name for name, row in rows.items() if row[1].startswith("not caught")}
    assert set(harmless[1].split()) == said
    assert set(rare[1].split()) <= rows.keys() - said


def test_make_model_runs_it() -> None:
    """A minute, and without a trace in the tree."""
    recipe = re.search(r"^model:\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert recipe is not None
    assert "-seconds 60" in recipe[1]
    assert "mktemp" in recipe[1]
    assert not list((ROOT / "tests/model").glob("model*"))
