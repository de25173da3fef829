"""What ARQ keeps of the plain gateway's jobs when all is over."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from arq.connections import ArqRedis
from arq.jobs import Job

from chaos.history import Ended, History, Seen, numbers_of
from chaos.model_calls import ModelCalls
from chaos.stand import Stand


async def read(stand: Stand, history: History, calls: ModelCalls, effects: Sequence[str]) -> None:
    """Fill in the runs, of those requests whose clients were told of one."""
    acted = Counter(effects)
    redis = ArqRedis(unix_socket_path=str(stand.socket), socket_timeout=10)
    try:
        for seen in history.requests:
            if seen.run_id:
                history.runs.append(await _ended(Job(seen.run_id, redis), seen, calls, acted[seen.marker]))
    finally:
        await redis.aclose()


async def _ended(job: Job, seen: Seen, calls: ModelCalls, effects: int) -> Ended:
    end = await job.result_info()
    began = calls.began(seen.marker)
    return Ended(
        id=seen.run_id,
        marker=seen.marker,
        state=(await job.status()).value if end is None else "completed" if end.success else "failed",
        attempts=max(1, len(began)) if end is None else end.job_try,
        numbers=numbers_of(str(end.result)) if end is not None and end.success else [],
        event_numbers=[],
        hidden=0,
        ends=1 if end is not None else 0,
        output_tokens=0,
        error="" if end is None or end.success else type(end.result).__name__,
        model_calls=len(began),
        overlap_s=calls.overlap_s(seen.marker),
        effects=effects,
    )
