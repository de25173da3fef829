"""`backline runs tail` goes on over connections that break, and tells what happens to the run."""

from __future__ import annotations

import json
from collections.abc import Iterator

import httpx
import pytest

import cli.tail
from cli.errors import CommandError
from cli.tail import Tail


class Broken(httpx.SyncByteStream):
    """A stream that breaks off after some events."""

    def __init__(self, *events: dict[str, object]) -> None:
        self._events = events

    def __iter__(self) -> Iterator[bytes]:
        for event in self._events:
            yield b"data: " + json.dumps(event).encode() + b"\n\n"
        raise httpx.ReadError("gone")


def told(*events: dict[str, object]) -> httpx.Response:
    return httpx.Response(200, content=b"".join(b"data: " + json.dumps(e).encode() + b"\n\n" for e in events))


def follow(*answers: httpx.Response) -> list[str]:
    """Follow a run whose events come in these answers; gives what was asked for."""
    asked: list[str] = []
    left = iter(answers)

    def answer(request: httpx.Request) -> httpx.Response:
        if not request.url.path.endswith("/events"):
            return httpx.Response(200, json={"state": "queued", "agent": "a"})
        asked.append(request.url.params["after"])
        return next(left)

    with httpx.Client(transport=httpx.MockTransport(answer), base_url="http://test") as http:
        Tail(http, "run_1").follow()
    return asked


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cli.tail, "_AGAIN_S", 0)


def test_a_broken_connection_is_taken_up_where_it_broke(capsys: pytest.CaptureFixture[str]) -> None:
    first = Broken({"n": 1, "type": "started", "worker": "w1"}, {"n": 2, "type": "text", "text": "One "})
    moved = ({"n": 3, "type": "started", "worker": "w2"}, {"n": 4, "type": "text", "text": "two."})
    end = {"n": 5, "type": "ended", "state": "completed", "finish": "stop"}
    retry = {"n": 4, "type": "retry", "attempt": 1, "status": 529, "delay_s": 2.0}
    asked = follow(httpx.Response(200, stream=first), httpx.Response(503), told(*moved, retry), told(end))
    assert asked == ["0", "2", "2", "4"]
    out, err = capsys.readouterr()
    assert out == "One two.\n"
    assert err.splitlines() == [
        "[waiting for a worker of the agent a]",
        "[started on worker w1]",
        "[connection lost (gone), going on after event 2]",
        "[moved to worker w2]",
        "[model call failed (529), repeated in 2 s]",
    ]


def test_a_run_that_failed_fails_the_command() -> None:
    error = {"kind": "cli_died", "message": "It died."}
    with pytest.raises(CommandError, match=r"The run failed \(cli_died\): It died\."):
        follow(told({"n": 1, "type": "ended", "state": "failed", "error": error}))
