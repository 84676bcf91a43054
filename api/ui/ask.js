// Questions to whoever sits there: whether they are sure, and their key.

import { h } from "./dom.js";
import { key } from "./api.js";

function dialog(title, ...content) {
  const box = h("dialog", { "aria-labelledby": "dialog-title" }, h("h2", { id: "dialog-title" }, title), content);
  box.addEventListener("close", () => box.remove());
  document.body.append(box);
  box.showModal();
  return box;
}

const button = (text, onclick, fields = {}) => h("button", { type: "button", onclick, ...fields }, text);

// True once they have agreed; closing it in any other way is a no.
export function confirmed(title, text, verb) {
  return new Promise((resolve) => {
    const agree = () => {
      resolve(true);
      box.close();
    };
    const buttons = h("p", { class: "buttons" }, button("Back", () => box.close()), button(verb, agree, { class: "main" }));
    const box = dialog(title, h("p", {}, text), buttons);
    box.addEventListener("close", () => resolve(false));
  });
}

const KEYS = [
  ["g r", "runs"],
  ["g w", "workflows"],
  ["g p", "projections"],
  ["/", "to the first field"],
  ["?", "this help"],
  ["Esc", "closes it"],
];

export function help() {
  if (document.querySelector("dialog") !== null) return;
  const rows = KEYS.map(([keys, what]) => h("tr", {}, h("th", { scope: "row" }, h("kbd", {}, keys)), h("td", {}, what)));
  const box = dialog("Keys", h("table", {}, rows), h("p", { class: "buttons" }, button("Close", () => box.close())));
}

// The form in which a caller gives their API key. `reason`: why it is asked for.
export function keyForm(reason, given) {
  const field = h("input", { id: "key", type: "password", autocomplete: "off", required: true, placeholder: "wfk_…" });
  const onsubmit = (event) => {
    event.preventDefault();
    key.set(field.value.trim());
    given();
  };
  return h("form", { class: "card", onsubmit },
    h("h1", {}, "API key"),
    h("p", {}, reason),
    h("label", { for: "key" }, "Key"), " ", field, " ", h("button", { class: "main" }, "Use it"),
    h("p", {}, "It is kept by this tab until it is closed. Make one with ",
      h("code", {}, "workflow keys create NAME --scope read"), "; to start and cancel rebuilds it needs ",
      h("code", {}, "--scope operate"), "."));
}
