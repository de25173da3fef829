"""What Prometheus and a collector of traces are told by a real stack, and what is built on that."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import openai
import promql_parser
import pytest
import yaml
from openai import AsyncOpenAI
from promql_parser import VectorSelector

from scripted_model import Usage, call, fail, script, text, tokens, use_tool
from tests.support.asking import ask, stream, text_of, user
from tests.support.metrics import Scrape, scrape, worker_urls
from tests.support.model import Model
from tests.support.receiver import Receiver, running_receiver
from tests.support.stack import Stack, running_stack
from tests.support.traces import Span, spans_in
from tests.support.upstream import Upstream, running_upstream
from tests.support.waiting import eventually

ROOT = Path(__file__).parents[2]
SOON_S = 10.0
CLIENTS = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
FOREIGN = {"up", "process_resident_memory_bytes"}
"""Of Prometheus, and of its client library on Linux."""
AGENT = {"agent": "agent"}


class Watched(NamedTuple):
    stack: Stack
    spare: Upstream
    collector: Receiver

    def api(self) -> Scrape:
        return scrape(self.stack.url)

    def worker(self) -> Scrape:
        (url,) = worker_urls(self.stack)
        return scrape(url)

    def spans(self, trace_id: str) -> list[Span]:
        return [span for span in spans_in(list(self.collector.received)) if span.trace_id == trace_id]


@pytest.fixture(scope="module")
def watched(model: Model) -> Iterator[Watched]:
    """A stack that shows and traces all, with a fallback."""
    with pytest.MonkeyPatch.context() as patch, running_upstream() as spare, running_receiver() as collector:
        patch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", collector.url)
        patch.setenv("OTEL_BSP_SCHEDULE_DELAY", "100")
        settings: dict[str, Any] = {
            "slots": 4,
            "metrics_port": 0,
            "fallbacks": json.dumps([spare.setting()]),
            "breaker_failures": 1000,
            "log_format": "json",
            "max_live": 4,
        }
        with running_stack(model, **settings) as stack:
            yield Watched(stack, spare, collector)


@pytest.fixture
async def client(watched: Watched) -> AsyncIterator[AsyncOpenAI]:
    watched.spare.status = 200
    async with watched.stack.sdk() as sdk:
        yield sdk


async def rises(read: Any, by: float, before: float, what: str) -> None:
    """A figure rises by so much, and no more."""
    await eventually(lambda: read() >= before + by, SOON_S, what)
    assert read() == pytest.approx(before + by), what


async def test_a_run_is_counted_once_in_each_figure(
    watched: Watched, client: AsyncOpenAI, marker: str
) -> None:
    api, worker = watched.api(), watched.worker()
    asked = script(
        call(tokens(20), use_tool("Bash", {"command": "true"}), usage=Usage(input=100, output=25)),
        call(tokens(10), usage=Usage(input=50, output=10, cache_read=7)),
    )
    assert [chunk async for chunk in stream(client, marker, asked)]

    for name, labels, by in (
        ("backline_runs_total", {**AGENT, "outcome": "completed"}, 1),
        ("backline_tokens_total", {**AGENT, "type": "output"}, 35),
        ("backline_tokens_total", {**AGENT, "type": "cache_read"}, 7),
        ("backline_http_requests_total", {"route": "/v1/chat/completions", "status": "200"}, 1),
        ("backline_http_request_duration_seconds_count", {"route": "/v1/chat/completions"}, 1),
    ):
        await rises(lambda: watched.api().value(name, **labels), by, api.value(name, **labels), name)  # noqa: B023
    for name, labels, by in (
        ("backline_time_to_first_token_seconds_count", AGENT, 1),
        ("backline_request_queue_time_seconds_count", AGENT, 1),
        ("backline_run_attempts_total", AGENT, 1),
        ("backline_run_duration_seconds_count", {**AGENT, "outcome": "completed"}, 1),
        ("backline_answers_total", {**AGENT, "upstream": "claude"}, 1),
        ("backline_turns_total", {**AGENT, "process": "new"}, 1),
        ("backline_inter_token_latency_seconds_count", AGENT, 28),
    ):
        await rises(lambda: watched.worker().value(name, **labels), by, worker.value(name, **labels), name)  # noqa: B023
    assert watched.api().value("backline_cost_usd_total", **AGENT) > api.value(
        "backline_cost_usd_total", **AGENT
    )


async def test_a_conversation_that_goes_on_is_found_live(watched: Watched, client: AsyncOpenAI) -> None:
    live = {**AGENT, "process": "live"}
    before = watched.worker().value("backline_turns_total", **live)
    first = user(script(text("Hello.")))
    said = text_of(await client.chat.completions.create(model="agent", messages=[first]))
    turns: list[Any] = [first, {"role": "assistant", "content": said}, {"role": "user", "content": "Again."}]
    await client.chat.completions.create(model="agent", messages=turns)
    assert watched.worker().value("backline_turns_total", **live) == before + 1


async def test_it_is_told_who_answered(watched: Watched, client: AsyncOpenAI, marker: str) -> None:
    before = watched.worker()
    answer = await ask(client, marker, script(fail(401)))
    assert text_of(answer) == "from upstream"
    for name, labels in (
        ("backline_answers_total", {**AGENT, "upstream": "spare"}),
        ("backline_fallback_attempts_total", {"upstream": "spare", "outcome": "answered"}),
    ):
        await rises(
            lambda: watched.worker().value(name, **labels),  # noqa: B023
            1,
            before.value(name, **labels),
            name,
        )
    assert watched.worker().value("backline_breaker_open", circuit="fallback:spare") == 0


async def test_a_failure_is_told_by_its_kind(watched: Watched, client: AsyncOpenAI, marker: str) -> None:
    api, worker = watched.api(), watched.worker()
    watched.spare.status = 500
    with pytest.raises(openai.APIStatusError):
        await ask(client, marker, script(fail(401)))
    kind = {**AGENT, "error_type": "upstream_auth"}
    failed = {**AGENT, "outcome": "failed"}
    for name, labels, read, before in (
        ("backline_run_errors_total", kind, watched.worker, worker),
        ("backline_fallback_attempts_total", {"outcome": "failed"}, watched.worker, worker),
        ("backline_runs_total", failed, watched.api, api),
    ):
        await rises(lambda: read().value(name, **labels), 1, before.value(name, **labels), name)  # noqa: B023


async def test_looks_into_the_cache_are_counted(watched: Watched, client: AsyncOpenAI, marker: str) -> None:
    before = watched.api()
    for _ in range(2):
        await ask(client, marker, script(text("Kept.")), extra_body={"backline": {"cache": True}})
    after = watched.api()
    for outcome in ("hit", "miss"):
        name = "backline_answer_cache_lookups_total"
        assert after.value(name, outcome=outcome) == before.value(name, outcome=outcome) + 1


async def test_nothing_that_a_client_sends_makes_a_series(watched: Watched, marker: str) -> None:
    async with watched.stack.http() as http:
        await http.post("/v1/chat/completions", json={"model": marker, "messages": []})
        await http.get(f"/v1/{marker}/{marker}")
        await http.request(f"X{marker.upper()}", "/v1/models")
        await http.get(f"/v1/models/{marker}")
    said = watched.api().text + watched.worker().text
    assert marker not in said.lower()
    assert watched.api().value("backline_http_requests_total", route="other", status="404")


def listed() -> dict[str, tuple[str, frozenset[str]]]:
    """The table of the page: type and labels by name."""
    page = (ROOT / "docs" / "observability.md").read_text("utf-8")
    rows = re.findall(r"^\| `(backline_\w+)` \| (\w+) \|([^|]*)\|", page, flags=re.MULTILINE)
    return {name: (kind, frozenset(re.findall(r"`(\w+)`", labels))) for name, kind, labels in rows}


async def test_the_page_lists_what_there_is(watched: Watched, client: AsyncOpenAI, marker: str) -> None:
    await ask(client, marker, script(text("Hello.")))
    shown: dict[str, tuple[str, set[frozenset[str]]]] = {}
    for each in (watched.api(), watched.worker()):
        for name, family in each.families.items():
            if name.startswith("backline_"):
                shown[name] = family.type, shown.get(name, ("", set()))[1] | each.labels(name)
    page = listed()
    assert page.keys() == shown.keys()
    for name, (kind, labels) in shown.items():
        assert page[name][0] == kind, name
        assert labels <= {page[name][1]}, name


def expressions() -> list[tuple[str, str]]:
    """What the alerts and the dashboard ask Prometheus, by where it stands."""
    rules = yaml.safe_load((ROOT / "deploy/prometheus/alerts.yaml").read_text("utf-8"))
    found = [(rule["alert"], rule["expr"]) for group in rules["groups"] for rule in group["rules"]]
    board = json.loads((ROOT / "deploy/grafana/backline.json").read_text("utf-8"))
    for panel in board["panels"]:
        found += [(panel["title"], target["expr"]) for target in panel.get("targets", [])]
    return found


def selectors(expression: str) -> list[VectorSelector]:
    """All that an expression reads; raises `ValueError` on what is not PromQL."""
    for variable, value in (("$__rate_interval", "5m"), ("$agent", ".*")):
        expression = expression.replace(variable, value)
    found: list[VectorSelector] = []

    def visit(node: promql_parser.Expr) -> bool:
        if isinstance(node, VectorSelector):
            found.append(node)
        return True

    promql_parser.walk(promql_parser.parse(expression), visit)
    return found


def test_alerts_and_dashboard_ask_for_what_there_is(watched: Watched) -> None:
    api, worker = watched.api(), watched.worker()
    samples = {
        name
        for each in (api, worker)
        for family, metric in each.families.items()
        for name in (
            [f"{family}_{part}" for part in ("bucket", "count", "sum")]
            if metric.type == "histogram"
            else [family]
        )
    }
    page = listed()
    assert expressions()
    for where, expression in expressions():
        read = selectors(expression)
        assert read, where
        for selector in read:
            assert selector.name in samples | FOREIGN, where
            if selector.name in FOREIGN:
                continue
            family = re.sub(r"_(bucket|count|sum)$", "", selector.name)
            labels = page.get(selector.name, page.get(family, ("", frozenset[str]())))[1]
            named = {matcher.name for matcher in selector.matchers.matchers}
            assert named <= labels, where


async def test_one_trace_goes_from_the_request_to_the_tool(
    watched: Watched, client: AsyncOpenAI, marker: str
) -> None:
    asked = script(
        call(text("Before."), use_tool("Bash", {"command": f"echo {marker}"})),
        call(text("After."), usage=Usage(input=20, output=3, cache_read=200)),
    )
    trace_id = CLIENTS.split("-")[1]
    answer = await ask(client, marker, asked, extra_headers={"traceparent": CLIENTS})
    spans = await eventually(
        lambda: found if len(found := watched.spans(trace_id)) >= 4 else None, SOON_S, "four spans"
    )
    assert spans is not None
    server, run, invoked, tool = sorted(
        spans, key=lambda s: ["server", "consumer", "client", "internal"].index(s.kind)
    )
    assert [server.parent, run.parent, invoked.parent, tool.parent] == [
        CLIENTS.split("-")[2],
        server.id,
        run.id,
        invoked.id,
    ]
    assert [each.service for each in (server, run, invoked, tool)] == [
        "backline-api",
        *["backline-worker"] * 3,
    ]
    assert [each.name for each in (server, run, invoked, tool)] == [
        "POST /v1/chat/completions",
        "run agent",
        "invoke_agent agent",
        "execute_tool Bash",
    ]
    assert server.attributes["http.response.status_code"] == 200
    assert invoked.attributes["gen_ai.usage.output_tokens"] == answer.usage.completion_tokens  # type: ignore[union-attr]
    assert invoked.attributes["gen_ai.usage.input_tokens"] == answer.usage.prompt_tokens  # type: ignore[union-attr]
    assert tool.attributes["gen_ai.tool.name"] == "Bash"
    assert not any(each.is_error for each in spans)
    assert marker not in repr(spans)

    run_id = str(run.attributes["backline.run_id"])
    for log in (watched.stack.api.log, watched.stack.workers[0].log):
        lines = [json.loads(line) for line in log.read_text("utf-8").splitlines() if run_id in line]
        assert {line["trace_id"] for line in lines} == {trace_id}, log.name


async def test_a_failed_run_is_an_error_of_its_kind_in_its_trace(
    watched: Watched, client: AsyncOpenAI, marker: str
) -> None:
    watched.spare.status = 500
    trace_id = "5" * 32
    with pytest.raises(openai.APIStatusError):
        await ask(
            client,
            marker,
            script(fail(401)),
            extra_headers={"traceparent": f"00-{trace_id}-{'6' * 16}-01"},
        )
    spans = await eventually(
        lambda: found if len(found := watched.spans(trace_id)) >= 3 else None, SOON_S, "three spans"
    )
    assert spans is not None
    run = next(span for span in spans if span.kind == "consumer")
    assert run.is_error
    assert run.attributes["error.type"] == "upstream_auth"
    assert marker not in repr(spans)


async def test_what_is_no_traceparent_begins_a_trace_of_its_own(watched: Watched) -> None:
    wrong = ["junk", f"00-{'0' * 32}-{'1' * 16}-01", f"01-{'a' * 32}-{'b' * 16}-01-more", "00-" + "A" * 32]
    async with httpx.AsyncClient(base_url=watched.stack.url) as http:
        for value in wrong:
            answer = await http.get("/v1/models", headers={"traceparent": value})
            assert answer.status_code == 200
            request_id = answer.headers["x-request-id"]

            def found(request_id: str = request_id) -> list[Span]:
                spans = spans_in(list(watched.collector.received))
                return [s for s in spans if s.attributes.get("backline.request_id") == request_id]

            (span,) = await eventually(found, SOON_S, "the request's span")
            assert span.parent == ""
