// The list of runs: newest first, by status and workflow, now or as it was at a time.

import { ask } from "./api.js";
import { command, copyAs, curl } from "./copy.js";
import { fill, h, row, section, table } from "./dom.js";
import { PAUSE_MS } from "./poll.js";
import { duration, instant, local, state, time } from "./words.js";

const COLUMNS = ["Status", "Workflow", "Run", "Created", "Duration", "Error"];
const COUNTING_SHARE = 20; // counting looks at every run, so it takes a small part of the time
const FILTERS = ["status", "workflow_id", "as_of"];

// To the run as it is, or as it was at a time.
export const runLink = (id, at) => h("a", { href: `#/runs/${encodeURIComponent(id)}${at ? `?${new URLSearchParams({ at })}` : ""}`, class: "id" }, id);

function link(query, change) {
  const next = new URLSearchParams(query);
  next.delete("cursor");
  for (const [name, value] of Object.entries(change)) value ? next.set(name, value) : next.delete(name);
  return `#/runs${next.size ? `?${next}` : ""}`;
}

export function runsPage({ query }) {
  const wanted = Object.fromEntries(FILTERS.map((name) => [name, query.get(name) ?? ""]));
  const { status: _, ...counted } = wanted;
  const asked = { ...wanted, cursor: query.get("cursor") ?? "" };
  const chips = h("p", { class: "chips", role: "group", "aria-label": "Status" });
  const body = h("tbody");
  const rest = h("div");
  const known = h("datalist", { id: "known" });
  const seen = new Map(); // run → as it was shown last
  let countAt = 0;
  let namesKnown = false;

  async function counts(signal) {
    if (Date.now() < countAt) return;
    const began = Date.now();
    const { total, ...found } = await ask("api/v1/run-counts", counted, { signal });
    countAt = Date.now() + COUNTING_SHARE * (Date.now() - began);
    fill(chips, [["", total], ...Object.entries(found)], ([name]) => name, ([name, number]) => chip(query, wanted.status, name, number));
  }

  async function names(signal) {
    if (namesKnown) return;
    const { items } = await ask("api/v1/workflows", {}, { signal });
    namesKnown = true;
    fill(known, items, ({ id }) => id, ({ id }) => h("option", { value: id }));
  }

  async function look(signal) {
    const { items, next_cursor: following } = await ask("api/v1/runs", asked, { signal });
    const shown = items.map((run) => (seen.get(run.run_id)?.seq > run.seq ? seen.get(run.run_id) : run));
    for (const run of shown) seen.set(run.run_id, run);
    fill(body, shown, (run) => run.run_id, (run) => runRow(run, wanted.as_of));
    section(rest, { empty: items.length === 0, following }, () => after(query, items.length === 0, following));
    await Promise.all([counts(signal), names(signal)]);
    return wanted.as_of ? null : PAUSE_MS;
  }

  const element = h("div", {}, h("h1", {}, wanted.as_of ? `Runs as of ${wanted.as_of}` : "Runs"),
    form(query, wanted), known, chips, table("Runs, newest first", COLUMNS, body), rest,
    copyAs(curl("api/v1/runs", asked),
      command(["runs", "list"], { workflow: wanted.workflow_id, status: wanted.status, "as-of": wanted.as_of, cursor: asked.cursor })));
  return { element, look };
}

function form(query, wanted) {
  const change = (name) => (event) => {
    const value = name === "as_of" ? instant(event.target.value) : event.target.value.trim();
    location.hash = link(query, { [name]: value });
  };
  return h("form", { class: "filters", onsubmit: (event) => event.preventDefault() },
    h("label", { for: "workflow" }, "Workflow"),
    h("input", { id: "workflow", list: "known", value: wanted.workflow_id, onchange: change("workflow_id"), placeholder: "any" }),
    h("label", { for: "as-of" }, "As of"),
    h("input", { id: "as-of", type: "datetime-local", step: "1", value: local(wanted.as_of), onchange: change("as_of") }),
    wanted.as_of && h("a", { class: "button", href: link(query, { as_of: "" }) }, "Now"));
}

function chip(query, chosen, name, number) {
  const fields = { id: `chip-${name || "all"}`, class: "button", href: link(query, { status: name }), "aria-current": chosen === name && "true" };
  return h("a", fields, name ? state(name) : "All", " ", h("b", {}, number.toLocaleString("en")));
}

// At a time of the past, what had not ended then had lasted until then.
function runRow(run, asOf) {
  const error = run.set_aside ? `set aside: ${run.set_aside}` : (run.error?.message ?? "");
  const version = run.version === null ? "" : `@${run.version}`;
  return row(state(run.status),
    run.workflow_id && [h("a", { href: `#/workflows/${encodeURIComponent(run.workflow_id)}` }, run.workflow_id), version],
    h("th", { scope: "row" }, runLink(run.run_id, asOf)), time(run.created_at), duration(run.created_at, run.finished_at ?? asOf),
    h("span", { class: "error" }, String(error).split("\n")[0]));
}

function after(query, empty, following) {
  const filtered = FILTERS.some((name) => query.get(name));
  const later = new URLSearchParams(query);
  later.set("cursor", following ?? "");
  const pages = [
    query.get("cursor") && h("a", { class: "button", href: link(query, {}) }, "Newest"),
    following && h("a", { class: "button", href: `#/runs?${later}` }, "Older"),
  ];
  if (!empty) return h("p", { class: "buttons" }, pages);
  return h("div", { class: "card" }, filtered
    ? ["No run matches. ", h("a", { href: "#/runs" }, "Show all runs")]
    : ["No run was started yet. Define a workflow and start it: ", h("code", {}, "workflow demo"), " does both, ",
      h("code", {}, "workflow trigger WORKFLOW --watch"), " starts one that there is."], pages);
}
