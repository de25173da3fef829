"""Which protocol a request speaks, where a path does not yet lead to a handler that knows."""

from __future__ import annotations

from litestar.types import Scope

_MESSAGES = "/v1/messages"
_MODELS = "/v1/models"


def is_anthropics(scope: Scope) -> bool:
    """Whether an HTTP request is to be answered as Anthropic's API answers.

    Both protocols have a model list at one path; only Anthropic's clients say a version.
    """
    path = scope["path"]
    if _is_at(path, _MESSAGES):
        return True
    return _is_at(path, _MODELS) and any(name == b"anthropic-version" for name, _ in scope["headers"])


def _is_at(path: str, root: str) -> bool:
    return path == root or path.startswith(root + "/")
