"""Have the agent `reviewer` look at a diff; print what it found, a line each. The exit code is 1 for a bug.

git diff main | python examples/clients/review.py
"""

import json
import os
import sys

from openai import OpenAI

FINDING = {
    "type": "object",
    "properties": {
        "file": {"type": "string"},
        "line": {"type": "integer"},
        "kind": {"type": "string", "enum": ["bug", "risk", "note"]},
        "what": {"type": "string"},
    },
    "required": ["file", "line", "kind", "what"],
    "additionalProperties": False,
}
FINDINGS = {
    "type": "object",
    "properties": {"findings": {"type": "array", "items": FINDING}},
    "required": ["findings"],
    "additionalProperties": False,
}

client = OpenAI(
    base_url=os.environ.get("BACKLINE_URL", "http://127.0.0.1:9000") + "/v1",
    api_key=os.environ.get("BACKLINE_API_KEY", "unused"),
)
answer = client.chat.completions.create(
    model="reviewer",
    messages=[{"role": "user", "content": f"Review this change:\n\n{sys.stdin.read()}"}],
    response_format={"type": "json_schema", "json_schema": {"name": "findings", "schema": FINDINGS}},
    timeout=600,
)
findings = json.loads(answer.choices[0].message.content or "{}")["findings"]
for found in findings:
    print(f"{found['file']}:{found['line']}: {found['kind']}: {found['what']}")
sys.exit(any(found["kind"] == "bug" for found in findings))
