"""What `up` and `demo` say when everything runs."""

from __future__ import annotations

import json
import shlex
from typing import TYPE_CHECKING

from rich.console import Console
from rich.text import Text

if TYPE_CHECKING:
    from collections.abc import Sequence

_PYTHON = """\
from openai import OpenAI

client = OpenAI(base_url="{base}", api_key={key})
reply = client.chat.completions.create(
    model="{model}",
    messages=[{{"role": "user", "content": "Hello! What can you do?"}}],
)
print(reply.choices[0].message.content)"""


def base_url(host: str, port: int) -> str:
    """Return the address to reach a server by that listens on `host`."""
    reachable = {"0.0.0.0": "127.0.0.1", "::": "[::1]", "": "127.0.0.1"}.get(host, host)  # noqa: S104 - compared, not bound
    if ":" in reachable and not reachable.startswith("["):
        reachable = f"[{reachable}]"
    return f"http://{reachable}:{port}"


def curl_example(url: str, model: str, *, needs_key: bool = False) -> str:
    """Return a curl command that streams a reply from `model`; it can be pasted into a shell."""
    body = {
        "model": model,
        "stream": True,
        "messages": [{"role": "user", "content": "Hello! What can you do?"}],
    }
    return (
        f"curl -N {url}/v1/chat/completions \\\n"
        "  -H 'Content-Type: application/json' \\\n"
        + ('  -H "Authorization: Bearer $BACKLINE_API_KEY" \\\n' if needs_key else "")
        + f"  -d {shlex.quote(json.dumps(body))}"
    )


def python_example(url: str, model: str, *, needs_key: bool = False) -> str:
    """Return a Python program that asks `model` through the official SDK."""
    key = 'os.environ["BACKLINE_API_KEY"]' if needs_key else '"unused"'
    program = _PYTHON.format(base=f"{url}/v1", model=model, key=key)
    return f"import os\n\n{program}" if needs_key else program


def print_banner(
    url: str,
    models: Sequence[str],
    *,
    demo: bool,
    needs_key: bool = False,
    is_detached: bool = False,
    console: Console | None = None,
) -> None:
    """Print where everything is, and two examples: at the margin and unboxed, so that they can be pasted.

    What `is_detached` goes into a log, at which nobody sits.
    """
    out = console or Console(highlight=False)

    def say(text: str | Text = "", style: str = "") -> None:
        out.print(text if isinstance(text, Text) else Text(text), style=style, soft_wrap=True)

    say()
    say(Text.assemble(("Backline is ready", "bold green"), "  ", (url, "bold")))
    say(f"Models     {', '.join(models)}")
    say(f"API        {url}/v1")
    say(f"Docs       {url}/docs")
    say(f"Dashboard  {url}/dashboard")
    if demo:
        say(
            "This is the demo: replies are canned (a scripted model on this machine); no account, no key.",
            "yellow",
        )
        say("Serve your own agent with: make up AGENT=path/to/agent", "yellow")
    if needs_key:
        say("Requests need a key: backline keys create --name me, then export BACKLINE_API_KEY=…", "yellow")
    if models:
        say("\nTry it with curl:\n", "dim")
        say(curl_example(url, models[0], needs_key=needs_key))
        say("\nor Python (pip install openai):\n", "dim")
        say(python_example(url, models[0], needs_key=needs_key))
    if not is_detached:
        say("\nCtrl-C stops everything.\n", "dim")
