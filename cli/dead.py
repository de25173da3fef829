"""`backline dead`: runs that were given up; over HTTP, with an admin's key."""

from __future__ import annotations

from typing import Annotated, Any

from cyclopts import App, Parameter

from cli.errors import CommandError
from cli.over_http import Key, Url, answer_of, asking
from cli.tables import Json, age, print_fields, print_json, print_table, say

app = App(name="dead", help="Dead letters, runs that were given up: list, show, retry, discard.")

_PATH = "/v1/admin/dead-letters"

RunId = Annotated[str, Parameter(help="The dead run.")]
One = Annotated[str | None, Parameter(help="The dead run.")]
All = Annotated[str | None, Parameter(help="All of this reason, in place of one.")]


@app.command(name="list")
def list_(
    *,
    reason: str | None = None,
    agent: str | None = None,
    limit: int = 20,
    json: Json = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """List dead letters, the newest first.

    Parameters
    ----------
    reason
        Only those of this reason.
    agent
        Only this agent's.
    limit
        The most to list, up to 100.
    """
    wish = {"reason": reason, "agent": agent, "limit": str(limit)}
    with asking(url, key) as http:
        page = answer_of(http.get(_PATH, params={name: word for name, word in wish.items() if word}))
    if json:
        print_json(page["data"])
        return
    rows = [
        (each["id"], each["reason"], each["agent"], age(each["given_up_at"]), each["tenant"], _last(each))
        for each in page["data"]
    ]
    print_table(("id", "reason", "agent", "age", "tenant", "last words"), rows)


@app.command
def show(run_id: RunId, /, *, json: Json = False, url: Url = None, key: Key = None) -> None:
    """Show a dead letter with its request."""
    with asking(url, key) as http:
        letter = answer_of(http.get(f"{_PATH}/{run_id}"))
    print_json(letter) if json else print_fields(letter)


@app.command
def retry(run_id: One = None, /, *, reason: All = None, url: Url = None, key: Key = None) -> None:
    """Begin a dead run anew, or all of a reason; prints the ids of the new runs."""
    with asking(url, key) as http:
        if _one_of(run_id, reason):
            done = [answer_of(http.post(f"{_PATH}/{run_id}/retry"))]
        else:
            done = answer_of(http.post(f"{_PATH}/retry", params={"reason": reason}))["data"]
    for each in done:
        if each["run"] is not None:
            say(each["run"])
    failed = [f"{each['letter']}: {each['error']}" for each in done if each["run"] is None]
    if failed:
        raise CommandError("Not retried: " + "; ".join(failed))


@app.command
def discard(run_id: One = None, /, *, reason: All = None, url: Url = None, key: Key = None) -> None:
    """Forget a dead letter, or all of a reason."""
    with asking(url, key) as http:
        if _one_of(run_id, reason):
            answer_of(http.delete(f"{_PATH}/{run_id}"))
            count = 1
        else:
            count = answer_of(http.delete(_PATH, params={"reason": reason}))["discarded"]
    say(f"Discarded {count}.")


def _one_of(run_id: str | None, reason: str | None) -> bool:
    if (run_id is None) == (reason is None):
        raise CommandError("Give a run's id, or --reason for all of a reason.", code=2)
    return run_id is not None


def _last(letter: dict[str, Any]) -> str:
    lines = (letter["stderr"] or "").strip().splitlines()
    return lines[-1][:80] if lines else ""
