"""The command line and API keys: what it sends, how it says that it was not let in, and what it refuses to make."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from ops import cli
from ops.client import Exit
from schemas.errors import KeyNameTaken, KeyUnknown
from schemas.keys import read_token
from tests.keyring import make_key
from tests.unit.test_ops_cli import Stub, api, problem

__all__ = ["api"]  # a fixture

RUNS: tuple[int, dict[str, Any]] = (200, {"items": [], "next_cursor": None})


def sent(api: Stub) -> str | None:
    """The Authorization header of the last request."""
    return api.asked[-1][2].get("Authorization")


def test_the_key_of_the_environment_is_sent(api: Stub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """From the variable or from a file; without one, none is sent."""
    api.on("GET /api/v1/runs", RUNS)
    _, token = make_key()
    assert cli.run(["runs", "list"]) == Exit.GOOD
    assert sent(api) is None
    monkeypatch.setenv("WORKFLOW_API_KEY", token.text)
    assert cli.run(["runs", "list"]) == Exit.GOOD
    assert sent(api) == f"Bearer {token.text}"
    monkeypatch.delenv("WORKFLOW_API_KEY")
    (tmp_path / "key").write_text(f"{token.text}\n")
    monkeypatch.setenv("WORKFLOW_API_KEY_FILE", str(tmp_path / "key"))
    assert cli.run(["runs", "list"]) == Exit.GOOD
    assert sent(api) == f"Bearer {token.text}"


@pytest.mark.parametrize("key", ["secret", "wfk_0123456789ab_", "schlüssel", "wfk_x\r\nX-Evil: 1"])
def test_what_is_no_key_is_not_sent(
    api: Stub, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], key: str
) -> None:
    """One line that names the setting, and does not repeat it."""
    monkeypatch.setenv("WORKFLOW_API_KEY", key)
    assert cli.run(["runs", "list"]) == Exit.USAGE
    said = capsys.readouterr().err
    assert "WORKFLOW_API_KEY" in said
    assert key not in said
    assert api.asked == []


@pytest.mark.parametrize(("status", "code"), [(401, "not_authenticated"), (403, "scope_missing")])
def test_not_being_let_in_has_its_own_exit_code(
    api: Stub, capsys: pytest.CaptureFixture[str], status: int, code: str
) -> None:
    """4, at once, also where a command would wait for a run."""
    api.on("GET /api/v1/runs", problem(code, status))
    api.on("GET /api/v1/runs/r1", problem(code, status))
    assert cli.run(["runs", "list"]) == 4
    assert cli.run(["runs", "show", "r1", "--watch"]) == Exit.NOT_ALLOWED
    said = capsys.readouterr().err
    assert code in said
    assert ("WORKFLOW_API_KEY" in said) == (status == 401)


def test_a_limit_passes_by_itself(api: Stub) -> None:
    """A command that waits goes on; one that does not exits as for a server that is away."""
    ended = {"run_id": "r1", "status": "SUCCESS", "seq": 2}
    api.on("GET /api/v1/runs/r1", problem("rate_limited", 429), (200, ended))
    assert cli.run(["runs", "show", "r1", "--watch", "-o", "json"]) == Exit.GOOD
    api.on("GET /api/v1/runs", problem("rate_limited", 429))
    assert cli.run(["runs", "list"]) == Exit.SERVER_AWAY


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["a b", "--scope", "read"], "name"),
        (["", "--scope", "read"], "name"),
        (["shop", "--scope", "read", "--rate", "often"], "rate"),
        (["shop", "--scope", "read", "--rate", "0/second"], "rate"),
        (["shop", "--scope", "all"], "--scope"),
        (["shop"], "--scope"),
        ([], "NAME"),
    ],
)
def test_what_can_be_no_key_is_a_usage_error(
    api: Stub, capsys: pytest.CaptureFixture[str], arguments: list[str], named: str
) -> None:
    """Before Kafka is asked for."""
    assert cli.run(["keys", "create", *arguments]) == Exit.USAGE
    assert named in capsys.readouterr().err


def test_a_broker_that_is_away_is_told(
    api: Stub, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """With its address, and the code of a server that is away; no key is printed."""
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "127.0.0.1:1")
    for arguments in (["create", "shop", "--scope", "read"], ["list"], ["revoke", "shop"]):
        assert cli.run(["keys", *arguments]) == Exit.SERVER_AWAY
        said = capsys.readouterr()
        assert "127.0.0.1:1" in said.err
        assert said.out == ""


@pytest.mark.parametrize(("error", "code"), [(KeyUnknown(key="x"), 3), (KeyNameTaken(name="x"), 2)])
def test_refusals_have_their_exit_codes(
    monkeypatch: pytest.MonkeyPatch, error: Exception, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """Not found, and a name that is taken."""

    def refuse(*_: object) -> None:
        raise error

    monkeypatch.setattr("ops.keys._run", refuse)
    assert cli.run(["keys", "revoke", "x"]) == code
    assert "'x'" in capsys.readouterr().err


def test_a_new_key_stands_alone_on_standard_output(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """So that a script can put it where it belongs; what is said about it goes to the other stream."""
    key, _ = make_key("shop", "read", rate="5/second")
    monkeypatch.setattr("ops.keys._run", lambda *_: key)
    assert cli.run(["keys", "create", "shop", "--scope", "read"]) == Exit.GOOD
    said = capsys.readouterr()
    token = read_token(said.out.removesuffix("\n"))
    assert token is not None
    assert token.secret not in said.err
    assert cli.run(["key", "create", "shop", "--scope", "read", "-o", "json"]) == Exit.GOOD
    shown = json.loads(capsys.readouterr().out)
    assert read_token(shown.pop("token")) is not None
    assert shown == key.shown()
