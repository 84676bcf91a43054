"""Check a run's proof, with nothing but Python: python check_proof.py PAGE.json… (GET /api/v1/runs/{run_id}/proof, in order)."""

import json
import sys
from hashlib import blake2b
from pathlib import Path

pages = [json.loads(Path(name).read_text(encoding="utf-8")) for name in sys.argv[1:]] or [json.load(sys.stdin)]
run, head = pages[0]["run_id"], pages[-1]["head"]
seq, prev, done = 0, None, False
for item in (item for page in pages for item in page["items"]):
    digest = blake2b(item["value"].encode(), digest_size=16).hexdigest()
    event = json.loads(item["value"]) if digest == item["digest"] else {}
    found = event.get("subject"), event.get("seq"), event.get("prev"), digest
    wanted = run, seq + 1, prev, item["digest"]
    if done or found != wanted:
        sys.exit(f"Event {seq + 1} of run {run} is not the next one: it says {found}, and {wanted} would be.")
    seq, prev, done = seq + 1, digest, event["type"] == "RunCompleted"
if (seq, prev, done) != (head["seq"], head["digest"], head["done"]):
    sys.exit(f"Run {run} ends with event {seq} ({prev}), and its head is {head['seq']} ({head['digest']}).")
print(f"Run {run}: {seq} events, each the next one of the one before. Head {prev}, {'ended' if done else 'goes on'}.")
