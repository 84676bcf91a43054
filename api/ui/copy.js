// What a page shows, as commands to be copied. A key stands in none of them.

import { address, key } from "./api.js";
import { h } from "./dom.js";

const quoted = (text) => `'${String(text).replaceAll("'", "'\\''")}'`;

export function curl(path, query, method = "GET") {
  const how = method === "GET" ? "" : `-X ${method} `;
  const who = key.get() ? '-H "Authorization: Bearer $WORKFLOW_API_KEY" ' : "";
  return `curl ${how}${who}${quoted(address(path, query))}`;
}

// `workflow …` with these words; options that have no value are left out.
export function command(words, options = {}) {
  const given = Object.entries(options).filter(([, value]) => value || value === 0);
  const plain = (text) => (/^[\w.:@-]+$/.test(text) ? text : quoted(text));
  return ["workflow", ...words.map(plain), ...given.flatMap(([name, value]) => [`--${name}`, plain(String(value))])].join(" ");
}

export function copyAs(...lines) {
  return h("details", { class: "copy" }, h("summary", {}, "Copy as"), lines.map(copied));
}

// A line of code beside a button that copies it, or selects it where the browser lets nobody copy.
export function copied(text) {
  const code = h("code", {}, text);
  const onclick = async () => {
    try {
      await navigator.clipboard.writeText(text);
      button.textContent = "Copied";
    } catch {
      getSelection().selectAllChildren(code);
      button.textContent = "Selected";
    }
    setTimeout(() => (button.textContent = "Copy"), 2_000);
  };
  const button = h("button", { type: "button", onclick }, "Copy");
  return h("p", { class: "line" }, button, " ", code);
}
