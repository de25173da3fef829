"""Which call answers a request: read from the conversation alone, so the server remembers nothing."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import msgspec

from scripted_model.language import CLOSING, OPENING, Call, Script, Text
from scripted_model.minimal import minimal

if TYPE_CHECKING:
    from collections.abc import Iterator

CANNED_PACE_MS = 20.0
ECHO_LIMIT = 200
"""Characters of the user's line that the canned reply repeats."""

_REMINDER = re.compile(r"<system-reminder>.*?</system-reminder>", re.DOTALL)
_TOKEN = re.compile(r"\bt(\d+)\b")
_JSON = json.JSONDecoder()


class Block(msgspec.Struct, frozen=True):
    """A content block, as far as scripts look at it."""

    type: str
    text: str = ""


class Message(msgspec.Struct, frozen=True):
    """A message of the conversation."""

    role: str
    content: str | list[Block]

    def texts(self) -> list[str]:
        """List what was said, without tool results and images."""
        if isinstance(self.content, str):
            return [self.content]
        return [block.text for block in self.content if block.type == "text"]


class ModelRequest(msgspec.Struct, frozen=True):
    """The body of ``POST /v1/messages``, as far as it matters here."""

    model: str
    messages: list[Message]
    stream: bool = False
    output_config: dict[str, Any] = {}


class BadDirectiveError(ValueError):
    """A directive is there but is no script; the message says why."""


def choose_call(request: ModelRequest) -> Call:
    """Find the scripted call for ``request``, or the canned reply when no user text carries a script."""
    for position, text in _user_texts_newest_first(request.messages):
        found = find_script(text)
        if found is not None:
            answers = [message for message in request.messages[position:] if message.role == "assistant"]
            return _going_on(found.call(len(answers)), answers)
    return canned_call(request)


def find_script(text: str) -> Script | None:
    """Find the last directive in ``text``. One inside another's JSON (a sub-agent's prompt) is not seen."""
    found: Script | None = None
    start = text.find(OPENING)
    while start >= 0:
        found, end = _read_script(text, start + len(OPENING))
        start = text.find(OPENING, end)
    return found


def canned_call(request: ModelRequest) -> Call:
    """Say who is speaking, and repeat the user's last line; or the least that an answer's form allows."""
    form = request.output_config.get("format")
    if isinstance(form, dict) and form.get("type") == "json_schema":
        value = minimal(form.get("schema"))
        return Call(steps=[Text(text=json.dumps(value, ensure_ascii=False), pace_ms=CANNED_PACE_MS)])
    reply = (
        "This is a canned reply from the demo's scripted model; "
        "with real credentials an agent would answer here."
    )
    line = _last_line(request.messages)
    return Call(steps=[Text(text=f"You said: {line}\n\n{reply}" if line else reply, pace_ms=CANNED_PACE_MS)])


def _going_on(call: Call, answers: list[Message]) -> Call:
    """Put words in place of the tokens that go on: those behind the last that was said."""
    if not any(isinstance(step, Text) and step.goes_on for step in call.steps):
        return call
    said = [int(number) for each in answers for text in each.texts() for number in _TOKEN.findall(text)]
    first = max(said, default=-1) + 1

    def rest(step: Text) -> Text:
        words = " ".join(f"t{n}" for n in range(first, step.tokens)) or "."
        return msgspec.structs.replace(step, tokens=0, text=f" {words}" if first else words)

    steps = [rest(step) if isinstance(step, Text) and step.goes_on else step for step in call.steps]
    return msgspec.structs.replace(call, steps=steps)


def _read_script(text: str, at: int) -> tuple[Script, int]:
    try:
        parsed, end = _JSON.raw_decode(text, at)
        script = msgspec.convert(parsed, Script)
    except (ValueError, msgspec.ValidationError) as error:
        raise BadDirectiveError(f"unreadable script directive: {error}") from error
    if not text.startswith(CLOSING, end):
        raise BadDirectiveError(f"script directive does not end in {CLOSING}")
    return script, end + len(CLOSING)


def _user_texts_newest_first(messages: list[Message]) -> Iterator[tuple[int, str]]:
    for position in range(len(messages) - 1, -1, -1):
        if messages[position].role == "user":
            for text in reversed(messages[position].texts()):
                yield position, text


def _last_line(messages: list[Message]) -> str:
    for _, text in _user_texts_newest_first(messages):
        # The CLI adds reminders of its own to what the user wrote.
        spoken = _REMINDER.sub("", text).strip()
        if spoken:
            line = spoken.splitlines()[-1].strip()
            return line if len(line) <= ECHO_LIMIT else f"{line[: ECHO_LIMIT - 1]}…"
    return ""
