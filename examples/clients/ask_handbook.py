"""Ask the agent `handbook`, and read the answer as it comes.

python examples/clients/ask_handbook.py "How many days of leave can I take along?"
"""

import os
import sys

from openai import OpenAI

client = OpenAI(
    base_url=os.environ.get("BACKLINE_URL", "http://127.0.0.1:9000") + "/v1",
    api_key=os.environ.get("BACKLINE_API_KEY", "unused"),
)
question = " ".join(sys.argv[1:]) or "How many days of leave can I take along to the next year?"

stream = client.chat.completions.create(
    model="handbook",
    messages=[{"role": "user", "content": question}],
    stream=True,
    extra_body={"backline": {"show": ["tools"]}},  # which documents it looks at
)
for chunk in stream:
    used = (chunk.model_extra or {}).get("backline", {}).get("tool")
    if used and used["status"] == "started":
        print(f"[{used['name']}]", file=sys.stderr)
    if chunk.choices:
        print(chunk.choices[0].delta.content or "", end="", flush=True)
print()
