"""`backline runs`: what runs there are, one of them, its answer as it comes, and its end; over HTTP."""

from __future__ import annotations

from typing import Annotated, Any

from cyclopts import App, Parameter

from cli.errors import CommandError
from cli.over_http import Key, Url, answer_of, asking
from cli.tables import Json, age, print_fields, print_json, print_table, say, span

app = App(name="runs", help="Runs: list, show, follow, cancel.")

RunId = Annotated[str, Parameter(help="The run.")]

_COLUMNS = ("id", "state", "agent", "age", "wait", "ran", "starts", "worker", "tokens", "USD", "error")


@app.command(name="list")
def list_(
    *,
    state: str | None = None,
    agent: str | None = None,
    of_key: str | None = None,
    tenant: str | None = None,
    after: str | None = None,
    limit: int = 20,
    json: Json = False,
    url: Url = None,
    key: Key = None,
) -> None:
    """List runs, the newest first: one's own, or with an admin's key all.

    Parameters
    ----------
    state
        Only those queued, running, completed, failed or cancelled.
    agent
        Only this agent's.
    of_key
        Only those of the API key with this id.
    tenant
        Only this tenant's; for admins.
    after
        Begin behind this run.
    limit
        The most runs to list.
    """
    wish = {"state": state, "agent": agent, "key": of_key, "tenant": tenant}
    runs: list[dict[str, Any]] = []
    with asking(url, key) as http:
        place = after
        while len(runs) < limit:
            query = {**wish, "after": place, "limit": str(min(100, limit - len(runs)))}
            given = {name: value for name, value in query.items() if value is not None}
            page = answer_of(http.get("/v1/runs", params=given))
            runs += page["data"]
            place = page["next"]
            if place is None:
                break
    print_json(runs) if json else print_table(_COLUMNS, [_row(run) for run in runs])


@app.command
def show(run_id: RunId, /, *, json: Json = False, url: Url = None, key: Key = None) -> None:
    """Show one run."""
    with asking(url, key) as http:
        run = answer_of(http.get(f"/v1/runs/{run_id}"))
    print_json(run) if json else print_fields(run)


@app.command
def tail(run_id: RunId, /, *, url: Url = None, key: Key = None) -> None:
    """Print a run's answer as it comes, from its beginning; on standard error, what else happens to it."""
    from cli.tail import Tail  # noqa: PLC0415 - imported here so that --help is quick

    with asking(url, key) as http:
        Tail(http, run_id).follow()


@app.command
def cancel(run_id: RunId, /, *, url: Url = None, key: Key = None) -> None:
    """End a run, and say what became of it."""
    with asking(url, key) as http:
        before = answer_of(http.get(f"/v1/runs/{run_id}"))
        run = before if before["ended_at"] else answer_of(http.post(f"/v1/runs/{run_id}/cancel"))
    if before["ended_at"]:
        raise CommandError(f"The run was over before: it is {run['state']}.")
    if not run["ended_at"]:
        say("Its worker was told to end it, and has not done so yet.")
    elif run["state"] == "cancelled":
        say(f"Cancelled, {'after it had begun' if run['attempts'] else 'before it had begun'}.")
    else:
        say(f"It ended first: it is {run['state']}.")


def _row(run: dict[str, Any]) -> tuple[str, ...]:
    used, error = run["usage"] or {}, run["error"] or {}
    tokens = sum(value for name, value in used.items() if name.endswith("_tokens"))
    cost = used.get("cost_usd")
    return (
        *(run["id"], run["state"], run["agent"], age(run["created_at"])),
        *(span(run["wait_s"]), span(run["run_s"]), str(run["attempts"]), run["worker"] or ""),
        *(str(tokens) if used else "", f"{cost:.4f}" if cost else "", error.get("kind", "")),
    )
