"""What Prometheus would read of a stack."""

from __future__ import annotations

import httpx
from prometheus_client import Metric
from prometheus_client.parser import text_string_to_metric_families

from tests.support.stack import Stack


class Scrape:
    """One answer of a `/metrics`."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.families: dict[str, Metric] = {
            family.name + ("_total" if family.type == "counter" else ""): family
            for family in text_string_to_metric_families(text)
        }

    def value(self, name: str, **labels: str) -> float:
        """The sum of a sample over all labels that are not given; 0 of none."""
        return sum(
            sample.value
            for family in self.families.values()
            for sample in family.samples
            if sample.name == name and labels.items() <= sample.labels.items()
        )

    def labels(self, name: str) -> set[frozenset[str]]:
        """The names of the labels of a family's samples, less a histogram's own."""
        return {frozenset(sample.labels) - {"le"} for sample in self.families[name].samples}


def scrape(url: str, **headers: str) -> Scrape:
    answer = httpx.get(f"{url}/metrics", headers=headers, timeout=20)
    assert answer.status_code == 200, answer.text
    assert answer.headers["content-type"].startswith("text/plain; version=")
    return Scrape(answer.text)


def worker_urls(stack: Stack) -> list[str]:
    """Where a stack's workers show theirs, as Prometheus is told."""
    targets = httpx.get(f"{stack.url}/metrics/workers", timeout=20).json()
    return [f"http://{target['targets'][0]}" for target in targets]


def scrape_worker(stack: Stack) -> Scrape:
    """The one worker's."""
    (url,) = worker_urls(stack)
    return scrape(url)
