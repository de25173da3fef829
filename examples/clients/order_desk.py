"""Talk to the agent `orders`, a line a message. Backline keeps the conversation: only what is new is sent.

python examples/clients/order_desk.py
"""

import os
import sys

from openai import OpenAI

client = OpenAI(
    base_url=os.environ.get("BACKLINE_URL", "http://127.0.0.1:9000") + "/v1",
    api_key=os.environ.get("BACKLINE_API_KEY", "unused"),
)
conversation = client.conversations.create(metadata={"channel": "desk"})

for line in sys.stdin:
    answer = client.responses.create(model="orders", conversation=conversation.id, input=line.strip())
    print(answer.output_text, flush=True)
