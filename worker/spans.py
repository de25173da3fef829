"""What a run is in a trace: its execution, the agent's turn in it, and the tools that the turn uses.

Names and attributes are those of OpenTelemetry's conventions for generative AI. What was said is in none of
them: no prompt, no answer, no tool's input, and of an error only its kind.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from shared.run_events import RunCompleted, RunEvent, RunFailed, TerminalEvent, ToolFinished, ToolStarted
from shared.runs import RunRequest
from shared.tracing import Span, Tracing, trace_id_of
from worker.fallback.turns import Turns
from worker.notes import Watch
from worker.recovery import Lost
from worker.turn import Reporter, Stop

_MOST_TOOLS = 1_000
"""Tools of one turn that are shown; an agent in a loop must not fill memory with them."""


def trace_of(request: RunRequest) -> dict[str, str]:
    """What every line of the log says of a run that is traced."""
    trace_id = trace_id_of(request.traceparent)
    return {"trace_id": trace_id} if trace_id else {}


class Spans:
    """The span of each run's execution here; none without `tracing`."""

    def __init__(self, tracing: Tracing | None) -> None:
        self._tracing = tracing

    @contextmanager
    def of(self, watch: Watch) -> Iterator[None]:
        """A span for one attempt, below the request that began the run."""
        if self._tracing is None:
            yield
            return
        attempt, request = watch.attempt, watch.attempt.request
        with self._tracing.span(
            f"run {request.agent}",
            "consumer",
            parent=request.traceparent,
            gen_ai__agent__name=request.agent,
            backline__run_id=attempt.run_id,
            backline__request_id=request.request_id or None,
            backline__attempt=attempt.number,
            backline__queue_time_s=round(attempt.waited_s, 3),
        ) as span:
            try:
                yield
            finally:
                if watch.first_ms is not None:
                    span.note(backline__time_to_first_token_s=watch.first_ms / 1000)
                if watch.ended is not None:
                    _note_end(span, watch.ended)


class TracedTurns:
    """Turns that are spans; put before the agents' own, behind what may answer in their place."""

    def __init__(self, turns: Turns, tracing: Tracing) -> None:
        self._turns = turns
        self._tracing = tracing

    async def run(self, request: RunRequest, reporter: Reporter, stop: Stop) -> None:
        """Run `request` in a span of its own."""
        with self._invoked(request, reporter) as listening:
            await self._turns.run(request, listening, stop)

    async def recover(self, request: RunRequest, lost: Lost, reporter: Reporter, stop: Stop) -> None:
        """Go on with a turn whose worker was lost, in a span of its own."""
        with self._invoked(request, reporter) as listening:
            await self._turns.recover(request, lost, listening, stop)

    @contextmanager
    def _invoked(self, request: RunRequest, reporter: Reporter) -> Iterator[Reporter]:
        with self._tracing.span(
            f"invoke_agent {request.agent}",
            "client",
            gen_ai__operation__name="invoke_agent",
            gen_ai__provider__name="anthropic",
            gen_ai__agent__name=request.agent,
            gen_ai__request__model=request.model,
            gen_ai__conversation__id=request.conversation or None,
            gen_ai__output__type="json" if request.output is not None else "text",
        ) as span:
            listening = _Listening(reporter, span)
            try:
                yield listening
            finally:
                listening.close()


class _Listening:
    """A reporter that makes a span of each tool."""

    def __init__(self, reporter: Reporter, span: Span) -> None:
        self._reporter = reporter
        self._span = span
        self._tools: dict[str, Span] = {}
        self._begun = 0

    def say(self, event: RunEvent) -> None:
        if isinstance(event, ToolStarted):
            self._begin(event)
        elif isinstance(event, ToolFinished) and (tool := self._tools.pop(event.id, None)) is not None:
            if event.is_error:
                tool.fail("tool_error")
            tool.end()
        self._reporter.say(event)

    @property
    def is_full(self) -> bool:
        return self._reporter.is_full

    async def room(self) -> None:
        await self._reporter.room()

    async def conclude(self, event: TerminalEvent) -> None:
        _note_end(self._span, event)
        if isinstance(event, RunCompleted):
            self._span.note(
                gen_ai__response__model=event.model, gen_ai__response__finish_reasons=[event.finish]
            )
        usage = event.usage
        self._span.note(
            gen_ai__usage__input_tokens=usage.prompt_tokens,
            gen_ai__usage__cache_read__input_tokens=usage.cache_read_tokens,
            gen_ai__usage__cache_creation__input_tokens=usage.cache_write_tokens,
            gen_ai__usage__output_tokens=usage.output_tokens,
        )
        await self._reporter.conclude(event)

    def close(self) -> None:
        """End what has no end of its own, since the turn is over."""
        for tool in self._tools.values():
            tool.fail("unfinished")
            tool.end()
        self._tools.clear()

    def _begin(self, event: ToolStarted) -> None:
        self._begun += 1
        if self._begun <= _MOST_TOOLS and event.id not in self._tools:
            self._tools[event.id] = self._span.child(
                f"execute_tool {event.name}",
                gen_ai__operation__name="execute_tool",
                gen_ai__tool__name=event.name,
                gen_ai__tool__call__id=event.id,
                gen_ai__tool__type="function",
            )


def _note_end(span: Span, event: TerminalEvent) -> None:
    if isinstance(event, RunFailed):
        span.fail(event.error.kind.value)
    elif isinstance(event, RunCompleted) and event.fallback is not None:
        span.note(
            backline__fallback=event.fallback.upstream,
            backline__fallback__because=event.fallback.because.value,
            gen_ai__response__model=event.model,
        )
