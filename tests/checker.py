"""The judge of histories: raw records in, violations out. It knows docs/events.md and none of the product's code.

What evidence is not given is not judged. I1 accepted runs, I2 epochs and chains, I3 one home per run, I4 one end, I5 attempts,
I6 order and due times, I8 announcements, I9 tables, I11 payloads, I12 nothing vanishes, I14 bounded waste. I7, I10, I13 and
more of I1 are judged in checker_clients.py, by what receivers, clients and processes have noted.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from tests.reader import Raw, Reader

Topics = Mapping[str, Mapping[int, Sequence[Raw]]]
"""Name without prefix → partition → all its records."""
Fact = tuple[dict[str, Any], Raw]


class Judge:
    """Reads the log of all partitions; every `check` adds to `violations`. `counts`: facts by type, orphans by reason;
    `homes`: run → partition; `owners`: partition and epoch → worker."""

    def __init__(self, topics: Topics, *, ended: bool = True) -> None:
        """`ended`: rest was reached, so that every run has its end."""
        self.topics, self.violations, self.counts = topics, list[str](), Counter[str]()
        self.runs, self.tips = dict[str, list[Fact]](), dict[str, tuple[int, str | None, bool]]()
        self.homes, self.owners = dict[str, int](), dict[tuple[int, int], str]()
        for number, records in topics["workflow.events"].items():
            self._read(number, records)
        for run, facts in self.runs.items():
            self._check_run(run, facts, ended)

    def bad(self, wrong: object, text: str) -> None:
        self.violations += [text] if wrong else []

    def _read(self, number: int, records: Sequence[Raw]) -> None:
        reader = Reader(number, len(self.topics["workflow.events"]))
        for at, record in enumerate(records):
            self.bad(record.offset != at, f"I12 workflow.events/{number}: {record.offset} stands where {at} should")
            verdict, event = reader.take(record.value), reader.event
            name = f"orphan {verdict}" if verdict else event["type"]
            self.counts.update([name, "orphans"] if verdict else [name])
            self.bad(
                verdict == "extends an end", f"I4 {number}/{at} is written after the end of {event.get('subject')}"
            )
            if not verdict and name != "PartitionTaken":
                self.bad(record.key != event["subject"].encode(), f"I3 {event['subject']} has the key {record.key!r}")
                self.runs.setdefault(event["subject"], []).append((event, record))
                self.homes[event["subject"]] = number
            elif not verdict:
                self.owners[number, event["epoch"]] = event["data"]["worker"]
        self.tips |= reader.tips

    def _check_run(self, run: str, facts: list[Fact], ended: bool) -> None:
        """I4, I5, I6: attempts 1, 2, 3 … of each step in turn, each with one end; nothing before it was due."""
        first = facts[0][0]
        self.bad(first["type"] != "RunRequested", f"I4 {run} begins with {first['type']}")
        self.bad(ended and not self.tips[run][2], f"I4 {run} has no end")
        names = [step["name"] for step in (first["data"].get("definition") or {"steps": []})["steps"]]
        done, number, opened, due_ms = 0, 0, False, 0.0
        for event, record in facts[1:]:
            type_, data, where = event["type"], event["data"], f"{run}:{event['seq']} {event['type']}"
            if type_ == "RunCompleted":
                good = {"SUCCESS": done == len(names) and not data["error"], "FAILED": bool(data["error"])}
                self.bad(not good.get(data["status"], True), f"I6 {where}: {data['status']} after {done} steps")
                self.bad(opened and data["status"] != "CANCELLED", f"I5 {where}: attempt {number} has no end")
                continue
            self.bad(
                data.get("step") not in names[done : done + 1], f"I6 {where}: {data.get('step')} is not the next step"
            )
            starts = type_ == "StepStarted"
            expected = number + starts if starts or opened else 0
            wrong = data.get("attempt") != expected or (starts and opened)
            self.bad(wrong, f"I5 {where}: attempt {data.get('attempt')} after {number}")
            early = starts or type_ == "StepSucceeded"
            self.bad(early and record.timestamp < int(due_ms), f"I6 {where}: {due_ms - record.timestamp} ms early")
            due_ms = datetime.fromisoformat(data["until"]).timestamp() * 1000 if "until" in data else 0.0
            opened, number = starts, expected
            if type_ == "StepSucceeded":
                done, number = done + 1, 0

    def check_accepted(self, accepted: Mapping[str, Any]) -> None:
        """I1 and I11. `accepted`: run id → payload, of each 202."""
        for run, payload in accepted.items():
            self.bad(run not in self.runs, f"I1 {run} was accepted and never began")
            found = self.runs[run][0][0]["data"]["payload"] if run in self.runs else payload
            self.bad(text(found) != text(payload), f"I11 {run} has the payload {text(found)}, not {text(payload)}")

    def check_announcements(self, foreign: bytes | None = None) -> None:
        """I8: every end, at least once, as the log has it. `foreign`: the key of records that are somebody else's."""
        ends = {run: facts[-1][1].value for run, facts in self.runs.items() if self.tips[run][2]}
        told: dict[str, set[bytes | None]] = defaultdict(set)
        for record in (
            each for log in self.topics["workflow.completed"].values() for each in log if each.key != foreign
        ):
            told[(record.key or b"").decode()].add(record.value)
        for run in ends.keys() | told.keys():
            self.bad(told.get(run) != {ends.get(run)}, f"I8 {run} was announced {len(told[run])} ways, not as it ended")

    def check_rows(self, rows: Mapping[str, Mapping[str, Any]]) -> None:
        """I9. `rows`: run id → columns among `status seq digest results payload`."""
        for run in self.runs.keys() | rows.keys():
            truth, row = self.columns(run) if run in self.runs else {}, rows.get(run, {})
            wrong = not row or any(text(row[name]) != text(truth.get(name)) for name in row)
            self.bad(wrong, f"I9 {run}: {row}, not {truth}")

    def columns(self, run: str) -> dict[str, Any]:
        """What a table should say of a run."""
        events, (seq, digest, done) = [event for event, _ in self.runs[run]], self.tips[run]
        started = any(event["type"] == "StepStarted" for event in events)
        status = events[-1]["data"]["status"] if done else "RUNNING" if started else "PENDING"
        results = {e["data"]["step"]: e["data"]["output"] for e in events if e["type"] == "StepSucceeded"}
        payload = events[0]["data"]["payload"]
        return {"status": status, "seq": seq, "digest": digest, "results": results, "payload": payload}

    def check_nothing_vanished(self, earlier: Topics) -> None:
        """I12. `earlier`: the same topics at an earlier moment."""
        for topic, number, was in ((t, n, was) for t, numbers in earlier.items() for n, was in numbers.items()):
            self.bad([*self.topics[topic][number]][: len(was)] != [*was], f"I12 {topic}/{number} is not what it was")

    def check_waste(self, orphans_max: int) -> None:
        """I14."""
        self.bad(self.counts["orphans"] > orphans_max, f"I14 {self.counts['orphans']} orphans, more than {orphans_max}")


def text(value: Any) -> str:
    """Equal for values that are equal as JSON."""
    return json.dumps(value, sort_keys=True)
