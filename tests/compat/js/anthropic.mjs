// Scenarios of the `@anthropic-ai/sdk` package.
import Anthropic from "@anthropic-ai/sdk";
import { play } from "./play.mjs";

const TOOLS = [
  {
    name: "get_weather",
    description: "Weather of a city.",
    input_schema: { type: "object", properties: { city: { type: "string" } }, required: ["city"] },
  },
];

const connect = ({ url }) => new Anthropic({ baseURL: url, apiKey: "unused", maxRetries: 0 });

const asked = ({ model, prompt }, fields = {}) => ({
  model,
  max_tokens: 500,
  messages: [{ role: "user", content: prompt }],
  ...fields,
});

const text = (message) =>
  message.content
    .filter(({ type }) => type === "text")
    .map((block) => block.text)
    .join("");

await play({
  answer: async (given) => {
    const message = await connect(given).messages.create(asked(given));
    return { text: text(message), stop: message.stop_reason };
  },
  stream: async (given) => {
    const pieces = [];
    const stream = connect(given).messages.stream(asked(given)).on("text", (piece) => pieces.push(piece));
    const { usage } = await stream.finalMessage();
    return { pieces, usage };
  },
  tools: async (given) => {
    const client = connect(given);
    const request = asked(given, { tools: TOOLS });
    const message = await client.messages.stream(request).finalMessage();
    const calls = message.content.filter(({ type }) => type === "tool_use");
    const results = calls.map(({ id, input }) => ({
      type: "tool_result",
      tool_use_id: id,
      content: `sunny in ${input.city}`,
    }));
    const messages = [
      ...request.messages,
      { role: "assistant", content: message.content },
      { role: "user", content: results },
    ];
    const last = await client.messages.create({ ...request, messages });
    return { calls: calls.map(({ name, input }) => [name, input]), final: text(last) };
  },
  image: async (given) => {
    const source = { type: "base64", media_type: "image/png", data: given.image };
    const content = [
      { type: "image", source },
      { type: "text", text: given.prompt },
    ];
    return text(await connect(given).messages.create(asked(given, { messages: [{ role: "user", content }] })));
  },
  error: async (given) => {
    try {
      await connect(given).messages.create(asked(given));
    } catch (error) {
      return { kind: error.constructor.name, status: error.status };
    }
    throw new Error("nothing was raised");
  },
  streamError: async (given) => {
    const pieces = [];
    try {
      await connect(given)
        .messages.stream(asked(given))
        .on("text", (piece) => pieces.push(piece))
        .finalMessage();
    } catch (error) {
      return { text: pieces.join(""), said: String(error.message) };
    }
    throw new Error("nothing was raised");
  },
  cancel: async (given) => {
    const stream = connect(given).messages.stream(asked(given));
    stream.on("text", () => stream.abort());
    try {
      await stream.finalMessage();
    } catch {
      return stream.aborted;
    }
    return false;
  },
});
