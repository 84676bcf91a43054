// Times, numbers and states as people read them.

import { h } from "./dom.js";

const SHAPES = { PENDING: "○", RUNNING: "▶", RETRYING: "↻", SUCCESS: "✔", FAILED: "✖", CANCELLED: "⊘" };

// A state is a shape, a word and a colour; one that this page does not know has its word.
export function state(status) {
  const known = Object.hasOwn(SHAPES, status);
  const name = known ? `state ${status.toLowerCase()}` : "state unknown";
  return h("span", { class: name }, h("span", { "aria-hidden": "true" }, known ? SHAPES[status] : "◇"), ` ${status}`);
}

const two = (number) => String(number).padStart(2, "0");

export function clock(at) {
  return `${two(at.getHours())}:${two(at.getMinutes())}:${two(at.getSeconds())}`;
}

// Local time, UTC on hover.
export function time(text) {
  if (!text) return "–";
  const at = new Date(text);
  if (Number.isNaN(at.getTime())) return text;
  const day = `${at.getFullYear()}-${two(at.getMonth() + 1)}-${two(at.getDate())}`;
  return h("time", { datetime: text, title: text }, `${day} ${clock(at)}`);
}

export function span(seconds) {
  if (seconds < 10) return `${Math.max(0, seconds).toFixed(seconds < 1 ? 3 : 1)} s`;
  if (seconds < 60) return `${Math.round(seconds)} s`;
  if (seconds < 3600) return `${Math.floor(seconds / 60)} min ${Math.floor(seconds % 60)} s`;
  if (seconds < 86400) return `${Math.floor(seconds / 3600)} h ${Math.floor((seconds % 3600) / 60)} min`;
  return `${Math.floor(seconds / 86400)} d ${Math.floor((seconds % 86400) / 3600)} h`;
}

// From one time to another; without an end it ticks.
export function duration(from, to) {
  if (!from) return "–";
  if (to) return span((new Date(to) - new Date(from)) / 1000);
  return h("span", { "data-since": from }, since(from));
}

function since(from) {
  return span((Date.now() - new Date(from)) / 1000);
}

export function tick() {
  for (const element of document.querySelectorAll("[data-since]")) element.textContent = since(element.dataset.since);
}

export function count(number, noun) {
  return `${number.toLocaleString("en")} ${noun}${number === 1 ? "" : "s"}`;
}

// The value of a field for a local time as RFC 3339 in UTC, and back.
export function instant(local) {
  const at = new Date(local);
  return Number.isNaN(at.getTime()) ? "" : at.toISOString();
}

export function local(text) {
  const at = new Date(text);
  if (!text || Number.isNaN(at.getTime())) return "";
  return new Date(at.getTime() - at.getTimezoneOffset() * 60_000).toISOString().slice(0, 19);
}
