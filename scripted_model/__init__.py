"""A stand-in for Anthropic's Messages API whose replies are written in the prompt.

The real Claude CLI (or any Anthropic client) is pointed at it with ``ANTHROPIC_BASE_URL``; what it answers
is decided by a directive in the newest user text, so the server itself keeps no scenario::

    from scripted_model import call, script, say, serve, use_tool

    prompt = f"Clean up. {script(call(use_tool('Bash', {'command': 'ls'})), call(text('Done.')))}"
    async with serve() as url: ...

``language`` is what a script may say, ``build`` its short constructors, ``directive`` finds the script in a
request, ``play`` performs it, ``wire`` gives it Anthropic's shape, ``record`` remembers what came in,
``server`` is the ASGI application and ``serving`` puts it on a port.
"""

from scripted_model.build import call, cut, fail, say, script, stall, text, think, tokens, use_tool
from scripted_model.language import (
    Call,
    Cut,
    Fail,
    Script,
    Stall,
    Step,
    Text,
    Think,
    ToolUse,
    Usage,
)
from scripted_model.record import Received, RequestLog
from scripted_model.server import ScriptedModel, create_app
from scripted_model.serving import serve

__all__ = [
    "Call",
    "Cut",
    "Fail",
    "Received",
    "RequestLog",
    "Script",
    "ScriptedModel",
    "Stall",
    "Step",
    "Text",
    "Think",
    "ToolUse",
    "Usage",
    "call",
    "create_app",
    "cut",
    "fail",
    "say",
    "script",
    "serve",
    "stall",
    "text",
    "think",
    "tokens",
    "use_tool",
]
