"""Failures that the CLI reports, in our terms."""

from __future__ import annotations

import re

from shared.run_events import ErrorKind, RunError
from worker.claude.lines import Result

_OPERATORS_ADVICE = re.compile(r" If it persists, check your inference gateway \([^)]*\)\.?")
"""Part of the CLI's message that names the operator's own hosts (CLI 2.1)."""

_NO_CREDIT = "credit balance is too low"
"""What the service says when it is out of money (Anthropic's API, 2026)."""


class ApiFailure:
    """A failed model call, as the CLI reports it: an HTTP status (`None`: no answer) and its words."""

    def __init__(self, status: int | None, message: str) -> None:
        self._status = status
        self._message = message

    @property
    def error(self) -> RunError:
        """The same in our terms."""
        if _NO_CREDIT in self._message.lower():  # a 400, and no fault of the request
            said = "The model's service has no credit left for this server; its operator must see to it."
            return RunError(ErrorKind.UPSTREAM_AUTH, said)  # waiting brings none: no limit of a rate
        match self._status:
            case 401 | 403:
                return RunError(
                    ErrorKind.UPSTREAM_AUTH,
                    "The model's service refused this server's credentials; its operator must mend them.",
                )
            case 429:
                return RunError(
                    ErrorKind.UPSTREAM_RATE_LIMITED, self._say("is limiting this server's rate"), 20.0
                )
            case 529 | 503:
                return RunError(ErrorKind.UPSTREAM_OVERLOADED, self._say("is overloaded"), 10.0)
            case 400 | 404 | 413 | 422:
                has_not = "does not have the model, or not for this server"
                said = self._say(has_not if self._status == 404 else "refused the request")
                return RunError(ErrorKind.UPSTREAM_REFUSED_REQUEST, said)
            case _:
                return RunError(ErrorKind.UPSTREAM_ERROR, self._say("could not be reached or failed"))

    def _say(self, what: str) -> str:
        """Our own words; the service's are the client's to know only when they are about its request."""
        is_about_request = self._status in {400, 413, 422}
        return f"The model's service {what}." + (f" {self._message[:500]}" if is_about_request else "")


def error_of(result: Result) -> RunError:
    """Why a turn failed, by its result."""
    said = _OPERATORS_ADVICE.sub("", result.result or "; ".join(result.errors))
    if said.startswith("Not logged in"):
        return ApiFailure(401, said).error
    # The CLI's own estimate, before any call, gives no reason but its words (CLI 2.1).
    if result.terminal_reason == "prompt_too_long" or said.startswith("Prompt is too long"):
        return RunError(
            ErrorKind.CONTEXT_TOO_LONG, said or "The conversation is longer than the model can read."
        )
    if result.subtype == "error_max_turns":
        return RunError(ErrorKind.MAX_TURNS, "The agent took as many turns as it may.")
    if result.subtype == "error_max_budget_usd":
        return RunError(ErrorKind.MAX_BUDGET, "The agent has spent what the request lets it spend.")
    if result.api_error_status is not None or result.terminal_reason == "api_error":
        return ApiFailure(result.api_error_status, said).error
    return RunError(
        ErrorKind.INTERNAL, f"The agent's turn ended in an error: {said[:500] or result.subtype}."
    )
