// One run: where it is and why, its steps, and what it was after each of its events.

import { ask } from "./api.js";
import { command, copyAs, curl } from "./copy.js";
import { eventList } from "./events.js";
import { facts, h, json, row, section, table } from "./dom.js";
import { PAUSE_MS, newest } from "./poll.js";
import { count, duration, state, time } from "./words.js";

const ENDED = new Set(["SUCCESS", "FAILED", "CANCELLED"]);
const SLOWLY_MS = 10_000; // an ended run changes no more, but its row may be set right
const STEPS = ["Step", "Type", "Status", "Attempts", "Started", "Duration", "When", "Due"];

export function runPage({ id, query, again, tell }) {
  const path = `api/v1/runs/${encodeURIComponent(id)}`;
  const latest = newest((run) => run.seq);
  const events = eventList(path, again);
  const top = h("div");
  const why = h("div", { "aria-live": "polite" });
  const then = timeSlider(path, query.get("at"), tell, (run, past) => section(body, { run, past }, details));
  const body = h("div");

  async function look(signal) {
    const run = latest(await ask(path, {}, { signal }));
    const ended = ENDED.has(run.status);
    section(top, run, header);
    then.now(run);
    const reason = ended ? null : await ask(`${path}/why`, {}, { signal });
    section(why, reason?.reason ?? "", whyCard);
    await events.look(run.seq, signal);
    return ended ? SLOWLY_MS : PAUSE_MS;
  }

  const element = h("div", {}, top, why, then.element, body, events.element, proof(path, id, tell),
    copyAs(curl(path), command(["runs", "show", id]), command(["runs", "why", id]), command(["runs", "events", id])));
  return { element, look };
}

const whyCard = (reason) => h("p", { class: reason && "card why" }, reason && [h("b", {}, "Why: "), reason]);

function header(run) {
  const workflow = `#/workflows/${encodeURIComponent(run.workflow_id)}${run.version ? `?version=${run.version}` : ""}`;
  return h("div", {},
    h("h1", {}, state(run.status), " ", h("span", { class: "id" }, run.run_id)),
    run.set_aside && h("p", { class: "card bad" }, h("b", {}, "Set aside: "), run.set_aside,
      h("br"), "It is shown as it was before. ", h("a", { href: "#/projections" }, "How to try again")),
    facts([
      ["Workflow", run.workflow_id ? [h("a", { href: workflow }, run.workflow_id), run.version ? `@${run.version}` : ""] : "not known"],
      ["Created", time(run.created_at)],
      ["Started", time(run.started_at)],
      ["Finished", time(run.finished_at)],
      ["Duration", duration(run.created_at, run.finished_at)],
      ["Events", String(run.seq)],
    ]));
}

// A slider over the run's events. It shows the run as it was after one, or as it is now. `first`: the number of an event, or
// a time, which is that of the last event before it.
function timeSlider(path, first, tell, show) {
  let run = null;
  let at = /^\d+$/.test(first ?? "") ? Number(first) : null; // null: now
  let moment = at === null ? first : null; // until the answer says after which event that was
  let asking = false;
  const slider = h("input", { id: "at", type: "range", min: "0", max: "0", step: "1", oninput: () => move(Number(slider.value)) });
  const said = h("output", { for: "at" });
  const back = h("button", { id: "now", type: "button", onclick: () => move(null) }, "Now");

  function move(to) {
    at = to;
    moment = null;
    say();
    refresh();
  }

  function say() {
    const past = at !== null && run !== null;
    back.disabled = !past;
    slider.max = run?.seq ?? 0;
    slider.value = at ?? run?.seq ?? 0;
    said.textContent = past ? `as it was after event ${at} of ${run.seq}` : `as it is now, after ${count(run?.seq ?? 0, "event")}`;
    if (moment !== null) return;
    const link = `${location.hash.split("?")[0]}${past ? `?at=${at}` : ""}`;
    if (link !== location.hash) history.replaceState(null, "", link);
  }

  // One question at a time; what was asked for last is shown last.
  async function refresh() {
    if (asking) return;
    const wanted = moment ?? at;
    if (wanted === null) {
      show(run, false);
      return;
    }
    asking = true;
    const past = await ask(path, { at: wanted }).catch(tell);
    asking = false;
    if (wanted !== (moment ?? at)) {
      refresh();
      return;
    }
    if (moment !== null) {
      at = past?.seq ?? null;
      moment = null;
      say();
    }
    if (past) show(past, true);
    else if (at === null) refresh();
  }

  const element = h("p", { class: "slider" }, h("label", { for: "at" }, "Event"), slider, back, said);
  return {
    element,
    now(fresh) {
      const begins = run === null;
      run = fresh;
      if (at !== null && at > run.seq) at = null;
      say();
      if (begins || at === null) refresh();
    },
  };
}

function details({ run, past }) {
  const from = new Date(run.created_at).getTime();
  const ends = run.steps.flatMap((step) => [step.started_at, step.finished_at, step.due_at]).filter(Boolean);
  const last = Math.max(from + 1, ...[run.finished_at, ...ends].filter(Boolean).map((text) => new Date(text).getTime()));
  const to = run.finished_at ? last : last + (last - from) / 4; // room for what goes on
  const steps = h("tbody", {}, run.steps.map((step) => stepRow(step, from, to, past)));
  const parts = [["Error", run.error], ["Results", run.results], ["Payload", run.payload]];
  return h("div", { id: "then" },
    h("p", {}, state(run.status)),
    run.steps.length > 0 && table("Steps", STEPS, steps),
    parts.filter(([, value]) => value !== null).map(([name, value]) => h("details", { open: true }, h("summary", {}, name), json(value))));
}

function stepRow(step, from, to, past) {
  const started = step.started_at && new Date(step.started_at).getTime();
  const ended = new Date(step.finished_at ?? step.due_at ?? to).getTime();
  const bar = h("div", { class: "bar" });
  if (started) {
    bar.style.marginLeft = `${(100 * (started - from)) / (to - from)}%`;
    bar.style.width = `${(100 * Math.max(0, ended - started)) / (to - from)}%`;
  }
  return row(h("th", { scope: "row" }, step.name), step.type, state(step.status), String(step.attempts), time(step.started_at),
    past && !step.finished_at ? "–" : duration(step.started_at, step.finished_at), h("td", { class: "bars" }, started && bar), time(step.due_at));
}

function proof(path, id, tell) {
  return h("details", {}, h("summary", {}, "Proof"),
    h("p", {}, "The run's events with their bytes as they stand in the log, and the digests that chain them. ",
      "Anybody can check them, with nothing of this platform:"),
    h("pre", {}, `workflow runs proof ${id} > proof.json\npython docs/check_proof.py proof.json`),
    h("p", {}, h("button", { type: "button", onclick: () => save(path, id).catch(tell) }, "Save proof"), " for the same check."));
}

// All pages as one, as the command line gives them.
async function save(path, id) {
  let whole = await ask(`${path}/proof`);
  while (whole.next_cursor !== null) {
    const page = await ask(`${path}/proof`, { cursor: whole.next_cursor });
    whole = { ...page, items: [...whole.items, ...page.items] };
  }
  const url = URL.createObjectURL(new Blob([JSON.stringify(whole)], { type: "application/json" }));
  h("a", { href: url, download: `proof-${id}.json` }).click();
  setTimeout(() => URL.revokeObjectURL(url), 1_000);
}
