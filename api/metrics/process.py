"""What one API process counts."""

from __future__ import annotations

from typing import Final

from litestar.types import HTTPScope
from prometheus_client import Counter, Histogram

from api.cached_answers import CacheWord
from api.webhooks.deliver import DeliveryOutcome
from shared.metrics import OTHER, SECONDS, ProcessMetrics

_METHODS: Final = frozenset({"GET", "POST", "PUT", "PATCH", "DELETE", "HEAD", "OPTIONS"})
_GONE: Final = 499


class ApiMetrics(ProcessMetrics):
    """Requests, looks into the cache of answers, and deliveries of webhooks, by this process."""

    def __init__(self) -> None:
        super().__init__()
        self._requests = Counter(
            "backline_http_requests",
            "HTTP requests that have ended, streams included; 499: the client left before an answer.",
            ["method", "route", "status"],
            registry=self.registry,
        )
        self._seconds = Histogram(
            "backline_http_request_duration_seconds",
            "From the request to the end of its answer, a stream's included.",
            ["route"],
            buckets=SECONDS,
            registry=self.registry,
        )
        self._cache = Counter(
            "backline_answer_cache_lookups",
            "Requests that asked for the cache of answers: hit, miss, or bypass (cannot be kept).",
            ["outcome"],
            registry=self.registry,
        )
        self._webhooks = Counter(
            "backline_webhook_deliveries",
            "Tries to deliver a webhook: delivered, again (will be tried once more), or failed (given up).",
            ["outcome"],
            registry=self.registry,
        )
        for word in ("hit", "miss", "bypass"):
            self._cache.labels(word)
        for outcome in ("delivered", "again", "failed"):
            self._webhooks.labels(outcome)

    def request_ended(self, scope: HTTPScope, status: int, seconds: float) -> None:
        """Count a request. Its route is the path's template; what has none is `other`."""
        method = scope["method"] if scope["method"] in _METHODS else OTHER
        route = scope.get("path_template") or OTHER
        self._requests.labels(method, route, status or _GONE).inc()
        self._seconds.labels(route).observe(seconds)

    def answer_looked_for(self, word: CacheWord) -> None:
        """Count a look into the cache."""
        if word:
            self._cache.labels(word).inc()

    def webhook_tried(self, outcome: DeliveryOutcome) -> None:
        """Count a try to deliver."""
        self._webhooks.labels(outcome).inc()
