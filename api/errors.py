"""What can go wrong at the edge, and the one table from a run's failures to HTTP."""

from __future__ import annotations

import msgspec

from shared.run_events import ErrorKind, RunCancelled, RunError


class ApiError(Exception):
    """An error for the client. `type` and `code` are OpenAI's words; `retry_after_s` is in seconds.

    `is_retryable` false tells OpenAI's SDKs not to try again by themselves.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        type: str = "invalid_request_error",  # noqa: A002 - the wire's own word
        param: str | None = None,
        code: str | None = None,
        retry_after_s: float | None = None,
        is_retryable: bool | None = None,
        run_id: str | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.message = message
        self.type = type
        self.param = param
        self.code = code
        self.retry_after_s = retry_after_s
        self.is_retryable = is_retryable
        self.run_id = run_id

    @property
    def headers(self) -> dict[str, str]:
        """The headers that go with the status."""
        headers: dict[str, str] = {}
        if self.retry_after_s is not None:
            headers["retry-after"] = str(max(1, round(self.retry_after_s)))
            headers["retry-after-ms"] = str(max(1, round(self.retry_after_s * 1000)))
        if self.is_retryable is not None:
            headers["x-should-retry"] = "true" if self.is_retryable else "false"
        if self.run_id is not None:
            headers["x-backline-run-id"] = self.run_id
        return headers


class ClientGoneError(Exception):
    """The client hung up before there was anything to say."""


class _Answer(msgspec.Struct, frozen=True):
    status: int
    type: str
    code: str


_ANSWERS: dict[ErrorKind, _Answer] = {
    ErrorKind.AGENT_UNAVAILABLE: _Answer(503, "service_unavailable_error", "agent_unavailable"),
    ErrorKind.CLI_NOT_STARTED: _Answer(500, "server_error", "agent_not_started"),
    ErrorKind.CLI_DIED: _Answer(502, "server_error", "agent_died"),
    ErrorKind.AGENT_OUT_OF_MEMORY: _Answer(502, "server_error", "agent_out_of_memory"),
    # Not 401: the client's own key is good, it is the server's that is not.
    ErrorKind.UPSTREAM_AUTH: _Answer(502, "server_error", "upstream_auth"),
    ErrorKind.UPSTREAM_RATE_LIMITED: _Answer(429, "rate_limit_error", "rate_limit_exceeded"),
    ErrorKind.UPSTREAM_OVERLOADED: _Answer(503, "service_unavailable_error", "upstream_overloaded"),
    ErrorKind.UPSTREAM_REFUSED_REQUEST: _Answer(400, "invalid_request_error", "upstream_refused_request"),
    ErrorKind.UPSTREAM_ERROR: _Answer(502, "server_error", "upstream_error"),
    ErrorKind.CONTEXT_TOO_LONG: _Answer(400, "invalid_request_error", "context_length_exceeded"),
    ErrorKind.MAX_TURNS: _Answer(500, "server_error", "max_turns"),
    ErrorKind.MAX_BUDGET: _Answer(400, "invalid_request_error", "max_budget_usd"),
    ErrorKind.QUEUE_TIMEOUT: _Answer(503, "service_unavailable_error", "queue_timeout"),
    ErrorKind.RUN_TIMEOUT: _Answer(504, "server_error", "run_timeout"),
    ErrorKind.SILENT: _Answer(504, "server_error", "agent_silent"),
    ErrorKind.WORKER_LOST: _Answer(500, "server_error", "worker_lost"),
    ErrorKind.SESSION_GONE: _Answer(404, "invalid_request_error", "session_not_found"),
    ErrorKind.INVALID_OUTPUT: _Answer(502, "server_error", "invalid_output"),
    ErrorKind.REVISION_NOT_FOUND: _Answer(404, "invalid_request_error", "model_not_found"),
    ErrorKind.NOT_PERMITTED: _Answer(403, "permission_error", "not_permitted"),
    ErrorKind.STORAGE_FULL: _Answer(507, "server_error", "storage_full"),
    ErrorKind.INTERNAL: _Answer(500, "server_error", "internal_error"),
}


def failed(error: RunError, run_id: str) -> ApiError:
    """The error of a run that failed. The agent may have acted, so no SDK repeats it by itself."""
    answer = _ANSWERS[error.kind]
    return ApiError(
        answer.status,
        error.message,
        type=answer.type,
        code=answer.code,
        retry_after_s=error.retry_after_s,
        is_retryable=False,
        run_id=run_id,
    )


def begun_anew(run_id: str) -> ApiError:
    """The error of a stream whose run begins anew after its worker was lost."""
    said = "The worker was lost after the answer had begun, and a stream cannot begin anew."
    return failed(RunError(ErrorKind.WORKER_LOST, said), run_id)


def cancelled(event: RunCancelled, run_id: str) -> ApiError:
    """The error of a run that somebody cancelled while this client waited for it."""
    return ApiError(
        409, event.reason, type="cancelled_error", code="run_cancelled", is_retryable=False, run_id=run_id
    )


def project_unavailable(project_id: str) -> ApiError:
    """No live worker has the files of a project; one that has them may come back."""
    return ApiError(
        503,
        f"No live worker has the files of the project {project_id!r} right now.",
        type="service_unavailable_error",
        code="project_unavailable",
        param="project_id",
        retry_after_s=5.0,
        is_retryable=True,
    )


def unavailable(message: str, *, retry_after_s: float = 2.0) -> ApiError:
    """Nothing was accepted; it may be tried again."""
    return ApiError(
        503,
        message,
        type="service_unavailable_error",
        code="service_unavailable",
        retry_after_s=retry_after_s,
        is_retryable=True,
    )


def storage_full() -> ApiError:
    """Nothing was kept; an SDK's own repeats a second later would find the same."""
    said = "The storage of files is full or may only be read; the operator must make room."
    return ApiError(507, said, type="server_error", code="storage_full", is_retryable=False)
