"""Ask the same of every text file in a folder, as one batch; write each answer beside its file.

python examples/clients/batch_folder.py FOLDER "Summarize this in two sentences."
"""

import io
import json
import os
import sys
import time
from pathlib import Path

from openai import OpenAI

client = OpenAI(
    base_url=os.environ.get("BACKLINE_URL", "http://127.0.0.1:9000") + "/v1",
    api_key=os.environ.get("BACKLINE_API_KEY", "unused"),
)
folder = Path(sys.argv[1])
task = sys.argv[2] if len(sys.argv) > 2 else "Summarize this in two sentences."
model = os.environ.get("AGENT", "assistant")


def request(path: Path) -> dict[str, object]:
    """A line of the batch."""
    content = f"{task}\n\n{path.read_text('utf-8')}"
    body = {"model": model, "messages": [{"role": "user", "content": content}]}
    return {"custom_id": path.name, "method": "POST", "url": "/v1/chat/completions", "body": body}


documents = sorted(path for path in folder.iterdir() if path.suffix in {".md", ".txt"})
lines = "\n".join(json.dumps(request(path)) for path in documents)
upload = client.files.create(file=("requests.jsonl", io.BytesIO(lines.encode())), purpose="batch")
batch = client.batches.create(
    input_file_id=upload.id, endpoint="/v1/chat/completions", completion_window="24h"
)

while batch.status in {"validating", "in_progress", "finalizing", "cancelling"}:
    time.sleep(1)
    batch = client.batches.retrieve(batch.id)
print(f"{batch.status}: {batch.request_counts.completed if batch.request_counts else 0} of {len(documents)}")

for file_id in filter(None, (batch.output_file_id, batch.error_file_id)):
    for line in client.files.content(file_id).text.splitlines():
        result = json.loads(line)
        answer = (result.get("response") or {}).get("body", {})
        if "choices" in answer:
            target = folder / f"{result['custom_id']}.answer"
            target.write_text(answer["choices"][0]["message"]["content"] + "\n", "utf-8")
        else:
            print(
                f"{result['custom_id']}: {(result['error'] or answer['error'])['message']}", file=sys.stderr
            )
sys.exit(batch.status != "completed" or batch.error_file_id is not None)
