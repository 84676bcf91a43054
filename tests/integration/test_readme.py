"""The README's commands and the examples of docs/subscribe.md, run as they are written against `workflow up`."""

from __future__ import annotations

import asyncio
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

from ops.ports import free_port
from tests import servers

ROOT: Final = Path(__file__).parents[2]
README: Final = (ROOT / "README.md").read_text()
SUBSCRIBE: Final = (ROOT / "docs" / "subscribe.md").read_text()
WITHIN_S: Final = 90
SETTINGS: Final = ("WORKFLOW_", "KAFKA_", "POSTGRES_", "STORAGE_", "API_", "WEBHOOK_")
SHELL: Final = """set -euo pipefail
curl() { command curl --silent --show-error --fail-with-body --max-time 60 "$@"; }
workflow() { "$PYTHON" -P -m ops "$@"; }
# What is waited for is the end of the run, however slow the machine; 3: the tables have not seen its start yet.
sleep() {
  local code=0
  workflow runs show "$RUN_ID" --watch --timeout 60 > /dev/null || code=$?
  test "$code" != 3 || { command sleep 0.2; sleep; }
  return 0
}
"""
SHAPES: Final = (
    r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}(:[0-9]+)?",
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.]+Z",
    r"[0-9a-f]{32}",
    r"[det][0-9]+\.[0-9]+(-[det][0-9]+\.[0-9]+)*",
)
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(shutil.which("curl") is None, reason="curl is not installed"),
]


@dataclass(frozen=True, slots=True)
class Platform:
    home: Path
    port: int
    echo_port: int

    def here(self, text: str) -> str:
        """Addresses and commands of the docs as those of this platform."""
        text = text.replace("localhost:8001", f"127.0.0.1:{self.port}")
        return text.replace("localhost:8002", f"127.0.0.1:{self.echo_port}").replace(".venv/bin/workflow", "workflow")

    @property
    def environment(self) -> dict[str, str]:
        bare = {name: value for name, value in os.environ.items() if not name.startswith(SETTINGS)}
        more = {"PYTHON": sys.executable, "PYTHONPATH": str(ROOT), "WORKFLOW_HOME": str(self.home)}
        return {**bare, **more, "no_proxy": "127.0.0.1"}

    def run(self, *command: str, given: str | None = None) -> str:
        """Standard output of a command that must end well, in time."""
        output = self.home.with_suffix(".out")
        with output.open("w+") as out:
            done = subprocess.Popen(
                command, env=self.environment, cwd=self.home.parent, stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                stderr=out, text=True, start_new_session=True,
            )  # fmt: skip
            try:
                printed, _ = done.communicate(given, WITHIN_S)
            except subprocess.TimeoutExpired:
                os.killpg(done.pid, signal.SIGKILL)
                printed, _ = done.communicate()
        assert done.returncode == 0, f"{given or command}\n{printed}\n{output.read_text()}\n{self.logs}"
        return printed

    @property
    def logs(self) -> str:
        """The ends of what the processes wrote."""
        return "\n".join(
            f"== {log.name}\n{log.read_text()[-2000:]}" for log in sorted((self.home / "logs").glob("*.log"))
        )

    def workflow(self, *arguments: str) -> str:
        return self.run(sys.executable, "-P", "-m", "ops", *arguments)

    @property
    def kafka(self) -> str:
        running = json.loads(self.workflow("ps", "-o", "json"))
        return next(str(process["address"]) for process in running if process["role"] == "kafka")


@pytest.fixture(scope="module")
def platform() -> Iterator[Platform]:
    """`make run` on other ports, with workflow `welcome` defined and one run of it ended: what the README does."""
    port = free_port()
    with servers.server_folder() as folder:
        here = Platform(folder / "home", port, free_port(besides=frozenset({port})))
        line = [sys.executable, "-P", "-m", "ops", "up", "--home", str(here.home)]
        line += ["--port", str(port), "--echo-port", str(here.echo_port)]
        with (folder / "up.log").open("w") as out:
            up = subprocess.Popen(line, env=here.environment, cwd=folder, stdout=out, stderr=out)
        try:
            deadline = time.monotonic() + WITHIN_S
            while "Next:" not in (folder / "up.log").read_text():
                assert up.poll() is None, (folder / "up.log").read_text()
                assert time.monotonic() < deadline, (folder / "up.log").read_text()
                time.sleep(0.1)
            yield here
        finally:
            up.terminate()
            try:
                up.wait(WITHIN_S)
            finally:
                up.kill()


@pytest.fixture(scope="module")
def outputs(platform: Platform) -> list[str]:
    """What each sh block of the README printed, in order. All of them run in one shell; the first failure ends it."""
    commands = [platform.here(text) for text, _ in examples()]
    marked = "".join(f"{{\n{command}}}\nprintf '\\n\\036\\n'\n" for command in commands)
    printed = platform.run("bash", given=SHELL + marked)
    return [text.strip() for text in printed.split("\036")[:-1]]


def examples() -> list[tuple[str, Any]]:
    """Its sh blocks, each with the answer that is shown after it, None where none is."""
    found = re.findall(r"^```sh\n(.*?)^```\n(?:\n```json\n(.*?)^```)?", README, flags=re.MULTILINE | re.DOTALL)
    return [(commands, json.loads(answer) if answer else None) for commands, answer in found]


def alike(shown: Any, real: Any, where: str = "") -> None:
    """The same fields and the same values; ids, times, digests and numbers of the same kind."""
    match shown, real:
        case dict(), dict():
            if not where.endswith(("/headers", "/body")):  # the receiver's
                assert shown.keys() == real.keys(), where
                for name in shown:
                    alike(shown[name], real[name], f"{where}/{name}")
        case list(), list():
            assert len(shown) == len(real), where
            for index, (one, other) in enumerate(zip(shown, real, strict=True)):
                alike(one, other, f"{where}/{index}")
        case str(), str():
            same = shown == real or any(re.fullmatch(shape, shown) and re.fullmatch(shape, real) for shape in SHAPES)
            assert same, f"{where}: {shown} is shown, {real} came"
        case int(), int():
            pass
        case _:
            assert shown == real, f"{where}: {shown} is shown, {real} came"


def test_the_readme_works_as_written(outputs: list[str]) -> None:
    """Every block ends well, and every answer that is shown is like the one that comes."""
    assert len(outputs) == len(examples()) >= 6
    for (_, shown), printed in zip(examples(), outputs, strict=True):
        if shown is not None:
            alike(shown, json.loads(printed))


def test_the_run_of_the_readme_ends_well(outputs: list[str]) -> None:
    """Three seconds later the run is SUCCESS, with what the echo receiver heard."""
    run = next(json.loads(text) for text in outputs if '"results"' in text.partition("\n")[0])
    assert run["status"] == "SUCCESS"
    assert run["results"]["greet"]["body"]["body"] == {"text": "Hello, Ada!"}


def test_the_subscriber_of_the_docs_hears_of_each_run(platform: Platform, outputs: list[str]) -> None:
    """The Python example prints the ends of both runs of the README."""
    [program] = re.findall(r"^```python\n(.*?)^```", SUBSCRIBE, flags=re.MULTILINE | re.DOTALL)
    environment = {**platform.environment, "KAFKA_BOOTSTRAP_SERVERS": platform.kafka}
    subscriber = subprocess.Popen(
        [sys.executable, "-"], env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert subscriber.stdin is not None
    assert subscriber.stdout is not None
    try:
        subscriber.stdin.write(program)
        subscriber.stdin.close()
        heard = [subscriber.stdout.readline().split() for _ in range(2)]
    finally:
        subscriber.kill()
        subscriber.wait()
        subscriber.stdout.close()
    run = next(json.loads(text) for text in outputs if '"results"' in text.partition("\n")[0])
    assert [run["run_id"], "SUCCESS", "welcome"] in heard
    assert [words[1:] for words in heard] == [["SUCCESS", "welcome"]] * 2


async def test_the_message_of_the_docs_is_the_message_that_comes(platform: Platform, outputs: list[str]) -> None:
    """docs/subscribe.md shows the announcement of the README's run, field by field."""
    shown = json.loads(re.findall(r"^```json\n(.*?)^```", SUBSCRIBE, flags=re.MULTILINE | re.DOTALL)[0])
    consumer = AIOKafkaConsumer("workflow.completed", bootstrap_servers=platform.kafka, auto_offset_reset="earliest")
    async with consumer:
        message = await asyncio.wait_for(consumer.getone(), WITHIN_S)
    real = json.loads(message.value)
    alike(shown, real)
    assert message.key.decode() == real["subject"]


async def test_a_message_of_any_producer_starts_a_run(platform: Platform, outputs: list[str]) -> None:
    """docs/subscribe.md: the named one may come twice and is one run."""
    message = re.findall(r"^```json\n(.*?)^```", SUBSCRIBE, flags=re.MULTILINE | re.DOTALL)[1].encode()
    async with AIOKafkaProducer(bootstrap_servers=platform.kafka) as producer:
        for partition in (0, 1):
            await producer.send_and_wait("workflow.trigger", message, partition=partition)
    deadline = time.monotonic() + WITHIN_S
    while "order-4711" not in await asyncio.to_thread(platform.workflow, "runs", "list"):
        assert time.monotonic() < deadline, "the run does not begin"
    await asyncio.to_thread(platform.workflow, "runs", "show", "order-4711", "--watch")
    events = json.loads(await asyncio.to_thread(platform.workflow, "runs", "events", "order-4711", "-o", "json"))
    assert [event["type"] for event in events["items"]].count("RunRequested") == 1
