// The events of a run, newest first, in pages; a row opens to the event as it stands in the log.

import { ask } from "./api.js";
import { fill, h, json, row, section, table } from "./dom.js";
import { duration, time } from "./words.js";

const COLUMNS = ["Event", "Logged", "After", "Type", "Step", "What"];

// `again`: look at once. `look(seq)` brings what is newer than what it has, `seq` being the newest that there is.
export function eventList(path, again) {
  const body = h("tbody");
  const rest = h("p", { class: "buttons" });
  const known = new Map(); // seq → event
  let older = false; // one more page is wanted

  async function page(before, signal) {
    const { items } = await ask(`${path}/events`, { order: "desc", before_seq: before }, { signal });
    const last = Math.min(...items.map((event) => event.seq));
    if (before === undefined && last > Math.max(0, ...known.keys()) + 1) known.clear(); // too many came to fill the gap
    for (const event of items) known.set(event.seq, event);
  }

  async function look(seq, signal) {
    if (!known.has(seq) && seq > 0) await page(undefined, signal);
    const first = Math.min(seq, ...known.keys());
    if (older && first > 1) await page(first, signal);
    older = false;
    show();
  }

  function show() {
    const events = [...known.values()].sort((one, other) => other.seq - one.seq);
    const items = events.map((event) => ({ event, before: known.get(event.seq - 1)?.logged_at ?? null }));
    fill(body, items, ({ event }) => event.seq, eventRow);
    const first = events.at(-1)?.seq ?? 1;
    section(rest, first, () => (first > 1 ? h("button", { type: "button", onclick: more }, `Older than ${first}`) : h("span")));
  }

  function more() {
    older = true;
    again();
  }

  return { element: h("div", {}, table("Events, newest first", COLUMNS, body), rest), look };
}

function eventRow({ event, before }) {
  const shown = h("div", { class: "event", hidden: true });
  const open = h("button", { type: "button", "aria-expanded": "false", onclick: toggle }, `${event.seq}`);

  function toggle() {
    if (shown.hidden) shown.replaceChildren(json(event));
    shown.hidden = !shown.hidden;
    open.setAttribute("aria-expanded", String(!shown.hidden));
  }

  const { step, attempt } = fields(event);
  return row(open, time(event.logged_at), before ? duration(before, event.logged_at) : "–", event.type,
    step ? `${plain(step)}${attempt ? `, attempt ${plain(attempt)}` : ""}` : "–", [what(event), shown]);
}

// The one useful detail.
function what(event) {
  const data = fields(event), error = data.error ?? data.refused;
  const parts = [data.status && plain(data.status), error && `${plain(error.message)} (${plain(error.code)})`,
    data.until && `until ${plain(data.until)}`, event.actor && `by ${plain(event.actor)}`];
  return parts.filter(Boolean).join(", ");
}

// An event that no release of ours wrote may hold anything.
function fields({ data }) {
  return data !== null && typeof data === "object" ? data : {};
}

function plain(value) {
  return typeof value === "object" ? JSON.stringify(value) : String(value);
}
