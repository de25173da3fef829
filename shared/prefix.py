"""A conversation's identity is what was said in it: a hash chain over its turns.

Two requests whose histories hash alike go on from the same place, whoever sends them to whichever replica;
an edited or regenerated turn is simply another prefix. Tenant, agent and its revision (or project), model
and system prompt are its root, so nobody reaches another's conversation by saying the same words.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import msgspec

from shared.content import Part, TextPart, ToolUsePart, Turn
from shared.runs import RunRequest

_VERSION = "1"
_encoder = msgspec.msgpack.Encoder(order="deterministic")


def prefix_of(request: RunRequest) -> str:
    """The hash (hex) of all that was said before the prompt."""
    prefix = _hash(
        _encoder.encode(
            (_VERSION, request.tenant, _root(request), request.model, (request.system or "").strip())
        )
    )
    for turn in request.history:
        prefix = _extend(prefix, turn)
    return prefix.hex()


def prefix_after(request: RunRequest, answer: str, calls: Sequence[ToolUsePart] = ()) -> str:
    """The hash (hex) that a client's next request will have, if it sends the answer back as it was shown."""
    prefix = bytes.fromhex(request.prefix or prefix_of(request))
    for turn in request.added:
        prefix = _extend(prefix, turn)
    prefix = _extend(prefix, Turn(role="user", parts=request.prompt))
    said = (TextPart(answer),) if answer.strip() or not calls else ()
    return _extend(prefix, Turn(role="assistant", parts=(*said, *calls))).hex()


def prefix_under(prefix: str, model: str | None, revision: str = "") -> str:
    """The hash (hex) of the same turns once another model or revision goes on with them.

    No process holds that yet.
    """
    under = ("model", model, revision) if revision else ("model", model)
    return _hash(bytes.fromhex(prefix) + _encoder.encode(under)).hex()


def _root(request: RunRequest) -> str:
    """Agent or project, and the agent's revision: no name of either has an `@`."""
    return f"{request.place}@{request.revision}" if request.revision else request.place


def _extend(prefix: bytes, turn: Turn) -> bytes:
    return _hash(prefix + _encoder.encode((turn.role, [_plain(part) for part in turn.parts])))


def _plain(part: Part) -> Part:
    """White space at the ends of a text is no difference: clients trim what they show."""
    return TextPart(part.text.strip()) if isinstance(part, TextPart) else part


def _hash(data: bytes) -> bytes:
    return hashlib.sha256(data).digest()
