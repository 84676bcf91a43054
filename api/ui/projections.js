// The read tables: how far they are, their rebuild from the log, and the runs that they have set aside.

import { Problem, ask } from "./api.js";
import { command, copied, copyAs, curl } from "./copy.js";
import { facts, fill, h, row, section, table } from "./dom.js";
import { BUSY_MS, PAUSE_MS, newest } from "./poll.js";
import { rebuildPanel } from "./rebuild.js";
import { runLink } from "./runs.js";
import { count, span } from "./words.js";

const LAG = ["Partition", "Position", "Events behind", "Seconds behind"];
const PARTS = ["Part", "State", "Detail"];
const QUARANTINE = ["Run", "Partition", "Last event", "Reason"];

export function projectionsPage(page) {
  const ready = h("div");
  const list = h("div");
  const shown = new Map(); // name → its panel
  const own = quarantineList("runs", page.query, { shared: false }); // of tables that this process has for itself

  async function look(signal) {
    const report = await ask("ready", {}, { signal, also: 503 });
    section(ready, { status: report.status, components: report.components }, components);
    const items = await projections(signal);
    if (items === null) {
      section(list, report.lag ?? [], ofMemory);
      if (!own.element.isConnected) list.after(own.element);
      await own.look(true, signal);
      return PAUSE_MS;
    }
    for (const { name } of items) if (!shown.has(name)) add(name);
    await Promise.all(items.map((item) => shown.get(item.name).show(item, report.lag ?? [], signal)));
    return items.some((item) => item.state === "rebuilding") ? BUSY_MS : PAUSE_MS;
  }

  function add(name) {
    const panel = projectionPanel(name, page);
    shown.set(name, panel);
    list.append(panel.element);
  }

  const element = h("div", {}, h("h1", {}, "Projections"), list, ready,
    copyAs(curl("api/v1/projections"), curl("ready"), command(["projections", "list"])));
  return { element, look };
}

// Null where every process has tables of its own.
async function projections(signal) {
  try {
    return (await ask("api/v1/projections", {}, { signal })).items;
  } catch (error) {
    if (error instanceof Problem && error.code === "no_shared_tables") return null;
    throw error;
  }
}

function components({ status, components: parts }) {
  const rows = Object.entries(parts).map(([name, part]) => row(h("th", { scope: "row" }, name), part.state, part.detail || "–"));
  return table(`This process: ${status}`, PARTS, h("tbody", {}, rows));
}

function seconds(behind, lag) {
  if (behind === 0) return "0";
  return lag === undefined ? "not known" : span(lag.seconds);
}

function ofMemory(lags) {
  const rows = lags.map((lag) => row(String(lag.partition), "–", String(lag.events), seconds(lag.events, lag)));
  return h("div", {}, h("p", { class: "card" }, "Each process holds tables of its own in memory (STORAGE_BACKEND=memory) and makes them ",
    "anew when it starts: there is nothing to rebuild."), table("Lag", LAG, h("tbody", {}, rows)));
}

// Where the tables stand, over all partitions; a later rebuild is later whatever it says.
const progress = (item) => item.partitions.reduce((sum, { position }) => sum + position, 0);

function projectionPanel(name, { again, tell, query }) {
  const latest = newest(progress);
  const top = h("div");
  const lag = h("tbody");
  const rebuild = rebuildPanel(name, again, tell);
  const quarantine = quarantineList(name, query);
  const element = h("section", { "aria-label": `projection ${name}` }, h("h2", {}, name), top, rebuild.element,
    table("Lag of the tables behind the log, by partition", LAG, lag), quarantine.element);

  async function show(item, lags, signal) {
    const fresh = latest(item);
    section(top, { ...fresh, rebuild: null, partitions: [] }, summary);
    rebuild.show(fresh);
    const rows = fresh.partitions.map((each) => ({ ...each, lag: lags.find(({ partition }) => partition === each.partition) }));
    fill(lag, rows, ({ partition }) => partition, lagRow);
    await quarantine.look(fresh.quarantined, signal);
  }

  return { element, show };
}

function lagRow({ partition, position, behind, lag }) {
  return row(h("th", { scope: "row" }, String(partition)), position.toLocaleString("en"), behind.toLocaleString("en"), seconds(behind, lag));
}

function summary({ version, code_version: code, state, behind, quarantined }) {
  const other = state === "other version" && ` (this release makes ${code})`;
  return facts([
    ["State", state],
    ["Version", [version === null ? "none yet" : String(version), other]],
    ["Behind the log", count(behind, "event")],
    ["In quarantine", count(quarantined, "run")],
  ]);
}

// Runs that are set aside, a page of them at a time.
function quarantineList(name, query, { shared = true } = {}) {
  const cursor = query.get("cursor") ?? "";
  const body = h("tbody");
  const runs = h("div", {}, table("Runs in quarantine", QUARANTINE, body));
  const rest = h("div");
  const path = `api/v1/projections/${encodeURIComponent(name)}/quarantine`;

  async function look(number, signal) {
    const page = number || cursor ? await ask(path, { cursor }, { signal }) : { items: [], next_cursor: null };
    fill(body, page.items, (item) => item.run_id, quarantinedRow);
    runs.hidden = page.items.length === 0;
    section(rest, { empty: page.items.length === 0, following: page.next_cursor, cursor, shared }, after);
  }

  return { element: h("div", {}, h("h3", {}, "Quarantine"), runs, rest), look };
}

function quarantinedRow({ run_id: id, partition, seq, reason }) {
  return row(h("th", { scope: "row" }, runLink(id)), String(partition), String(seq), h("span", { class: "error" }, reason));
}

function after({ empty, following, cursor, shared }) {
  const pages = [
    cursor && h("a", { class: "button", href: "#/projections" }, "First"),
    following && h("a", { class: "button", href: `#/projections?cursor=${following}` }, "More"),
  ];
  if (empty) return h("p", {}, "No run is set aside: every event could be folded. ", pages);
  return h("div", {}, h("p", { class: "buttons" }, pages),
    h("p", {}, "They are shown as they were before, their histories go on, and other runs are not touched. ",
      shared ? "Install a release that knows the event, and have them folded again:"
        : "A process of a release that knows the event folds them again when it starts."),
    shared && copied(command(["projections", "retry"])));
}
