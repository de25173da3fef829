"""The life of runs, walked in any order: lapsed leases, late owners, cancels, repeats; beside a model."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar, cast

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    initialize,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)
from redis import Redis
from redis.exceptions import ResponseError

from shared import redis_keys as keys
from shared.redis import connect
from shared.run_store import Claim, QueueFullError, RunStore
from shared.runs import (
    TERMINAL_STATES,
    RunEvent,
    RunStarted,
    RunState,
    TerminalEvent,
    TextDelta,
    decode_event,
    encode_event,
)
from tests.unit.support import CANCELLED, COMPLETED, FAILED, Valkey, submit

_T = TypeVar("_T")
AGENT_OF = {"r0": "a", "r1": "a", "r2": "a", "r3": "b", "r4": "b"}
RUNS = st.sampled_from(sorted(AGENT_OF))
ENDS = st.sampled_from([COMPLETED, FAILED, CANCELLED])
ID = re.compile(rb"(\d+)-(\d+)")


@dataclass
class Run:
    """What Redis should hold of a run."""

    state: RunState = RunState.QUEUED
    attempt: int = 0
    holder: str | None = None
    is_due: bool = True
    cancel: str = ""
    worker: str = ""
    log: list[tuple[int, RunEvent]] = field(default_factory=list)

    @property
    def is_free(self) -> bool:
        return not self.state.is_terminal and self.is_due and self.holder is None

    def end(self, attempt: int, event: TerminalEvent) -> None:
        self.log.append((attempt, event))
        self.attempt, self.state, self.holder = attempt, TERMINAL_STATES[type(event)], None


@dataclass
class Owner:
    """A worker's belief, right or out of date, that it has a run."""

    claim: Claim
    attempt: int = 0
    n: int = 0
    is_finished: bool = False


class Life(RuleBasedStateMachine):
    owners = Bundle("owners")

    def __init__(self, runner: asyncio.Runner, raw: Redis, store: RunStore) -> None:
        super().__init__()
        self.runner, self.raw, self.store = runner, raw, store
        self.runs: dict[str, Run] = {}
        self.tokens = 0

    def do(self, step: Coroutine[Any, Any, _T]) -> _T:
        return self.runner.run(step)

    @initialize()
    def begin_with_some(self) -> None:
        self.raw.flushall()
        for run_id in ("r0", "r1", "r3"):
            self.submit(run_id, 4)

    @rule(run_id=RUNS, limit=st.integers(1, 4))
    def submit(self, run_id: str, limit: int) -> None:
        agent = AGENT_OF[run_id]
        waiting = sum(
            run.is_due and not run.state.is_terminal
            for each, run in self.runs.items()
            if AGENT_OF[each] == agent
        )
        if run_id not in self.runs and waiting >= limit:
            with pytest.raises(QueueFullError):
                self.do(submit(self.store, run_id, agent, limit=limit))
        else:
            self.do(submit(self.store, run_id, agent, limit=limit))
            self.runs.setdefault(run_id, Run())

    @rule(target=owners, agents=st.permutations(["a", "b"]), limit=st.integers(1, 3))
    def claim(self, agents: list[str], limit: int) -> Any:
        self.tokens += 1
        token = f"w{self.tokens % 3}:{self.tokens}"
        free = {run_id for run_id, run in self.runs.items() if run.is_free}
        claimed = self.do(self.store.claim([keys.queue(agent) for agent in agents], token, limit))
        taken = [claim.run_id for claim in claimed.claims]
        assert len(set(taken)) == len(taken) == min(limit, len(free))
        assert set(taken) <= free
        order = [agents.index(AGENT_OF[run_id]) for run_id in taken]
        assert order == sorted(order)
        for run_id in taken:
            self.runs[run_id].holder, self.runs[run_id].is_due = token, False
            self.raw.incr(keys.retry(run_id))  # as ARQ counts starts
            self.raw.expire(keys.retry(run_id), 60)
        for run_id, run in self.runs.items():  # held ones that were passed over are put off
            if run.is_due and run.holder is not None and not run.state.is_terminal:
                score = self.raw.zscore(keys.queue(AGENT_OF[run_id]), run_id)
                run.is_due = score == 1
        return multiple(*(Owner(claim) for claim in claimed.claims))

    @rule(owner=owners)
    def begin(self, owner: Owner) -> None:
        run = self.runs[owner.claim.run_id]
        worker = owner.claim.token.partition(":")[0]
        attempt = self.do(self.store.begin(owner.claim, worker, ttl_s=60))
        if run.holder != owner.claim.token or run.state.is_terminal:
            assert attempt is None
            return
        assert attempt is not None
        run.attempt += 1
        run.state = RunState.RUNNING
        run.worker = worker
        run.log.append((run.attempt, RunStarted(worker=worker)))
        assert (attempt.number, attempt.n, attempt.cancel) == (run.attempt, len(run.log), run.cancel)
        owner.attempt, owner.n = attempt.number, attempt.n

    @rule(owner=owners, text=st.text(max_size=3))
    def say(self, owner: Owner, text: str) -> None:
        if owner.attempt == 0 or owner.is_finished:
            return
        run = self.runs[owner.claim.run_id]
        owner.n += 1
        data = encode_event(TextDelta(text=text))
        add = partial(
            self.raw.xadd,
            keys.events(owner.claim.run_id),
            {"e": data},
            id=f"{owner.attempt}-{owner.n}",
        )
        if owner.attempt < run.attempt:
            with pytest.raises(ResponseError, match="equal or smaller"):
                add()
        else:
            add()
            run.log.append((owner.attempt, TextDelta(text=text)))

    @rule(owners=st.lists(owners, min_size=1, max_size=3, unique_by=lambda owner: owner.claim.run_id))
    def renew(self, owners: list[Owner]) -> None:
        expected = {}
        for owner in owners:
            run = self.runs[owner.claim.run_id]
            if run.state.is_terminal and run.worker == owner.claim.token.partition(":")[0]:
                expected[owner.claim.run_id] = "kept"  # it may be tidying up
            elif run.state.is_terminal or run.holder not in {None, owner.claim.token}:
                expected[owner.claim.run_id] = "lost"
            else:
                run.holder, run.is_due = owner.claim.token, False
                expected[owner.claim.run_id] = "cancel" if run.cancel else "kept"
        assert self.do(self.store.renew([owner.claim for owner in owners])) == expected

    @rule(owner=owners)
    def release(self, owner: Owner) -> None:
        run = self.runs[owner.claim.run_id]
        is_ours = not run.state.is_terminal and run.holder == owner.claim.token
        assert self.do(self.store.release(owner.claim, AGENT_OF[owner.claim.run_id])) is is_ours
        if is_ours:
            run.holder, run.is_due = None, True

    @rule(owner=owners, event=ENDS)
    def finish(self, owner: Owner, event: TerminalEvent) -> None:
        run = self.runs[owner.claim.run_id]
        is_ours = run.state is RunState.RUNNING and owner.attempt == run.attempt
        assert self.do(self.store.finish(owner.claim, owner.attempt, event)) is is_ours
        if is_ours:
            run.end(owner.attempt, event)
        owner.is_finished = owner.is_finished or is_ours

    @rule(run_id=RUNS, event=ENDS)
    def stop(self, run_id: str, event: TerminalEvent) -> None:
        run = self.runs.get(run_id)
        has_effect = run is not None and not run.state.is_terminal
        assert self.do(self.store.stop(run_id, AGENT_OF[run_id], event, "why")) is has_effect
        if run is None or not has_effect:
            return
        if run.holder is not None:
            run.cancel = "why"
        else:
            run.end(run.attempt + 1, event)
            run.worker = ""

    @rule(run_id=RUNS)
    def lapse(self, run_id: str) -> None:
        """The owner was silent for the length of its lease."""
        run = self.runs.get(run_id)
        if run is not None and run.holder is not None:
            self.raw.delete(keys.lease(run_id))
            self.raw.zadd(keys.queue(AGENT_OF[run_id]), {run_id: 1}, xx=True)
            run.holder, run.is_due = None, True

    @rule(run_id=RUNS)
    def be_due_while_held(self, run_id: str) -> None:
        run = self.runs.get(run_id)
        if run is not None and run.holder is not None:
            self.raw.zadd(keys.queue(AGENT_OF[run_id]), {run_id: 1}, xx=True)
            run.is_due = True

    @invariant()
    def redis_holds_what_it_should(self) -> None:
        for run_id, run in self.runs.items():
            with self.raw.pipeline(transaction=False) as pipe:
                pipe.hmget(keys.run(run_id), ["state", "attempt"])
                pipe.xrange(keys.events(run_id))
                pipe.get(keys.lease(run_id))
                pipe.zscore(keys.queue(AGENT_OF[run_id]), run_id)
                pipe.exists(keys.job(run_id), keys.retry(run_id))
                (state, attempt), entries, lease, score, kept = pipe.execute()
            assert (state.decode(), int(attempt)) == (run.state.value, run.attempt)
            assert lease == (None if run.holder is None else run.holder.encode())
            assert (score is None) is run.state.is_terminal
            if run.state.is_terminal:
                assert kept == 0
            self.check_log(run, entries)

    def check_log(self, run: Run, entries: list[tuple[bytes, dict[bytes, bytes]]]) -> None:
        ids: list[tuple[int, int]] = []
        for entry_id, _ in entries:
            match = ID.fullmatch(entry_id)
            assert match is not None
            ids.append((int(match[1]), int(match[2])))
        events = [decode_event(fields[b"e"]) for _, fields in entries]
        assert [(attempt, event) for (attempt, _), event in zip(ids, events, strict=True)] == run.log
        assert [n for _, n in ids] == list(range(1, len(ids) + 1))
        assert ids == sorted(set(ids))
        ends = [index for index, event in enumerate(events) if type(event) in TERMINAL_STATES]
        assert ends == ([len(events) - 1] if run.state.is_terminal else [])

    @invariant()
    def all_will_be_forgotten(self) -> None:
        for name in self.raw.scan_iter(count=1000):
            assert name.startswith(b"backline:queue:") or int(cast("int", self.raw.pttl(name))) > 0, name


@pytest.fixture
def life(valkey: Valkey, monkeypatch: pytest.MonkeyPatch) -> Iterator[partial[Life]]:
    monkeypatch.setattr(keys, "LEASE_MS", 3_600_000)  # leases lapse by rule, not by a slow machine
    with Redis.from_url(valkey.url) as raw, asyncio.Runner() as runner:
        client = connect(valkey.url)
        yield partial(Life, runner, raw, RunStore(client, retention_s=60))
        runner.run(client.aclose())
        raw.flushall()


def test_no_order_of_steps_breaks_the_life_of_a_run(life: partial[Life]) -> None:
    run_state_machine_as_test(
        cast("type[RuleBasedStateMachine]", life),
        settings=settings(
            max_examples=80,
            stateful_step_count=50,
            deadline=None,
            report_multiple_bugs=False,  # shrinking one is enough for the time there is
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
        ),
    )
