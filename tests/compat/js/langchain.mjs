// Scenarios of LangChain's ChatOpenAI for JavaScript.
import { HumanMessage } from "@langchain/core/messages";
import { tool } from "@langchain/core/tools";
import { ChatOpenAI } from "@langchain/openai";
import { z } from "zod";
import { play } from "./play.mjs";

const Person = z.object({ name: z.string(), age: z.number() });

const connect = ({ url, model }) =>
  new ChatOpenAI({ model, apiKey: "unused", maxRetries: 0, configuration: { baseURL: url } });

const weather = tool(async ({ city }) => `sunny in ${city}`, {
  name: "get_weather",
  description: "Weather of a city.",
  schema: z.object({ city: z.string() }),
});

await play({
  answer: async (given) => (await connect(given).invoke(given.prompt)).content,
  stream: async (given) => {
    const pieces = [];
    let usage = null;
    for await (const chunk of await connect(given).stream(given.prompt)) {
      if (chunk.content) pieces.push(chunk.content);
      usage = chunk.usage_metadata ?? usage;
    }
    return { pieces, usage };
  },
  tools: async (given) => {
    const bound = connect(given).bindTools([weather]);
    const history = [new HumanMessage(given.prompt)];
    const answer = await bound.invoke(history);
    const results = await Promise.all(answer.tool_calls.map((made) => weather.invoke(made)));
    const last = await bound.invoke([...history, answer, ...results]);
    return { calls: answer.tool_calls.map(({ name, args }) => [name, args]), final: last.content };
  },
  structured: async (given) =>
    connect(given).withStructuredOutput(Person, { name: "person", method: "jsonSchema" }).invoke(given.prompt),
  image: async (given) => {
    const content = [
      { type: "text", text: given.prompt },
      { type: "image_url", image_url: { url: given.image } },
    ];
    return (await connect(given).invoke([new HumanMessage({ content })])).content;
  },
  error: async (given) => {
    try {
      await connect(given).invoke(given.prompt);
    } catch (error) {
      return { status: error.status };
    }
    throw new Error("nothing was raised");
  },
  streamError: async (given) => {
    const pieces = [];
    try {
      for await (const chunk of await connect(given).stream(given.prompt)) pieces.push(chunk.content);
    } catch (error) {
      return { text: pieces.join(""), said: String(error.message) };
    }
    throw new Error("nothing was raised");
  },
  cancel: async (given) => {
    const stop = new AbortController();
    try {
      for await (const chunk of await connect(given).stream(given.prompt, { signal: stop.signal })) {
        if (chunk.content) stop.abort();
      }
    } catch {
      return stop.signal.aborted;
    }
    return stop.signal.aborted;
  },
});
