"""A worker that its group has forgotten ends, and only such a one."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import Any, cast

import pytest

from ops import worker as module
from ops.errors import PartitionsNotOwned
from schemas.errors import BadSetting
from schemas.settings import Settings
from schemas.store import Mark, Snapshot
from streams.partition import Partition
from streams.worker import Worker


def given(position: int = 5, end: int | None = 5, *, up: bool = True, **more: Any) -> Worker:
    """A worker that was given partition 3, stands at `position`, and owns nothing."""
    part = Partition(3, 8)
    part.assign("token", 0, position)
    part.load(Snapshot(Mark(position, 1, "", ""), []))
    part.end = end
    engine = SimpleNamespace(partitions={3: part})
    parts = SimpleNamespace(outlet=SimpleNamespace(up=up))
    return cast("Worker", SimpleNamespace(engine=engine, parts=parts, **{"mismatches": {}, "store_waits": {}, **more}))


def test_a_partition_that_is_read_to_its_end_could_be_owned() -> None:
    """Also when nobody ever told where the end is."""
    assert module.unowned(given()) == {3}
    assert module.unowned(given(end=None)) == {3}


@pytest.mark.parametrize(
    "one",
    [given(end=6), given(up=False), given(mismatches={3: "another log"}), given(store_waits={3: "away"})],
    ids=["still reading", "no broker", "another log", "no store"],
)
def test_there_are_good_reasons_not_to_own_it(one: Worker) -> None:
    """Each of them is shown elsewhere and ends by itself."""
    assert module.unowned(one) == set()


def test_an_owner_and_a_partition_given_away_are_no_matter() -> None:
    """Nothing is lacking there."""
    one = given()
    one.engine.partitions[3].mine = one.engine.partitions[3].epoch
    assert module.unowned(one) == set()
    one.engine.partitions[3].release()
    assert module.unowned(one) == set()


async def test_the_process_ends_when_it_lasts(monkeypatch: pytest.MonkeyPatch) -> None:
    """A partition that came and went starts its count anew; one that stays without an owner ends the wait."""
    monkeypatch.setattr(module, "OWNERSHIP_S", 0.01)
    with pytest.raises(PartitionsNotOwned, match="partitions \\[3\\]"):
        await asyncio.wait_for(module.watch_ownership(given(), 0.05), 10)
    owner = given(end=6)
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(module.watch_ownership(owner, 0.05), 0.2)


@pytest.mark.parametrize(
    ("setting", "value"),
    [("webhook_allow", "http://x"), ("webhook_proxy", "socks5://x:1"), ("workflow_secrets_dir", "/no/such/folder")],
)
async def test_a_setting_of_webhooks_that_cannot_be_used_stops_the_start(setting: str, value: str) -> None:
    """Before anything is connected to, with the setting's name; the process ends with exit code 2."""
    settings = Settings.model_validate({setting: value})
    with pytest.raises(BadSetting, match=setting.upper()):
        await asyncio.wait_for(module.worker(settings, asyncio.Event()), 10)
