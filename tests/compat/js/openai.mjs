// Scenarios of the `openai` package; each gets what the test gives and returns what the test checks.
import OpenAI from "openai";
import { zodResponseFormat } from "openai/helpers/zod";
import { z } from "zod";
import { play } from "./play.mjs";

const Person = z.object({ name: z.string(), age: z.number() });

const connect = ({ url, maxRetries = 0 }) => new OpenAI({ baseURL: url, apiKey: "unused", maxRetries });

const ask = (given, fields = {}) =>
  connect(given).chat.completions.create({
    model: given.model,
    messages: [{ role: "user", content: given.prompt }],
    ...fields,
  });

const results = (message) =>
  message.tool_calls.map((made) => ({
    role: "tool",
    tool_call_id: made.id,
    content: `sunny in ${JSON.parse(made.function.arguments).city}`,
  }));

const finish = async (given, message) => {
  const answer = await connect(given).chat.completions.create({
    model: given.model,
    messages: [{ role: "user", content: given.prompt }, message, ...results(message)],
    tools: given.tools,
  });
  return answer.choices[0].message.content;
};

const told = (message) => message.tool_calls.map(({ function: f }) => [f.name, JSON.parse(f.arguments)]);

const caught = async (work) => {
  try {
    await work();
  } catch (error) {
    return { kind: error.constructor.name, status: error.status ?? null, code: error.code ?? null };
  }
  throw new Error("nothing was raised");
};

await play({
  answer: async (given) => {
    const { choices } = await ask(given);
    return { text: choices[0].message.content, finish: choices[0].finish_reason };
  },
  stream: async (given) => {
    const pieces = [];
    const finishes = [];
    let usage = null;
    for await (const chunk of await ask(given, { stream: true, stream_options: { include_usage: true } })) {
      usage = chunk.usage ?? usage;
      for (const { delta, finish_reason } of chunk.choices) {
        if (delta.content) pieces.push(delta.content);
        if (finish_reason) finishes.push(finish_reason);
      }
    }
    return { pieces, finishes, usage };
  },
  tools: async (given) => {
    const { choices } = await ask(given, { tools: given.tools });
    const { message, finish_reason } = choices[0];
    return { finish: finish_reason, calls: told(message), final: await finish(given, message) };
  },
  streamedTools: async (given) => {
    const stream = connect(given).chat.completions.stream({
      model: given.model,
      messages: [{ role: "user", content: given.prompt }],
      tools: given.tools,
    });
    const { message, finish_reason } = (await stream.finalChatCompletion()).choices[0];
    return { finish: finish_reason, calls: told(message), final: await finish(given, message) };
  },
  runTools: async (given) => {
    const runner = connect(given).chat.completions.runTools({
      model: given.model,
      messages: [{ role: "user", content: given.prompt }],
      tools: given.tools.map((tool) => ({
        type: "function",
        function: { ...tool.function, parse: JSON.parse, function: ({ city }) => `sunny in ${city}` },
      })),
    });
    return await runner.finalContent();
  },
  toolChoice: async (given) => {
    const { choices } = await ask(given, { tools: given.tools, tool_choice: given.choice });
    return told(choices[0].message);
  },
  structured: async (given) => {
    const answer = await connect(given).chat.completions.parse({
      model: given.model,
      messages: [{ role: "user", content: given.prompt }],
      response_format: zodResponseFormat(Person, "person"),
    });
    return answer.choices[0].message.parsed;
  },
  image: async (given) => {
    const content = [
      { type: "text", text: given.prompt },
      { type: "image_url", image_url: { url: given.image } },
    ];
    const { choices } = await ask(given, { messages: [{ role: "user", content }] });
    return choices[0].message.content;
  },
  error: (given) => caught(() => ask(given, given.fields)),
  streamError: async (given) => {
    const pieces = [];
    const error = await caught(async () => {
      for await (const chunk of await ask(given, { stream: true })) {
        pieces.push(chunk.choices[0].delta.content ?? "");
      }
    });
    return { ...error, text: pieces.join("") };
  },
  cancel: async (given) => {
    for await (const chunk of await ask(given, { stream: true })) {
      if (chunk.choices[0].delta.content) break; // which closes the connection
    }
    return true;
  },
  choices: async (given) => {
    const { choices } = await ask(given, { n: 2 });
    return choices.map(({ index, message }) => [index, message.content]);
  },
  completion: async (given) => {
    const answer = await connect(given).completions.create({ model: given.model, prompt: given.prompt });
    return answer.choices[0].text;
  },
  stored: async (given) => {
    const { completions } = connect(given).chat;
    const { id } = await ask(given, { store: true, metadata: { test: given.marker } });
    const found = [];
    for await (const one of completions.list({ metadata: { test: given.marker } })) found.push(one.id);
    const { choices } = await completions.retrieve(id);
    const { deleted } = await completions.delete(id);
    return { isListed: found.includes(id), text: choices[0].message.content, deleted };
  },
  models: async (given) => {
    const found = [];
    for await (const model of connect(given).models.list()) found.push(model.id);
    return { found, one: (await connect(given).models.retrieve(given.model)).id };
  },
});
