"""`backline batch`: files of requests, over the HTTP API of any Backline."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cyclopts import App

from cli.errors import CommandError
from cli.over_http import Key, Url, answer_of, asking

if TYPE_CHECKING:
    import httpx

_POLL_S = 1.0
_PATIENCE_S = 60.0
_OVER = frozenset({"completed", "failed", "expired", "cancelled"})

app = App(name="batch", help="Have the requests of a file executed, in their time.")


@app.command
def submit(
    file: Path,
    *,
    url: Url = None,
    key: Key = None,
    endpoint: str = "/v1/chat/completions",
    watch: bool = False,
) -> None:
    """Upload a file of requests and begin a batch.

    Parameters
    ----------
    file
        JSONL: on each line an object with custom_id, method, url and body.
    endpoint
        The url on all lines.
    watch
        Show how it goes until it is over.
    """
    if not file.is_file():
        raise CommandError(f"There is no file {file}.", code=2)
    with asking(url, key) as http, file.open("rb") as content:
        form = {"purpose": "batch"}
        uploaded = answer_of(http.post("/v1/files", data=form, files={"file": (file.name, content)}))
        wanted = {"input_file_id": uploaded["id"], "endpoint": endpoint, "completion_window": "24h"}
        begun = answer_of(http.post("/v1/batches", json=wanted))
        sys.stdout.write(f"{begun['id']}\n")
        sys.stdout.flush()
        if watch:
            _watch(http, begun["id"])


@app.command
def status(batch_id: str, *, url: Url = None, key: Key = None, watch: bool = False) -> None:
    """Show where a batch is.

    Parameters
    ----------
    batch_id
        The batch.
    watch
        Go on until it is over.
    """
    with asking(url, key) as http:
        if watch:
            _watch(http, batch_id)
        else:
            _tell(answer_of(http.get(f"/v1/batches/{batch_id}")))


@app.command
def cancel(batch_id: str, *, url: Url = None, key: Key = None) -> None:
    """End a batch; what was done is kept.

    Parameters
    ----------
    batch_id
        The batch.
    """
    with asking(url, key) as http:
        _tell(answer_of(http.post(f"/v1/batches/{batch_id}/cancel")))


@app.command
def results(batch_id: str, *, url: Url = None, key: Key = None, errors: bool = False) -> None:
    """Print what a batch that is over has given.

    Parameters
    ----------
    batch_id
        The batch.
    errors
        The file of errors, in place of that of answers.
    """
    with asking(url, key) as http:
        batch = answer_of(http.get(f"/v1/batches/{batch_id}"))
        file_id = batch["error_file_id" if errors else "output_file_id"]
        if batch["status"] not in _OVER:
            raise CommandError(f"The batch is {batch['status']}: its results are not there yet.")
        if file_id is None:
            return
        with http.stream("GET", f"/v1/files/{file_id}/content") as content:
            if content.status_code != 200:
                raise CommandError(f"The file {file_id} cannot be had: HTTP {content.status_code}.")
            for piece in content.iter_bytes():
                sys.stdout.buffer.write(piece)
        sys.stdout.buffer.flush()


def progress(batch: dict[str, Any], seconds: float, before: int = 0) -> str:
    """A batch in a line; `seconds` is how long it was watched, `before` the lines done when that began."""
    counts = batch["request_counts"]
    over = counts["completed"] + counts["failed"]
    words = [f"{batch['status']}: {over}/{counts['total']} done, {counts['failed']} failed"]
    rate = (over - before) / seconds if seconds > 0 else 0.0
    if rate > 0 and batch["status"] == "in_progress":
        words.append(f"{60 * rate:.1f} a minute")
        words.append(f"{_duration((counts['total'] - over) / rate)} left")
    if cost := batch["backline"]["cost_usd"]:
        words.append(f"${cost:.4f}")
    return ", ".join(words)


def _watch(http: httpx.Client, batch_id: str) -> None:
    """Show a batch until it is over; raises `CommandError` unless it was completed."""
    began = time.monotonic()
    batch = _patiently(http, batch_id)
    counts = batch["request_counts"]
    before, last = counts["completed"] + counts["failed"], ""
    while True:
        line = progress(batch, time.monotonic() - began, before)
        is_over = batch["status"] in _OVER
        if sys.stderr.isatty():
            sys.stderr.write(f"\r\x1b[K{line}" + ("\n" if is_over else ""))
        elif line != last:
            sys.stderr.write(f"{line}\n")
        sys.stderr.flush()
        if is_over:
            break
        last = line
        time.sleep(_POLL_S)
        batch = _patiently(http, batch_id)
    _tell_problems(batch)
    if batch["status"] != "completed":
        raise CommandError(f"The batch was not completed: it is {batch['status']}.")


def _patiently(http: httpx.Client, batch_id: str) -> dict[str, Any]:
    """Look at a batch; an API that restarts, or another one behind the same address, is waited for."""
    import httpx  # noqa: PLC0415 - imported here so that --help is quick

    give_up_at = time.monotonic() + _PATIENCE_S
    while True:
        try:
            answer = http.get(f"/v1/batches/{batch_id}")
            if answer.status_code < 500 or time.monotonic() > give_up_at:
                return answer_of(answer)
        except httpx.TransportError:
            if time.monotonic() > give_up_at:
                raise
        time.sleep(_POLL_S)


def _tell(batch: dict[str, Any]) -> None:
    sys.stdout.write(f"{progress(batch, 0)}\n")
    _tell_problems(batch)


def _tell_problems(batch: dict[str, Any]) -> None:
    for problem in (batch["errors"] or {"data": []})["data"]:
        place = f"line {problem['line']}: " if problem["line"] else ""
        sys.stderr.write(f"{place}{problem['message']} ({problem['code']})\n")


def _duration(seconds: float) -> str:
    minutes, left = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes} min" if hours else f"{minutes} min {left} s" if minutes else f"{left} s"
