// One loop a page: at most one look at a time, none while nobody sees the page.

export const PAUSE_MS = 2_000;
export const BUSY_MS = 1_000;
const PAUSE_MS_MAX = 10_000;
const OLDER_MS_MAX = 10_000;

// `look(signal)` gives the ms until the next look, or null for no more; `failed(error)` whether to go on.
export function follow(look, { done, failed }) {
  const gone = new AbortController();
  let timer = 0;
  let busy = false;
  let wanted = false;
  let failures = 0;

  async function turn() {
    clearTimeout(timer);
    if (gone.signal.aborted || document.hidden) return;
    wanted = busy;
    if (busy) return;
    busy = true;
    const pause = await once();
    busy = false;
    if (wanted) turn();
    else if (pause !== null) timer = setTimeout(turn, pause);
  }

  async function once() {
    try {
      const pause = await look(gone.signal);
      failures = 0;
      if (!gone.signal.aborted) done();
      return pause;
    } catch (error) {
      if (gone.signal.aborted) return null;
      failures += 1;
      return failed(error) ? Math.min(PAUSE_MS * 2 ** (failures - 1), PAUSE_MS_MAX) : null;
    }
  }

  document.addEventListener("visibilitychange", turn, { signal: gone.signal });
  turn();
  return {
    again: turn,
    stop() {
      clearTimeout(timer);
      gone.abort();
    },
  };
}

// The newest of what came, by `order`: an older answer is dropped, unless it stays so (a store that was restored).
export function newest(order) {
  let shown;
  let came = 0;
  return (answer) => {
    const older = shown !== undefined && order(answer) < order(shown);
    if (older && Date.now() - came < OLDER_MS_MAX) return shown;
    shown = answer;
    came = Date.now();
    return answer;
  };
}
