"""Fallbacks: OpenAI-compatible services that answer in an agent's place, and what they cannot do for it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Any, Literal
from urllib.parse import urlsplit

import msgspec
from msgspec import Meta

from shared.runs import LaunchOptions, RunRequest

_SHOWN = ("name", "url", "model", "models", "timeout_s", "priority", "limit_field")
_NAME = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"


class Fallback(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True, forbid_unknown_fields=True):
    """A service. `url` is its base, such as `https://api.openai.com/v1`; `name` is unset its host's.

    It answers for the agents in `models`, each by that model, and with `model` for all others too. A key of
    `models` may be `agent`, `agent/claude-model` or a Claude model; the first of them that is there counts.
    `timeout_s` bounds each silence. A lower `priority` is tried earlier; equal ones in the given order.
    """

    url: str
    key: str = ""
    name: Annotated[str, Meta(pattern=_NAME)] | Literal[""] = ""
    model: str = ""
    models: dict[str, str] = {}
    timeout_s: Annotated[float, Meta(gt=0, le=3600)] = 60.0
    priority: int = 0
    limit_field: Literal["max_completion_tokens", "max_tokens"] = "max_completion_tokens"
    """What the service calls the bound of an answer's tokens."""

    def __post_init__(self) -> None:
        """Refuse what can never be asked."""
        parts = urlsplit(self.url)
        if parts.scheme not in {"http", "https"} or not parts.hostname or parts.username or parts.query:
            raise ValueError("url must be an http:// or https:// address without a password or a query")
        if not self.model and not self.models:
            raise ValueError("model or models must say what to ask for")
        if not self.key.isascii() or not all(character.isprintable() for character in self.key):
            raise ValueError("key must be printable ASCII")

    @property
    def label(self) -> str:
        """What it is called in answers and logs."""
        return self.name or urlsplit(self.url).hostname or ""

    def model_for(self, agent: str, claude_model: str | None) -> str:
        """The model that answers in an agent's place; empty when none is to."""
        asked = (f"{agent}/{claude_model}", agent, claude_model) if claude_model else (agent,)
        return next((self.models[name] for name in asked if name in self.models), self.model)

    def __repr__(self) -> str:
        """All but the key."""
        return f"Fallback({', '.join(f'{name}={getattr(self, name)!r}' for name in _SHOWN)})"

    def __rich_repr__(self) -> list[tuple[str, Any]]:
        """The same."""
        return [(name, getattr(self, name)) for name in _SHOWN]


def in_order(fallbacks: Iterable[Fallback]) -> tuple[Fallback, ...]:
    """Fallbacks in the order in which they are to be tried."""
    return tuple(sorted(fallbacks, key=lambda each: each.priority))


def agent_only(request: RunRequest) -> list[str]:
    """What a run asks for that only an agent has, in the words of requests; a fallback must not drop it."""
    asked = {
        "claude_options": request.options != LaunchOptions(),
        "conversation_id": bool(request.conversation or request.items),
        "project_id": bool(request.project),
        "session_id": bool(request.session and not request.conversation),
    }
    return [name for name, is_asked in asked.items() if is_asked]
