"""What a projector does for rebuilds: it begins the one that its release needs, and lends a process to any of its release."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import subprocess
import time
from pathlib import Path
from typing import Final

from ops.parts import environment, joining
from ops.reaper import Reaper
from projections.board import Rebuild
from projections.rebuild import RebuildOfAnother, request
from projections.rows import PROJECTION_VERSION, REPLACE_ME
from projections.tables import Tables
from schemas.errors import StoreAway
from schemas.settings import Settings
from streams.secret_values import without_secrets

log = logging.getLogger(__name__)

LOOK_S: Final = 1.0
AGAIN_S: Final = 15.0
"""After a process that broke off, before the next one."""
FAILED_S: Final = 60.0
"""After a rebuild that has failed, before this release begins another one."""
STOP_S: Final = 10.0
NICENESS: Final = 10
"""The tables that serve go first."""


def is_needed(stands: int | None, last: Rebuild | None, now_s: float) -> bool:
    """Whether this release is to begin a rebuild of tables that hold the projection `stands`. What an operator has
    cancelled is not begun again; what a newer release does is its own."""
    if stands is None or stands >= PROJECTION_VERSION:
        return False
    if last is None or last.version < PROJECTION_VERSION or last.phase == "done":
        return True
    if last.version > PROJECTION_VERSION:
        return last.ended
    return last.phase == "failed" and now_s - (last.ended_s or now_s) > FAILED_S


class Rebuilding:
    """Beside the projector, for as long as it lives."""

    def __init__(self, settings: Settings, store: Tables) -> None:
        self._settings, self._store = settings, store
        self._helper = _Helper(settings)
        self._said: str | None = None
        self._ours = asyncio.Event()
        self.waits = "it has not looked at the tables yet"
        """why this process projects nothing yet, where the tables are not of its release"""

    async def run(self) -> None:
        """Look at the tables and their board again and again, until cancelled."""
        try:
            while True:
                try:
                    await self._look()
                except StoreAway as away:
                    self._say(away.message)
                await asyncio.sleep(LOOK_S)
        finally:
            await self._helper.stop()

    async def until_ours(self, stop: asyncio.Event) -> None:
        """Wait until the tables hold this release's projection: a member that cannot write must not hold partitions."""
        either = [asyncio.ensure_future(event.wait()) for event in (self._ours, stop)]
        await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
        for waiting in either:
            waiting.cancel()

    async def _look(self) -> None:
        stands = await self._store.projection_version()
        if stands in (None, PROJECTION_VERSION):
            self._ours.set()
        last, now_s = await self._store.board().look()
        if is_needed(stands, last, now_s):
            with contextlib.suppress(RebuildOfAnother):
                last = await request(self._store, f"the release of projection {PROJECTION_VERSION}")
                log.info("the tables hold projection %s: they are made anew as %d", stands, PROJECTION_VERSION)
        if stands is not None and stands != PROJECTION_VERSION:
            self.waits = _wait_of(stands, last)
            self._say(self.waits.partition(":")[0])
        if last is not None and not last.ended and last.version == PROJECTION_VERSION and wants_help(last, now_s):
            await self._helper.lend(last.id)

    def _say(self, what: str) -> None:
        if what != self._said:
            log.warning("%s", what)
            self._said = what


def wants_help(rebuild: Rebuild, now_s: float) -> bool:
    """Whether a projector is to lend a process: one of a low priority beside those of an operator would hold partitions back."""
    return rebuild.helped or (now_s - rebuild.started_s > AGAIN_S and not rebuild.is_worked_on(now_s))


def _wait_of(stands: int, last: Rebuild | None) -> str:
    """Why nothing can be projected into tables of another projection."""
    holds = f"the tables hold projection {stands}, this release makes {PROJECTION_VERSION}"
    if stands > PROJECTION_VERSION:
        return f"{holds}. {REPLACE_ME}"
    if last is None or last.ended:
        return f"{holds}, and its rebuild was {last.phase if last else 'not begun'}. `workflow rebuild` begins it"
    return f"{holds}, and they are made anew: {last.phase}, {last.done} of {last.total} events"


class _Helper:
    """The process that takes part: the projector's own loop stays free for the tables that serve."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._process: subprocess.Popen[bytes] | None = None
        self._reaper = Reaper()
        self._not_before = 0.0

    async def lend(self, rebuild_id: str) -> None:
        """See that one runs, unless WORKFLOW_REBUILD_HELPS is off."""
        if not self._settings.workflow_rebuild_helps or self._runs() or time.monotonic() < self._not_before:
            return
        self._not_before = time.monotonic() + AGAIN_S
        self._process = await asyncio.to_thread(self._start, rebuild_id)

    def _runs(self) -> bool:
        if self._process is None:
            return False
        if self._process.poll() is None:
            return True
        self._reaper.release(self._process.pid)
        if self._process.returncode == 0:
            self._not_before = 0.0
        self._process = None
        return False

    def _start(self, rebuild_id: str) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [*joining(rebuild_id), "--nice", str(NICENESS)],
            stdin=subprocess.DEVNULL,
            env=without_secrets(environment(self._settings)),
            cwd=Path.cwd(),
            start_new_session=True,
        )
        self._reaper.adopt(process.pid, signal.SIGINT)
        return process

    async def stop(self) -> None:
        if self._runs() and self._process is not None:
            self._process.send_signal(signal.SIGINT)
            await asyncio.to_thread(self._wait, self._process)
        await asyncio.to_thread(self._reaper.close)

    def _wait(self, process: subprocess.Popen[bytes]) -> None:
        try:
            process.wait(STOP_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        self._reaper.release(process.pid)
