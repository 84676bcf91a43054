"""Where secrets come from."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from schemas.errors import BadSetting
from streams.secret_values import SECRET_BYTES_MAX, SecretUnknown, SecretUnusable, SecretValues


def test_the_environment_and_then_the_folder(tmp_path: Path) -> None:
    """WORKFLOW_SECRET_<NAME>, else a file with the name; capitals count."""
    (tmp_path / "BOTH").write_text("from the file")
    (tmp_path / "FILE").write_text("of its own")
    values = SecretValues({"WORKFLOW_SECRET_BOTH": "from the environment", "BOTH": "no"}, tmp_path)
    assert (values.get("BOTH"), values.get("FILE")) == ("from the environment", "of its own")
    with pytest.raises(SecretUnknown):
        values.get("both")


@pytest.mark.parametrize(
    ("written", "value"),
    [
        (b"x\n", "x"),
        (b"x\r\n", "x"),
        (b"x\n\n", "x\n"),
        (b" x ", " x "),
        ("für dich".encode(), "für dich"),
        (b"a\nb\n", "a\nb"),
    ],
)
def test_one_line_break_at_the_end_is_dropped(tmp_path: Path, written: bytes, value: str) -> None:
    """An editor's; everything else is the secret's own."""
    (tmp_path / "X").write_bytes(written)
    assert SecretValues({}, tmp_path).get("X") == value


def test_a_changed_file_counts_at_once(tmp_path: Path) -> None:
    """Also one that is put in place by exchanging a link, as Kubernetes does."""
    (tmp_path / "one").write_text("old")
    (tmp_path / "two").write_text("new")
    (tmp_path / "X").symlink_to("one")
    values = SecretValues({}, tmp_path)
    assert values.get("X") == "old"
    (tmp_path / "next").symlink_to("two")
    (tmp_path / "next").rename(tmp_path / "X")
    assert values.get("X") == "new"


@pytest.mark.parametrize("folder", [True, False])
def test_one_that_is_nowhere_is_unknown(tmp_path: Path, folder: bool) -> None:
    """The message names it and both places where it could be."""
    with pytest.raises(SecretUnknown) as unknown:
        SecretValues({}, tmp_path if folder else None).get("MISSING")
    assert "WORKFLOW_SECRET_MISSING" in unknown.value.message
    assert "a file MISSING" in unknown.value.message
    assert "WORKFLOW_SECRETS_DIR" in unknown.value.message


@pytest.mark.parametrize(
    ("written", "says"),
    [
        (b"", "empty"),
        (b"\n", "empty"),
        (b"a\0b", "NUL"),
        (b"\xff\xfe", "UTF-8"),
        (b"x" * (SECRET_BYTES_MAX + 1), str(SECRET_BYTES_MAX)),
    ],
)
def test_values_that_cannot_be_used(tmp_path: Path, written: bytes, says: str) -> None:
    """An error with the name and without the value."""
    (tmp_path / "X").write_bytes(written)
    with pytest.raises(SecretUnusable, match=says):
        SecretValues({}, tmp_path).get("X")


def test_an_environment_may_hold_what_is_no_text() -> None:
    """Bytes that are not UTF-8 are no secret that JSON could carry; an empty variable hides no file by accident."""
    for value in ("", os.fsdecode(b"\xff")):
        with pytest.raises(SecretUnusable):
            SecretValues({"WORKFLOW_SECRET_X": value}).get("X")


def test_what_cannot_be_read(tmp_path: Path) -> None:
    """A folder in the place of the file, for one."""
    (tmp_path / "X").mkdir()
    with pytest.raises(SecretUnusable, match="cannot be read"):
        SecretValues({}, tmp_path).get("X")


def test_a_folder_that_is_not_there_stops_the_start(tmp_path: Path) -> None:
    """With the setting's name; an empty setting is none."""
    with pytest.raises(BadSetting, match="WORKFLOW_SECRETS_DIR"):
        SecretValues.of(str(tmp_path / "none"))
    SecretValues.of("")
    (tmp_path / "X").write_text("x")
    assert SecretValues.of(str(tmp_path)).get("X") == "x"
