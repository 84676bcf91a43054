// The shell around the pages: which one stands there, what is told of its answers, and the keyboard.

import { Away, Problem, address, key } from "./api.js";
import { help, keyForm } from "./ask.js";
import { h } from "./dom.js";
import { follow } from "./poll.js";
import { projectionsPage } from "./projections.js";
import { runPage } from "./run.js";
import { runsPage } from "./runs.js";
import { clock, tick } from "./words.js";
import { workflowPage, workflowsPage } from "./workflows.js";

const PAGES = [
  [/^\/runs$/, runsPage],
  [/^\/runs\/([^/]+)$/, runPage],
  [/^\/workflows$/, workflowsPage],
  [/^\/workflows\/([^/]+)$/, workflowPage],
  [/^\/projections$/, projectionsPage],
];
const SECTIONS = { r: "runs", w: "workflows", p: "projections" };
const CHORD_MS = 1_000;
const MAY_COME = new Set(["run_unknown", "definition_unknown"]); // accepted a moment ago, and not in the tables yet

const main = document.getElementById("page");
const freshness = document.getElementById("freshness");
const notice = document.getElementById("notice");
let following = { again() {}, stop() {} };

// A page is made by a function of `{id, query, again, tell}` and gives `{element, look}`.
function mount() {
  const [path, search] = location.hash.slice(1).split("?");
  const [pattern, page] = PAGES.find(([each]) => each.test(path)) ?? [];
  if (page === undefined) {
    location.replace("#/runs");
    return;
  }
  following.stop();
  document.querySelector("dialog")?.close();
  const focus = document.activeElement?.id;
  const id = decodeURIComponent(pattern.exec(path)[1] ?? "");
  const again = () => following.again();
  const { element, look } = page({ id, query: new URLSearchParams(search), again, tell });
  show(element, path, id);
  (document.getElementById(focus) ?? main).focus({ preventScroll: true });
  let shown;
  following = follow(look, {
    done() {
      shown = new Date();
      freshness.textContent = "";
      if (passing) tell(null);
    },
    failed: (error) => failed(error, shown),
  });
}

function show(element, path, id) {
  main.replaceChildren(element);
  freshness.textContent = "";
  tell(null);
  const section = path.split("/")[1];
  document.title = `${id || section[0].toUpperCase() + section.slice(1)} – Workflow platform`;
  for (const link of document.querySelectorAll("nav a")) {
    link.toggleAttribute("aria-current", link.getAttribute("href") === `#/${section}`);
  }
  forget.hidden = !key.get();
}

// Whether to ask again. What is shown stays, and says how old it is.
function failed(error, shown) {
  if (error instanceof Problem && error.status === 401) {
    const reason = key.get() ? "The platform does not take this key." : "The platform asks its callers for a key.";
    key.forget();
    show(keyForm(reason, mount), location.hash.slice(1).split("?")[0], "");
    document.getElementById("key").focus();
    return false;
  }
  const known = error instanceof Problem || error instanceof Away;
  if (!known) console.error(error);
  if (!known || !error.passes) tell(error, true);
  else freshness.textContent = shown ? `Data as of ${clock(shown)}, reconnecting` : `No answer yet (${error.message}), trying again`;
  return !known || error.passes || MAY_COME.has(error.code);
}

let passing = true; // what was told goes with the next answer

// Say what went wrong; null: nothing did.
function tell(error, passes = false) {
  passing = passes;
  notice.hidden = error === null;
  if (error === null) return;
  const page = error.type?.startsWith("/problems/") ? h("a", { href: address(error.type.slice(1)) }, "What to do") : "";
  const request = error.requestId ? ` Request ${error.requestId}.` : "";
  const close = h("button", { type: "button", onclick: () => tell(null) }, "Close");
  notice.replaceChildren(h("strong", {}, error.title ?? "It did not work:"), ` ${error.message}${request} `, page, " ", close);
}

const forget = h("button", { type: "button", hidden: true, onclick: forgetKey }, "Forget key");

function forgetKey() {
  key.forget();
  mount();
}

let chord = 0;

function pressed(event) {
  const busy = event.target.closest?.("input, select, textarea, dialog") || event.ctrlKey || event.metaKey || event.altKey;
  if (busy) return;
  const second = Date.now() - chord < CHORD_MS;
  chord = event.key === "g" ? Date.now() : 0;
  if (second && Object.hasOwn(SECTIONS, event.key)) location.hash = `#/${SECTIONS[event.key]}`;
  else if (event.key === "?") help();
  else if (event.key === "/") {
    event.preventDefault();
    main.querySelector("input, select")?.focus();
  }
}

document.querySelector("header").insertBefore(forget, document.getElementById("help"));
document.getElementById("help").addEventListener("click", help);
addEventListener("keydown", pressed);
addEventListener("hashchange", mount);
setInterval(tick, 1_000);
mount();
