// Workflows: which there are, and each of their versions.

import { ask } from "./api.js";
import { command, copyAs, curl } from "./copy.js";
import { facts, fill, h, json, row, section, table } from "./dom.js";
import { PAUSE_MS } from "./poll.js";
import { instant, local, time } from "./words.js";

const COLUMNS = ["Workflow", "Name", "Newest version", "Defined", "Steps", "Runs"];
const SLOWLY_MS = 5 * PAUSE_MS;

export function workflowsPage({ query }) {
  const cursor = query.get("cursor") ?? "";
  const body = h("tbody");
  const rest = h("div");

  async function look(signal) {
    const { items, next_cursor: following } = await ask("api/v1/workflows", { cursor }, { signal });
    fill(body, items, ({ id }) => id, workflowRow);
    section(rest, { empty: items.length === 0, following }, after);
    return SLOWLY_MS;
  }

  const element = h("div", {}, h("h1", {}, "Workflows"), table("Workflows by id", COLUMNS, body), rest,
    copyAs(curl("api/v1/workflows", { cursor }), command(["workflows", "list"], { cursor })));
  return { element, look };
}

const pathOf = (id) => `#/workflows/${encodeURIComponent(id)}`;
const runsOf = (id) => h("a", { href: `#/runs?workflow_id=${encodeURIComponent(id)}` }, "runs");

// Without its position, which moves with every workflow.
function workflowRow({ id, name, version, defined_at: at, steps }) {
  return row(h("th", { scope: "row" }, h("a", { href: pathOf(id) }, id)), name, String(version), time(at),
    steps.map((step) => step.name).join(" → "), runsOf(id));
}

function after({ empty, following }) {
  if (empty) {
    return h("p", { class: "card" }, "No workflow is defined yet. ", h("code", {}, "workflow workflows apply FILE.json"),
      " defines one; docs/workflows.md says what its steps can do.");
  }
  return h("p", { class: "buttons" }, following && h("a", { class: "button", href: `#/workflows?cursor=${following}` }, "More"));
}

export function workflowPage({ id, query }) {
  const path = `api/v1/workflows/${encodeURIComponent(id)}`;
  const version = query.get("version") ?? "";
  const asOf = query.get("as_of") ?? "";
  const asked = asOf ? { as_of: asOf } : { version };
  const top = h("div");
  const body = h("div");

  async function look(signal) {
    const [shown, newest] = await Promise.allSettled([ask(path, asked, { signal }), ask(path, {}, { signal })]);
    if (newest.status === "rejected") throw newest.reason;
    section(top, { shown: shown.value?.version, newest: newest.value.version, asOf }, (versions) => form(id, versions));
    if (shown.status === "rejected") throw shown.reason;
    delete shown.value.position;
    section(body, shown.value, definition);
    return SLOWLY_MS;
  }

  const element = h("div", {}, h("h1", {}, "Workflow ", h("span", { class: "id" }, id)), top, body,
    copyAs(curl(path, asked), command(["workflows", "show", id], { version: asked.version, "as-of": asOf })));
  return { element, look };
}

function form(id, { shown, newest, asOf }) {
  const go = (name, value) => (location.hash = `${pathOf(id)}${value ? `?${new URLSearchParams({ [name]: value })}` : ""}`);
  const options = Array.from({ length: newest }, (_, index) => newest - index)
    .map((number) => h("option", { value: number, selected: number === shown }, `${number}${number === newest ? " (newest)" : ""}`));
  return h("form", { class: "filters", onsubmit: (event) => event.preventDefault() },
    h("label", { for: "version" }, "Version"),
    h("select", { id: "version", onchange: (event) => go("version", event.target.value) }, options),
    h("label", { for: "as-of" }, "The newest as of"),
    h("input", { id: "as-of", type: "datetime-local", step: "1", value: local(asOf), onchange: (event) => go("as_of", instant(event.target.value)) }),
    " ", runsOf(id));
}

function definition(defined) {
  const steps = h("tbody", {}, defined.steps.map((step, index) =>
    row(String(index + 1), h("th", { scope: "row" }, step.name), step.type, h("code", {}, JSON.stringify(step.config)))));
  return h("div", {},
    facts([["Name", defined.name], ["Version", String(defined.version)], ["Defined", time(defined.defined_at)], ["Description", defined.description || "–"]]),
    table("Steps", ["No.", "Step", "Type", "Config"], steps),
    h("details", {}, h("summary", {}, "Definition as JSON"), json(defined)));
}
