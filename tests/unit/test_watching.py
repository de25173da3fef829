"""What `chat` reads of a stream, and what `top` makes of its figures."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from cli.chat import pieces
from cli.errors import CommandError
from cli.top import Look, numbers, screen

TOTAL = {
    "requests": 10,
    "failed": 1,
    "cancelled": 2,
    "input_tokens": 1000,
    "cache_read_tokens": 0,
    "cache_write_tokens": 0,
    "output_tokens": 500,
    "cost_usd": 0.125,
}
STATS = {"active": 3, "queued": 7, "workers": 2, "slots": 16, "live_conversations": 4, "agents": ["a", "b"]}
RUN = {
    "id": "run_1",
    "state": "failed",
    "agent": "a",
    "created_at": 0.0,
    "wait_s": 0.25,
    "run_s": None,
    "usage": None,
    "worker": None,
    "error": {"kind": "worker_lost"},
}


def look(at: float, **total: float) -> Look:
    return Look(at, {**STATS, "total": {**TOTAL, **total}}, [RUN])


def test_texts_come_out_of_a_stream_and_its_error_ends_it() -> None:
    lines = [
        ": keepalive",
        'data: {"choices": [{"delta": {"role": "assistant"}}]}',
        'data: {"choices": [{"delta": {"content": "a"}}]}',
        "",
        'data: {"choices": []}',
        'data: {"choices": [{"delta": {"content": "b"}}]}',
        "data: [DONE]",
    ]
    assert list(pieces(iter(lines))) == ["a", "b"]
    with pytest.raises(CommandError, match="gone"):
        list(pieces(iter(['data: {"error": {"message": "gone"}}'])))


def test_rates_are_those_since_the_last_look() -> None:
    first = dict(numbers(look(100.0), None))
    assert first["slots"] == "3/16"
    assert first["tokens"] == "1,500"
    assert "runs/min" not in first
    second = dict(numbers(look(130.0, requests=15, output_tokens=800), look(100.0)))
    assert (second["runs/min"], second["tokens/s"]) == ("10.0", "10")


def test_a_narrow_terminal_leaves_columns_out_and_cuts_none() -> None:
    wide: dict[str, object] = RUN | {
        "id": "run_" + 32 * "0",
        "worker": "a-host-of-some-length-12345",
        "wait_s": 0.1,
    }
    at = Look(1.0, look(1.0).stats, [wide])
    out = io.StringIO()
    Console(file=out, width=80).print(screen(at, None, 80))
    assert str(wide["id"]) in out.getvalue()
    assert "failed" in out.getvalue()
    assert "worker_lost" in out.getvalue()
    assert "a-host" not in out.getvalue()
    assert "…" not in out.getvalue()


def test_the_screen_has_figures_agents_and_runs() -> None:
    out = io.StringIO()
    Console(file=out, width=200).print(screen(look(1.0), None))
    assert "queued 7" in out.getvalue()
    assert "agents  a, b" in out.getvalue()
    assert "worker_lost" in out.getvalue()
