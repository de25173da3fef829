"""Passes: what one process shows in place of a credential, and what was spent with it."""

from __future__ import annotations

import hashlib
import secrets

_PREFIX = "pass-"


class Pass:
    """One process's right to call the model, and its count of calls and tokens."""

    def __init__(self) -> None:
        self.token = _PREFIX + secrets.token_urlsafe(32)
        self.calls = 0
        self.input_tokens = 0
        self.output_tokens = 0


class Passes:
    """The passes that are good now."""

    def __init__(self) -> None:
        self._known: dict[bytes, Pass] = {}

    def issue(self) -> Pass:
        """A new one; whoever has it revokes it."""
        issued = Pass()
        self._known[_digest(issued.token)] = issued
        return issued

    def revoke(self, issued: Pass) -> None:
        """Let it open nothing more. Safe to call twice."""
        self._known.pop(_digest(issued.token), None)

    def find(self, headers: dict[bytes, bytes]) -> Pass | None:
        """Whose call this is, by the headers in which a CLI shows its credential (names in lower case)."""
        shown = headers.get(b"x-api-key") or headers.get(b"authorization", b"").partition(b" ")[2]
        return self._known.get(_digest(shown.decode("latin-1")))


def _digest(token: str) -> bytes:
    """Looked up by digest: how long that takes tells nothing of a token."""
    return hashlib.sha256(token.encode()).digest()
