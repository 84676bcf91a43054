"""What processes cost: CPU seconds and resident memory, by role."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import psutil

from ops.home import Process


@dataclass(frozen=True, slots=True)
class Usage:
    """Of all processes of each role: CPU seconds since they were started, resident bytes now."""

    cpu_s: dict[str, float]
    memory_bytes: dict[str, int]


def usage(processes: Iterable[Process]) -> Usage:
    """Children count with their parents, those that have ended as well."""
    cpu_s: dict[str, float] = {}
    memory_bytes: dict[str, int] = {}
    for process in processes:
        tree = _tree(process.pid)
        cpu_s[process.role] = cpu_s.get(process.role, 0.0) + _cpu_s(tree)
        memory_bytes[process.role] = memory_bytes.get(process.role, 0) + _memory_bytes(tree)
    return Usage(cpu_s, memory_bytes)


def resident_bytes(pid: int) -> int:
    """RSS of one process without its children."""
    return int(psutil.Process(pid).memory_info().rss)


def _tree(pid: int) -> list[psutil.Process]:
    parent = psutil.Process(pid)
    return [parent, *parent.children(recursive=True)]


def _cpu_s(tree: list[psutil.Process]) -> float:
    total = 0.0
    for process in tree:
        try:
            times = process.cpu_times()
        except psutil.NoSuchProcess:  # it ended meanwhile: its parent has its time
            continue
        total += (
            times.user + times.system + getattr(times, "children_user", 0.0) + getattr(times, "children_system", 0.0)
        )
    return total


def _memory_bytes(tree: list[psutil.Process]) -> int:
    """RSS of a single process; of a tree the sum of shares, because PostgreSQL's processes have most pages in common."""
    if len(tree) == 1:
        return int(tree[0].memory_info().rss)
    total = 0
    for process in tree:
        try:
            full = process.memory_full_info()
        except (psutil.NoSuchProcess, psutil.AccessDenied):
            continue
        total += int(getattr(full, "pss", full.rss))
    return total
