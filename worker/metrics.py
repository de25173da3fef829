"""What one worker counts: of each agent it serves, and of itself.

Runs, tokens and cost are not here: they are counted once for all, by the script that ends a run, and every
API shows them (`api/metrics/system.py`). Here is what only the worker knows: times, processes, tries.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from prometheus_client import Counter, Histogram

from shared.claims import Attempt
from shared.metrics import FIRST_TOKEN_SECONDS, OTHER, SECONDS, ProcessMetrics, Tallies, Tally
from shared.run_events import TERMINAL_STATES, RunCompleted, RunFailed, TerminalEvent, UpstreamRetry
from worker.processes import HOW_FOUND, HowFound

_GAP_SECONDS: Final = (
    *(0.0001, 0.001, 0.0025, 0.005, 0.01, 0.02, 0.03, 0.04, 0.05, 0.075, 0.1, 0.15, 0.2),
    *(0.3, 0.4, 0.5, 0.75, 1, 2.5, 5, 10, 30),
)
_CLAUDE: Final = "claude"


class AgentMeter(NamedTuple):
    """What is counted of one agent's runs; each part is made once, for looking one up takes a lock."""

    agent: str
    first_token: Histogram
    gaps: Tally
    queue_time: Histogram
    attempts: Counter
    metrics: WorkerMetrics

    def began(self, attempt: Attempt) -> None:
        """Count a start."""
        self.attempts.inc()
        if attempt.number == 1:
            self.queue_time.observe(attempt.waited_s)

    def ended(self, event: TerminalEvent, seconds: float) -> None:
        """Count an end that this worker has written, after so many seconds here."""
        self.metrics.ended(self.agent, event, seconds)

    def retried(self, event: UpstreamRetry) -> None:
        """Count a model call that the CLI repeats."""
        self.metrics.retried(self.agent, event)


class WorkerMetrics(ProcessMetrics):
    """The counters of one worker; `agents` are the ones it serves, and all others together are `other`."""

    def __init__(self, agents: Iterable[str]) -> None:
        super().__init__()
        names = [*agents, OTHER]
        self._gaps = Tallies(
            "backline_inter_token_latency_seconds",
            "Between one piece of an answer and the next, as the worker heard them; tools are left out.",
            "agent",
            names,
            _GAP_SECONDS,
        )
        self.registry.register(self._gaps)
        first = self._histogram(
            "backline_time_to_first_token_seconds",
            "From a run's submission to its first output, the time in the queue included; first starts only.",
            FIRST_TOKEN_SECONDS,
        )
        waited = self._histogram(
            "backline_request_queue_time_seconds", "From a run's submission to its first start.", SECONDS
        )
        attempts = self._counter("backline_run_attempts", "Starts of runs, repeated ones included.")
        self._durations = self._histogram(
            "backline_run_duration_seconds",
            "From a run's start on this worker to its end.",
            SECONDS,
            "outcome",
        )
        self._errors = self._counter("backline_run_errors", "Runs that failed here, by kind.", "error_type")
        self._answered = self._counter(
            "backline_answers", "Completed runs by who answered: claude, or a fallback.", "upstream"
        )
        self._retries = self._counter(
            "backline_upstream_retries", "Model calls that were repeated.", "status"
        )
        self._found = self._counter(
            "backline_turns",
            "Turns by their process: live (it had the conversation), resumed (from its stored transcript), "
            "warm (a spare one), new.",
            "process",
        )
        self._meters = {
            name: AgentMeter(
                name,
                first.labels(name),
                self._gaps.of[name],
                waited.labels(name),
                attempts.labels(name),
                self,
            )
            for name in names
        }
        for name in names:
            for how in HOW_FOUND:
                self._found.labels(name, how)

    def of(self, agent: str) -> AgentMeter:
        """What is counted of this agent's runs."""
        return self._meters.get(agent) or self._meters[OTHER]

    def ended(self, agent: str, event: TerminalEvent, seconds: float) -> None:
        """Count an end."""
        self._durations.labels(agent, TERMINAL_STATES[type(event)].value).observe(seconds)
        if isinstance(event, RunFailed):
            self._errors.labels(agent, event.error.kind.value).inc()
        elif isinstance(event, RunCompleted):
            self._answered.labels(agent, event.fallback.upstream if event.fallback else _CLAUDE).inc()

    def retried(self, agent: str, event: UpstreamRetry) -> None:
        """Count a repeated model call; without a status the service was not reached."""
        is_status = event.status is not None and 400 <= event.status < 600
        self._retries.labels(agent, str(event.status) if is_status else "none").inc()

    def found(self, agent: str, how: HowFound) -> None:
        """Count a turn by the process that was found for it."""
        self._found.labels(self.of(agent).agent, how).inc()

    def _counter(self, name: str, said: str, *labels: str) -> Counter:
        return Counter(name, said, ["agent", *labels], registry=self.registry)

    def _histogram(self, name: str, said: str, bounds: tuple[float, ...], *labels: str) -> Histogram:
        return Histogram(name, said, ["agent", *labels], buckets=bounds, registry=self.registry)
