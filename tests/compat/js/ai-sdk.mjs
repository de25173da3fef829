// Scenarios of the AI SDK with its provider for OpenAI's API.
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { generateObject, generateText, jsonSchema, stepCountIs, streamText, tool } from "ai";
import { z } from "zod";
import { play } from "./play.mjs";

const Person = z.object({ name: z.string(), age: z.number() });

const asked = (given, fields = {}) => ({
  model: createOpenAICompatible({
    name: "backline",
    baseURL: given.url,
    apiKey: "unused",
    includeUsage: true,
    supportsStructuredOutputs: true,
  })(given.model),
  prompt: given.prompt,
  maxRetries: given.maxRetries ?? 0,
  ...fields,
});

const tools = (given) =>
  Object.fromEntries(
    given.tools.map(({ function: { name, description, parameters } }) => [
      name,
      tool({
        description,
        inputSchema: jsonSchema(parameters),
        execute: async ({ city }) => `sunny in ${city}`,
      }),
    ]),
  );

const told = (steps) => steps.flatMap((step) => step.toolCalls.map((made) => [made.toolName, made.input]));

await play({
  answer: async (given) => {
    const { text, finishReason } = await generateText(asked(given));
    return { text, finish: finishReason };
  },
  stream: async (given) => {
    const result = streamText(asked(given));
    const pieces = [];
    for await (const piece of result.textStream) pieces.push(piece);
    return { pieces, finish: await result.finishReason, usage: await result.usage };
  },
  tools: async (given) => {
    const { text, steps } = await generateText(asked(given, { tools: tools(given), stopWhen: stepCountIs(3) }));
    return { calls: told(steps), final: text };
  },
  streamedTools: async (given) => {
    const result = streamText(asked(given, { tools: tools(given), stopWhen: stepCountIs(3) }));
    await result.consumeStream();
    return { calls: told(await result.steps), final: await result.text };
  },
  toolChoice: async (given) => {
    const { steps } = await generateText(asked(given, { tools: tools(given), toolChoice: given.choice }));
    return told(steps);
  },
  structured: async (given) => (await generateObject(asked(given, { schema: Person }))).object,
  image: async (given) => {
    const content = [
      { type: "text", text: given.prompt },
      { type: "image", image: given.image },
    ];
    const { text } = await generateText(asked(given, { prompt: [{ role: "user", content }] }));
    return text;
  },
  error: async (given) => {
    try {
      await generateText(asked(given));
    } catch (error) {
      const { name, statusCode, isRetryable } = error.lastError ?? error;
      return { name, statusCode, isRetryable };
    }
    throw new Error("nothing was raised");
  },
  streamError: async (given) => {
    const errors = [];
    const pieces = [];
    const result = streamText(asked(given, { onError: ({ error }) => errors.push(String(error.message ?? error)) }));
    for await (const piece of result.textStream) pieces.push(piece);
    return { errors, text: pieces.join("") };
  },
  cancel: async (given) => {
    const stop = new AbortController();
    const result = streamText(asked(given, { abortSignal: stop.signal }));
    for await (const _ of result.textStream) stop.abort();
    return true;
  },
});
