// The same call as code, to paste elsewhere. The key is never in it.

const short = (body) => JSON.stringify(body, (_, value) =>
  (typeof value === "string" && value.startsWith("data:") && value.length > 80 ? `${value.slice(0, 40)}…` : value), 2);

const SNIPPETS = {
  curl: (url, body) => [
    `curl -N ${url}/chat/completions \\`,
    `  -H "Authorization: Bearer $BACKLINE_API_KEY" \\`,
    `  -H 'Content-Type: application/json' \\`,
    `  -d '${short({ ...body, stream: true }).replaceAll("'", "'\\''")}'`,
  ].join("\n"),
  python: (url, body) => [
    "import os",
    "from openai import OpenAI",
    "",
    `client = OpenAI(base_url=${JSON.stringify(url)}, api_key=os.environ.get("BACKLINE_API_KEY", "unused"))`,
    "stream = client.chat.completions.create(",
    `    model=${JSON.stringify(body.model)},`,
    `    messages=${short(body.messages).replaceAll("\n", "\n    ")},`,
    "    stream=True,",
    ")",
    "for chunk in stream:",
    "    if chunk.choices:",
    '        print(chunk.choices[0].delta.content or "", end="", flush=True)',
  ].join("\n"),
  javascript: (url, body) => [
    'import OpenAI from "openai";',
    "",
    `const client = new OpenAI({ baseURL: ${JSON.stringify(url)}, apiKey: process.env.BACKLINE_API_KEY ?? "unused" });`,
    "const stream = await client.chat.completions.create({",
    `  model: ${JSON.stringify(body.model)},`,
    `  messages: ${short(body.messages).replaceAll("\n", "\n  ")},`,
    "  stream: true,",
    "});",
    "for await (const chunk of stream) {",
    '  process.stdout.write(chunk.choices[0]?.delta?.content ?? "");',
    "}",
  ].join("\n"),
};

export const snippet = (language, body) => SNIPPETS[language](`${location.origin}/v1`, body);
