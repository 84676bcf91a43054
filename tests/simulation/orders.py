"""What clients ask for in a simulation: starts, the same id again, cancels, commands away from home, what cannot be read."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Any, Final

from schemas.commands import CancelRun
from tests.simulation.world import Cluster

Order = dict[str, Any]
"""`do`: start (run, n, at), cancel (run, id) or raw (value, at); `at` is the partition where the command is put, null for its home."""

UNREADABLE: Final = ("", "{", '{"workflow_id": 1}', '{"workflow_id": "unknown"}', '{"workflow_id": "w"}')
TIME: Final = "2026-01-01T00:00:00.000Z"


def draw(rng: Random, partitions: int) -> list[Order]:
    """A client's orders, in the order in which they will be put."""
    orders: list[Order] = []
    for index in range(rng.randint(1, 5)):
        run = f"r{index}"
        orders.append({"do": "start", "run": run, "n": index, "at": rng.choice((None, rng.randrange(partitions)))})
        while rng.random() < 0.5:
            orders.append({"do": "start", "run": run, "n": index, "at": None})
        if rng.random() < 0.2:
            orders.append({"do": "cancel", "run": run, "id": f"x{index}"})
    raw = [value for value in UNREADABLE if rng.random() < 0.2]
    orders += [{"do": "raw", "value": value, "at": rng.randrange(partitions)} for value in raw]
    rng.shuffle(orders)
    return orders


def accepted(orders: Sequence[Order]) -> dict[str, dict[str, Any]]:
    """The runs that must be: id → payload."""
    return {order["run"]: {"n": order["n"]} for order in orders if order["do"] == "start"}


def put(cluster: Cluster, order: Order) -> None:
    match order["do"]:
        case "start":
            cluster.trigger(order["run"], order["at"], {"n": order["n"]})
        case "cancel":
            cluster.put(CancelRun(order["id"], order["run"], "enough", TIME))
        case "raw":
            cluster.put_raw(order["at"], order["value"].encode())
        case other:
            raise ValueError(f"order: there is no {other!r}")
