"""Settings: secrets may come from files, and are shown nowhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from ops import config
from ops.parts import environment, told
from schemas.errors import BadSetting
from schemas.settings import SECRET_BYTES_MAX, Settings, secret_names


@pytest.fixture(autouse=True)
def alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the environment of the tests says."""
    for name in secret_names():
        monkeypatch.delenv(name.upper(), raising=False)
        monkeypatch.delenv(f"{name.upper()}_FILE", raising=False)


@pytest.mark.parametrize("name", sorted(secret_names()))
@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_a_secret_may_come_from_a_file(name: str, end: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """NAME_FILE holds it, without the line break at its end; it counts as given."""
    (tmp_path / "secret").write_bytes(f" pässword {end}".encode())
    monkeypatch.setenv(f"{name.upper()}_FILE", str(tmp_path / "secret"))
    settings = Settings()
    assert getattr(settings, name) == " pässword "
    assert name in settings.model_fields_set


def test_the_variable_itself_comes_first(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """So the processes of a platform, which are handed the value, need no file."""
    (tmp_path / "secret").write_text("from the file")
    monkeypatch.setenv("POSTGRES_PASSWORD_FILE", str(tmp_path / "secret"))
    monkeypatch.setenv("POSTGRES_PASSWORD", "from the variable")
    assert Settings().postgres_password == "from the variable"
    assert Settings(postgres_password="handed in").postgres_password == "handed in"


def test_what_is_no_secret_has_no_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Else every setting would be two."""
    (tmp_path / "user").write_text("somebody")
    monkeypatch.setenv("POSTGRES_USER_FILE", str(tmp_path / "user"))
    assert Settings().postgres_user == "workflow"


@pytest.mark.parametrize(
    ("content", "reason"),
    [(None, "cannot be read"), (b"\xff\xfe", "UTF-8"), (b"x" * (SECRET_BYTES_MAX + 1), str(SECRET_BYTES_MAX))],
)
def test_a_file_that_cannot_be_used_stops_the_start(
    content: bytes | None, reason: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The error names the variable and the file, never what is in it."""
    path = tmp_path / "secret"
    if content is not None:
        path.write_bytes(content)
    monkeypatch.setenv("POSTGRES_PASSWORD_FILE", str(path))
    with pytest.raises(BadSetting, match="POSTGRES_PASSWORD_FILE") as refused:
        config.load()
    assert reason in refused.value.message
    assert str(path) in refused.value.message
    assert "xxx" not in refused.value.message


@pytest.mark.parametrize("text", ["inf", "1e400", "nan"])
def test_every_number_is_finite(text: str) -> None:
    """No wait without an end can be set: the start is stopped, and the setting named."""
    numbers = [name for name, field in Settings.model_fields.items() if field.annotation is float]
    for name in numbers:
        with pytest.raises(BadSetting, match=name.upper()):
            config.load(**{name: text})
    assert len(numbers) >= 10


def test_secrets_are_shown_nowhere() -> None:
    """Neither by what prints the settings nor by a name that reads like another one."""
    settings = Settings(postgres_password="hidden", workflow_api_key="hidden")
    assert "hidden" not in repr(settings)
    assert "hidden" not in str(settings)


def test_a_file_of_a_secret_is_a_known_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is not reported as misspelt."""
    monkeypatch.setenv("WORKFLOW_API_KEY_FILE", "/run/secrets/key")
    said: list[str] = []
    config.warn_of_unknown(said.append)
    assert [line for line in said if "API_KEY" in line] == []


def test_a_caller_s_key_stays_with_the_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    """Who starts a platform hands it to no process and writes it down nowhere."""
    monkeypatch.setenv("WORKFLOW_API_KEY", "wfk_hidden")
    monkeypatch.setenv("WORKFLOW_API_KEY_FILE", "/run/secrets/key")
    settings = Settings(workflow_api_key="wfk_hidden", workflow_auth="keys")
    assert told(settings) == {"workflow_auth": "keys"}
    handed = environment(settings)
    assert handed["WORKFLOW_AUTH"] == "keys"
    assert {"WORKFLOW_API_KEY", "WORKFLOW_API_KEY_FILE"} & handed.keys() == set()
