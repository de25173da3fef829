"""What a worker holds of a run: the claim on it, and the attempt it has begun."""

from __future__ import annotations

import msgspec

from shared.runs import RunRequest


class Claim(msgspec.Struct, frozen=True):
    """The right to run `run_id` for the length of the lease; `score` is when it was due (ms).

    With `is_probe` the model's service has refused runs, and this one finds out whether it still does.
    """

    run_id: str
    queue: str
    token: str
    score: int
    is_probe: bool = False


class Claimed(msgspec.Struct, frozen=True):
    """What a look at the queues gave; `next_due_s` is when to look again, `None` when nothing waits."""

    claims: tuple[Claim, ...]
    next_due_s: float | None


class Attempt(msgspec.Struct, frozen=True):
    """One start of a run: `n` is the number of its first event, `cancel` a reason to end it at once."""

    run_id: str
    number: int
    n: int
    request: RunRequest
    cancel: str
    waited_s: float


class LogBehindError(Exception):
    """A run's log lacks what its worker has said: a replica of Redis took over that had not got so far."""


class UnreadableRunError(Exception):
    """A run's record does not hold a request that can be read; `attempt` is the start that found it so."""

    def __init__(self, attempt: int) -> None:
        super().__init__("The run's request cannot be read by this version.")
        self.attempt = attempt
