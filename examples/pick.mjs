// A client with a tool of its own, for node 20 and newer: the model asks, and whoever sits here answers.
//   .venv/bin/legato serve
//   node examples/pick.mjs "Help me to choose a colour; ask me."
// The server may stop while the question stands: the client comes back with its cursor, and the turn goes on.
import { createInterface } from "node:readline/promises";

const server = process.env.URL ?? "http://127.0.0.1:8420";
const lines = createInterface({ input: process.stdin, output: process.stderr });
const tools = { ask_user: async ({ question }) => ({ answer: await lines.question(`${question} `) }) };
const client_tools = [{ name: "ask_user", description: "Ask the person in front of the screen.",
  input_schema: { type: "object", properties: { question: { type: "string" } }, required: ["question"] } }];

async function post(path, body) {
  const headers = { "content-type": "application/json" };
  const answer = await fetch(server + path, { method: "POST", headers, body: JSON.stringify(body) });
  if (!answer.ok) throw new Error((await answer.json()).detail);
  return answer.json();
}

const { assistant_turn: turn, events_url } = await post("/v1/turns", { input: process.argv[2], client_tools });
const blocks = new Map();
for (let last = 0, ended = false; !ended; await new Promise((again) => setTimeout(again, ended ? 0 : 1000))) {
  const stream = await fetch(server + events_url, { headers: { "last-event-id": String(last) } }).catch(() => null);
  let rest = "";
  try {
    for await (const piece of stream?.body.pipeThrough(new TextDecoderStream()) ?? []) {
      const [next, ...done] = (rest + piece).split("\n").reverse();
      rest = next;
      for (const line of done.reverse().filter((one) => one.startsWith("data: "))) {
        const event = JSON.parse(line.slice(6));
        last = event.seq;
        if (event.type.startsWith("block_st")) blocks.set(event.index, { ...blocks.get(event.index), ...event });
        if (event.type === "block_delta" && blocks.get(event.index).block_type === "text") process.stdout.write(event.text);
        if (event.type === "call_waiting" && event.kind === "client_tool") {
          const { tool_name, input } = blocks.get(event.index);
          const result = await tools[tool_name](input).then((output) => ({ output }), (error) => ({ error: String(error) }));
          await post(`/v1/turns/${turn.id}/tool_results`, { results: [{ call_id: event.call_id, ...result }] });
        }
        ended ||= event.type === "turn_end";
      }
    }
  } catch (error) {
    if (!(error instanceof TypeError)) throw error; // what fetch says of a line that broke
  }
}
process.stdout.write("\n");
lines.close();
