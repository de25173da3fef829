"""Traces cost nothing until somebody says where to send them, and a stranger's words are no trace."""

from __future__ import annotations

import subprocess
import sys

import pytest
from litestar.types import Receive, Scope, Send
from structlog.contextvars import get_contextvars

from api.tracing import traceparent_in, with_trace
from shared.content import TextPart
from shared.runs import RunRequest, decode_request, encode_request
from shared.tracing import trace_id_of, tracing_for, valid
from tests.unit.support import request
from worker.spans import trace_of

GOOD = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
ENDPOINT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}


def test_nothing_of_opentelemetry_is_imported() -> None:
    program = (
        "import sys, api.main, worker.main, cli.main\n"
        "from shared.tracing import tracing_for\n"
        "assert tracing_for('api', {}) is None\n"
        "print(sorted(name for name in sys.modules if name.startswith('opentelemetry.sdk')))"
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert (done.returncode, done.stdout) == (0, "[]\n"), done.stderr


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"OTEL_EXPORTER_OTLP_ENDPOINT": " "},
        {**ENDPOINT, "OTEL_SDK_DISABLED": "true"},
        {**ENDPOINT, "OTEL_TRACES_EXPORTER": "none"},
    ],
)
def test_they_are_off(environ: dict[str, str]) -> None:
    assert tracing_for("api", environ) is None


def test_without_the_extra_they_are_off_too(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "shared.otel", raising=False)
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    assert tracing_for("api", ENDPOINT) is None


@pytest.mark.parametrize(
    "wrong",
    [
        "",
        "junk",
        GOOD + "-more",
        GOOD.upper(),
        GOOD + "\n",
        "01" + GOOD[2:],
        f"00-{'0' * 32}-{'1' * 16}-01",
        f"00-{'1' * 32}-{'0' * 16}-01",
    ],
)
def test_only_a_well_formed_traceparent_is_one(wrong: str) -> None:
    assert valid(GOOD) == GOOD
    assert valid(wrong) == trace_id_of(wrong) == ""


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ([(b"traceparent", GOOD.encode())], GOOD),
        ([], ""),
        ([(b"traceparent", b"\xff")], ""),
        ([(b"traceparent", GOOD.encode())] * 2, ""),
    ],
)
async def test_a_clients_trace_is_in_the_logs_and_the_run_although_they_are_off(
    headers: list[tuple[bytes, bytes]], expected: str
) -> None:
    seen: list[object] = []

    async def app(scope: Scope, _: Receive, __: Send) -> None:
        seen.extend((traceparent_in(scope), get_contextvars().get("trace_id", "")))

    scope: object = {"type": "http", "path": "/v1/models", "headers": headers, "state": {}}
    await with_trace(app, None)(scope, None, None)  # type: ignore[arg-type]
    assert seen == [expected, trace_id_of(expected)]
    assert "trace_id" not in get_contextvars()


def test_it_travels_with_the_run_and_an_older_record_has_none() -> None:
    traced = RunRequest(agent="a", prompt=(TextPart("Hi"),), traceparent=GOOD)
    assert decode_request(encode_request(traced)) == traced
    assert trace_of(traced) == {"trace_id": trace_id_of(GOOD)}
    assert trace_of(request("a")) == {}
    assert b"traceparent" not in encode_request(request("a"))
