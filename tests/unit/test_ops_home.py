"""The folder of a platform, and which settings a command uses."""

from __future__ import annotations

import json
import os
import stat
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ops import config, home
from ops.errors import HomeInUse, HomeUnusable, NoPlatform
from ops.reaper import alive
from schemas.errors import BadSetting

ROOT = Path(__file__).parents[2]
PLATFORM = home.Platform(
    pid=os.getpid(),
    url="http://127.0.0.1:8123",
    settings={
        "workflow_url": "http://127.0.0.1:8123",
        "kafka_bootstrap_servers": "127.0.0.1:9192",
        "workflow_partitions": 3,
    },
    processes=(home.Process("kafka", 17, "127.0.0.1:9192"),),
)


@pytest.fixture(autouse=True)
def bare_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No setting comes from outside, and no `.workflow` stands in the current folder."""
    for name in list(os.environ):
        if name.startswith(("WORKFLOW_", "KAFKA_", "POSTGRES_", "STORAGE_", "API_")):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)


def test_a_platform_is_found_by_its_folder(tmp_path: Path) -> None:
    """What was written is read while the platform runs, and no longer."""
    with home.taken(tmp_path / "home"):
        assert home.read(tmp_path / "home") is None
        home.write(tmp_path / "home", PLATFORM)
        assert home.read(tmp_path / "home") == PLATFORM
    assert home.read(tmp_path / "home") is None


def test_only_its_owner_can_read_the_state(tmp_path: Path) -> None:
    """It holds the password of PostgreSQL."""
    with home.taken(tmp_path):
        home.write(tmp_path, PLATFORM)
        assert stat.S_IMODE((tmp_path / "platform.json").stat().st_mode) == 0o600


def test_a_second_platform_in_one_folder_is_refused(tmp_path: Path) -> None:
    """The message names the folder and the process that has it."""
    with (
        home.taken(tmp_path),
        pytest.raises(HomeInUse, match=rf"{tmp_path} \(process {os.getpid()}\)"),
        home.taken(tmp_path),
    ):
        pass


def test_a_crashed_platform_leaves_nothing_that_blocks(tmp_path: Path) -> None:
    """After a kill -9 the folder is free, and its old state is not taken for a running platform."""
    code = (
        "import os, sys; from pathlib import Path; from ops import home\n"
        "with home.taken(Path(sys.argv[1])):\n"
        "    home.write(Path(sys.argv[1]), home.Platform(1, '', {}, ()))\n"
        "    os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], cwd=ROOT, check=False)
    assert (tmp_path / "platform.json").exists()
    assert home.read(tmp_path) is None
    with home.taken(tmp_path):
        assert home.read(tmp_path) is None


OWNER = """
import sys, time
from pathlib import Path
from ops import home
from ops.process import Child
from ops.reaper import Reaper
folder = Path(sys.argv[1])
deaf = "import signal, time; signal.signal(signal.SIGTERM, lambda *_: (time.sleep(1), exit())); print('on', flush=True); time.sleep(600)"
with home.taken(folder) as lock:
    child = Child("slow", folder / "log", Reaper(holding=(lock,)))
    print(child.launch([sys.executable, "-c", deaf]), flush=True)
    time.sleep(600)
"""


def test_a_killed_platform_is_waited_for_until_its_children_have_ended(tmp_path: Path) -> None:
    """The next platform in the folder does not meet the servers of the one before."""
    with subprocess.Popen([sys.executable, "-c", OWNER, str(tmp_path)], cwd=ROOT, stdout=subprocess.PIPE) as owner:
        assert owner.stdout is not None
        child = int(owner.stdout.readline())
        deadline = time.monotonic() + 20
        while not (tmp_path / "log").read_text():
            assert time.monotonic() < deadline
            time.sleep(0.01)
        owner.kill()
        owner.wait()
        with home.taken(tmp_path):
            assert not alive(child)


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    """A file in the place of the folder is a clear error."""
    (tmp_path / "file").touch()
    with pytest.raises(HomeUnusable, match=r"file.* cannot be used"), home.taken(tmp_path / "file"):
        pass


def test_the_named_folder_beats_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`--home` and WORKFLOW_HOME mean that platform, whatever else the environment names."""
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "elsewhere:9092")
    with home.taken(tmp_path / "h"):
        home.write(tmp_path / "h", PLATFORM)
        assert config.of_platform(tmp_path / "h").kafka_bootstrap_servers == "127.0.0.1:9192"
        monkeypatch.setenv("WORKFLOW_HOME", str(tmp_path / "h"))
        found = config.of_platform(None)
    assert (found.kafka_bootstrap_servers, found.workflow_partitions) == ("127.0.0.1:9192", 3)


def test_the_environment_beats_the_folder_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a named folder, WORKFLOW_URL, KAFKA_* and POSTGRES_* say which platform; else one in `.workflow` does."""
    with home.taken(home.DEFAULT):
        home.write(home.DEFAULT, PLATFORM)
        assert config.of_platform(None).workflow_url == "http://127.0.0.1:8123"
        monkeypatch.setenv("WORKFLOW_URL", "http://there:80")
        assert config.of_platform(None).workflow_url == "http://there:80"
    assert json.loads(json.dumps(config.of_platform(None).kafka_bootstrap_servers)) == "127.0.0.1:9092"


def test_a_named_folder_without_a_platform_is_an_error(tmp_path: Path) -> None:
    """It is not silently another platform."""
    with pytest.raises(NoPlatform, match="workflow up --home"):
        config.of_platform(tmp_path)


def test_the_environment_stands_in_for_a_folder_without_a_platform(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """WORKFLOW_HOME also names where a process of its own keeps things; KAFKA_* then says which broker."""
    monkeypatch.setenv("WORKFLOW_HOME", str(tmp_path))
    with pytest.raises(NoPlatform):
        config.of_platform(None)
    monkeypatch.setenv("KAFKA_BOOTSTRAP_SERVERS", "there:9092")
    assert config.of_platform(None).kafka_bootstrap_servers == "there:9092"
    with pytest.raises(NoPlatform):
        config.of_platform(tmp_path)


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        (
            "STORAGE_BACKEND",
            "tape",
            "STORAGE_BACKEND='tape' cannot be used: Input should be 'memory', 'filesystem' or 'postgres'",
        ),
        ("POSTGRES_PORT", "99999", "POSTGRES_PORT='99999' cannot be used"),
        ("WORKFLOW_PARTITIONS", "many", "WORKFLOW_PARTITIONS='many' cannot be used"),
    ],
)
def test_a_bad_setting_is_named_with_its_value(
    name: str, value: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line says which variable, which value and what would be right."""
    monkeypatch.setenv(name, value)
    with pytest.raises(BadSetting) as refused:
        config.load()
    assert str(refused.value).startswith(said)
    assert "\n" not in str(refused.value)


def test_a_misspelt_variable_is_told_with_the_nearest_name(monkeypatch: pytest.MonkeyPatch) -> None:
    """WORKFLOW_* variables that are no settings do nothing; that is said."""
    monkeypatch.setenv("WORKFLOW_PARTITION", "3")
    monkeypatch.setenv("WORKFLOW_PARTITIONS", "3")
    monkeypatch.setenv("WORKFLOW_SECRET_TOKEN", "x")
    monkeypatch.setenv("WORKFLOW_SECRETS_DIR", "/run/secrets")
    said: list[str] = []
    config.warn_of_unknown(said.append)
    assert said == ["WORKFLOW_PARTITION is no setting; did you mean WORKFLOW_PARTITIONS?"]
