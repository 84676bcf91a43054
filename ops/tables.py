"""What people read: rows in columns, and a run's events as lines."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Final

DETAIL_CHARS_MAX: Final = 160
GAP: Final = "  "

Event = Mapping[str, Any]


def columns(names: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A header and one line for each row, aligned; nothing is cut."""
    lines = [[name.upper() for name in names], *([_cell(value) for value in row] for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(names))]
    return "\n".join(
        GAP.join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def _cell(value: object) -> str:
    return "-" if value is None else " ".join(str(value).split())


def workflow_rows(workflows: Iterable[Mapping[str, Any]]) -> str:
    return columns(
        ("id", "version", "name", "steps", "defined"),
        ((w["id"], w["version"], w.get("name"), len(w["steps"]), w["defined_at"]) for w in workflows),
    )


def run_rows(runs: Iterable[Mapping[str, Any]]) -> str:
    return columns(
        ("run", "workflow", "version", "status", "now", "created", "took", "error"),
        (
            (
                r["run_id"],
                r["workflow_id"],
                r["version"],
                r["status"],
                now(r),
                r["created_at"],
                took(r),
                message(r["error"]),
            )
            for r in runs
        ),
    )


def key_rows(keys: Iterable[Mapping[str, Any]]) -> str:
    return columns(
        ("id", "name", "scopes", "rate", "created", "revoked"),
        ((k["id"], k["name"], ",".join(k["scopes"]), k["rate"], k["created_at"], k["revoked_at"]) for k in keys),
    )


def now(run: Mapping[str, Any]) -> str | None:
    """What an unfinished run does."""
    if run["finished_at"] is not None:
        return None
    if run.get("set_aside"):
        return f"set aside: {run['set_aside']}"
    step = next((step for step in run["steps"] if step["status"] in ("RUNNING", "RETRYING")), None)
    if step is None:
        return None
    doing = f"step {step['name']}, attempt {step['attempts']}"
    return f"{doing}, due {step['due_at']}" if step["due_at"] else doing


def took(run: Mapping[str, Any]) -> str | None:
    """How long a finished run took, from its start."""
    since = run["started_at"] or run["created_at"]
    return None if run["finished_at"] is None else span(seconds_between(since, run["finished_at"]))


def run_page(run: Mapping[str, Any]) -> str:
    """One run: its head, then its steps."""
    head = [("run", run["run_id"]), ("workflow", f"{run['workflow_id']} version {_cell(run['version'])}")]
    head += [("status", run["status"]), ("created", run["created_at"]), ("started", run["started_at"])]
    head += [("finished", run["finished_at"]), ("took", took(run)), ("now", now(run)), ("error", message(run["error"]))]
    lines = [f"{name:<9} {_cell(value)}" for name, value in head if value is not None]
    steps = (
        (s["name"], s["type"], s["status"], s["attempts"], s["started_at"], s["finished_at"]) for s in run["steps"]
    )
    return "\n".join([*lines, "", columns(("step", "type", "status", "attempts", "started", "finished"), steps)])


def why_page(why: Mapping[str, Any]) -> str:
    """The reason as a sentence, then what it is made of."""
    worker = why["worker"]
    attempt = None if why["attempt"] is None else f"{why['attempt']} of {why['max_attempts']}"
    member = f"{worker['member']} at {worker['host']}" if worker["member"] else worker["state"]
    head = [("code", why["code"]), ("step", why["step"]), ("attempt", attempt)]
    head += [(name.replace("_", " "), why[name]) for name in ("since", "until", "next_event", "before", "partition")]
    head += [("worker", member), ("tables behind", why["tables_behind"]), ("error", message(why["error"]))]
    lines = [f"{name:<13} {_cell(value)}" for name, value in head if value is not None]
    return "\n".join([why["reason"], "", *lines])


def event_line(event: Event, before: Event | None) -> str:
    """`09:30:00.125  +0.004 s  StepSucceeded  greet  status 200`"""
    since = "" if before is None else _since(before["time"], event["time"])
    data = event["data"] if isinstance(event["data"], dict) else {}
    line = (
        f"{str(event['time'])[11:23]}  {since:>10}  {event['type']:<18}  {data.get('step', '')!s:<12}  {detail(event)}"
    )
    return line.rstrip()


def _since(earlier: str, later: str) -> str:
    try:
        return f"+{seconds_between(earlier, later):.3f} s"
    except (TypeError, ValueError):
        return ""


def detail(event: Event) -> str:
    """The one thing about an event that people look for; of one that no release of ours wrote there may be none."""
    try:
        text = _detail(event["type"], event["data"])
    except (KeyError, TypeError, AttributeError):
        text = "it has not the fields of its type"
    short = " ".join((text or "").split())
    return short if len(short) <= DETAIL_CHARS_MAX else short[: DETAIL_CHARS_MAX - 1] + "…"


def _detail(type_: str, data: Mapping[str, Any]) -> str | None:
    text: str | None
    match type_:
        case "RunRequested":
            text = (
                message(data["refused"])
                if "refused" in data
                else f"{data['workflow_id']} version {_cell(data['version'])}"
            )
        case "StepStarted":
            text = f"attempt {data['attempt']}" + (f", until {data['until'][11:23]}" if "until" in data else "")
        case "StepSucceeded":
            output = data["output"]
            text = f"status {output['status']}" if isinstance(output, dict) and "status" in output else ""
        case "StepFailed":
            text = message(data["error"])
        case "StepRetryScheduled":
            text = f"attempt {data['attempt']}: {message(data['error'])}; next at {data['until'][11:23]}"
        case "StepInterrupted":
            text = f"attempt {data['attempt']}: its worker is gone"
        case "RunCompleted":
            text = data["status"] + (f": {message(data['error'])}" if data["error"] else "")
        case _:
            text = ""
    return text


def message(error: Mapping[str, Any] | None) -> str | None:
    """`pay: 503 from the receiver (http_status)`"""
    if error is None:
        return None
    place = f"{error['step']}: " if "step" in error else ""
    return f"{place}{error['message']} ({error['code']})"


def seconds_between(earlier: str, later: str) -> float:
    """Two instants in RFC 3339."""
    return (datetime.fromisoformat(later) - datetime.fromisoformat(earlier)).total_seconds()


def span(seconds: float) -> str:
    """`0.125 s`, `4 min 05 s`, `3 h 20 min`, `2 d 03 h`"""
    if seconds < 60:
        return f"{seconds:.3f} s"
    if seconds < 3600:
        return f"{seconds // 60:.0f} min {seconds % 60:02.0f} s"
    if seconds < 86_400:
        return f"{seconds // 3600:.0f} h {seconds % 3600 // 60:02.0f} min"
    return f"{seconds // 86_400:.0f} d {seconds % 86_400 // 3600:02.0f} h"
