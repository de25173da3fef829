"""The runs of one line of a batch: named after the line, so that whoever comes back to it finds them."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncGenerator, Sequence

from msgspec.structs import replace

from api.accepted import AcceptedRun
from api.choices import Batch
from api.runs import Runs
from shared.batches.drive import Announce
from shared.batches.records import Item
from shared.runs import RunRequest


class ItemRuns:
    """Submits runs of a line as those of a batch; letting go of them leaves them be.

    `attempt` is how often the line was tried before. `wait_s` is how long a run may wait, in seconds.
    """

    def __init__(self, runs: Runs, item: Item, attempt: int, announce: Announce, wait_s: float) -> None:
        self._runs = runs
        self._item = item
        self._attempt = attempt
        self._announce = announce
        self._wait_s = wait_s
        self._count = 0

    async def submit(self, request: RunRequest, *, others: Sequence[AcceptedRun] = ()) -> AcceptedRun:  # noqa: ARG002
        """See `api.choices.RunSource`."""
        run_id = self._id(self._count)
        self._count += 1
        await self._announce(run_id, request.agent)
        return await self._runs.submit(replace(request, is_batch=True), run_id=run_id, wait_s=self._wait_s)

    def follow(self, run: AcceptedRun, *, tick_s: float) -> AsyncGenerator[Batch, None]:
        """See `api.choices.RunSource`."""
        return self._runs.follow(run, tick_s=tick_s)

    async def place(self, run_id: str) -> int:
        """See `api.choices.RunSource`."""
        return await self._runs.place(run_id)

    def abandon(self, runs: Sequence[AcceptedRun], *, has_begun: bool = False) -> None:
        """The run goes on: what it gives will be asked for again, or the batch stops it."""

    def _id(self, number: int) -> str:
        name = f"{self._item.batch_id}:{self._item.number}:{self._attempt}:{number}"
        digest = hashlib.blake2b(name.encode(), digest_size=16).hexdigest()
        return f"run_{self._item.created_ms:012x}{digest}"
