"""`workflow grants`: what it prints can be handed to psql and to a shell, whatever the users are called."""

from __future__ import annotations

import re
import shlex

import pytest

from ops import cli
from ops.setting_up import acl_commands, grants_sql
from projections import sql
from schemas.settings import Settings

USERS = {"api": 'a "quoted" one', "worker": ':"api"', "projector": "p; drop schema workflow"}


def test_every_name_is_quoted_once() -> None:
    """A user's name is a name, even one that looks like another role's place or like a statement."""
    statements = grants_sql(USERS)
    assert 'to "a ""quoted"" one", ":""api""", "p; drop schema workflow";' in statements
    assert re.findall(r'(?<!")"(?:[^"]|"")*"', statements).count('":""api"""') == 3
    assert ':"worker"' not in statements


def test_the_file_can_be_given_to_psql_as_it_stands() -> None:
    """Its variables are the roles, and all of it is one transaction."""
    text = (sql.HERE / "roles.sql").read_text()
    assert set(re.findall(r':"(\w+)"', text)) == set(USERS)
    bare = [line for line in text.splitlines() if line and not line.startswith("--")]
    assert (bare[0], bare[-1]) == ("begin;", "commit;")


def test_no_right_but_those_to_rows_is_granted() -> None:
    """Neither all rights nor any to make, empty or own a table, and to the projector alone those to write in the tables."""
    granted = re.findall(r"^grant ([\w, ]+) on .* to (.*);$", grants_sql(dict.fromkeys(USERS, "x")), flags=re.MULTILINE)
    assert {right for right, _ in granted} == {"usage", "select", "insert", "update", "delete"}
    writing = re.findall(
        r"^grant (insert|update|delete) on workflow\..* to (.*);$", grants_sql({r: r for r in USERS}), re.MULTILINE
    )
    assert {who for _, who in writing} == {'"projector"'}


def test_commands_survive_a_shell() -> None:
    """Each is one command, with the names of this platform's topics and groups."""
    settings = Settings(workflow_topic_prefix="shop.", kafka_consumer_group="a group")
    commands = [shlex.split(line) for line in acl_commands(settings, {"worker": "it's $HOME"})]
    assert {command[0] for command in commands} == {"kafka-acls.sh"}
    assert {command[command.index("--allow-principal") + 1] for command in commands} == {"User:it's $HOME"}
    assert [command[-2:] for command in commands if "--group" in command] == [["--group", "a group"]]
    assert all(command[-1].startswith("shop.workflow.") for command in commands if "--topic" in command)
    assert not any("--operation Write" in " ".join(c) and "definitions" in c[-1] for c in commands)


def test_the_command_prints_and_does_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """No server is asked: there is none here."""
    users = ["--api", "a", "--worker", "w", "--projector", "p"]
    assert cli.run(["grants", *users]) == 0
    assert capsys.readouterr().out.startswith('begin;\ngrant usage on schema workflow to "a", "w", "p";\n')
    assert cli.run(["grants", *users, "--server", "kafka"]) == 0
    assert "User:o" not in capsys.readouterr().out
    assert cli.run(["grants", *users, "--server", "kafka", "--owner", "o"]) == 0
    assert "--allow-principal User:o --operation Create --topic workflow.events" in capsys.readouterr().out
    assert cli.run(["grants", "--api", "a"]) == 2
