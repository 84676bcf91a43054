// The API, asked from wherever this page stands: all addresses are relative, so a prefix in front needs no setting.

const ANSWER_WITHIN_MS = 20_000;
const KEY = "workflow-key";

// The API key lives as long as the tab, and goes nowhere but into the header of what is asked.
export const key = {
  get: () => sessionStorage.getItem(KEY) ?? "",
  set: (token) => sessionStorage.setItem(KEY, token),
  forget: () => sessionStorage.removeItem(KEY),
};

// A problem document that the API answered with.
export class Problem extends Error {
  constructor(status, body) {
    super(body.detail ?? `the answer was ${status}`);
    this.status = status;
    this.title = body.title ?? `HTTP ${status}`;
    this.type = body.type ?? "";
    this.code = body.code ?? "";
    this.requestId = body.request_id ?? "";
    this.passes = status === 429 || status >= 500;
  }
}

// No answer came.
export class Away extends Error {
  passes = true;
}

export function address(path, query = {}) {
  const url = new URL(`../${path}`, new URL(".", location.href.split("#")[0]));
  for (const [name, value] of Object.entries(query)) if (value || value === 0) url.searchParams.set(name, value);
  return url;
}

// A whole number that JavaScript would round stays as it was written, to be shown.
function exact(_, value, context) {
  const rounded = typeof value === "number" && !Number.isSafeInteger(value) && /^-?\d+$/.test(context?.source);
  return rounded ? JSON.rawJSON(context.source) : value;
}

// The JSON of an answer. `also`: a status whose body is an answer, too. Throws Problem and Away.
export async function ask(path, query = {}, { method = "GET", signal, also } = {}) {
  const headers = key.get() ? { Authorization: `Bearer ${key.get()}` } : {};
  const limit = AbortSignal.timeout(ANSWER_WITHIN_MS);
  let answer;
  let body;
  try {
    answer = await fetch(address(path, query), { method, headers, signal: signal ? AbortSignal.any([signal, limit]) : limit });
    body = JSON.parse(await answer.text(), exact);
  } catch (error) {
    if (answer !== undefined && !answer.ok) throw new Problem(answer.status, {}); // of something in between
    throw new Away(error.message);
  }
  signal?.throwIfAborted(); // its page is gone
  if (!answer.ok && answer.status !== also) throw new Problem(answer.status, body);
  return body;
}
