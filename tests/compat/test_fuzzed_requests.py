"""Requests made up from OpenAI's document and our own: never a 5xx, and every answer as documented."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, given, settings
from schemathesis.checks import not_a_server_error
from schemathesis.specs.openapi.checks import content_type_conformance, response_schema_conformance

from scripted_model import say
from tests.compat import contract
from tests.compat.proxy import Proxy
from tests.compat.reduce import load
from tests.compat.scripts import MODEL
from tests.support.asking import PATH, user

pytestmark = [
    # What it warns of is its own: a validator that will be called otherwise one day.
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::hypothesis.errors.NonInteractiveExampleWarning"),
]

Case = schemathesis.Case[Any]

_PATIENCE_S = 20
_MOST_CHOICES = 2
_CHECKS = [not_a_server_error, content_type_conformance, response_schema_conformance]


def exercise(operation: Any, examples: int, ask: Callable[[Case], None]) -> None:
    """Ask `examples` times; the same in every run, for a suite that fails now and then says nothing."""

    @settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @given(operation.as_strategy())
    def run(case: Case) -> None:
        ask(case)

    run()


def operations(document: dict[str, Any]) -> Iterator[Any]:
    """Each operation of the document."""
    for found in schemathesis.openapi.from_dict(document).get_all_operations():
        yield found.ok()  # type: ignore[union-attr] # a document that it cannot read fails here


def make_answerable(case: Case) -> None:
    """Ask for a turn that ends at once, with whatever other fields were made up."""
    assert isinstance(case.body, dict)
    message: Any = user(say("ok"))
    case.body |= {"model": MODEL, "messages": [message]}
    if isinstance(n := case.body.get("n"), int):
        case.body["n"] = min(n, _MOST_CHOICES)
    for name in ("conversation_id", "claude_options", "response_format"):  # "ok" is no JSON
        case.body.pop(name, None)


def settle(proxy: Proxy) -> None:
    """Check the answer here, where the request that led to it can be told."""
    for exchange in proxy.exchanges:
        contract.check(exchange)
    proxy.forget()


def test_what_openais_document_allows_is_answered(proxy: Proxy, subtests: pytest.Subtests) -> None:
    def ask(case: Case) -> None:
        answer = case.call(base_url=f"{proxy.url}/v1", timeout=_PATIENCE_S)
        assert answer.status_code < 500, answer.text
        settle(proxy)

    for operation in operations(load()):
        with subtests.test(operation.label):
            exercise(operation, 10, ask)


def test_whatever_else_is_asked_a_turn_is_taken_or_refused(proxy: Proxy) -> None:
    """The model and the messages are good, every other field is made up."""

    def ask(case: Case) -> None:
        make_answerable(case)
        answer = case.call(base_url=f"{proxy.url}/v1", timeout=_PATIENCE_S)
        assert answer.status_code < 500, (case.body, answer.text)
        settle(proxy)

    exercise(schemathesis.openapi.from_dict(load())["/chat/completions"]["POST"], 15, ask)


def test_our_own_document_is_true(proxy: Proxy, subtests: pytest.Subtests) -> None:
    def ask(case: Case) -> None:
        if case.path == PATH and case.method == "POST":
            make_answerable(case)
        answer = case.call(base_url=proxy.url, timeout=_PATIENCE_S)
        case.validate_response(answer, checks=_CHECKS)
        settle(proxy)

    document = httpx.get(f"{proxy.url}/openapi.json", timeout=_PATIENCE_S).json()
    del document["security"]  # the headers made up for it are none that HTTP allows
    for operation in operations(document):
        with subtests.test(operation.label):
            exercise(operation, 10, ask)
