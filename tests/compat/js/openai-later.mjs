// Scenarios of the `openai` package for work that outlives its request: responses, files, batches.
import OpenAI, { toFile } from "openai";
import { play } from "./play.mjs";

const connect = ({ url }) => new OpenAI({ baseURL: url, apiKey: "unused", maxRetries: 0 });

const create = (given, fields = {}) =>
  connect(given).responses.create({ model: given.model, input: given.prompt, ...fields });

const until = async (look, isOver) => {
  const end = Date.now() + 40_000;
  while (Date.now() < end) {
    const found = await look();
    if (isOver(found)) return found;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
  throw new Error("it does not end");
};

const gathered = async (stream, most = Infinity) => {
  const events = [];
  for await (const event of stream) {
    events.push(event);
    if (events.length >= most) break; // which closes the connection
  }
  return events;
};

const joined = (events) =>
  events
    .filter(({ type }) => type === "response.output_text.delta")
    .map(({ delta }) => delta)
    .join("");

await play({
  response: async (given) => {
    const { responses } = connect(given);
    const made = await create(given, { metadata: { test: given.marker } });
    const found = await responses.retrieve(made.id);
    const items = [];
    for await (const item of responses.inputItems.list(made.id)) items.push(item.type);
    await responses.delete(made.id);
    const isGone = await responses.retrieve(made.id).then(() => false, (error) => error.status === 404);
    return { text: made.output_text, again: found.output_text, items, isGone };
  },
  stream: async (given) => {
    const stream = connect(given).responses.stream({ model: given.model, input: given.prompt });
    const live = await gathered(stream);
    const response = await stream.finalResponse();
    return { text: response.output_text, joined: joined(live), last: live.at(-1).type };
  },
  call: async (given) => {
    const first = await create(given, { tools: given.tools });
    const [made] = first.output.filter(({ type }) => type === "function_call");
    const output = [{ type: "function_call_output", call_id: made.call_id, output: "Rain." }];
    const second = await create(given, { input: output, tools: given.tools, previous_response_id: first.id });
    return { called: [made.name, JSON.parse(made.arguments)], text: second.output_text };
  },
  background: async (given) => {
    const { responses } = connect(given);
    const begun = await create(given, { background: true });
    const ended = await until(
      () => responses.retrieve(begun.id),
      ({ status }) => !["queued", "in_progress"].includes(status),
    );
    return { begun: begun.status, ended: ended.status, text: ended.output_text };
  },
  cancelled: async (given) => {
    const begun = await create(given, { background: true });
    return (await connect(given).responses.cancel(begun.id)).status;
  },
  continued: async (given) => {
    const { responses } = connect(given);
    const before = await gathered(await create(given, { background: true, stream: true }), given.most);
    const { id } = before[0].response;
    const { sequence_number } = before.at(-1);
    const rest = await gathered(
      await responses.retrieve(id, { stream: true, starting_after: sequence_number }),
    );
    const numbers = [...before, ...rest].map((event) => event.sequence_number);
    return { isWhole: numbers.every((number, i) => number === i), text: joined([...before, ...rest]) };
  },
  batch: async (given) => {
    const { batches, files } = connect(given);
    const lines = given.lines.map((line) => JSON.stringify(line)).join("\n");
    const file = await files.create({ file: await toFile(Buffer.from(lines), "in.jsonl"), purpose: "batch" });
    const begun = await batches.create({
      input_file_id: file.id,
      endpoint: "/v1/chat/completions",
      completion_window: "24h",
    });
    const ended = await until(() => batches.retrieve(begun.id), ({ status }) => status === "completed");
    const rows = async (id) =>
      (await (await files.content(id)).text()).trim().split("\n").map((row) => JSON.parse(row));
    const answers = await rows(ended.output_file_id);
    const failures = await rows(ended.error_file_id);
    await files.delete(file.id);
    return {
      counts: ended.request_counts,
      answers: answers.map(({ custom_id, response }) => [custom_id, response.body.choices[0].message.content]),
      failures: failures.map(({ custom_id, response }) => [custom_id, response.status_code]),
    };
  },
});
