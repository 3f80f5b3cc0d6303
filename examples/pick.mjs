// A client with a tool of its own, for node 20 and newer: the model asks, and whoever sits here answers.
//   .venv/bin/legato serve
//   node examples/pick.mjs "Help me to choose a colour; ask me."
// The server may stop at any moment: the client tries again, comes back with its cursor, and the turn goes on.
import { createInterface } from "node:readline/promises";
import { Readable } from "node:stream";

const server = process.env.URL ?? "http://127.0.0.1:8420";
const person = createInterface({ input: process.stdin, output: process.stderr });
const tools = { ask_user: async ({ question }) => ({ answer: await person.question(`${question} `) }) };
const client_tools = [{ name: "ask_user", description: "Ask the person in front of the screen.",
  input_schema: { type: "object", properties: { question: { type: "string" } }, required: ["question"] } }];
const run = ({ call_id, tool_name, input }) => tools[tool_name](input)
  .then((output) => ({ output }), (why) => ({ error: `${why}` })).then((end) => ({ results: [{ call_id, ...end }] }));

async function ask(path, body) {
  const post = body && { method: "POST", headers: { "content-type": "application/json" }, body: JSON.stringify(body) };
  const answer = await fetch(server + path, post).catch(() => null); // nobody there, for now
  if (answer?.status < 500 && !answer.ok) throw new Error((await answer.json()).detail);
  return answer?.ok ? answer : new Promise((again) => setTimeout(again, 1000)).then(() => ask(path, body));
}

const turn_id = crypto.randomUUID(); // our own: a post that is repeated makes no second turn
await ask("/v1/turns", { turn_id, input: process.argv[2], client_tools });
for (let event = { seq: 0 }, blocks = {}; event.type !== "turn_end"; ) {
  const { body } = await ask(`/v1/turns/${turn_id}/events?after=${event.seq}`);
  try {
    for await (const line of createInterface({ input: Readable.fromWeb(body) })) {
      if (!line.startsWith("data: ")) continue;
      event = JSON.parse(line.slice(6));
      if (event.type.startsWith("block_st")) blocks[event.index] = { ...blocks[event.index], ...event };
      if (event.type === "block_delta" && blocks[event.index].block_type === "text") process.stdout.write(event.text);
      if (event.kind === "client_tool") await ask(`/v1/turns/${turn_id}/tool_results`, await run(blocks[event.index]));
    }
  } catch (error) { if (!(error instanceof TypeError)) throw error; } // what fetch says of a line that broke
}
process.stdout.write("\n", () => process.exit());
