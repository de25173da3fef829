"""A run's answer as it comes, over connections that may break."""

from __future__ import annotations

import json
import sys
import time
from typing import Any

import httpx

from cli.errors import CommandError
from cli.over_http import answer_of

_PATIENCE_S = 60.0
_AGAIN_S = 0.5
_SILENT_S = 40.0
"""Some times the API's `keepalive_s`: a connection that says nothing for so long is a dead one."""


class Tail:
    """Follows one run: its text on standard output, what happens to it on standard error."""

    def __init__(self, http: httpx.Client, run_id: str) -> None:
        self._http = http
        self._path = f"/v1/runs/{run_id}"
        self._after = 0
        self._worker = ""
        self._is_over = False
        self._is_mid_line = False

    def follow(self) -> None:
        """Follow it to its end; raises `CommandError` unless it was completed."""
        run = answer_of(self._http.get(self._path))
        if run["state"] == "queued":
            self._note(f"waiting for a worker of the agent {run['agent']}")
        give_up_at = time.monotonic() + _PATIENCE_S
        while not self._is_over:
            before = self._after
            try:
                self._read()
            except httpx.TransportError as error:
                if time.monotonic() > give_up_at:
                    raise
                self._note(f"connection lost ({error}), going on after event {self._after}")
            if self._after > before:
                give_up_at = time.monotonic() + _PATIENCE_S
            if not self._is_over:
                if time.monotonic() > give_up_at:
                    raise CommandError("The API sends no more of this run.")
                time.sleep(_AGAIN_S)

    def _read(self) -> None:
        """Read what one connection gives."""
        asked = {"format": "run", "after": str(self._after)}
        limit = httpx.Timeout(_SILENT_S)
        with self._http.stream("GET", f"{self._path}/events", params=asked, timeout=limit) as answer:
            if answer.status_code >= 500:  # one that restarts, or another behind the same address
                return
            if answer.status_code != 200:
                answer.read()
                answer_of(answer)
            for line in answer.iter_lines():
                if line.startswith("data: "):
                    self._hear(json.loads(line.removeprefix("data: ")))

    def _hear(self, event: dict[str, Any]) -> None:
        self._after = max(self._after, event.get("n", 0))
        match event["type"]:
            case "text":
                self._say(event["text"])
            case "started":
                what = "moved to worker" if self._worker else "started on worker"
                self._worker = event["worker"]
                self._note(f"{what} {self._worker}")
            case "restarted":
                self._note("begun anew: what was said before does not count")
            case "retry":
                status = event["status"] or "no answer"
                self._note(f"model call failed ({status}), repeated in {event['delay_s']:g} s")
            case "tool_started":
                self._note(f"uses {event['name']}")
            case "ended":
                self._end(event)
            case "lost":
                self._is_over = True
                raise CommandError(event["message"])

    def _end(self, event: dict[str, Any]) -> None:
        self._is_over = True
        if self._is_mid_line:
            self._say("\n")
        if event["state"] == "failed":
            raise CommandError(f"The run failed ({event['error']['kind']}): {event['error']['message']}")
        if event["state"] == "cancelled":
            raise CommandError(f"The run was cancelled: {event['reason']}")

    def _say(self, text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()
        self._is_mid_line = not text.endswith("\n")

    def _note(self, what: str) -> None:
        newline = "\n" if self._is_mid_line and sys.stdout.isatty() else ""
        sys.stderr.write(f"{newline}[{what}]\n")
        sys.stderr.flush()
