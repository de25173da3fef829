"""What the scripted model is told to answer: a row of numbered tokens, after the use of a tool at times."""

from __future__ import annotations

import random

from chaos.history import Seen
from scripted_model import call, script, text, tokens, use_tool


def prompt_of(seen: Seen, rng: random.Random) -> str:
    """A request's words, by which the model finds what to say, and everybody the request."""
    count = call(tokens(seen.tokens, pace_ms=rng.choice([5, 20, 60]), goes_on=True))
    if not seen.uses_tool:
        return f"{seen.marker} {script(count)}"
    # One write, so that what two processes append cannot mix.
    effect = use_tool("Bash", {"command": f"echo {seen.marker} >> effects.log"})
    return f"{seen.marker} {script(call(text('I do it.'), effect), count)}"
