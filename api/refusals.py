"""Why a run is not accepted, as an error for the client."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from api.errors import ApiError
from api.rates import beyond_limit
from api.repeats import repeat_refusals
from shared.accounts import LimitReachedError, Standing
from shared.keys import Limits
from shared.submission import QueueFullError

_RETRY_WHEN_FULL_S = 5.0


@contextmanager
def refusals(limits: Limits, tell: Callable[[Standing], None]) -> Iterator[None]:
    """Turn what `RunStore.submit` raises into `ApiError`; `tell` hears how a key stands that met a limit."""
    try:
        with repeat_refusals():
            yield
    except LimitReachedError as error:
        tell(error.standing)
        raise beyond_limit(error, limits) from error
    except (OverflowError, RecursionError) as error:
        said = "A number in the request is too large, or its nesting too deep."
        raise ApiError(400, said, param="messages", code="invalid_value") from error
    except QueueFullError as error:
        raise ApiError(
            429,
            f"{error} Try again later.",
            type="rate_limit_error",
            code="queue_full",
            retry_after_s=_RETRY_WHEN_FULL_S,
            is_retryable=True,
        ) from error
