"""The life of runs, walked in any order: lapsed leases, late owners, cancels, repeats; beside a model."""

from __future__ import annotations

import asyncio
import math
import re
from collections import Counter
from collections.abc import Coroutine, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any, TypeVar, cast

import msgspec
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
from shared.claims import Claim
from shared.redis import connect
from shared.run_events import (
    TERMINAL_STATES,
    RunEvent,
    RunStarted,
    TerminalEvent,
    TextDelta,
    decode_event,
    encode_event,
)
from shared.run_store import RunStore
from shared.runs import TIERS, RunState, Tier
from shared.submission import QueueFullError
from tests.unit.support import CANCELLED, COMPLETED, FAILED, Valkey, request

_T = TypeVar("_T")
COUNT = 28
AGENT_OF = {f"r{n:02}": "ab"[n % 4 == 3] for n in range(COUNT)}
TENANT_OF = {f"r{n:02}": "tttuv"[n % 5] for n in range(COUNT)}
TIER_OF: dict[str, Tier] = {f"r{n:02}": TIERS[(0, 1, 1, 1, 2, 1, 0)[n % 7]] for n in range(COUNT)}
SHARES = {"default": 9, "flex": 19}
"""How often a tier may be passed over while one of its runs waits."""
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
    is_listed: bool = True
    """Whether it is known to wait; a lapsed one is seen at the next claim."""
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
        self.passed: Counter[Tier] = Counter()
        self.overtaken: dict[tuple[Tier, str], Counter[str]] = {}
        self.is_looked_through = {"a": True, "b": True}

    def do(self, step: Coroutine[Any, Any, _T]) -> _T:
        return self.runner.run(step)

    @initialize(some=st.lists(RUNS, unique=True, max_size=COUNT))
    def begin_with_some(self, some: list[str]) -> None:
        self.raw.flushall()
        for run_id in some:
            self.submit(run_id, COUNT)

    @rule(run_id=RUNS, limit=st.integers(1, 4))
    def submit(self, run_id: str, limit: int) -> None:
        agent = AGENT_OF[run_id]
        waiting = sum(
            run.is_due and not run.state.is_terminal
            for each, run in self.runs.items()
            if AGENT_OF[each] == agent
        )
        listed = {
            TENANT_OF[each]
            for each, run in self.runs.items()
            if AGENT_OF[each] == agent and run.is_listed and not run.state.is_terminal
        }
        may_join = bool(listed) and TENANT_OF[run_id] not in listed
        asked = msgspec.structs.replace(request(agent), tenant=TENANT_OF[run_id], tier=TIER_OF[run_id])
        if run_id not in self.runs and waiting >= limit and not may_join:
            with pytest.raises(QueueFullError):
                self.do(self.store.submit(run_id, asked, queue_limit=limit, ttl_s=60))
        else:
            self.do(self.store.submit(run_id, asked, queue_limit=limit, ttl_s=60))
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
        self.check_order(taken, set(free))
        self.is_looked_through = {"a": True, "b": True}
        for run_id in free:
            self.runs[run_id].is_listed = True
        for run_id in taken:
            self.runs[run_id].holder, self.runs[run_id].is_due = token, False
            self.runs[run_id].is_listed = False
            self.raw.incr(keys.retry(run_id))  # as ARQ counts starts
            self.raw.expire(keys.retry(run_id), 60)
        for run_id, run in self.runs.items():  # held ones that were passed over are put off
            if run.is_due and run.holder is not None and not run.state.is_terminal:
                score = self.raw.zscore(keys.queue(AGENT_OF[run_id]), run_id)
                run.is_due = score == 1
                name = f"{keys.queue(AGENT_OF[run_id])}:waiting"
                run.is_listed = self.raw.zscore(name, run_id) is not None
        return multiple(*(Owner(claim) for claim in claimed.claims))

    def check_order(self, taken: list[str], free: set[str]) -> None:
        """Tiers in order but for the share of those passed over; no tenant twice while another waits."""
        for run_id in taken:
            tier, tenant = TIER_OF[run_id], TENANT_OF[run_id]
            waiting = {(TIER_OF[each], TENANT_OF[each]) for each in free}
            tiers = {each for each, _ in waiting}
            due = [each for each in tiers if self.passed[each] >= SHARES.get(each, math.inf)]
            assert tier in (due or [min(tiers, key=TIERS.index)])
            for each in TIERS:
                is_passed = each in tiers and TIERS.index(each) > TIERS.index(tier)
                self.passed[each] = self.passed[each] + 1 if is_passed else self.passed[each]
                if each == tier or each not in tiers:
                    self.passed[each] = 0
            self.overtaken = {line: self.overtaken.get(line, Counter()) for line in waiting}
            self.overtaken[tier, tenant].clear()
            for line, by in self.overtaken.items():
                if line[0] == tier and line[1] != tenant:
                    by[tenant] += 1
                    assert by[tenant] == 1
            free.discard(run_id)

    @rule(owner=owners)
    def begin(self, owner: Owner) -> None:
        run = self.runs[owner.claim.run_id]
        worker = owner.claim.token.partition(":")[0]
        attempt = self.do(self.store.begin(owner.claim, worker, ttl_s=60))
        if run.holder != owner.claim.token or run.state.is_terminal:
            assert attempt is None
            return
        assert attempt is not None
        if owner.attempt:  # an answer was lost, and it is asked again
            assert (attempt.number, attempt.n, attempt.cancel) == (run.attempt, len(run.log), run.cancel)
            return
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
                run.holder, run.is_due, run.is_listed = owner.claim.token, False, False
                expected[owner.claim.run_id] = "cancel" if run.cancel else "kept"
        assert self.do(self.store.renew([owner.claim for owner in owners])) == expected

    @rule(owner=owners, waits_again=st.booleans())
    def release(self, owner: Owner, waits_again: bool) -> None:
        run = self.runs[owner.claim.run_id]
        is_ours = not run.state.is_terminal and run.holder == owner.claim.token
        agent = AGENT_OF[owner.claim.run_id]
        assert self.do(self.store.release(owner.claim, agent, waits_again=waits_again)) is is_ours
        if is_ours:
            run.holder, run.is_due, run.is_listed = None, True, True
        if is_ours and waits_again and run.state is RunState.RUNNING:
            run.state, run.worker = RunState.QUEUED, ""

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
            self.be_due(run_id)
            run.holder, run.is_due = None, True

    @rule(run_id=RUNS)
    def be_due_while_held(self, run_id: str) -> None:
        run = self.runs.get(run_id)
        if run is not None and run.holder is not None:
            self.be_due(run_id)
            run.is_due = True

    def be_due(self, run_id: str) -> None:
        queue = keys.queue(AGENT_OF[run_id])
        self.raw.zadd(queue, {run_id: 1}, xx=True)
        self.raw.zadd(f"{queue}:later", {run_id: 1}, xx=True)

    @rule(agent=st.sampled_from(["a", "b"]))
    def come_from_another_version(self, agent: str) -> None:
        """That knew the queue alone."""
        names = list(self.raw.scan_iter(f"{keys.queue(agent)}:*"))
        if names:
            self.raw.delete(*names)
        self.is_looked_through[agent] = False
        self.overtaken.clear()  # all join again
        for run_id, run in self.runs.items():
            if AGENT_OF[run_id] == agent:
                run.is_listed = False

    @invariant()
    def who_leaves_joins_at_the_end(self) -> None:
        lines = {
            (TIER_OF[each], TENANT_OF[each])
            for each, run in self.runs.items()
            if run.is_listed and not run.state.is_terminal
        }
        self.overtaken = {line: by for line, by in self.overtaken.items() if line in lines}

    @invariant()
    def every_run_stands_in_one_place(self) -> None:
        for agent in ("a", "b"):
            queue = keys.queue(agent)
            waiting = set(cast("list[bytes]", self.raw.zrange(f"{queue}:waiting", 0, -1)))
            later = set(cast("list[bytes]", self.raw.zrange(f"{queue}:later", 0, -1)))
            lines = [self.raw.zrange(name, 0, -1) for name in self.raw.scan_iter(f"{queue}:of:*")]
            in_lines = [run_id for line in lines for run_id in cast("list[bytes]", line)]
            everything = set(cast("list[bytes]", self.raw.zrange(queue, 0, -1)))
            assert sorted(in_lines) == sorted(waiting)
            assert self.raw.zcard(f"{queue}:turns") == len(lines)
            assert not waiting & later
            assert waiting | later <= everything
            assert not self.is_looked_through[agent] or waiting | later == everything

    def teardown(self) -> None:
        """When all is over nothing is left but what lapses by itself."""
        for run_id, run in self.runs.items():
            if not run.state.is_terminal:
                self.raw.delete(keys.lease(run_id))
                self.do(self.store.stop(run_id, AGENT_OF[run_id], CANCELLED, "why"))
        for name in self.raw.scan_iter(f"{keys.queue('')}*"):
            assert name.endswith(b":taken"), name

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
            max_examples=60,
            stateful_step_count=50,
            deadline=None,
            report_multiple_bugs=False,  # shrinking one is enough for the time there is
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
        ),
    )
