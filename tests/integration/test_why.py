"""Why a run is where it is, on real servers: workers that are not there, die, freeze and come back, and a broker that dies."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from ops.embedded.kafka import KafkaServer
from ops.embedded.postgres import PostgresServer
from ops.parts import environment
from schemas.events import time_s, time_text
from tests.api.client import define, delay, start
from tests.api.platform import Platform, Process
from tests.conftest import make_settings

pytestmark = [pytest.mark.slow, pytest.mark.timeout(240)]

PARTITIONS = 2
SESSION_S = 8.0
"""A worker that died or froze is a member of its group for so long."""
STARTS = 7
"""Of the whole test, before that of a worker which freezes."""
Why = dict[str, Any]


@pytest.fixture
def silent() -> Iterator[str]:
    """A receiver that takes a connection and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}/"


@pytest.fixture
def platform(own_kafka: KafkaServer, own_postgres: PostgresServer, tmp_path: Path) -> Iterator[Platform]:
    """An API and a projector: workers come and go."""
    settings = make_settings(own_kafka.address, own_postgres.dsn, "", tmp_path)
    more = {
        "workflow_partitions": PARTITIONS,
        "workflow_session_timeout_s": SESSION_S,
        "webhook_allow": "127.0.0.1",
    }
    platform = Platform(settings.model_copy(update=more), tmp_path)
    try:
        platform.start("api", "projector")
        yield platform
    finally:
        platform.close()


def webhook(url: str, **more: Any) -> dict[str, Any]:
    return {"name": "call", "type": "webhook", "config": {"url": url}, **more}


class Asker:
    """Asks one API why."""

    def __init__(self, api: httpx.Client) -> None:
        self._api = api

    def start(self, name: str, step: dict[str, Any]) -> dict[str, Any]:
        return start(self._api, define(self._api, name, [step]))

    def why(self, run: dict[str, Any]) -> Why:
        """Never unknown: the position of its start goes with the question."""
        answer = self._api.get(f"/api/v1/runs/{run['run_id']}/why", params={"min_position": run["position"]})
        assert answer.status_code == 200, answer.text
        body: Why = answer.json()
        return body

    def due_at(self, run: dict[str, Any]) -> str | None:
        """When the run's step is due, as the run itself shows it."""
        due_at: str | None = self._api.get(f"/api/v1/runs/{run['run_id']}").json()["steps"][0]["due_at"]
        return due_at

    def until(self, run: dict[str, Any], holds: Callable[[Why], bool], within_s: float = 60.0) -> Why:
        """The first answer of which it holds."""
        ends = time.monotonic() + within_s
        while not holds(answer := self.why(run)):
            assert time.monotonic() < ends, answer
            time.sleep(0.05)
        return answer

    def code(self, run: dict[str, Any], code: str, worker: str = "owned") -> Why:
        """The first answer of this code in which the partition has such a worker."""
        return self.until(run, lambda answer: (answer["code"], answer["worker"]["state"]) == (code, worker))


def printed(platform: Platform, run: dict[str, Any]) -> str:
    """What the command line says."""
    url = platform.of("api")[0].address
    line = [sys.executable, "-P", "-m", "ops", "runs", "why", run["run_id"]]
    env = environment(platform.settings.model_copy(update={"workflow_url": url}))
    return subprocess.run(line, env=dict(env), check=True, capture_output=True, text=True, timeout=60).stdout


def test_every_reason_in_turn(platform: Platform, own_kafka: KafkaServer, silent: str) -> None:
    """No worker, one that works, one that is killed, one that comes, one that freezes; at last a broker that is away."""
    with httpx.Client(base_url=platform.of("api")[0].address, timeout=30) as http:
        ask = Asker(http)
        runs = nobody_is_there(ask, silent)
        (worker,) = platform.start("worker")
        a_worker_works(ask, runs)
        worker.kill()
        it_was_killed(ask, runs, platform)
        (worker,) = platform.start("worker")
        another_one_came(ask, runs)
        it_froze(ask, worker)
        the_projector_froze(ask, platform.of("projector")[0])
        own_kafka.kill()
        the_broker_is_away(ask, runs)


def nobody_is_there(ask: Asker, silent: str) -> dict[str, dict[str, Any]]:
    """Each start waits for a worker, and none owns its partition."""
    runs = {
        "quick": ask.start("quick", delay("wait", 0)),
        "long": ask.start("long", delay("wait", "1h")),
        "short": ask.start("short", delay("wait", "12s")),
        "failing": ask.start(
            "failing", webhook("http://127.0.0.1:1/", retry={"max_attempts": 3, "initial": "2m", "max": "2m"})
        ),
        "hanging": ask.start("hanging", webhook(silent, timeout="90s")),
    }
    for run in runs.values():
        answer = ask.why(run)
        assert (answer["code"], answer["next_event"], answer["worker"]["state"]) == (
            "no_worker",
            "RunRequested",
            "none",
        )
        assert f"waiting for a worker: none owns partition {answer['partition']};" in answer["reason"]
    assert {ask.why(run)["partition"] for run in runs.values()} <= set(range(PARTITIONS))
    return runs


def a_worker_works(ask: Asker, runs: dict[str, dict[str, Any]]) -> None:
    """Timers, the next attempt with the error of the last one, an open attempt, an end."""
    waits = ask.code(runs["long"], "delay")
    assert waits["until"] == ask.due_at(runs["long"])
    assert waits["worker"]["host"] == "127.0.0.1"
    retry = ask.code(runs["failing"], "retry")
    assert (retry["attempt"], retry["max_attempts"], retry["error"]["step"]) == (2, 3, "call")
    assert retry["until"] == ask.due_at(runs["failing"])
    assert retry["reason"].startswith(
        f"attempt 2 of 3 of step call begins at {retry['until']}; the one before failed: "
    )
    running = ask.code(runs["hanging"], "step_running")
    assert (running["attempt"], running["max_attempts"]) == (1, 5)
    assert running["until"] == time_text(time_s(running["since"]) + 90)
    ended = ask.code(runs["quick"], "finished")
    assert (ended["status"], ended["error"]) == ("SUCCESS", None)


def it_was_killed(ask: Asker, runs: dict[str, dict[str, Any]], platform: Platform) -> None:
    """While an attempt waits for its time, that and who is missing; what is due waits for a worker."""
    retry = ask.code(runs["failing"], "retry", "none")
    assert retry["reason"].endswith(
        f"; no worker owns partition {retry['partition']} now, and without one nothing happens"
    )
    due = ask.code(runs["short"], "no_worker", "none")
    assert (due["next_event"], due["step"], due["tables_behind"]) == ("StepSucceeded", "wait", 0)
    assert ask.code(runs["hanging"], "no_worker", "none")["next_event"] == "StepInterrupted"
    assert ask.code(runs["quick"], "finished", "none")["status"] == "SUCCESS"
    assert printed(platform, runs["short"]).startswith(f"waiting for a worker: none owns partition {due['partition']};")


def another_one_came(ask: Asker, runs: dict[str, dict[str, Any]]) -> None:
    """What was due is done, and the attempt that was cut off is the next one now, given back."""
    assert ask.code(runs["short"], "finished")["status"] == "SUCCESS"
    running = ask.code(runs["hanging"], "step_running")
    assert (running["attempt"], running["max_attempts"], running["error"]) == (2, 6, None)


def it_froze(ask: Asker, worker: Process) -> None:
    """Its partition is its own still, and what is due does not come; then the group gives it up."""
    run = ask.start("frozen", delay("wait", "3s"))
    ask.until(run, lambda answer: answer["code"] == "delay")
    worker.freeze()
    waits = ask.code(ask.start("untaken", delay("wait", 0)), "command_waits")
    assert (waits["next_event"], waits["tables_behind"]) == (None, 0)
    assert waits["before"] in range(STARTS)  # how far its worker had committed when it froze is a matter of chance
    assert "has waited since" in waits["reason"]
    late = ask.code(run, "overdue")
    assert "is busy, frozen or cut off" in late["reason"]
    assert late["since"] == ask.due_at(run)
    ask.code(run, "no_worker", "none")
    worker.thaw()
    ask.code(run, "finished")


def the_projector_froze(ask: Asker, projector: Process) -> None:
    """The run has gone on in the log; what is shown of it has not, and says so."""
    run = ask.start("unseen", delay("wait", "2s"))
    ask.code(run, "delay")
    projector.freeze()
    unseen = ask.code(run, "tables_behind")
    assert (unseen["step"], unseen["next_event"], unseen["since"]) == ("wait", "StepSucceeded", ask.due_at(run))
    assert unseen["tables_behind"] >= 2
    projector.thaw()
    ask.code(run, "finished")


def the_broker_is_away(ask: Asker, runs: dict[str, dict[str, Any]]) -> None:
    """The reason is given all the same, soon, and says that nobody knows who owns the partition."""
    ask.code(runs["long"], "delay", "unknown")
    began = time.monotonic()
    answer = ask.why(runs["long"])
    assert time.monotonic() - began < 10
    assert (answer["code"], answer["tables_behind"], answer["worker"]["member"]) == ("delay", None, None)
    assert f"; which worker owns partition {answer['partition']} is not known: " in answer["reason"]
    assert ask.why(runs["quick"])["status"] == "SUCCESS"
