"""The engine apart from its traps: runs, starts, cancels, commands that belong elsewhere or nowhere."""

from __future__ import annotations

import json
from typing import Any

import pytest

from schemas.commands import CancelRun
from schemas.identity import home
from streams.decider import Start
from tests.given import REFUSED, delay, passing, webhook, workflow
from tests.simulation.play import WHOLE, Play, part

TIME = "2026-01-01T00:00:00.000Z"


def started(**kwargs: Any) -> Play:
    """A run whose effect is being carried out."""
    play = Play(**kwargs)
    play.trigger("r1")
    play.go()
    return play


def cancel(play: Play, run_id: str = "r1") -> None:
    play.put(CancelRun(f"x-{run_id}", run_id, "enough", TIME))


def last(play: Play, number: int = 0) -> dict[str, Any]:
    """The newest record of the log."""
    found: dict[str, Any] = json.loads(play.log[number][-1].value or b"")
    return found


# ── a run ──


def test_a_run_from_start_to_end() -> None:
    """One append starts it, one ends it; the end is announced and both offsets move past it."""
    play = started(definition=workflow(webhook("a"), delay("b", 0)))
    play.a.end_effect("r1")
    play.go()
    assert play.types() == [*WHOLE[:3], "StepStarted", *WHOLE[2:]]
    assert (play.told(), last(play)["data"]["status"]) == (["r1"], "SUCCESS")
    play.a.commit()
    assert play.committed[0] == (1, len(play.log[0]))


def test_events_name_their_cause_and_actor() -> None:
    """The first events of a run say which command led to them."""
    play = started()
    requested = json.loads(play.log[0][1].value or b"")
    assert requested["cause"] == "workflow.trigger/0/0"


def test_a_retry_waits_for_its_time() -> None:
    """The next attempt starts when its time has come, by a timer."""
    play = started()
    play.a.end_effect("r1", passing(after_s=30))
    play.go()
    assert play.a.engine.next_due() == play.clock + 30
    play.tick(29)
    play.go()
    assert play.a.effects == {}
    play.tick(1)
    play.go()
    assert play.a.effects == {"r1": (0, 2)}


def test_a_failure_ends_the_run() -> None:
    """The end says FAILED, and why."""
    play = started()
    play.a.end_effect("r1", REFUSED)
    play.go()
    assert (last(play)["data"]["status"], last(play)["data"]["error"]["code"]) == ("FAILED", "http_400")


def test_values_that_come_later() -> None:
    """A step with expressions starts when their values are there; they are asked for once."""
    play = Play(workflow(webhook(config={"url": "http://x/${payload.n}"})))
    play.trigger("r1")
    play.a.take(0)
    play.a.slow_values = True
    play.go(take=False)
    assert json.loads(play.log[0][-1].value or b"")["data"]["input"] == {"url": "http://x/0"}
    assert play.types() == WHOLE[:2]


# ── commands ──


def test_a_cancel_drops_the_effect() -> None:
    """The run ends CANCELLED at once; what was carried out for it is given up."""
    play = started()
    cancel(play)
    play.go()
    assert (play.types(), play.a.effects) == ([*WHOLE[:2], "RunCompleted"], {})
    assert last(play)["cause"] == "workflow.trigger/0/1"
    play.a.commit()
    assert play.committed[0][0] == 2


def test_a_cancel_waits_behind_its_start() -> None:
    """Taken in one batch with the start, it is decided when the run exists."""
    play = Play()
    play.trigger("r1")
    cancel(play)
    play.go()
    assert play.types() == ["RunRequested", "StepStarted", "RunCompleted"]
    assert play.a.effects == {}


def test_a_cancel_of_a_finished_run() -> None:
    """It comes too late and changes nothing; nobody is told of a mistake."""
    play = started()
    play.a.end_effect("r1")
    play.go()
    cancel(play)
    play.go()
    play.cover()
    play.tick(1)
    play.go()
    cancel(play)
    play.go()
    assert (play.types(), part(play.a).held, play.passed_on) == (WHOLE, {}, {})


def test_a_cancel_of_nothing() -> None:
    """It is set aside with the reason, and settled when that stands in its topic."""
    play = Play()
    cancel(play, "unheard-of")
    play.go(play.a)
    assert "no run 'unheard-of'" in play.passed_on[0, 0]
    play.a.commit()
    assert play.committed[0][0] == 1


@pytest.mark.parametrize("value", [b"", b"{", b'{"workflow_id": 5}', b'{"type": []}'])
def test_a_message_that_cannot_be_read(value: bytes) -> None:
    """It is set aside with the reason, and the partition goes on."""
    play = Play()
    play.put_raw(0, value)
    play.trigger("r1")
    play.go()
    assert list(play.passed_on) == [(0, 0)]
    assert play.types() == WHOLE[:2]


def test_a_command_away_from_home() -> None:
    """It is sent home under its id, and settled here when it stands there."""
    play = Play(partitions=4)
    at = home("r1", 4)
    play.trigger("r1", (at + 1) % 4)
    play.go()
    assert (play.passed_on, play.types()) == ({((at + 1) % 4, 0): "sent home"}, WHOLE[:2])


def test_an_unknown_workflow() -> None:
    """The start is a run that fails, not a message that is lost."""
    play = Play()
    play.put_raw(0, b'{"workflow_id": "unknown"}')
    play.go()
    assert (last(play)["type"], last(play)["data"]["error"]["code"]) == ("RunCompleted", "definition_unknown")


def test_a_definition_that_is_not_known_yet() -> None:
    """The start waits, and is asked about again with time."""
    play = Play()
    play.a.slow = True
    play.trigger("r1")
    play.go()
    assert list(part(play.a).held) == [0]
    play.a.slow = False
    play.go()
    assert play.types() == WHOLE[:2]


def test_a_definition_that_this_release_cannot_run(monkeypatch: pytest.MonkeyPatch) -> None:
    """The start is a run that fails with `definition_invalid`."""
    play = Play()
    monkeypatch.setattr(play.a, "resolve", lambda _n, _o, command: Start(command, 1, {"steps": [{}]}, None))
    play.trigger("r1")
    play.go()
    assert (last(play)["type"], last(play)["data"]["error"]["code"]) == ("RunCompleted", "definition_invalid")
