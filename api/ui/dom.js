// Elements are made by `h` alone. What a run says goes in as text, so none of it ever becomes markup.

export function h(tag, fields = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(fields)) {
    if (value === undefined || value === null || value === false) continue;
    if (name.startsWith("on")) element.addEventListener(name.slice(2), value);
    else element.setAttribute(name, value === true ? "" : value);
  }
  element.append(...children.flat().filter((child) => child !== undefined && child !== null && child !== false));
  return element;
}

const made = new WeakMap(); // element → what it was made of

// The children by key. What is the same stays the element that it was, with its focus and all that is open in it.
export function fill(parent, items, keyOf, make) {
  const before = new Map([...parent.children].map((element) => [element.dataset.key, element]));
  let next = parent.firstElementChild;
  for (const item of items) {
    const key = String(keyOf(item));
    const text = JSON.stringify(item);
    let element = before.get(key);
    if (element === undefined || made.get(element) !== text) {
      const old = element;
      element = make(item);
      element.dataset.key = key;
      made.set(element, text);
      if (old !== undefined) {
        old.replaceWith(element);
        if (old === next) next = element;
      }
    }
    if (element === next) next = next.nextElementSibling;
    else parent.insertBefore(element, next);
  }
  while (next !== null) {
    const gone = next;
    next = next.nextElementSibling;
    gone.remove();
  }
}

// A part of a page that is made anew only when it would be another one.
export function section(parent, value, make) {
  fill(parent, [value], () => "it", make);
}

export function table(caption, columns, body) {
  const heads = columns.map((column) => h("th", { scope: "col" }, column));
  return h("div", { class: "scroll" }, h("table", {}, h("caption", {}, caption), h("thead", {}, h("tr", {}, heads)), body));
}

export function row(...cells) {
  return h("tr", {}, cells.map((cell) => (cell instanceof HTMLTableCellElement ? cell : h("td", {}, cell))));
}

// Facts about one thing: pairs of a name and what it is.
export function facts(pairs) {
  return h("dl", {}, pairs.map(([name, value]) => h("div", {}, h("dt", {}, name), h("dd", {}, value))));
}

const JSON_CHARS_MAX = 200_000;

export function json(value) {
  const text = JSON.stringify(value, null, 2);
  const cut = text.length > JSON_CHARS_MAX;
  return h("pre", { tabindex: "0" }, cut ? `${text.slice(0, JSON_CHARS_MAX)}\n… ${text.length} characters` : text);
}
