// The rebuild of a projection: how far it is, who works on it, what it found, and the two buttons.

import { ask } from "./api.js";
import { confirmed } from "./ask.js";
import { command, copied, curl } from "./copy.js";
import { facts, h, row, section, table } from "./dom.js";
import { newest } from "./poll.js";
import { runLink } from "./runs.js";
import { count, duration, span, time } from "./words.js";

const PHASES = [["fold", ["preparing", "folding"]], ["compare", ["comparing", "levelling"]], ["swap", ["swapping"]]];
const ORDER = ["preparing", "folding", "comparing", "levelling", "swapping"];
const ENDED = new Set(["done", "failed", "cancelled"]);
const DIFFERENCES = ["Run", "Column", "The old tables said", "The log says"];
const PARTS = ["Partition", "Progress", "Events", "Process"];

export function rebuildPanel(name, again, tell) {
  const path = `api/v1/projections/${encodeURIComponent(name)}`;
  const latest = newest(progress);
  const said = h("p", { role: "status" });
  const body = h("div");
  const replaced = h("div", { hidden: true },
    h("p", {}, "The tables that were replaced stay beside the new ones until the next rebuild, or until:"), copied(command(["projections", "drop-old"])));
  const start = h("button", { id: "rebuild", type: "button", class: "main", onclick: () => act("rebuild") }, "Rebuild");
  const stop = h("button", { id: "cancel", type: "button", onclick: () => act("cancel") }, "Cancel the rebuild");
  const asks = {
    rebuild: ["Rebuild the tables?", "All events are folded from the log into new tables, beside those that serve. They are compared, and " +
      "the new ones take over. Reads and starts go on, nothing is sent to anybody; it takes processors and disk space meanwhile.", "Rebuild"],
    cancel: ["Cancel the rebuild?", "Whoever works on it stops, and the new tables are thrown away. The tables that serve stay as they are.", "Cancel it"],
  };

  async function act(verb) {
    if (!(await confirmed(...asks[verb]))) return;
    try {
      await ask(`${path}/${verb}`, {}, { method: "POST" });
    } catch (error) {
      tell(error);
    }
    again();
  }

  function show({ rebuild, old_tables: hasOld }) {
    const last = latest(rebuild);
    const running = last !== null && !ENDED.has(last.phase);
    start.disabled = running;
    stop.hidden = !running;
    replaced.hidden = running || !hasOld;
    const now = told(last);
    if (said.textContent !== now) said.textContent = now;
    section(body, last, (one) => (one === null ? h("div") : rebuilt(one)));
  }

  const element = h("div", { class: "card" }, h("h3", {}, "Rebuild"), said, body, replaced, h("p", { class: "buttons" }, start, stop),
    h("details", { class: "copy" }, h("summary", {}, "Copy as"), copied(curl(`${path}/rebuild`, {}, "POST")), copied(command(["rebuild"])),
      copied(command(["projections", "cancel"]))));
  return { element, show };
}

// A later rebuild is after an earlier one, and its end after all that it did.
function progress(last) {
  if (last === null) return "";
  const phase = ENDED.has(last.phase) ? ORDER.length : ORDER.indexOf(last.phase);
  return `${last.started_at} ${phase} ${String(last.events).padStart(15, "0")}`;
}

function told(last) {
  if (last === null) return "None yet. The tables can be made anew from the log at any time, while they serve.";
  return ENDED.has(last.phase) ? outcome(last) : `${last.phase}, ${working(last)}`;
}

function rebuilt(last) {
  const ended = ENDED.has(last.phase);
  return h("div", {},
    phases(last.phase),
    h("p", {}, bar("All events", last.events, last.total), ` ${last.events.toLocaleString("en")} of ${count(last.total, "event")}`, speed(last)),
    facts([
      ["Begun", [time(last.started_at), ` by ${last.by}`]],
      ["Time", duration(last.started_at, last.ended_at)],
      ["Makes version", String(last.version)],
    ]),
    last.error && h("p", { class: "error" }, last.error),
    !ended && last.partitions.length > 0 && partitions(last.partitions),
    last.report && report(last.report));
}

function outcome({ phase, report: found }) {
  if (phase === "cancelled") return "Cancelled. The tables that serve were not touched.";
  if (phase === "failed") return "Failed. The tables that serve were not touched.";
  const differ = found !== null && found.differing + found.missing + found.extra + found.differences.length > 0;
  return differ ? "Done: the new tables serve. The old ones said something else than the log." : "Done: the new tables serve. The old ones had the same rows.";
}

function working({ workers }) {
  if (workers === 0) return "and no process works on it: a projector takes it up soon";
  return workers === 1 ? "one process works on it" : `${workers} processes work on it`;
}

function phases(now) {
  const at = PHASES.findIndex(([, names]) => names.includes(now));
  const steps = PHASES.map(([name], index) => h("li", { "aria-current": index === at && "step", class: (now === "done" || index < at) && "past" }, name));
  return h("ol", { class: "phases", "aria-label": "Phases" }, steps);
}

const bar = (label, events, total) => h("progress", { "aria-label": label, max: Math.max(1, total), value: total === 0 ? 0 : events });

function speed({ phase, events_per_s: rate, eta_s: eta }) {
  const told = rate > 0 && `${rate.toLocaleString("en")} events/s`;
  const left = eta !== null && phase === "folding" && `${span(eta)} left`;
  const parts = [told, left].filter(Boolean);
  return parts.length > 0 && `, ${parts.join(", ")}`;
}

// `host/process id/…` without what only machines need.
const who = (worker) => (worker === null ? "–" : worker.split("/").slice(0, 2).join(", process "));

function partitions(parts) {
  const rows = parts.map(({ partition, events, total, worker }) => row(h("th", { scope: "row" }, String(partition)),
    bar(`Partition ${partition}`, events, total), `${events.toLocaleString("en")} of ${total.toLocaleString("en")}`, who(worker)));
  return table("Progress of each partition", PARTS, h("tbody", {}, rows));
}

function report({ equal, differing, missing, extra, differences }) {
  const numbers = facts([
    ["Runs equal", equal.toLocaleString("en")],
    ["Differing", differing.toLocaleString("en")],
    ["Missing from the old tables", missing.toLocaleString("en")],
    ["Unknown to the log", extra.toLocaleString("en")],
  ]);
  const rows = differences.map((each) => row(h("th", { scope: "row" }, each.run.startsWith("partition ") ? each.run : runLink(each.run)),
    each.column, h("code", {}, each.stored), h("code", {}, each.folded)));
  return h("div", { class: "report" }, h("h4", {}, "Compared"), numbers,
    rows.length > 0 && table("The first differences", DIFFERENCES, h("tbody", {}, rows)));
}
