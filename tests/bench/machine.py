"""Where and with what a figure was measured."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import psutil

from ops.embedded.jars import kafka_version
from ops.embedded.postgres import binaries

PACKAGES: Final = ("aiokafka", "asyncpg", "faust-streaming", "fastapi", "orjson", "pydantic", "uvicorn", "uvloop")


def describe(data: Path) -> dict[str, Any]:
    """Machine, versions and date. `data`: the folder in which the servers write."""
    return {
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
        "commit": _commit(),
        "machine": {
            "processor": _processor(),
            "cores": os.cpu_count(),
            "memory_gib": round(psutil.virtual_memory().total / 2**30, 1),
            "system": f"{platform.system()} {platform.release()}",
            "filesystem": _filesystem(data),
        },
        "versions": {
            "python": platform.python_version(),
            "kafka": kafka_version(),
            "postgresql": _output(str(binaries() / "postgres"), "--version").rpartition(" ")[2],
            **{package: version(package) for package in PACKAGES},
        },
    }


def load_average() -> float:
    """Of the last minute: how many processes wanted a core."""
    return os.getloadavg()[0]


class Others:
    """How much CPU processes outside the measurement used: that of the whole machine less what is accounted for."""

    def __init__(self) -> None:
        self._busy_s, self._at = _busy_s(), time.monotonic()

    def cores(self, own_cpu_s: float) -> float:
        """Cores that they kept busy on average since this was made; our own processes used `own_cpu_s`."""
        return max(0.0, (_busy_s() - self._busy_s - own_cpu_s) / (time.monotonic() - self._at))


def _busy_s() -> float:
    times = psutil.cpu_times()
    return float(sum(times) - times.idle - getattr(times, "iowait", 0.0) - getattr(times, "guest", 0.0))


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except FileNotFoundError:
        return platform.processor() or platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())


def _filesystem(folder: Path) -> str:
    """Of the longest mount point above the folder: on one in memory, fsync costs nothing."""
    folder = folder.resolve()
    mounts = [part for part in psutil.disk_partitions(all=True) if folder.is_relative_to(part.mountpoint)]
    return max(mounts, key=lambda part: len(part.mountpoint)).fstype if mounts else "unknown"


def _commit() -> str:
    return _output("git", "describe", "--always", "--dirty", "--abbrev=12") or "unknown"


def _output(*command: str) -> str:
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=10, cwd=Path(__file__).parent)
    return done.stdout.strip()
