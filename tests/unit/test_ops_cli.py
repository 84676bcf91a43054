"""The command line: what it sends, what it prints, how it exits. The API is a stub; tests/integration has the real one."""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import psutil
import pytest

from ops import cli, watch
from ops.cli import workflow as root
from ops.client import Exit
from ops.ports import free_port

RUN = {
    "run_id": "r1",
    "workflow_id": "hello",
    "version": 1,
    "status": "RUNNING",
    "payload": {"n": 9007199254740993},
    "results": {},
    "error": None,
    "steps": [],
    "created_at": "2026-11-01T09:30:00.000Z",
    "started_at": "2026-11-01T09:30:00.000Z",
    "finished_at": None,
    "seq": 1,
    "set_aside": None,
    "position": "e0.1",
}
REQUESTED = {
    "seq": 1,
    "type": "RunRequested",
    "time": "2026-11-01T09:30:00.000Z",
    "data": {"workflow_id": "hello", "version": 1},
}
COMPLETED = {
    "seq": 2,
    "type": "RunCompleted",
    "time": "2026-11-01T09:30:00.250Z",
    "data": {"status": "SUCCESS", "error": None},
}


class Stub:
    """Answers what it was told, in turn (the last answer again and again), and remembers what it was asked."""

    def __init__(self) -> None:
        self.answers: dict[str, list[tuple[int, Any]]] = {}
        self.asked: list[tuple[str, str, dict[str, str], bytes]] = []

    def on(self, call: str, *answers: tuple[int, Any]) -> None:
        self.answers[call] = list(answers)

    def answer(self, call: str) -> tuple[int, Any]:
        answers = self.answers[call]
        return answers.pop(0) if len(answers) > 1 else answers[0]


@pytest.fixture
def api(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Stub]:
    stub = Stub()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.reply()

        def do_POST(self) -> None:
            self.reply()

        def reply(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            stub.asked.append((self.command, self.path, dict(self.headers), body))
            status, answer = stub.answer(f"{self.command} {self.path.partition('?')[0]}")
            content = json.dumps(answer).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the base class's name
            pass

    for name in list(os.environ):
        if name.startswith(("WORKFLOW_", "KAFKA_", "POSTGRES_")):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.daemon_threads = True
        monkeypatch.setenv("WORKFLOW_URL", f"http://127.0.0.1:{server.server_address[1]}")
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield stub
        server.shutdown()
        thread.join()


def problem(code: str, status: int, **more: Any) -> tuple[int, Any]:
    return status, {"detail": f"said {code}", "code": code, "request_id": "q7", "errors": [], **more}


def test_json_is_the_body_unchanged(api: Stub, capsys: pytest.CaptureFixture[str]) -> None:
    """`-o json` prints what the API answered, numbers past 2^53 included."""
    api.on("GET /api/v1/runs/r1", (200, RUN))
    assert cli.run(["runs", "show", "r1", "-o", "json"]) == Exit.GOOD
    assert capsys.readouterr().out == json.dumps(RUN) + "\n"


WHY: dict[str, Any] = {
    "run_id": "r1",
    "code": "retry",
    "reason": "attempt 2 of 5 of step pay begins at 2026-11-01T09:31:00.000Z; no worker owns partition 4 now",
    "step": "pay",
    "attempt": 2,
    "max_attempts": 5,
    "since": "2026-11-01T09:30:00.000Z",
    "until": "2026-11-01T09:31:00.000Z",
    "next_event": None,
    "before": None,
    "error": {"code": "http_status", "message": "503", "step": "pay"},
    "partition": 4,
    "worker": {"state": "none", "member": None, "host": None, "detail": None},
    "tables_behind": 0,
    "position": "e4.7",
}


def test_why_is_a_sentence_and_what_it_is_made_of(api: Stub, capsys: pytest.CaptureFixture[str]) -> None:
    """The reason first; fields that it does not have are left out; as JSON the body as it came."""
    api.on("GET /api/v1/runs/r1/why", (200, WHY))
    assert cli.run(["runs", "why", "r1"]) == Exit.GOOD
    reason, _, *lines = capsys.readouterr().out.splitlines()
    assert reason == WHY["reason"]
    assert [line.split(None, 1)[0] for line in lines] == [
        *("code", "step", "attempt", "since", "until", "partition", "worker", "tables", "error")
    ]
    assert "attempt       2 of 5" in lines
    assert "worker        none" in lines
    assert "error         pay: 503 (http_status)" in lines
    assert cli.run(["runs", "why", "r1", "-o", "json"]) == Exit.GOOD
    assert capsys.readouterr().out == json.dumps(WHY) + "\n"


def test_why_of_a_run_that_has_a_worker_names_it(api: Stub, capsys: pytest.CaptureFixture[str]) -> None:
    """With the host on which it is."""
    api.on("GET /api/v1/runs/r1/why", (200, {**WHY, "worker": {**WHY["worker"], "member": "w-1", "host": "10.0.0.7"}}))
    assert cli.run(["runs", "why", "r1"]) == Exit.GOOD
    assert "worker        w-1 at 10.0.0.7" in capsys.readouterr().out


def test_nouns_and_verbs_have_their_usual_aliases(api: Stub, capsys: pytest.CaptureFixture[str]) -> None:
    """`run ls` is `runs list`, `workflow get` is `workflows show`."""
    api.on("GET /api/v1/runs", (200, {"items": [RUN], "next_cursor": None}))
    assert cli.run(["run", "ls", "--workflow", "hello", "--status", "RUNNING", "--limit", "5"]) == Exit.GOOD
    assert api.asked[0][1] == "/api/v1/runs?workflow_id=hello&status=RUNNING&limit=5"
    assert "r1" in capsys.readouterr().out
    api.on("GET /api/v1/workflows/hello", (200, {"id": "hello"}))
    assert cli.run(["workflow", "get", "hello", "--version", "2"]) == Exit.GOOD
    assert api.asked[1][1] == "/api/v1/workflows/hello?version=2"


def test_a_trigger_sends_the_payload_as_it_was_written(api: Stub, tmp_path: Path) -> None:
    """From the option or a file; version and key go with it."""
    api.on("POST /api/v1/trigger", (202, {"run_id": "r1", "status": "triggered", "position": "t0.1"}))
    (tmp_path / "payload.json").write_text('{"n":1.10}')
    for payload in ('{"n":1.10}', "@payload.json"):
        assert cli.run(["trigger", "hello", "-p", payload, "--version", "3", "--key", "k"]) == Exit.GOOD
    for _, _, headers, body in api.asked:
        assert body == b'{"workflow_id":"hello","payload":{"n":1.10},"version":3}'
        assert headers["Idempotency-Key"] == "k"


@pytest.mark.parametrize("payload", ["{", "@missing.json"])
def test_a_payload_that_is_no_json_is_a_usage_error(
    api: Stub, payload: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """Nothing is sent; the option is named."""
    assert cli.run(["trigger", "hello", "-p", payload]) == Exit.USAGE
    assert "--payload" in capsys.readouterr().err
    assert api.asked == []


def test_a_definition_is_sent_as_it_stands_in_the_file(
    api: Stub, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """It is the API that reads it; the answer tells a new version from an old one."""
    (tmp_path / "w.json").write_bytes(b'{ "id": "hello" }\n')
    api.on("POST /api/v1/workflows", (201, {"id": "hello", "version": 1}), (200, {"id": "hello", "version": 1}))
    assert cli.run(["workflows", "apply", "w.json", "w.json"]) == Exit.GOOD
    assert api.asked[0][3] == b'{ "id": "hello" }\n'
    assert capsys.readouterr().out.splitlines() == ["hello version 1 defined", "hello version 1 unchanged"]


@pytest.mark.parametrize(
    ("status", "code"), [("SUCCESS", Exit.GOOD), ("FAILED", Exit.ENDED_BADLY), ("CANCELLED", Exit.ENDED_BADLY)]
)
def test_watching_exits_by_how_the_run_ended(
    api: Stub, capsys: pytest.CaptureFixture[str], status: str, code: Exit
) -> None:
    """The events appear once each, in order; the token of the start keeps older states away."""
    ended = {**RUN, "status": status, "seq": 2, "finished_at": "2026-11-01T09:30:00.250Z"}
    api.on("POST /api/v1/trigger", (202, {"run_id": "r1", "status": "triggered", "position": "t0.9"}))
    api.on("GET /api/v1/runs/r1", (200, RUN), (200, ended))
    pages = [{"items": [REQUESTED], "next_cursor": None}, {"items": [COMPLETED, REQUESTED], "next_cursor": None}]
    api.on("GET /api/v1/runs/r1/events", *((200, page) for page in pages))
    assert cli.run(["trigger", "hello", "--watch"]) == code
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[1 if index == 0 else 3] for index, line in enumerate(lines)] == [
        "RunRequested",
        "RunCompleted",
    ]
    assert api.asked[1][1] == "/api/v1/runs/r1?min_position=t0.9"


def test_watching_as_json_prints_the_last_body_alone(api: Stub, capsys: pytest.CaptureFixture[str]) -> None:
    """One document on standard output, whatever was seen on the way."""
    ended = {**RUN, "status": "SUCCESS"}
    api.on("GET /api/v1/runs/r1", (200, RUN), (200, ended))
    assert cli.run(["runs", "show", "r1", "--watch", "-o", "json"]) == Exit.GOOD
    assert json.loads(capsys.readouterr().out) == ended


def test_watching_reads_a_long_history_page_by_page(api: Stub) -> None:
    """A page that does not reach back to what is known is followed by the one before it."""
    middle = {**REQUESTED, "seq": 2, "type": "StepStarted", "data": {"step": "s", "attempt": 1}}
    pages = [
        {"items": [{**COMPLETED, "seq": 3}, middle], "next_cursor": "c"},
        {"items": [REQUESTED], "next_cursor": None},
    ]
    api.on("GET /api/v1/runs/r1/events", *((200, page) for page in pages))
    api.on("GET /api/v1/runs/r1", (200, {**RUN, "status": "SUCCESS", "seq": 3}))
    assert cli.run(["runs", "events", "r1", "--watch", "-o", "json"]) == Exit.GOOD
    assert "before_seq=2" in api.asked[2][1]


def test_watching_too_long_has_its_own_exit_code(api: Stub, capsys: pytest.CaptureFixture[str]) -> None:
    """The run goes on; only the watching ends."""
    api.on("GET /api/v1/runs/r1", (200, RUN))
    assert cli.run(["runs", "show", "r1", "--watch", "--timeout", "0"]) == Exit.WAITED_TOO_LONG
    assert "it goes on" in capsys.readouterr().err


def test_a_watched_list_ends_with_its_runs(
    api: Stub, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is shown again when it changed, until no run of it is unfinished."""
    monkeypatch.setattr("ops.commands.LIST_POLL_S", 0.01)
    pages = [{"items": [RUN], "next_cursor": None}, {"items": [{**RUN, "status": "FAILED"}], "next_cursor": None}]
    api.on("GET /api/v1/runs", *((200, page) for page in pages))
    assert cli.run(["runs", "list", "--watch"]) == Exit.ENDED_BADLY
    assert capsys.readouterr().out.count("r1") == 2


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (problem("run_unknown", 404), Exit.NOT_FOUND),
        (problem("parameter_invalid", 400), Exit.USAGE),
        (problem("position_not_reached", 503), Exit.WAITED_TOO_LONG),
        (problem("store_away", 503), Exit.SERVER_AWAY),
        ((500, "no problem at all"), Exit.SERVER_AWAY),
    ],
)
def test_a_refusal_of_the_api_becomes_an_exit_code(
    api: Stub, answer: tuple[int, Any], code: Exit, capsys: pytest.CaptureFixture[str]
) -> None:
    """The message goes to standard error, nothing to standard output."""
    api.on("GET /api/v1/runs/r1", answer)
    assert cli.run(["runs", "show", "r1"]) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("workflow: ")


def test_a_problem_shows_every_place_and_the_request_id(api: Stub, capsys: pytest.CaptureFixture[str]) -> None:
    """What is wrong at which field, and what to ask the operators with."""
    errors = [{"pointer": "/steps/0/name", "detail": "too long", "limit": 64}]
    api.on("GET /api/v1/runs/r1", problem("body_invalid", 422, errors=errors))
    cli.run(["runs", "show", "r1"])
    assert capsys.readouterr().err.splitlines() == [
        "workflow: said body_invalid",
        "  /steps/0/name: too long",
        "  (request q7)",
    ]


def test_an_api_that_is_away_is_told_with_its_address(
    api: Stub, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """One line with what to do."""
    monkeypatch.setenv("WORKFLOW_URL", f"http://127.0.0.1:{free_port()}")
    assert cli.run(["runs", "list"]) == Exit.SERVER_AWAY
    assert "workflow up" in capsys.readouterr().err


def test_watching_outlives_a_restart_of_the_api(api: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    """An API that is away for a moment is waited for."""
    monkeypatch.setattr(watch, "POLL_MAX_S", 0.01)
    api.on("GET /api/v1/runs/r1", problem("store_away", 503), (200, {**RUN, "status": "SUCCESS"}))
    assert cli.run(["runs", "show", "r1", "--watch"]) == Exit.GOOD


@pytest.mark.parametrize(
    ("variables", "args", "said"),
    [
        ({"STORAGE_BACKEND": "tape"}, ["worker"], "STORAGE_BACKEND='tape'"),
        ({"STORAGE_BACKEND": "tape"}, ["up"], "STORAGE_BACKEND='tape'"),
        ({"KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1"}, ["worker"], "set KAFKA_BOOTSTRAP_SERVERS"),
        ({"KAFKA_BOOTSTRAP_SERVERS": "127.0.0.1:1"}, ["up"], "set KAFKA_BOOTSTRAP_SERVERS"),
        ({"KAFKA_BOOTSTRAP_SERVERS": "kafka"}, ["projector"], "set KAFKA_BOOTSTRAP_SERVERS"),
        ({"WEBHOOK_ALLOW": "10.1.2.3/8"}, ["up"], "WEBHOOK_ALLOW='10.1.2.3/8'"),
        ({"WEBHOOK_PROXY": "http://:pass@"}, ["up"], "WEBHOOK_PROXY='***'"),
        ({"WORKFLOW_SECRETS_DIR": "/no/such/folder"}, ["up"], "WORKFLOW_SECRETS_DIR='/no/such/folder'"),
    ],
)
def test_a_bad_setting_stops_the_start_with_one_line(
    api: Stub,
    variables: dict[str, str],
    args: list[str],
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Exit code 2 and what to change."""
    for name, value in variables.items():
        monkeypatch.setenv(name, value)
    assert cli.run(args) == Exit.USAGE
    err = capsys.readouterr().err
    assert said in err
    assert len(err.splitlines()) == 1


@pytest.mark.parametrize("args", [["up", "--port"], ["api", "--port"], ["up", "--echo-port"]])
def test_a_port_in_use_stops_the_start(
    api: Stub, args: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A port that was asked for is not silently another one."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen()
        assert cli.run([*args, str(server.getsockname()[1])]) == Exit.USAGE
    assert f"in use by {psutil.Process().name()}" in capsys.readouterr().err


def test_ps_without_a_platform_says_so(api: Stub, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 5 and how to start one."""
    assert cli.run(["ps", "-o", "json"]) == Exit.SERVER_AWAY
    assert "workflow up" in capsys.readouterr().err


@pytest.mark.parametrize("args", [["--help"], *([name, "--help"] for name in root.commands)])
def test_every_command_explains_itself(args: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    """`--help` works everywhere and ends well."""
    assert cli.run(args) == Exit.GOOD
    assert "Usage: workflow" in capsys.readouterr().out


@pytest.mark.parametrize("args", [["dance"], ["runs", "show"], ["trigger", "hello", "-o", "xml"]])
def test_a_wrong_call_is_a_usage_error(args: list[str]) -> None:
    """Exit code 2, as everywhere."""
    assert cli.run(args) == Exit.USAGE
