// Follow a turn in a browser: `draw(blocks)` is called after each event with the blocks by their index. The browser
// comes back by itself after a cut, from the last event it had; the promise is the turn's end.
export function follow(url, draw) {
  const source = new EventSource(url);
  const blocks = new Map();
  let last = 0;
  return new Promise((ended) => {
    const on = (name, apply) =>
      source.addEventListener(name, ({ data }) => {
        const event = JSON.parse(data);
        if (event.seq <= last) return;
        last = event.seq;
        apply(event);
        draw(blocks);
      });
    on("block_start", ({ index, round, block_type, call_id, tool_name, origin }) =>
      blocks.set(index, { index, round, type: block_type, call_id, tool_name, origin, state: "open", text: "" }));
    on("block_delta", ({ index, text }) => (blocks.get(index).text += text));
    on("block_stop", ({ type, seq, ...stop }) => Object.assign(blocks.get(stop.index), stop));
    on("rewind", ({ blocks: standing }) => {
      const stands = new Map(standing.map((one) => [one.index, one]));
      for (const [index, block] of blocks) {
        if (stands.has(index)) blocks.set(index, cut(block, stands.get(index)));
        else blocks.delete(index);
      }
    });
    on("turn_end", (end) => (source.close(), ended(end)));
    for (const name of [
      "turn_start", "round_start", "round_stop", "tool_start", "notice", "steer",
      "call_waiting", "call_answered", "turn_waiting",
    ]) on(name, () => {});
  });
}

function cut({ index, round, type, call_id, tool_name, origin, text, ...stop }, { state, length }) {
  const start = { index, round, type, call_id, tool_name, origin };
  const bytes = new TextEncoder().encode(text).subarray(0, length);
  return { ...start, ...(state === "open" ? {} : stop), state, text: new TextDecoder().decode(bytes) };
}
